"""One job: read the input, run its stage, say what happened.

Whatever happens ends as a result file with a code that the other side understands. Only a killed process leaves none.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import FrameType

from aiida_mlip_autopipe.worker.errors import error_code
from aiida_mlip_autopipe.worker.files import PROGRESS_FILE, RESULT_FILE, SCHEMA_VERSION, write_json
from aiida_mlip_autopipe.worker.inputs import read_input
from aiida_mlip_autopipe.worker.stages import STAGES

__all__ = ['Progress', 'run_job']

PROGRESS_INTERVAL_S = 1.0
PACKAGES = (
    'aiida-mlip-autopipe',
    'ase',
    'e3nn',
    'h5py',
    'mace-torch',
    'numba',
    'numpy',
    'phonopy',
    'scikit-learn',
    'torch',
)


def run_job(stage: str, path: Path) -> int:
    """Run a stage on an input file; write ``result.json`` beside it, last and in one go; return the exit status."""
    started = time.monotonic()
    folder = path.absolute().parent
    result_path = folder / RESULT_FILE
    result_path.unlink(missing_ok=True)  # a result of an earlier attempt is not this one's
    _route_messages()
    signal.signal(signal.SIGTERM, _stop)
    error: dict[str, object] | None = None
    outputs: Mapping[str, object] = {}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            progress = Progress(folder / PROGRESS_FILE)
            outputs = STAGES[stage](read_input(stage, path), progress)
            progress.flush()
    except Exception as caught:
        with contextlib.suppress(OSError):  # the log is on the same full disk
            traceback.print_exc(file=sys.stderr)
        error = {'code': error_code(caught), 'message': f'{caught}' or type(caught).__name__}
    result = {
        'schema_version': SCHEMA_VERSION,
        'stage': stage,
        'status': 'error' if error else 'ok',
        'error': error,
        'outputs': outputs,
        'versions': _versions(),
        'wall_s': round(time.monotonic() - started, 3),
    }
    folder.mkdir(parents=True, exist_ok=True)  # it may have vanished
    write_json(result_path, result)
    return 1 if error else 0


class Progress:
    """Rewrites ``progress.json``, at most once a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0.0
        self._state: Mapping[str, object] = {}

    def __call__(self, state: Mapping[str, object]) -> None:
        """Take the state of the stage; write it, unless one was written just now."""
        self._state = state
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PROGRESS_INTERVAL_S
            self.flush()

    def flush(self) -> None:
        """Write the last state."""
        write_json(self._path, self._state)


def _route_messages() -> None:
    """Send log and warnings to stderr, without those that mace, e3nn and torch always raise."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format='%(levelname)s %(name)s: %(message)s')
    logging.captureWarnings(True)
    for module in ('torch', 'e3nn', 'mace', 'ast'):
        warnings.filterwarnings('ignore', module=rf'{module}(\..*)?')


def _stop(signum: int, frame: FrameType | None) -> None:
    """End as after an interrupt, so that processes and files are closed; no result file is written."""
    raise SystemExit(128 + signum)


def _versions() -> dict[str, str]:
    versions = {'python': sys.version.split()[0]}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
