"""The supercell as it is."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_mlip_autopipe.science.generate.base import SeedGenerator

__all__ = ['Pristine']


class Pristine(SeedGenerator):
    """The supercell of the source itself."""

    rank: ClassVar[int] = 0

    n: int = Field(1, ge=0, le=1, description='1: use the unmodified supercell as a seed; 0: do not.')

    def count(self) -> int:
        """Return 1 or 0."""
        return self.n

    def make(self, base: Atoms, rng: np.random.Generator, min_distance_factor: float) -> list[Atoms]:
        """Return a copy of the supercell."""
        return [base.copy() for _ in range(self.n)]

    def sentence(self) -> str:
        """Return what a paper says."""
        return 'One is the supercell itself.'
