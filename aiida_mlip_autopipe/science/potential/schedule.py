"""How a training spends its optimiser steps: epochs, stages, and the fall of the learning rate.

What a training reaches depends on how many steps it takes and on a learning rate that ends low, not on how often it
sees the whole set: with few frames an epoch is a few steps. So a budget of steps is what is asked for, and the epochs,
which is what ``mace_run_train`` counts, follow from the number of frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from aiida_mlip_autopipe.science.parameters import TrainingParameters

__all__ = ['Schedule', 'schedule_of']


@dataclass(frozen=True)
class Schedule:
    """The course of a training, in epochs.

    Attributes
    ----------
    batch_size : int
        Frames of a batch: at most those of the set.
    steps_per_epoch : int
        Batches of an epoch; mace leaves out an incomplete one.
    n_epochs : int
        Epochs.
    stage_two : int, optional
        First epoch of the second stage; None if there is none, as an epoch must come before it.
    lr_gamma : float
        Factor of the learning rate per epoch of the first stage.
    patience : int, optional
        Epochs without a lower validation loss after which a stage ends.
    """

    batch_size: int
    steps_per_epoch: int
    n_epochs: int
    stage_two: int | None
    lr_gamma: float
    patience: int | None


def schedule_of(parameters: TrainingParameters, n_frames: int) -> Schedule:
    """Return the course of a training on so many frames, those of isolated atoms and of a replay set included."""
    batch_size = max(1, min(parameters.batch_size, n_frames))
    steps_per_epoch = max(1, n_frames // batch_size)
    n_epochs = max(1, round(parameters.n_steps / steps_per_epoch))
    fraction = parameters.swa_fraction
    start = n_epochs - max(1, round(fraction * n_epochs))
    stage_two = start if fraction > 0 and start > 0 else None
    return Schedule(
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        n_epochs=n_epochs,
        stage_two=stage_two,
        lr_gamma=parameters.final_lr_factor ** (1 / (stage_two or n_epochs)),
        patience=None if parameters.patience is None else ceil(parameters.patience / steps_per_epoch),
    )
