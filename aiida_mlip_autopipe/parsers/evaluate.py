"""Errors, predictions and parity plots of an evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.orm import ArrayData, Dict, FolderData

from aiida_mlip_autopipe.calculations.evaluate import EvaluateCalculation

from .worker_job import WorkerParser

__all__ = ['EvaluateParser', 'folder_of']


class EvaluateParser(WorkerParser):
    """Attach errors, predictions and figures."""

    def parse_outputs(self, outputs: dict[str, Any]) -> None:
        """Attach the three outputs."""
        predictions = ArrayData()
        with self.retrieved.base.repository.open(EvaluateCalculation.PREDICTIONS_FILE, 'rb') as handle:
            for name, column in np.load(handle).items():
                predictions.set_array(name, column)
        self.out('metrics', Dict(outputs['metrics']))
        self.out('predictions', predictions)
        self.out('figures', folder_of(self.retrieved, EvaluateCalculation.FIGURES_FOLDER))


def folder_of(retrieved: FolderData, name: str) -> FolderData:
    """Return the files of a retrieved folder as a node of their own.

    :raises FileNotFoundError: if the folder did not come back.
    """
    folder = FolderData()
    for file_name in retrieved.base.repository.list_object_names(name):
        with retrieved.base.repository.open(f'{name}/{file_name}', 'rb') as handle:
            folder.base.repository.put_object_from_filelike(handle, file_name)
    return folder
