"""How pw.x treats the directions without periodicity: the Coulomb interaction between images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.systems import filled_axes, recognised, vacuum_axes

__all__ = ['boundary_entries', 'boundary_of', 'boundary_problem', 'suggested_boundary', 'uncorrected_dipole']

ASSUME_ISOLATED = {'2d': '2D', '0d': 'mt'}
LEAST_HEIGHT_BOHR = 20.0
BOHR_A = 0.529177210903
DENSITY_MARGIN_A = 5.3  # 10 bohr, over both surfaces
IMAGES_OF_CHAINS = (
    'pw.x has no Coulomb interaction that is cut off around a chain; if it is polar or charged, compare energies with '
    'those in a wider cell'
)


def boundary_of(boundary: str, dimensionality: int | None = None) -> str:
    """Return the boundary condition of ``auto``: that of the number of periodic directions, '3d' where it is unknown.

    Parameters
    ----------
    boundary : str
        'auto', '3d', '2d' or '0d'.
    dimensionality : int, optional
        The number of directions along which the structure is filled; a chain has none of its own and is left '3d'.
    """
    if boundary != 'auto':
        return boundary
    return {2: '2d', 0: '0d'}.get(3 if dimensionality is None else dimensionality, '3d')


def suggested_boundary(sources: Sequence[Atoms]) -> dict[str, tuple[Any, str]]:
    """Return the boundary condition that follows from the vacuum of the structures, with its reason.

    It is '3d' where the cells do not suit another one, and of chains. Nothing is returned of filled cells, structures
    that differ, and those whose cell is wrong, as is told elsewhere.
    """
    if any(atoms.cell.rank < 3 or not np.isfinite(atoms.cell.array).all() for atoms in sources):
        return {}
    try:
        found = [recognised(atoms) for atoms in sources]
    except ValueError:
        return {}
    n_filled = {int(filled_axes(atoms).sum()) for atoms in found}
    if len(n_filled) != 1 or n_filled == {3}:
        return {}
    vacuum = ', '.join(sorted({f'vacuum along {", ".join(vacuum_axes(atoms))}' for atoms in found}))
    boundary = boundary_of('auto', n_filled.pop())
    if boundary == '3d':
        return {'boundary': ('3d', f'{vacuum}: {IMAGES_OF_CHAINS}')}
    problems = [problem for atoms in found if (problem := boundary_problem(boundary, atoms))]
    if problems:
        return {'boundary': ('3d', f'{vacuum}, but {problems[0].removeprefix("labelling.boundary: ")}')}
    return {'boundary': (boundary, vacuum)}


def uncorrected_dipole(sources: Sequence[Atoms], boundary: Any) -> str | None:
    """Return what to beware of with slabs whose two sides differ, where nothing corrects their dipole."""
    if boundary not in (None, 'auto', '3d'):
        return None
    for atoms in sources:
        try:
            axes = vacuum_axes(recognised(atoms))
        except ValueError:  # which is told already
            continue
        if len(axes) == 1 and not _has_equal_sides(atoms, 'abc'.index(axes)):
            return (
                f'periodic, but {atoms.get_chemical_formula()} is a slab whose two sides differ: its dipole and those '
                'of its images add to energies and forces; give 2d, with vacuum along z in a cell of twice its height'
            )
    return None


def _has_equal_sides(atoms: Atoms, axis: int) -> bool:
    """Return whether the heights of the atoms of each element are the same seen from both sides, within 0.1 Å."""
    scaled = atoms.get_scaled_positions(wrap=True)[:, axis]
    order = np.sort(scaled)
    gaps = np.diff(np.append(order, order[0] + 1))
    heights = (scaled - order[(gaps.argmax() + 1) % len(order)]) % 1.0
    heights *= np.linalg.norm(atoms.cell.array[axis])
    top = heights.max()
    return all(
        np.allclose(np.sort(heights[atoms.numbers == one]), np.sort(top - heights[atoms.numbers == one]), atol=0.1)
        for one in set(atoms.numbers.tolist())
    )


def boundary_entries(boundary: str) -> dict[str, dict[str, Any]]:
    """Return the entries of namelists."""
    name = ASSUME_ISOLATED.get(boundary)
    return {} if name is None else {'SYSTEM': {'assume_isolated': name}}


def boundary_problem(boundary: str, atoms: Atoms) -> str | None:
    """Return what keeps a structure from being computed with a boundary condition, and the way out."""
    if boundary == '2d':
        return _layer_problem(atoms)
    return _molecule_problem(atoms) if boundary == '0d' else None


def _layer_problem(atoms: Atoms) -> str | None:
    cell = atoms.cell.array
    if np.abs([cell[0, 2], cell[1, 2], cell[2, 0], cell[2, 1]]).max() > 1e-6:
        return 'labelling.boundary: 2d needs the vacuum along z: a and b in the plane xy, and c along z; turn the cell'
    height, thickness = float(cell[2, 2]), _extent(atoms, 2)
    needed = max(2 * (thickness + DENSITY_MARGIN_A), LEAST_HEIGHT_BOHR * BOHR_A)
    if height < needed:
        return (
            f'labelling.boundary: 2d cuts the Coulomb interaction off at half the height of the cell, and {height:.1f} '
            f'Å are below {needed:.1f} Å, twice the thickness with its density; add vacuum'
        )
    return None


def _molecule_problem(atoms: Atoms) -> str | None:
    cell = atoms.cell.array
    if np.abs(cell - np.diag(np.diag(cell))).max() > 1e-6:
        return 'labelling.boundary: 0d needs a box with right angles, along x, y and z; change the cell'
    for axis, length in enumerate(np.diag(cell)):
        if length < (needed := 2 * _extent(atoms, axis) + DENSITY_MARGIN_A):
            return (
                f'labelling.boundary: 0d needs a box of twice the molecule: {length:.1f} Å along {"xyz"[axis]} are '
                f'below {needed:.1f} Å; enlarge it'
            )
    return None


def _extent(atoms: Atoms, axis: int) -> float:
    """Return the length of a structure along an axis, in Å: that of the cell less the largest gap."""
    scaled = np.sort(atoms.get_scaled_positions(wrap=True)[:, axis])
    gaps = np.diff(np.append(scaled, scaled[0] + 1))
    return float((1 - gaps.max()) * np.linalg.norm(atoms.cell.array[axis]))
