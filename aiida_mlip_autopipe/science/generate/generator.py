"""StructureGenerator: the seeds of all methods, the seeds of the test set, and isolated atoms.

Everything is drawn from one seed, each method from a stream of its own, so that the same parameters give the same
structures and a change to one method leaves the others alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.frames import structure_hash
from aiida_mlip_autopipe.science.frames.carried import carried_arrays, carry
from aiida_mlip_autopipe.science.generate.distances import closest_pair
from aiida_mlip_autopipe.science.generate.isolated import isolated_atoms
from aiida_mlip_autopipe.science.generate.supercell import isotropic_supercell
from aiida_mlip_autopipe.science.systems import VACUUM_AXES, recognised, vacuum_axes
from aiida_mlip_autopipe.science.systems.occupancies import partial_occupancies

if TYPE_CHECKING:
    from aiida_mlip_autopipe.science.parameters import GenerationParameters

__all__ = ['StructureGenerator', 'random_stream']

TEST_METHOD = 'rattled'
"""Seeds of the test set are further ones of this method, from a stream of their own."""


class StructureGenerator:
    """Make the seeds of one or more source structures.

    Parameters
    ----------
    parameters : GenerationParameters
        How many structures of each kind, how large, how far from the source; the seed of the random numbers.
    """

    def __init__(self, parameters: GenerationParameters | None = None) -> None:
        from aiida_mlip_autopipe.science.parameters import GenerationParameters  # which is made from the methods

        self.parameters = parameters or GenerationParameters()

    def generate(self, sources: Sequence[Atoms]) -> list[Atoms]:
        """Return the seeds of each source, those of each method in turn.

        Each has ``frame_id``, ``origin`` (itself), ``config_type`` 'seed' and ``method`` in its ``info``, and
        ``vacuum_axes`` where its cell is not filled; all are periodic in three directions. Structures that come twice,
        as from a source given twice, are kept once.

        Raises
        ------
        ValueError
            If a source is unfit, or if a method cannot keep the shortest distance.
        """
        seeds: dict[str, Atoms] = {}
        for index, base in self._bases(sources):
            for name, method in self.parameters.methods().items():
                rng = random_stream(self.parameters.random_seed, name, index)
                for atoms in method.make(base, rng, self.parameters.min_distance_factor):
                    seed = _named(atoms, 'seed', name, base)
                    seeds.setdefault(seed.info['frame_id'], seed)
        return list(seeds.values())

    def count(self, n_sources: int) -> int:
        """Return how many seeds :meth:`generate` makes of so many different sources."""
        return n_sources * sum(method.count() for method in self.parameters.methods().values())

    def generate_test_seeds(self, sources: Sequence[Atoms]) -> list[Atoms]:
        """Return ``n_test_seeds`` further rattled structures of each source, with ``config_type`` 'test_seed'.

        Raises
        ------
        ValueError
            As :meth:`generate`.
        """
        method = self.parameters.methods()[TEST_METHOD].model_copy(update={'n': self.parameters.n_test_seeds})
        seeds = []
        for index, base in self._bases(sources):
            rng = random_stream(self.parameters.random_seed, 'test_seed', index)
            for atoms in method.make(base, rng, self.parameters.min_distance_factor):
                seeds.append(_named(atoms, 'test_seed', TEST_METHOD, base))
        return seeds

    def isolated_atoms(self, elements: Iterable[str]) -> list[Atoms]:
        """Return one isolated atom for each element, with ``config_type`` 'IsolatedAtom'.

        Raises
        ------
        ValueError
            If a symbol is not an element.
        """
        return isolated_atoms(elements, self.parameters.isolated_atom_box_A)

    def check(self, sources: Sequence[Atoms]) -> None:
        """Raise what :meth:`generate` would raise about the sources themselves, without generating.

        Raises
        ------
        ValueError
            If a source has no volume, no real elements, partly occupied sites, atoms too close to each other, or vacuum
            where it cannot be.
        """
        for index, source in enumerate(sources):
            self._checked(source, index)

    def _bases(self, sources: Sequence[Atoms]) -> Iterator[tuple[int, Atoms]]:
        """Yield the index and the supercell of each source, checked."""
        if not len(sources):
            raise ValueError('sources: no structure was given; give at least one')
        for index, source in enumerate(sources):
            yield index, isotropic_supercell(self._checked(source, index), self.parameters.target_atoms)

    def _checked(self, source: Atoms, index: int) -> Atoms:
        """Return numbers, positions, cell and pbc of a source, and what its atoms carry, with its vacuum recorded."""
        name = f'source {index} ({source.get_chemical_formula()})'
        if len(source) == 0 or (source.numbers < 1).any():
            raise ValueError(f'{name}: no atoms, or atoms without an element; give real chemical symbols')
        if not np.isfinite(source.positions).all() or not np.isfinite(np.array(source.cell)).all():
            raise ValueError(f'{name}: positions or cell are not finite; repair the structure')
        if source.cell.rank < 3:
            raise ValueError(f'{name}: the cell {source.cell.tolist()} has no volume; give three lattice vectors')
        if shared := partial_occupancies(source):
            raise ValueError(f'{name}: {shared}')
        try:
            bare = recognised(source)
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from error
        pair = closest_pair(bare, self.parameters.min_distance_factor)
        if pair is not None:
            raise ValueError(
                f'{name}: {pair} (min_distance_factor {self.parameters.min_distance_factor}); repair the structure or '
                'lower min_distance_factor'
            )
        return carry(carried_arrays(source), bare)


def random_stream(random_seed: int, name: str, source_index: int) -> np.random.Generator:
    """Return the generator of one method on one source: independent of all others, whatever their number."""
    spawn_key = (zlib.crc32(name.encode()), source_index)
    return np.random.default_rng(np.random.SeedSequence(random_seed, spawn_key=spawn_key))


def _named(atoms: Atoms, config_type: str, method: str, base: Atoms) -> Atoms:
    """Return the structure with the identity of a seed in its ``info``."""
    frame_id = f'seed-{structure_hash(atoms)}'
    atoms.info = {'frame_id': frame_id, 'origin': frame_id, 'config_type': config_type, 'method': method}
    if vacuum_axes(base):
        atoms.info[VACUUM_AXES] = vacuum_axes(base)
    return atoms
