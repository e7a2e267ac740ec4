"""Rattled seeds: every atom displaced at random, in a slightly strained cell.

The displacements are Gaussian with zero mean over the atoms, so that the structure as a whole stays where it is. A draw
that brings two atoms too close is drawn again, and the last one is scaled back: displaced structures are to inform the
potential about bonds, not about collisions that DFT may not even converge for.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.generate.distances import closest_pair
from aiida_mlip_autopipe.science.generate.strain import random_strain
from aiida_mlip_autopipe.science.parameters import GenerationParameters

__all__ = ['random_rattle', 'rattled']

STRAIN_FRACTION = 0.5  # of max_strain: enough for stresses off zero, without hiding what the displacements do
MAX_DRAWS = 20
MAX_HALVINGS = 10


def rattled(base: Atoms, parameters: GenerationParameters, rng: np.random.Generator) -> list[Atoms]:
    """Return ``n_rattled`` displaced copies of ``base``.

    Raises
    ------
    ValueError
        If nothing would be displaced, or if no displacement keeps the shortest distance.
    """
    return random_rattle(base, parameters.n_rattled, parameters, rng)


def random_rattle(
    base: Atoms, n_structures: int, parameters: GenerationParameters, rng: np.random.Generator
) -> list[Atoms]:
    """Return ``n_structures`` displaced copies of ``base``; see :func:`rattled`."""
    displaces = parameters.rattle_stdev_A > 0 and len(base) > 1
    strains = parameters.max_strain > 0 and base.pbc.any()
    if n_structures and not (displaces or strains):
        raise ValueError(
            f'{n_structures} rattled structures are asked for, but rattle_stdev_A {parameters.rattle_stdev_A}, '
            f'max_strain {parameters.max_strain} and {len(base)} atoms leave the structure as it is; raise one of '
            'them, or ask for none'
        )
    return [_rattled_once(base, parameters, rng) for _ in range(n_structures)]


def _rattled_once(base: Atoms, parameters: GenerationParameters, rng: np.random.Generator) -> Atoms:
    factor = parameters.min_distance_factor
    for _ in range(MAX_DRAWS):
        strained = random_strain(base, STRAIN_FRACTION * parameters.max_strain, rng)
        displacements = rng.normal(0.0, parameters.rattle_stdev_A, (len(base), 3))
        displacements -= displacements.mean(axis=0)
        atoms = _displaced(strained, displacements)
        if closest_pair(atoms, factor) is None:
            return atoms
    for _ in range(MAX_HALVINGS):
        displacements *= 0.5
        atoms = _displaced(strained, displacements)
        pair = closest_pair(atoms, factor)
        if pair is None:
            return atoms
    raise ValueError(
        f'no displacement keeps the shortest distance ({pair}, almost undisplaced); lower max_strain '
        f'({parameters.max_strain}) or min_distance_factor ({factor})'
    )


def _displaced(atoms: Atoms, displacements: np.ndarray) -> Atoms:
    copy = atoms.copy()
    copy.positions += displacements
    return copy
