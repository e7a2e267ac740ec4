"""The manifest of an MD job."""

from __future__ import annotations

from typing import Any

from aiida.orm import Dict

from aiida_mlip_autopipe.science.frames import MANIFEST

from .worker_job import WorkerParser

__all__ = ['MaceMdParser']


class MaceMdParser(WorkerParser):
    """Attach the manifest; the frames stay where they are."""

    def parse_outputs(self, outputs: dict[str, Any]) -> None:
        """Attach ``manifest``, with what the worker says of the run beside it."""
        self.out('manifest', Dict({**self.read_json(MANIFEST), 'run': outputs}))
