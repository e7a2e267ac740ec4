"""What the parsers of all worker jobs share: the result file decides."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from aiida.engine import ExitCode
from aiida.orm import ArrayData
from aiida.parsers import Parser

from aiida_mlip_autopipe.worker.files import RESULT_FILE

__all__ = ['WorkerParser']


class WorkerParser(Parser):
    """Read ``result.json``; a job without one is incomplete, unless the scheduler has said more (AiiDA's 1xx)."""

    def parse(self, **kwargs: object) -> ExitCode | None:
        """Turn the worker's result into outputs or into the exit code of its error."""
        try:
            result = self.read_json(RESULT_FILE)
        except FileNotFoundError:
            return None if self.node.exit_status else self.exit_codes.ERROR_INCOMPLETE
        if result['status'] != 'ok':
            return self.exit_code_of(result['error'])
        try:
            return self.parse_outputs(result['outputs'])
        except FileNotFoundError as error:
            self.logger.error(f'the worker reported success but {error} was not retrieved')
            return self.exit_codes.ERROR_INCOMPLETE

    def parse_outputs(self, outputs: dict[str, Any]) -> ExitCode | None:
        """Attach the output nodes of a finished job; return the exit code of a warning, if there is one."""
        raise RuntimeError('the parser of a stage must define its outputs')

    def exit_code_of(self, error: dict[str, str]) -> ExitCode:
        """Return the exit code that stands for an error code of the worker."""
        code = getattr(self.exit_codes, f'ERROR_{error["code"]}', self.exit_codes.ERROR_UNEXPECTED)
        self.logger.error(error['message'])
        return code.format(message=error['message'])

    def read_json(self, name: str) -> Any:
        """Return the content of a retrieved JSON file."""
        return json.loads(self.retrieved.base.repository.get_object_content(name))

    def read_arrays(self, name: str) -> ArrayData:
        """Return the arrays of a retrieved NumPy archive as a node."""
        with self.retrieved.base.repository.open(name, 'rb') as handle, np.load(handle) as arrays:
            return ArrayData(dict(arrays))
