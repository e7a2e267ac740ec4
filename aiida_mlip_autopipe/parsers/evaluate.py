"""Errors, predictions and parity plots of an evaluation."""

from __future__ import annotations

from typing import Any

from aiida.orm import Dict, FolderData

from aiida_mlip_autopipe.calculations.evaluate import EvaluateCalculation
from aiida_mlip_autopipe.parsers.worker_job import WorkerParser

__all__ = ['EvaluateParser', 'folder_of']


class EvaluateParser(WorkerParser):
    """Attach errors, predictions and figures."""

    def parse_outputs(self, outputs: dict[str, Any]) -> None:
        """Attach the three outputs."""
        self.out('metrics', Dict(outputs['metrics']))
        self.out('predictions', self.read_arrays(EvaluateCalculation.PREDICTIONS_FILE))
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
