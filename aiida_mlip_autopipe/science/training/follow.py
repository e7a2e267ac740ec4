"""Run ``mace_run_train``, follow its epochs, and stop it when there is no more to gain.

mace's own ``patience`` never stops a single process: in the first of two stages it goes on to the second, otherwise it
only says so. So the epochs are counted here, and the process is ended from outside.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from aiida_mlip_autopipe.science.potential.schedule import Schedule
from aiida_mlip_autopipe.science.potential.training_files import LOG, read_results
from aiida_mlip_autopipe.science.training.checkpoints import prune
from aiida_mlip_autopipe.science.training.history import best_epoch, new_history, record
from aiida_mlip_autopipe.science.training.sets import TrainingError

__all__ = ['Follower', 'run']

POLL_SECONDS = 0.5
SECONDS_TO_END = 10.0
LOG_LINES = 12


class Follower:
    """Reads the epochs of a training as they are done.

    Parameters
    ----------
    work : Path
        mace's folder.
    schedule : Schedule
        The epochs that there will be, their stages, and the epochs without a lower loss after which it is enough.
    progress : callable, optional
        Called after each epoch.
    """

    def __init__(
        self,
        work: Path,
        schedule: Schedule,
        progress: Callable[[Mapping[str, object]], None] | None = None,
    ) -> None:
        self.history = new_history()
        self._work, self._schedule = work, schedule
        self._progress = progress
        self._offset = 0

    def look(self) -> None:
        """Read what was added since the last look, and remove checkpoints that are no longer needed."""
        entries, self._offset = read_results(self._work, self._offset)
        for entry in entries:
            if self.has_seen_enough:
                break  # where the training went on until it was stopped depends on the time of day
            record(entry, self.history)
            self._tell()
        if entries:
            best = {best_epoch(self.history, self._schedule.stage_two, stage) for stage in (False, True)}
            prune(self._work, self.history['epoch'][-1], best)

    def _tell(self) -> None:
        if self._progress is not None:
            state = {name: self.history[name][-1] for name in ('rmse_e_meV', 'rmse_f_meV_A')}
            self._progress({'epoch': self.history['epoch'][-1] + 1, 'epochs': self._schedule.n_epochs, **state})

    @property
    def has_seen_enough(self) -> bool:
        """Return whether there is nothing more to gain."""
        return self.lost_patience or self.has_diverged

    @property
    def has_diverged(self) -> bool:
        """Return whether the loss is no number: weights that gave one once never recover."""
        return bool(self.history['loss']) and self.history['loss'][-1] is None

    @property
    def lost_patience(self) -> bool:
        """Return whether the last stage has gone on for long without getting better; False in its last epoch."""
        epochs, schedule = self.history['epoch'], self._schedule
        if schedule.patience is None or not epochs or epochs[-1] == schedule.n_epochs - 1:
            return False
        if schedule.stage_two is not None and epochs[-1] < schedule.stage_two:
            return False
        best = best_epoch(self.history, schedule.stage_two)
        return best is not None and epochs[-1] - best >= schedule.patience


def run(command: list[str], work: Path, follower: Follower) -> bool:
    """Run the command until it ends or the follower has seen enough; return whether it came to its end.

    Raises
    ------
    TrainingError
        If it fails.
    """
    # Two threads gain little on small frames and lose a factor of thirty where another process wants the same cores.
    defaults = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}
    # Unbuffered, so that the log's lines stand in the order in which they were written.
    environment = defaults | dict(os.environ) | {'MPLBACKEND': 'Agg', 'PYTHONUNBUFFERED': '1'}
    enough = follower.has_seen_enough  # then only the model is to be saved
    stopped = False
    log = work / LOG
    with log.open('ab') as output:
        process = subprocess.Popen(
            command, cwd=work, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None and not stopped:
                time.sleep(POLL_SECONDS)
                follower.look()
                stopped = follower.has_seen_enough and not enough and process.poll() is None
        finally:
            _end(process)
    follower.look()
    if stopped:
        return False
    if process.returncode == -signal.SIGTERM:
        # A scheduler signals all processes of a job, and this one need not be the first to hear of it.
        raise SystemExit(128 + signal.SIGTERM)
    if process.returncode != 0:
        raise TrainingError(
            f'mace_run_train ended with exit status {process.returncode}; the end of {log}:\n' + _tail(log)
        )
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text(errors='replace').splitlines() if line.strip()]
    return '\n'.join(lines[-LOG_LINES:])
