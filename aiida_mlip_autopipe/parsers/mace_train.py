"""The potential that a training made."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.orm import ArrayData, Dict

from aiida_mlip_autopipe.calculations.mace_train import MaceTrainCalculation
from aiida_mlip_autopipe.data import PotentialData
from aiida_mlip_autopipe.parsers.worker_job import WorkerParser

__all__ = ['MaceTrainParser']

ERRORS = ('energy_rmse_meV', 'force_rmse_meV_A', 'stress_rmse_GPa')


class MaceTrainParser(WorkerParser):
    """Attach potential, history and errors."""

    def parse_outputs(self, outputs: dict[str, Any]) -> None:
        """Attach the three outputs."""
        history = ArrayData()
        for name, column in self.read_json(MaceTrainCalculation.HISTORY_FILE).items():
            history.set_array(name, np.asarray(column, dtype=float))
        with self.retrieved.base.repository.open(MaceTrainCalculation.POTENTIAL_FILE, 'rb') as handle:
            potential = PotentialData(handle, filename=PotentialData.FILENAME)
        potential.base.attributes.set_many(outputs['potential'] | self.what_it_knows(outputs))
        self.out('potential', potential)
        self.out('history', history)
        self.out('metrics', Dict({**outputs['metrics'], 'run': outputs['run']}))

    def what_it_knows(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Return what the potential remembers: its data, their level of theory, its foundation and its errors.

        A fine-tuned potential is derived from its foundation, whose licence therefore holds for it, too.
        """
        inputs, validation = self.node.inputs, outputs['metrics']['validation']
        foundation = inputs.foundation if 'foundation' in inputs else None
        return {
            'origin': 'trained',
            'licence': 'of its maker' if foundation is None else foundation.base.attributes.get('licence'),
            'label_fingerprint': inputs.training.label_fingerprint,
            'n_training': inputs.training.n_frames,
            'n_validation': inputs.validation.n_frames,
            **outputs['run'],
            'validation_errors': {name: validation[name] for name in ERRORS if validation.get(name) is not None},
        }
