"""What ``mace_run_train`` leaves in its folder: results, checkpoints, models, a log.

Results are JSON lines, of which those of the validation count; mace may write bare NaN. A multihead training validates
on each head; the loss of the last one, whose labels are ours, is what it goes by, and what is read here.

mace writes a checkpoint after each epoch (``--save_all_checkpoints``), with the averaged weights that were validated,
and marks those of its second stage. It takes the epoch of a checkpoint for one still to be done, and trains it once
more. So to go on after epoch e, its checkpoint is put in the place of that of epoch e + 1.

Source: mace-torch 0.3.16.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    'CHECKPOINTS',
    'FINAL_HEAD',
    'LOG',
    'NAME',
    'WORK',
    'Checkpoint',
    'Validation',
    'copy_training',
    'cut_results',
    'go_on_after',
    'list_checkpoints',
    'newest_model',
    'read_results',
]

WORK = 'mace'
"""Folder of what the command writes."""

NAME = 'autopipe'
"""What the command calls its models."""

LOG = 'mace_run_train.log'

CHECKPOINTS = 'checkpoints'
_CHECKPOINT = re.compile(r'_epoch-(\d+)(_swa)?\.pt$')

FINAL_HEAD = 'Default'
"""mace's name for the head that is trained on the labelled set."""


# ------------------------------------------------------------------------------------------------------------ results


@dataclass(frozen=True)
class Validation:
    """The errors on the validation set after an epoch; None where mace gave no finite number.

    Attributes
    ----------
    epoch : int
        Counted from 0.
    loss : float
    rmse_e_meV : float
        Of the energy per atom.
    rmse_f_meV_A : float
        Of a force component, in meV/Å.
    rmse_stress_meV_A3 : float
        Of a stress component, in meV/Å³.
    """

    epoch: int
    loss: float | None
    rmse_e_meV: float | None
    rmse_f_meV_A: float | None
    rmse_stress_meV_A3: float | None


def read_results(work: Path, offset: int = 0) -> tuple[list[Validation], int]:
    """Return the validations that were added since ``offset``, of whole lines only, and the new offset."""
    path = _results_file(work)
    if path is None:
        return [], offset
    with path.open('rb') as handle:
        handle.seek(offset)
        added = handle.read()
    whole = added[: added.rfind(b'\n') + 1]
    entries = (json.loads(line) for line in whole.splitlines())
    return [_validation(entry) for entry in entries if _is_validation(entry)], offset + len(whole)


def cut_results(work: Path, epoch: int) -> None:
    """Remove what follows the validation of an epoch."""
    path = _results_file(work)
    if path is None:
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        kept.append(line)
        entry = json.loads(line)
        if _is_validation(entry) and entry['epoch'] == epoch:
            break
    path.write_bytes(b''.join(kept))


def _results_file(work: Path) -> Path | None:
    return next(iter(sorted((work / 'results').glob('*_train.txt'))), None)


def _is_validation(entry: dict[str, Any]) -> bool:
    return (
        entry.get('mode') == 'eval' and entry.get('epoch') is not None and entry.get('head', FINAL_HEAD) == FINAL_HEAD
    )


def _validation(entry: dict[str, Any]) -> Validation:
    def finite(name: str, factor: float = 1e3) -> float | None:
        value = entry.get(name)
        return value * factor if isinstance(value, int | float) and math.isfinite(value) else None

    return Validation(
        epoch=int(entry['epoch']),
        loss=finite('loss', 1.0),
        rmse_e_meV=finite('rmse_e_per_atom'),
        rmse_f_meV_A=finite('rmse_f'),
        rmse_stress_meV_A3=finite('rmse_stress'),
    )


# -------------------------------------------------------------------------------------------------------- checkpoints


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: state after ``epoch``."""

    epoch: int
    in_stage_two: bool
    path: Path

    def weights(self) -> dict[str, Tensor]:
        """Return the state of the model; raises whatever a damaged file makes torch raise."""
        import torch

        return torch.load(self.path, map_location='cpu', weights_only=False)['model']


def list_checkpoints(work: Path) -> list[Checkpoint]:
    """Return the checkpoints in mace's folder, by epoch."""
    found = []
    for path in (work / CHECKPOINTS).glob('*.pt'):
        if match := _CHECKPOINT.search(path.name):
            found.append(Checkpoint(int(match[1]), match[2] is not None, path))
    return sorted(found, key=lambda checkpoint: checkpoint.epoch)


def go_on_after(work: Path, start: Checkpoint, stage_two: int | None) -> None:
    """Let mace go on after an epoch: what came later is removed."""
    for checkpoint in list_checkpoints(work):
        if checkpoint.epoch > start.epoch:
            checkpoint.path.unlink()
    ending = '_swa.pt' if stage_two is not None and start.epoch + 1 >= stage_two else '.pt'
    name = _CHECKPOINT.sub(f'_epoch-{start.epoch + 1}{ending}', start.path.name)
    shutil.copyfile(start.path, start.path.with_name(name))


def copy_training(source: Path, work: Path) -> None:
    """Copy the checkpoints and the results of a training into another folder, which is emptied before."""
    shutil.rmtree(work, ignore_errors=True)
    (work / CHECKPOINTS).mkdir(parents=True)
    for checkpoint in list_checkpoints(source):
        shutil.copyfile(checkpoint.path, work / CHECKPOINTS / checkpoint.path.name)
    results = _results_file(source)
    if results is not None:
        (work / results.parent.name).mkdir()
        shutil.copyfile(results, work / results.parent.name / results.name)


# ------------------------------------------------------------------------------------------------------------- models


def newest_model(work: Path) -> Path | None:
    """Return the model of the second stage where there is one, else that of the first, if it is there."""
    models = (work / f'{NAME}_stagetwo.model', work / f'{NAME}.model')
    return next((path for path in models if path.is_file()), None)
