"""How much each labelled frame counts in a training, by how many frames it stands for.

A selection takes rare frames as readily as frequent ones, so that a potential trained on it alone errs more on frequent
ones. A frame that was selected in place of many others can count for them: its weight is the number of frames that it
represents (``represents``, see :class:`~aiida_mlip_autopipe.science.sampling.DirectSampler`) over the mean of all that
were selected with it, but not less than a quarter (its label was paid for) and not more than four (one frame is not to
make a loss of its own).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['LARGEST', 'WEIGHT', 'weigh', 'weights_in', 'weights_of']

WEIGHT = 'training_weight'
"""The weight of a frame in its ``info``."""

LARGEST = 4.0
"""Largest weight before they are brought to the mean 1; the smallest is one over it."""


def weights_of(represents: np.ndarray) -> np.ndarray:
    """Return weights of the mean 1 (n,).

    Parameters
    ----------
    represents : numpy.ndarray
        How many frames each of those that were selected together stands for (n,).
    """
    ratios = np.asarray(represents, dtype=float)
    if len(ratios) == 0 or not ratios.mean() > 0:
        return np.ones(len(ratios))
    weights = np.clip(ratios / ratios.mean(), 1 / LARGEST, LARGEST)
    return weights / weights.mean()


def weigh(frames: Sequence[Atoms]) -> None:
    """Write the weights of frames that were labelled together into their ``info``.

    Frames that were not selected, such as seeds and isolated atoms, get none, which counts as 1.
    """
    selected = [atoms for atoms in frames if 'represents' in atoms.info]
    represents = np.array([atoms.info['represents'] for atoms in selected])
    for atoms, weight in zip(selected, weights_of(represents), strict=True):
        atoms.info[WEIGHT] = float(weight)


def weights_in(frames: Sequence[Atoms]) -> list[float]:
    """Return the weight of each frame of a training set: what is in its ``info``, 1 where nothing is.

    Where no frame has one, as in a set that was not made by the pipeline, frames are weighed as if all were selected
    together.
    """
    if not any(WEIGHT in atoms.info for atoms in frames):
        weigh(frames)
    return [float(atoms.info.get(WEIGHT, 1.0)) for atoms in frames]
