"""How a method of making seed structures is written.

A method is one class: its parameters, how many structures it makes, how, and what a paper says of it. Its name is that
of its entry point in the group ``aiida_mlip_autopipe.generators``, of its section in ``generation`` of the input, and
of ``info['method']`` of its structures. A method of another package::

    class Compressed(SeedGenerator):
        \"\"\"Copies in a smaller cell, all lengths scaled alike.\"\"\"

        n: int = Field(0, ge=0, description='Compressed seeds.')
        largest: float = Field(0.03, gt=0, lt=0.3, description='Largest compression of a length (dimensionless).')

        def count(self) -> int:
            return self.n

        def make(self, base, rng, min_distance_factor):
            seeds = []
            for factor in 1 - self.largest * (np.arange(self.n) + 1) / self.n:
                atoms = base.copy()
                atoms.set_cell(factor * atoms.cell.array, scale_atoms=True)
                seeds.append(atoms)
            return seeds

        def sentence(self) -> str:
            return f'{self.n} are compressed, by up to {100 * self.largest:g} % of each length.'

and in its ``pyproject.toml``::

    [project.entry-points."aiida_mlip_autopipe.generators"]
    compressed = "my_package.compressed:Compressed"

By default it should make nothing: to install a package is not to ask for its structures.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_mlip_autopipe.science.parameters.base import StageParameters
from aiida_mlip_autopipe.science.references import Reference

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

__all__ = ['SeedGenerator']


class SeedGenerator(StageParameters):
    """A method of making seed structures; its fields are its parameters.

    Attributes
    ----------
    rank : int
        Methods make their structures in this order.
    """

    rank: ClassVar[int] = 100

    @abstractmethod
    def count(self) -> int:
        """Return how many structures :meth:`make` makes."""

    @abstractmethod
    def make(self, base: Atoms, rng: np.random.Generator, min_distance_factor: float) -> list[Atoms]:
        """Return the structures.

        Parameters
        ----------
        base : Atoms
            The supercell of a source: numbers, positions, cell, what its atoms carry (moments, charges, tags; copies
            keep it) and, where the cell is not filled, its vacuum (`aiida_mlip_autopipe.science.systems.filled_axes`).
            It must not be changed.
        rng : numpy.random.Generator
            All random numbers come from here. It depends on the random seed of the stage, the name of the method and
            the index of the source alone: a new method leaves the structures of the others as they are.
        min_distance_factor : float
            No two atoms may come closer than this fraction of the sum of their covalent radii.

        Raises
        ------
        ValueError
            If that cannot be done; the message says which parameter to change.
        """

    @classmethod
    def leaving_the_cell(cls) -> dict[str, Any]:
        """Return the parameters, with their values, that leave the cell alone: for molecules in a box."""
        return {}

    @classmethod
    def displacing_by(cls, displacement_A: float) -> dict[str, Any]:
        """Return the parameters, with their values, that displace atoms by this much along each axis (rms, in Å)."""
        return {}

    @abstractmethod
    def sentence(self) -> str:
        """Return what the methods section of a paper says of these structures; their number is its subject."""

    def references(self) -> tuple[Reference, ...]:
        """Return the publications that the sentence cites."""
        return ()
