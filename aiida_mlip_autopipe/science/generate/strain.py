"""Strained seeds: the cell and what it holds, deformed by a random symmetric tensor.

A potential that is to give stresses has to see them. The components of the strain are uniform in ``[-max, max]``;
rotations are left out (the tensor is symmetric), as they change nothing. Only periodic directions are strained.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.generate.distances import closest_pair
from aiida_mlip_autopipe.science.parameters import GenerationParameters

__all__ = ['random_strain', 'strained']

MAX_DRAWS = 20


def strained(base: Atoms, parameters: GenerationParameters, rng: np.random.Generator) -> list[Atoms]:
    """Return ``n_strained`` deformed copies of ``base``.

    Raises
    ------
    ValueError
        If there is nothing to strain, or if no draw keeps the shortest distance.
    """
    if parameters.n_strained and not (parameters.max_strain and base.pbc.any()):
        raise ValueError(
            f'n_strained is {parameters.n_strained}, but max_strain {parameters.max_strain} and pbc '
            f'{base.pbc.tolist()} leave the structure as it is; raise max_strain, give a periodic cell, or set '
            'n_strained to 0'
        )
    return [_strained_once(base, parameters, rng) for _ in range(parameters.n_strained)]


def random_strain(atoms: Atoms, max_strain: float, rng: np.random.Generator) -> Atoms:
    """Return a copy whose periodic directions are strained by a random symmetric tensor.

    Parameters
    ----------
    atoms : Atoms
        Structure.
    max_strain : float
        Bound of the components of the tensor before its projection on the periodic directions (dimensionless).
    rng : numpy.random.Generator
        Source of the six random numbers.
    """
    tensor = np.zeros((3, 3))
    tensor[np.triu_indices(3)] = rng.uniform(-max_strain, max_strain, 6)
    tensor = np.triu(tensor) + np.triu(tensor, 1).T
    basis, _ = np.linalg.qr(np.array(atoms.cell)[atoms.pbc].T)
    projector = basis @ basis.T
    copy = atoms.copy()
    deformation = np.eye(3) + projector @ tensor @ projector
    copy.set_cell(np.array(atoms.cell) @ deformation)
    copy.positions = atoms.positions @ deformation
    return copy


def _strained_once(base: Atoms, parameters: GenerationParameters, rng: np.random.Generator) -> Atoms:
    for _ in range(MAX_DRAWS):
        atoms = random_strain(base, parameters.max_strain, rng)
        pair = closest_pair(atoms, parameters.min_distance_factor)
        if pair is None:
            return atoms
    raise ValueError(
        f'no strain within max_strain {parameters.max_strain} keeps the shortest distance ({pair}, in the last of '
        f'{MAX_DRAWS} draws); lower max_strain or min_distance_factor ({parameters.min_distance_factor})'
    )
