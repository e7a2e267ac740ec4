"""When a job must end: the scheduler's signal came, or its wall clock is about to run out."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

__all__ = ['Stop']

MARGIN_S, MARGIN_FRACTION = 60.0, 0.2
"""What is kept of the wall time for checkpoints and the manifest: this much, or this fraction where that is less."""


class Stop:
    """Asked after each step; shared by the processes of a job.

    Parameters
    ----------
    wallclock_s : float, optional
        Wall time that is left to the job, in s. `now` turns true somewhat before.
    """

    def __init__(self, wallclock_s: float | None = None) -> None:
        # an event's lock is no place for signals
        self._flag: Any = multiprocessing.get_context('spawn').RawValue('b', 0)
        self._deadline = None
        if wallclock_s is not None:
            self._deadline = time.time() + wallclock_s - min(MARGIN_S, MARGIN_FRACTION * wallclock_s)

    def request(self, *_signal: object) -> None:
        """Ask for the end; fit to be a signal handler."""
        self._flag.value = 1

    def now(self) -> bool:
        """Return whether the job must end."""
        return bool(self._flag.value) or (self._deadline is not None and time.time() >= self._deadline)
