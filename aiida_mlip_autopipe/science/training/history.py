"""The errors on the validation set, epoch by epoch, and the best epoch among them."""

from __future__ import annotations

from typing import Any

from aiida_mlip_autopipe.science.potential.training_files import Validation

__all__ = ['History', 'best_epoch', 'new_history', 'record']

KEYS = ('epoch', 'loss', 'rmse_e_meV', 'rmse_f_meV_A', 'rmse_stress_meV_A3')

History = dict[str, list[Any]]
"""A value for each evaluated epoch, by the names of a `Validation`."""


def new_history() -> History:
    """Return a history without epochs."""
    return {key: [] for key in KEYS}


def record(entry: Validation, history: History) -> None:
    """Add a validation."""
    for key in KEYS:
        history[key].append(getattr(entry, key))


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
