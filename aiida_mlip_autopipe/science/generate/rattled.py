"""Rattled seeds: every atom displaced at random, in a slightly strained cell.

The displacements are Gaussian with zero mean over the atoms, so that the structure as a whole stays where it is. A draw
that brings two atoms too close is drawn again, and the last one is scaled back: displaced structures are to inform the
potential about bonds, not about collisions that DFT may not even converge for.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_mlip_autopipe.science.generate.base import SeedGenerator
from aiida_mlip_autopipe.science.generate.distances import closest_pair
from aiida_mlip_autopipe.science.generate.strained import random_strain
from aiida_mlip_autopipe.science.systems import filled_axes

__all__ = ['Rattled']

MAX_DRAWS = 20
MAX_HALVINGS = 10


class Rattled(SeedGenerator):
    """Copies whose atoms are displaced at random, in a slightly strained cell."""

    rank: ClassVar[int] = 20

    n: int = Field(4, ge=0, le=10_000, description='Seeds with randomly displaced atoms (and a small strain).')
    stdev_A: float = Field(0.08, ge=0, le=1, description='Standard deviation of the displacements, in Å.')
    max_strain: float = Field(
        0.02,
        ge=0,
        lt=0.5,
        description='Largest strain component (dimensionless): enough for non-zero stresses, but small compared to '
        'the effect of the displacements.',
    )

    def count(self) -> int:
        """Return how many are asked for."""
        return self.n

    def make(self, base: Atoms, rng: np.random.Generator, min_distance_factor: float) -> list[Atoms]:
        """Return displaced copies.

        Raises
        ------
        ValueError
            If nothing would be displaced, or if no displacement keeps the shortest distance.
        """
        displaces = self.stdev_A > 0 and len(base) > 1
        strains = self.max_strain > 0 and filled_axes(base).any()
        if self.n and not (displaces or strains):
            raise ValueError(
                f'{self.n} rattled structures are requested, but rattled.stdev_A {self.stdev_A}, rattled.max_strain '
                f'{self.max_strain} and {len(base)} atoms do not change the structure; raise one of them, or request '
                'none'
            )
        return [self._rattled_once(base, rng, min_distance_factor) for _ in range(self.n)]

    @classmethod
    def leaving_the_cell(cls) -> dict[str, Any]:
        """Return that there is no strain."""
        return {'max_strain': 0.0}

    @classmethod
    def displacing_by(cls, displacement_A: float) -> dict[str, Any]:
        """Return the standard deviation."""
        return {'stdev_A': displacement_A}

    def sentence(self) -> str:
        """Return what a paper says."""
        verb = 'has' if self.n == 1 else 'have'
        strain = f', in a cell strained by up to {100 * self.max_strain:g} %' if self.max_strain else ''
        return f'{self.n} {verb} atoms displaced at random (standard deviation {self.stdev_A:g} Å){strain}.'

    def _rattled_once(self, base: Atoms, rng: np.random.Generator, min_distance_factor: float) -> Atoms:
        for _ in range(MAX_DRAWS):
            strained = random_strain(base, self.max_strain, rng)
            displacements = rng.normal(0.0, self.stdev_A, (len(base), 3))
            displacements -= displacements.mean(axis=0)
            atoms = _displaced(strained, displacements)
            if closest_pair(atoms, min_distance_factor) is None:
                return atoms
        for _ in range(MAX_HALVINGS):
            displacements *= 0.5
            atoms = _displaced(strained, displacements)
            pair = closest_pair(atoms, min_distance_factor)
            if pair is None:
                return atoms
        raise ValueError(
            f'no displacement keeps the shortest distance ({pair}, almost undisplaced); lower rattled.max_strain '
            f'({self.max_strain}) or min_distance_factor ({min_distance_factor})'
        )


def _displaced(atoms: Atoms, displacements: np.ndarray) -> Atoms:
    copy = atoms.copy()
    copy.positions += displacements
    return copy
