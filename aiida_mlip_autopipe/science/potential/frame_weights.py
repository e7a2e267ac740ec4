"""How mace is told that frames count differently.

mace reads ``config_weight`` of a frame, but its ``universal`` loss, the Huber losses, does not look at it: there,
without a word, all frames count the same. That loss has a factor for each quantity of a frame (``config_energy_weight``
and so on) which multiplies label and prediction before they are compared. So its square is the weight of small errors,
and large errors, beyond the bound of the Huber loss, are weighed by the factor itself. The ``stress`` loss takes
``config_weight`` as the factor of the squared errors.

Source: mace/modules/loss.py and mace/data/utils.py of mace-torch 0.3.16.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

from aiida_mlip_autopipe.science.frames import write_extxyz

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['write_weighted']

QUANTITIES = ('energy', 'forces', 'stress')


def write_weighted(frames: Sequence[Atoms], weights: Sequence[float], loss: str, path: Path) -> Path:
    """Write frames for a training in which each counts by its weight, and return the file.

    Parameters
    ----------
    frames : sequence of ase.Atoms
        Labelled frames.
    weights : sequence of float
        One for each frame; 1 on average.
    loss : str
        The loss of `TrainingParameters`: ``universal`` or ``stress``.
    path : Path
        Where to write (extxyz).
    """
    weighted = [atoms.copy() for atoms in frames]
    for atoms, weight in zip(weighted, weights, strict=True):
        if loss == 'universal':
            atoms.info |= {f'config_{quantity}_weight': sqrt(weight) for quantity in QUANTITIES}
        else:
            atoms.info['config_weight'] = float(weight)
    write_extxyz(path, weighted)
    return path
