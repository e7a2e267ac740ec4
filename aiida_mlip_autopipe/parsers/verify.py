"""Whether copies of frames are what the MD jobs wrote."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode
from aiida.orm import Dict

from aiida_mlip_autopipe.parsers.worker_job import WorkerParser

__all__ = ['VerifyParser']


class VerifyParser(WorkerParser):
    """Attach the report."""

    def parse_outputs(self, outputs: dict[str, Any]) -> ExitCode | None:
        """Attach ``report``; a copy that is not right is an error."""
        self.out('report', Dict(outputs))
        if not outputs['problems']:
            return None
        message = '; '.join(f'{name}: {text}' for name, text in outputs['problems'].items())
        return self.exit_codes.ERROR_STASH_DIFFERS.format(message=message)
