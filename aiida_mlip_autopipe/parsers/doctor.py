"""What a computer offers, and what could not be examined."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode
from aiida.orm import Dict

from aiida_mlip_autopipe.parsers.worker_job import WorkerParser

__all__ = ['DoctorParser']


class DoctorParser(WorkerParser):
    """Attach the report."""

    def parse_outputs(self, outputs: dict[str, Any]) -> ExitCode | None:
        """Attach ``report``; warn of the probes that failed."""
        self.out('report', Dict(outputs))
        if not outputs['failed']:
            return None
        message = '; '.join(f'{name}: {text}' for name, text in outputs['failed'].items())
        return self.exit_codes.WARNING_PROBE_FAILED.format(message=message)
