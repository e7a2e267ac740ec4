"""The manifest of an MD job."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode
from aiida.orm import Dict

from aiida_mlip_autopipe.parsers.worker_job import WorkerParser
from aiida_mlip_autopipe.science.frames import MANIFEST
from aiida_mlip_autopipe.worker.files import RESULT_FILE

__all__ = ['MaceMdParser']


class MaceMdParser(WorkerParser):
    """Attach the manifest, whatever the job says of itself; the frames stay where they are."""

    def parse(self, **kwargs: object) -> ExitCode | None:
        """Attach what came back of a job that failed, too: its frames are as good as any."""
        exit_code = super().parse(**kwargs)
        if exit_code and 'manifest' not in self.outputs and {MANIFEST, RESULT_FILE} <= set(self.names()):
            self.out('manifest', Dict({**self.read_json(MANIFEST), 'run': {}}))
        return exit_code

    def parse_outputs(self, outputs: dict[str, Any]) -> ExitCode | None:
        """Attach ``manifest``, with what the worker says of the run beside it."""
        self.out('manifest', Dict({**self.read_json(MANIFEST), 'run': outputs}))
        return None if outputs['complete'] else self.exit_codes.ERROR_NOT_COMPLETE

    def names(self) -> list[str]:
        """Return the names of the retrieved files."""
        return self.retrieved.base.repository.list_object_names()
