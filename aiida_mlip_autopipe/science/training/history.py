"""What ``mace_run_train`` writes of its epochs: JSON lines, of which those of the validation count.

mace may write bare NaN. A multihead training validates on each head; the loss of the last one, whose labels are ours,
is what it goes by, and what is read here.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

__all__ = [
    'FINAL_HEAD',
    'History',
    'best_epoch',
    'cut_results',
    'new_history',
    'read_results',
    'record',
    'results_file',
]

FINAL_HEAD = 'Default'
"""mace's name for the head that is trained on the labelled set."""

KEYS = {
    'loss': 'loss',
    'rmse_e_meV': 'rmse_e_per_atom',
    'rmse_f_meV_A': 'rmse_f',
    'rmse_stress_meV_A3': 'rmse_stress',
}

History = dict[str, list[Any]]
"""``epoch`` and the keys of `KEYS`, a value for each evaluated epoch."""


def new_history() -> History:
    """Return a history without epochs."""
    return {'epoch': [], **{key: [] for key in KEYS}}


def results_file(work: Path) -> Path | None:
    """Return the file of results in mace's folder, if it is there yet."""
    return next(iter(sorted((work / 'results').glob('*_train.txt'))), None)


def read_results(work: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the validations that were added since ``offset``, of whole lines only, and the new offset."""
    path = results_file(work)
    if path is None:
        return [], offset
    with path.open('rb') as handle:
        handle.seek(offset)
        added = handle.read()
    whole = added[: added.rfind(b'\n') + 1]
    entries = (json.loads(line) for line in whole.splitlines())
    return [entry for entry in entries if _is_validation(entry)], offset + len(whole)


def cut_results(work: Path, epoch: int) -> None:
    """Remove what follows the validation of an epoch."""
    path = results_file(work)
    if path is None:
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        kept.append(line)
        entry = json.loads(line)
        if _is_validation(entry) and entry['epoch'] == epoch:
            break
    path.write_bytes(b''.join(kept))


def record(entry: dict[str, Any], history: History) -> None:
    """Add a validation; None where mace gave no finite number."""
    history['epoch'].append(int(entry['epoch']))
    for key, name in KEYS.items():
        value = entry.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            history[key].append(value * (1.0 if key == 'loss' else 1e3))
        else:
            history[key].append(None)


def best_epoch(history: History, stage_two: int | None, of_stage_two: bool | None = None) -> int | None:
    """Return the epoch of the lowest loss: of the last stage that was reached, or of the one asked for.

    The losses of the two stages weigh the energy differently, so they are not compared.
    """
    last = history['epoch'][-1] if history['epoch'] else 0
    if of_stage_two is None:
        of_stage_two = stage_two is not None and last >= stage_two
    losses = {
        epoch: loss
        for epoch, loss in zip(history['epoch'], history['loss'], strict=True)
        if loss is not None and (stage_two is not None and epoch >= stage_two) == of_stage_two
    }
    return min(losses, key=lambda epoch: losses[epoch], default=None)


def _is_validation(entry: dict[str, Any]) -> bool:
    return (
        entry.get('mode') == 'eval' and entry.get('epoch') is not None and entry.get('head', FINAL_HEAD) == FINAL_HEAD
    )
