"""Errors of a potential on labelled frames."""

from __future__ import annotations

from aiida import orm
from aiida.engine import CalcJobProcessSpec

from aiida_mlip_autopipe.calculations.worker_job import WorkerCalculation
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.science.parameters import EvaluationParameters

__all__ = ['EvaluateCalculation']


class EvaluateCalculation(WorkerCalculation):
    """Predict labelled frames and compare."""

    STAGE = 'evaluate'
    PARAMETERS = EvaluationParameters
    PREDICTIONS_FILE = 'predictions.npz'
    FIGURES_FOLDER = 'figures'
    RETRIEVED = (PREDICTIONS_FILE, FIGURES_FOLDER)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the ports."""
        super().define(spec)
        spec.input('potential', valid_type=PotentialData, help='The potential to evaluate.')
        spec.input_namespace(
            'committee',
            valid_type=PotentialData,
            required=False,
            help='Other committee members: their disagreement is compared with the errors.',
        )
        spec.input('frames', valid_type=FramesData, help='Labelled frames.')
        spec.inputs['metadata']['options']['parser_name'].default = 'mlip_autopipe.evaluate'
        spec.output(
            'metrics', valid_type=orm.Dict, help='Errors of energy, forces and stress: of all frames, and by group.'
        )
        spec.output('predictions', valid_type=orm.ArrayData, help='Reference and predicted values.')
        spec.output('figures', valid_type=orm.FolderData, help='Parity plots (SVG), and their data (JSON).')

    def worker_files(self) -> dict[str, str | list[str]]:
        """Return the names of the potentials and the frames."""
        files: dict[str, str | list[str]] = {
            'potential': self.file_name('potential'),
            'frames': self.file_name('frames'),
        }
        if committee := self.files_of('committee'):
            files['committee'] = list(committee)
        return files
