"""The potential that a training made."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.orm import ArrayData, Dict

from aiida_mlip_autopipe.calculations.mace_train import MaceTrainCalculation
from aiida_mlip_autopipe.data import PotentialData

from .worker_job import WorkerParser

__all__ = ['MaceTrainParser']


class MaceTrainParser(WorkerParser):
    """Attach potential, history and errors."""

    def parse_outputs(self, outputs: dict[str, Any]) -> None:
        """Attach the three outputs; the potential remembers the level of theory of its labels."""
        history = ArrayData()
        for name, column in self.read_json(MaceTrainCalculation.HISTORY_FILE).items():
            history.set_array(name, np.asarray(column, dtype=float))
        with self.retrieved.base.repository.open(MaceTrainCalculation.POTENTIAL_FILE, 'rb') as handle:
            potential = PotentialData(handle, filename=PotentialData.FILENAME)
        training = self.node.inputs.training
        potential.base.attributes.set_many(
            {
                **outputs['potential'],
                'origin': 'trained',
                'licence': 'of its maker',
                'label_fingerprint': training.label_fingerprint,
                'n_training': training.n_frames,
            }
        )
        self.out('potential', potential)
        self.out('history', history)
        self.out('metrics', Dict(outputs['metrics']))
