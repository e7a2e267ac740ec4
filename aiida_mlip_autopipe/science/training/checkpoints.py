"""The checkpoints of a training: which are kept, and whether and where it goes on from one.

Of each stage only the two newest are kept, as the newest may be half written, and the best. A training goes on only
from one that was asked the same, of the same data.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Container
from pathlib import Path

from aiida_mlip_autopipe.science.potential.training_files import (
    CHECKPOINTS,
    Checkpoint,
    copy_training,
    cut_results,
    go_on_after,
    list_checkpoints,
    read_results,
)

__all__ = ['newest_sound', 'prune', 'take_up']

ASKED = 'asked.json'
N_NEWEST = 2

log = logging.getLogger(__name__)


def prune(work: Path, last: int, best: Container[int | None]) -> None:
    """Remove all checkpoints up to epoch ``last`` but the newest of each stage and those of the best epochs.

    Later ones stay: the training goes on meanwhile, and whether they are the best is not known yet.
    """
    checkpoints = [checkpoint for checkpoint in list_checkpoints(work) if checkpoint.epoch <= last]
    for in_stage_two in (False, True):
        stage = [checkpoint for checkpoint in checkpoints if checkpoint.in_stage_two == in_stage_two]
        for checkpoint in stage[:-N_NEWEST]:
            if checkpoint.epoch not in best:
                checkpoint.path.unlink()


def newest_sound(work: Path, epochs: Container[int]) -> Checkpoint | None:
    """Return the newest checkpoint of an evaluated epoch that can be read.

    One of another epoch is a copy that `go_on_after` made.
    """
    for checkpoint in reversed(list_checkpoints(work)):
        if checkpoint.epoch not in epochs:
            continue
        try:
            checkpoint.weights()
        except Exception as error:  # torch raises many kinds on half a file
            log.warning(f'the checkpoint {checkpoint.path} is not used: {type(error).__name__}: {error}')
        else:
            return checkpoint
    return None


def take_up(work: Path, parent: Path | None, asked: dict[str, object], stage_two: int | None = None) -> int:
    """Prepare mace's folder: with what an earlier attempt left, if it can be gone on from, else empty.

    Parameters
    ----------
    work : Path
        The folder; it is looked at first, as a scheduler may start the same job again in its folder.
    parent : Path, optional
        Such a folder of another job.
    asked : dict
        What identifies the training; plain values.
    stage_two : int, optional
        First epoch of its second stage.

    Returns
    -------
    int
        The number of epochs that are done.
    """
    sources = [work] if (work / ASKED).is_file() else []
    for source in [*sources, *([parent] if parent is not None else [])]:
        start = _start_in(source, asked)
        if start is None:
            continue
        if source != work:
            copy_training(source, work)
            _note(work, (source / ASKED).read_text())
            start = Checkpoint(start.epoch, start.in_stage_two, work / CHECKPOINTS / start.path.name)
        cut_results(work, start.epoch)  # what follows is done again
        go_on_after(work, start, stage_two)
        log.warning(f'continuing after epoch {start.epoch}, from {source}')
        return start.epoch + 1
    if parent is not None:
        log.warning('beginning anew')
    shutil.rmtree(work, ignore_errors=True)  # mace appends to an earlier run's results
    work.mkdir(parents=True)
    _note(work, json.dumps(asked))
    return 0


def _start_in(source: Path, asked: dict[str, object]) -> Checkpoint | None:
    """Return the checkpoint to go on from; say why there is none."""
    path = source / ASKED
    if not path.is_file():
        log.warning(f'there is no training in {source}: the scratch folder may have been cleaned')
        return None
    if json.loads(path.read_text()) != asked:
        log.warning(f'the training in {source} is not continued: it has other parameters or other data')
        return None
    start = newest_sound(source, {entry.epoch for entry in read_results(source)[0]})
    if start is None:
        log.warning(f'there is no usable checkpoint in {source / CHECKPOINTS}')
    return start


def _note(work: Path, asked: str) -> None:
    partial = work / f'{ASKED}.part'
    partial.write_text(asked)
    partial.replace(work / ASKED)
