"""Errors and predictions of an evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.orm import ArrayData, Dict

from aiida_mlip_autopipe.calculations.evaluate import EvaluateCalculation

from .worker_job import WorkerParser

__all__ = ['EvaluateParser']


class EvaluateParser(WorkerParser):
    """Attach errors and predictions."""

    def parse_outputs(self, outputs: dict[str, Any]) -> None:
        """Attach the two outputs."""
        predictions = ArrayData()
        with self.retrieved.base.repository.open(EvaluateCalculation.PREDICTIONS_FILE, 'rb') as handle:
            for name, column in np.load(handle).items():
                predictions.set_array(name, column)
        self.out('metrics', Dict(outputs['metrics']))
        self.out('predictions', predictions)
