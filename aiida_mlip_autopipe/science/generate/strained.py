"""Strained seeds: the cell and what it holds, deformed by a random symmetric tensor.

A potential that is to give stresses has to see them. The components of the strain are uniform in ``[-max, max]``;
rotations are left out (the tensor is symmetric), as they change nothing. Only filled axes are strained: a slab in its
plane.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_mlip_autopipe.science.generate.base import SeedGenerator
from aiida_mlip_autopipe.science.generate.distances import closest_pair
from aiida_mlip_autopipe.science.systems import filled_axes, filled_space

__all__ = ['Strained', 'random_strain']

MAX_DRAWS = 20


class Strained(SeedGenerator):
    """Copies whose cell is deformed by a random symmetric strain."""

    rank: ClassVar[int] = 10

    n: int = Field(3, ge=0, le=10_000, description='Seeds with a random symmetric strain of the cell.')
    max_strain: float = Field(0.04, ge=0, lt=0.5, description='Largest strain component (dimensionless).')

    def count(self) -> int:
        """Return how many are asked for."""
        return self.n

    def make(self, base: Atoms, rng: np.random.Generator, min_distance_factor: float) -> list[Atoms]:
        """Return deformed copies.

        Raises
        ------
        ValueError
            If there is nothing to strain, or if no draw keeps the shortest distance.
        """
        if self.n and not (self.max_strain and filled_axes(base).any()):
            raise ValueError(
                f'strained.n is {self.n}, but strained.max_strain {self.max_strain} does not change the structure, or '
                'it has vacuum on all sides; raise max_strain, or set strained.n to 0'
            )
        return [self._strained_once(base, rng, min_distance_factor) for _ in range(self.n)]

    @classmethod
    def leaving_the_cell(cls) -> dict[str, Any]:
        """Return that there are none."""
        return {'n': 0}

    def sentence(self) -> str:
        """Return what a paper says."""
        verb = 'is a copy' if self.n == 1 else 'are copies'
        return f'{self.n} {verb} with a random strain of the cell, each component up to {100 * self.max_strain:g} %.'

    def _strained_once(self, base: Atoms, rng: np.random.Generator, min_distance_factor: float) -> Atoms:
        for _ in range(MAX_DRAWS):
            atoms = random_strain(base, self.max_strain, rng)
            pair = closest_pair(atoms, min_distance_factor)
            if pair is None:
                return atoms
        raise ValueError(
            f'no strain within strained.max_strain {self.max_strain} keeps the shortest distance ({pair}, in the last '
            f'of {MAX_DRAWS} draws); lower max_strain or min_distance_factor ({min_distance_factor})'
        )


def random_strain(atoms: Atoms, max_strain: float, rng: np.random.Generator) -> Atoms:
    """Return a copy whose filled axes are strained by a random symmetric tensor.

    Parameters
    ----------
    atoms : Atoms
        Structure.
    max_strain : float
        Bound of the components of the tensor before its projection on the filled axes (dimensionless).
    rng : numpy.random.Generator
        Source of the six random numbers.
    """
    tensor = np.zeros((3, 3))
    tensor[np.triu_indices(3)] = rng.uniform(-max_strain, max_strain, 6)
    tensor = np.triu(tensor) + np.triu(tensor, 1).T
    projector = filled_space(atoms)
    copy = atoms.copy()
    deformation = np.eye(3) + projector @ tensor @ projector
    copy.set_cell(np.array(atoms.cell) @ deformation)
    copy.positions = atoms.positions @ deformation
    return copy
