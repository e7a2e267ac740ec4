"""Do two atoms of a structure come too close, periodic images included?

The measure is the sum of the covalent radii (Cordero et al., Dalton Trans. 2008, 2832, as tabulated in ASE), scaled by
a factor: one number serves every pair of elements.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

__all__ = ['ClosePair', 'closest_pair', 'shortest_distance', 'smallest_distance_ratio']


class ClosePair(NamedTuple):
    """Two atoms (or an atom and its own image) below the shortest distance allowed."""

    first: str
    second: str
    distance_A: float
    bound_A: float

    def __str__(self) -> str:
        return f'{self.first}-{self.second} at {self.distance_A:.3f} Å, below {self.bound_A:.3f} Å'


def closest_pair(atoms: Atoms, factor: float) -> ClosePair | None:
    """Return the pair that is furthest below ``factor`` times the sum of its covalent radii, or None."""
    i, j, distances = neighbor_list('ijd', atoms, factor * covalent_radii[atoms.numbers])
    if not len(distances):
        return None
    sums = covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[j]]
    worst = int(np.argmin(distances / sums))
    symbols = atoms.symbols
    return ClosePair(symbols[i[worst]], symbols[j[worst]], float(distances[worst]), float(factor * sums[worst]))


def smallest_distance_ratio(atoms: Atoms, limit: float = 1.5) -> float:
    """Return the smallest distance over the sum of covalent radii, or ``limit`` where nothing is closer."""
    i, j, distances = neighbor_list('ijd', atoms, limit * covalent_radii[atoms.numbers])
    if not len(distances):
        return limit
    return float(np.min(distances / (covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[j]])))


def shortest_distance(atoms: Atoms, limit: float = 1.5) -> float | None:
    """Return the smallest distance in Å, or None where none is within ``limit`` times the sum of covalent radii."""
    distances = neighbor_list('d', atoms, limit * covalent_radii[atoms.numbers])
    return float(distances.min()) if len(distances) else None
