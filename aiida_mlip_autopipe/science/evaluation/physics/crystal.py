"""The crystal of the physics checks: its symmetry and its supercell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.generate.supercell import anisotropy, isotropic_supercell
from aiida_mlip_autopipe.science.parameters import PhysicsParameters
from aiida_mlip_autopipe.science.systems import with_moments_of

if TYPE_CHECKING:
    from phonopy import Phonopy

__all__ = ['bare_crystal', 'phonopy_of', 'strained_crystal', 'supercell_of', 'symmetry_of']

MAX_EXCESS = 1.5
"""A supercell that keeps the symmetry may hold this many times the atoms needed."""


def bare_crystal(atoms: Atoms) -> Atoms:
    """Return numbers, positions, cell and initial moments of a crystal, and nothing else.

    Raises
    ------
    ValueError
        If it is not periodic in three directions.
    """
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise ValueError(
            f'the structure {atoms.get_chemical_formula()} has pbc {atoms.pbc.tolist()} and a cell of rank '
            f'{atoms.cell.rank}: physics checks need a crystal, periodic in three directions; '
            'leave them out (checks: [])'
        )
    # spglib and phonopy want right-handed vectors; the opposite ones span the same lattice
    cell = np.sign(np.linalg.det(atoms.cell.array)) * atoms.cell.array
    return with_moments_of(atoms, Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=cell, pbc=True))


def symmetry_of(crystal: Atoms, parameters: PhysicsParameters) -> Any:
    """Return the symmetry dataset of spglib.

    Raises
    ------
    ValueError
        If spglib finds none.
    """
    import spglib

    cell = (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
    try:
        dataset = spglib.get_symmetry_dataset(cell, symprec=parameters.symprec_A)
    except Exception as error:  # spglib raises a class of its own since 2.7, and returned None before
        raise ValueError(_no_symmetry(parameters)) from error
    if dataset is None:
        raise ValueError(_no_symmetry(parameters))
    return dataset


def _no_symmetry(parameters: PhysicsParameters) -> str:
    return (
        f'spglib finds no symmetry of the structure with symprec_A = {parameters.symprec_A}: change symprec_A, or look '
        'for atoms on top of each other'
    )


def strained_crystal(crystal: Atoms, deformation: np.ndarray) -> Atoms:
    """Return a copy with cell vectors ``v @ deformation`` (3, 3) and the same fractional coordinates."""
    atoms = crystal.copy()
    atoms.set_cell(crystal.cell.array @ deformation, scale_atoms=True)
    return atoms


def phonopy_of(crystal: Atoms, parameters: PhysicsParameters) -> Phonopy:
    """Return phonopy's object of the crystal and its supercell."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    unitcell = PhonopyAtoms(
        symbols=crystal.get_chemical_symbols(),
        cell=crystal.cell.array,
        scaled_positions=crystal.get_scaled_positions(wrap=False),
    )
    matrix = _supercell_matrix(crystal, parameters)
    return Phonopy(unitcell, supercell_matrix=matrix, primitive_matrix='auto', symprec=parameters.symprec_A)


def supercell_of(crystal: Atoms, parameters: PhysicsParameters) -> Atoms:
    """Return the supercell, its atoms in phonopy's order, with the array ``site``: the atom of the crystal."""
    supercell = phonopy_of(crystal, parameters).supercell
    atoms = Atoms(numbers=supercell.numbers, positions=supercell.positions, cell=supercell.cell, pbc=True)
    site_of = supercell.u2u_map
    sites = np.array([site_of[int(first)] for first in supercell.s2u_map])
    atoms.set_array('site', sites)
    return with_moments_of(crystal, atoms, sites)


def _supercell_matrix(crystal: Atoms, parameters: PhysicsParameters) -> np.ndarray:
    """Return the matrix (3, 3), for lattice vectors as columns, of the supercell.

    Of the repeats of the given and of the conventional cell that keep the point group, the most isotropic one: with
    less symmetry phonons need more labels. Where none is of the wanted size, the most isotropic supercell there is.
    """
    symmetry = symmetry_of(crystal, parameters)
    low = math.ceil(parameters.supercell_atoms / len(crystal))
    found: list[tuple[float, int, np.ndarray]] = []
    for base in _bases(symmetry):
        cells = round(np.linalg.det(base))
        repeats = _repeats(math.ceil(low / cells), int(low * MAX_EXCESS / cells))
        for repeat in repeats:
            matrix = base @ np.diag(repeat)
            turned = np.linalg.inv(matrix) @ symmetry.rotations @ matrix
            if np.allclose(turned, turned.round(), atol=1e-6):
                deviation = float(anisotropy((base.T @ crystal.cell.array), np.array([repeat]))[0])
                found.append((round(deviation, 6), cells * math.prod(repeat), matrix))
    if found:
        return min(found, key=lambda candidate: candidate[:2])[2]
    vectors = isotropic_supercell(crystal, parameters.supercell_atoms).cell.array
    return np.rint(vectors @ np.linalg.inv(crystal.cell.array)).astype(int).T


def _bases(symmetry: Any) -> list[np.ndarray]:
    """Return the cell itself, and the conventional one as far as it is made of whole cells."""
    conventional = np.linalg.inv(symmetry.transformation_matrix)
    whole = np.allclose(conventional, conventional.round(), atol=1e-4) and np.linalg.det(conventional) > 0.5
    return [np.eye(3, dtype=int), *([conventional.round().astype(int)] if whole else [])]


def _repeats(low: int, high: int) -> list[tuple[int, int, int]]:
    """Return the repeats along three vectors whose product is from ``low`` to ``high``."""
    return [
        (p, q, r)
        for p in range(1, high + 1)
        for q in range(1, high // p + 1)
        for r in range(-(-low // (p * q)), high // (p * q) + 1)
    ]
