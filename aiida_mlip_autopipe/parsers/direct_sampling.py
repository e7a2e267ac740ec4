"""The candidates of a sampling job and why each was chosen."""

from __future__ import annotations

from typing import Any

from aiida.orm import Dict

from aiida_mlip_autopipe.calculations.direct_sampling import DirectSamplingCalculation
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.data.selection import selection_array

from .worker_job import WorkerParser

__all__ = ['DirectSamplingParser']


class DirectSamplingParser(WorkerParser):
    """Attach candidates, selection table and report."""

    def parse_outputs(self, outputs: dict[str, Any]) -> None:
        """Attach the three outputs."""
        name = DirectSamplingCalculation.CANDIDATES_FILE
        selection = self.read_json(DirectSamplingCalculation.SELECTION_FILE)
        with self.retrieved.base.repository.open(name, 'rb') as handle:
            self.out('candidates', FramesData(handle, filename=FramesData.FILENAME))
        self.out('selection', selection_array(selection['table'], selection['scores']))
        self.out('report', Dict(outputs))
