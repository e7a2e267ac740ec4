"""Tables and figures of the physics checks."""

from __future__ import annotations

from typing import Any

from aiida.orm import Dict

from aiida_mlip_autopipe.calculations.physics import PhysicsCalculation
from aiida_mlip_autopipe.parsers.evaluate import folder_of
from aiida_mlip_autopipe.parsers.worker_job import WorkerParser

__all__ = ['PhysicsParser']


class PhysicsParser(WorkerParser):
    """Attach the tables and the figures; a check that fails is a result, no failure of the job."""

    def parse_outputs(self, outputs: dict[str, Any]) -> None:
        """Attach the two outputs."""
        self.out('checks', Dict(outputs))
        self.out('figures', folder_of(self.retrieved, PhysicsCalculation.FIGURES_FOLDER))
