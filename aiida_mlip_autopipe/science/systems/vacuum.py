"""Vacuum as it travels with a frame: from the source to the seeds, the dynamics, the label and the data set.

It is found once, in the source, and recorded in ``info['vacuum_axes']`` of each seed and of each frame that descends
from it ('c' of a slab, 'abc' of a molecule; absent where the cell is filled). Were it found anew in each frame, a
molecule that evaporates into the gap, or two fragments that drift apart, would change the k-points in the middle of a
data set, and give single frames a stress.

All frames are periodic in three directions, those with vacuum, too: so are the cells that DFT labels. mace 0.3.16
replaces the lattice vector of a direction that is not periodic by another one, and divides the virial by that volume.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.systems.dimensionality import AXES, VACUUM_A, vacuum_gaps_A

__all__ = ['VACUUM_AXES', 'filled_axes', 'filled_space', 'fills_its_cell', 'recognised', 'vacuum_axes']

VACUUM_AXES = 'vacuum_axes'


def vacuum_axes(atoms: Atoms) -> str:
    """Return the axes of a frame along which there is vacuum, as recorded: '', 'c', 'bc', 'abc' and the like."""
    return str(atoms.info.get(VACUUM_AXES, ''))


def filled_axes(atoms: Atoms) -> np.ndarray:
    """Return which axes of a frame are filled, shape (3,): those that are periodic and have no vacuum recorded."""
    return atoms.pbc & [name not in vacuum_axes(atoms) for name in AXES]


def fills_its_cell(atoms: Atoms) -> bool:
    """Return whether a frame has a pressure: it is periodic in three directions, without vacuum."""
    return bool(filled_axes(atoms).all())


def filled_space(atoms: Atoms) -> np.ndarray:
    """Return the projector, shape (3, 3), on the space that the filled axes span: 0 for a molecule, 1 for bulk."""
    basis, _ = np.linalg.qr(atoms.cell.array[filled_axes(atoms)].T)
    projector: np.ndarray = basis @ basis.T
    return projector


def recognised(source: Atoms) -> Atoms:
    """Return the bare structure of a source, periodic in three directions, with its vacuum recorded.

    Parameters
    ----------
    source : Atoms
        With three lattice vectors.

    Raises
    ------
    ValueError
        If its vacuum is not along lattice vectors, or an axis that is not periodic has none.
    """
    gaps = vacuum_gaps_A(source)
    _check_open_axes(source, gaps)
    axes = ''.join(name for name, gap in zip(AXES, gaps, strict=True) if gap >= VACUUM_A)
    atoms = Atoms(numbers=source.numbers, positions=source.positions, cell=source.cell, pbc=True)
    if axes:
        atoms.info[VACUUM_AXES] = axes
    return atoms


def _check_open_axes(source: Atoms, gaps_A: tuple[float, float, float]) -> None:
    for name, periodic, gap in zip(AXES, source.pbc.tolist(), gaps_A, strict=True):
        if not periodic and gap < VACUUM_A:
            raise ValueError(
                f'pbc says that {name} is not periodic, but the cell leaves {gap:.1f} Å between the van der Waals '
                f'surfaces of periodic images along it, and labels need periodic cells; enlarge the cell along {name} '
                f'until there are {VACUUM_A:g} Å and more, or set pbc to T there'
            )
