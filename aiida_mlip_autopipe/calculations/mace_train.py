"""Training of a MACE potential with ``mace_run_train``."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import CalcJobProcessSpec

from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.science.parameters import TrainingParameters

from .worker_job import WorkerCalculation

__all__ = ['MaceTrainCalculation']


class MaceTrainCalculation(WorkerCalculation):
    """Train on labelled frames; done only when the model loads, evaluates and its errors are finite."""

    STAGE = 'train'
    PARAMETERS = TrainingParameters
    POTENTIAL_FILE = 'potential.model'
    HISTORY_FILE = 'history.json'
    RETRIEVED = (POTENTIAL_FILE, HISTORY_FILE)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the ports."""
        super().define(spec)
        spec.input('training', valid_type=FramesData, help='Labelled frames, with an isolated atom of each element.')
        spec.input('validation', valid_type=FramesData, help='Labelled frames of other origins.')
        spec.inputs['metadata']['options']['parser_name'].default = 'mlip_autopipe.mace_train'
        spec.output('potential', valid_type=PotentialData, help='The trained potential.')
        spec.output('history', valid_type=orm.ArrayData, help='Loss and validation errors, epoch by epoch.')
        spec.output('metrics', valid_type=orm.Dict, help='Errors on the training and on the validation set.')

    def worker_files(self) -> dict[str, Any]:
        """Return the names of the two sets."""
        return {'training': self.file_name('training'), 'validation': self.file_name('validation')}
