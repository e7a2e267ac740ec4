"""What a structure is: bulk, layered, a slab, a chain, molecules; found from where its atoms are, not from its pbc.

**Vacuum.** Each atom is a sphere of its van der Waals radius (S. Alvarez, Dalton Trans. 42, 8617 (2013), as in ASE). An
axis is empty where a slab of space between lattice planes, spanned by the two other vectors, holds no part of
a sphere and is at least `VACUUM_A` thick. In condensed matter spheres touch: the widest such gap is about 0 in graphite
and in MoS2, 1 Å in graphite whose layers a functional without dispersion has pushed apart. A slab of silicon with 8 Å
between its outermost atoms and their images has 3.6 Å. Pores are no vacuum: their walls cross every plane.

**Bonds.** Two atoms are bonded where they are closer than `BOND_FACTOR` times the sum of their covalent radii. What is
bonded, periodic images included, is 0-, 1-, 2- or 3-dimensional by the rank of the lattice vectors that lead from it to
itself (as in P. M. Larsen et al., Phys. Rev. Materials 3, 034003 (2019)).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.vdw_alvarez import vdw_radii
from ase.formula import Formula
from matscipy.neighbours import neighbour_list
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components

__all__ = [
    'AXES',
    'VACUUM_A',
    'Dimensionality',
    'dimensionality',
    'planar_gaps_A',
    'tell_systems',
    'vacuum_gaps_A',
]

VACUUM_A = 3.0
"""The thinnest gap between van der Waals surfaces that is vacuum, in Å."""

BOND_FACTOR = 1.2
UNTABULATED_A = 0.8
"""What a van der Waals radius exceeds the covalent one by, in Å, where none is tabulated."""

AXES = 'abc'
PLANES = np.array(
    [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    + [row for row in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, row)) > 1 and row > (0, 0, 0)]
)
MOST_FORMULAS = 3


@dataclass(frozen=True)
class Dimensionality:
    """What a structure is.

    Attributes
    ----------
    gaps_A : tuple of float
        The widest gap between van der Waals surfaces along each lattice vector, in Å, perpendicular to the planes that
        the two others span; 0 where there is none.
    empty : tuple of bool
        Whether that is vacuum.
    n_bonded : tuple of int
        How many bonded parts there are of 0, 1, 2 and 3 dimensions.
    molecules : tuple of str
        Formulas of those of 0 dimensions that have more than one atom, sorted.
    """

    gaps_A: tuple[float, float, float]
    empty: tuple[bool, bool, bool]
    n_bonded: tuple[int, int, int, int]
    molecules: tuple[str, ...]

    @property
    def vacuum_axes(self) -> str:
        """Return the empty axes: '', 'c', 'bc', 'abc' and the like."""
        return ''.join(name for name, empty in zip(AXES, self.empty, strict=True) if empty)

    @property
    def is_molecular(self) -> bool:
        """Return whether all of it is molecules: nothing extends through the crystal, and no atom is alone."""
        return bool(self.molecules) and len(self.molecules) == sum(self.n_bonded)

    @property
    def kind(self) -> str:
        """Return what it is, in a word or a few."""
        n_empty = sum(self.empty)
        if n_empty == 3:
            alone = len(self.molecules) < 2
            return 'molecule in a box' if alone else f'{len(self.molecules)} molecules in a box'
        if n_empty:
            return 'chain' if n_empty == 2 else 'slab or layer'
        if self.is_molecular:
            return 'molecular crystal or liquid'
        points, chains, layers, networks = self.n_bonded
        if not networks and not points and layers:
            return 'layered bulk'
        if not networks and not points and chains:
            return 'bulk of chains'
        return 'bulk with molecules' if self.molecules else 'bulk'

    def __str__(self) -> str:
        widths = [f'{gap:.1f} Å along {name}' for name, gap in zip(AXES, self.gaps_A, strict=True)]
        vacuum = ', '.join(width for width, empty in zip(widths, self.empty, strict=True) if empty)
        told = self.kind + (f' ({self._formulas()})' if self.molecules else '')
        return f'{told}, vacuum of {vacuum}' if vacuum else told

    def _formulas(self) -> str:
        counts = Counter(self.molecules)
        shown = [f'{number} {name}' if number > 1 else name for name, number in counts.most_common(MOST_FORMULAS)]
        return ', '.join(shown) + (', ...' if len(counts) > MOST_FORMULAS else '')


def dimensionality(atoms: Atoms) -> Dimensionality:
    """Return what a structure is; its pbc does not matter.

    Parameters
    ----------
    atoms : Atoms
        With three lattice vectors.

    Raises
    ------
    ValueError
        As `vacuum_gaps_A`.
    """
    gaps = vacuum_gaps_A(atoms)
    n_bonded, molecules = _bonded(atoms)
    return Dimensionality(gaps, tuple(gap >= VACUUM_A for gap in gaps), n_bonded, molecules)  # type: ignore[arg-type]


def tell_systems(sources: Sequence[Atoms], found: Sequence[Dimensionality]) -> str:
    """Return what some structures are, in words: each where there are few, else how many of each kind."""
    if len(found) <= MOST_FORMULAS:
        return '; '.join(f'{atoms.get_chemical_formula()}: {one}' for atoms, one in zip(sources, found, strict=True))
    counts = Counter(one.kind for one in found)
    return f'{len(found)} structures: ' + ', '.join(f'{number} {kind}' for kind, number in counts.most_common())


def vacuum_gaps_A(atoms: Atoms) -> tuple[float, float, float]:  # noqa: N802  the unit is part of the name
    """Return the widest gap between van der Waals surfaces along each lattice vector, in Å.

    Raises
    ------
    ValueError
        If there is vacuum, but not along a lattice vector: neither k-points nor repeats could leave it alone; or if
        the cell has no volume.
    """
    gaps = planar_gaps_A(atoms, PLANES)
    along, across = gaps[:3], gaps[3:]
    crosses_filled = (PLANES[3:] != 0) @ (along < VACUUM_A)
    if (hidden := crosses_filled & (across >= VACUUM_A)).any():
        worst = int(np.argmax(np.where(hidden, across, 0)))
        raise ValueError(
            f'there is a vacuum of {across[worst]:.1f} Å between the planes {"".join(map(str, PLANES[3 + worst]))}, '
            'but not along a lattice vector; choose lattice vectors of which two lie in the slab (or one along the '
            'chain)'
        )
    return float(along[0]), float(along[1]), float(along[2])


def planar_gaps_A(atoms: Atoms, planes: np.ndarray) -> np.ndarray:  # noqa: N802
    """Return the widest gap between van der Waals surfaces across lattice planes, in Å; 0 where there is none.

    Parameters
    ----------
    atoms : Atoms
        With three lattice vectors.
    planes : ndarray of int, shape (n, 3)
        Miller indices; (0, 0, 1) are the planes that a and b span.

    Raises
    ------
    ValueError
        If the cell has no volume.
    """
    if atoms.cell.rank < 3:
        raise ValueError(f'the cell {atoms.cell.tolist()} has no volume; give three lattice vectors')
    normals = planes @ atoms.cell.reciprocal().array
    spacings = 1 / np.linalg.norm(normals, axis=1)
    middle = (atoms.positions @ normals.T) % 1
    radii = _radii(atoms)[:, None] / spacings
    order = np.argsort(middle - radii, axis=0)
    starts = np.take_along_axis(middle - radii, order, axis=0)
    reached = np.maximum.accumulate(np.take_along_axis(middle + radii, order, axis=0), axis=0)
    around = starts[0] + 1 - reached[-1]
    inner = (starts[1:] - reached[:-1]).max(axis=0, initial=0.0)
    gaps: np.ndarray = np.maximum(inner, around).clip(0.0) * spacings
    return gaps


def _radii(atoms: Atoms) -> np.ndarray:
    numbers = atoms.numbers
    tabulated = vdw_radii[np.minimum(numbers, len(vdw_radii) - 1)]
    return np.where(np.isnan(tabulated), covalent_radii[numbers] + UNTABULATED_A, tabulated)


def _bonded(atoms: Atoms) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return how many bonded parts there are of each dimension, and the formulas of the molecules among them."""
    periodic = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    first, second, shifts = neighbour_list('ijS', periodic, BOND_FACTOR * covalent_radii[atoms.numbers])
    graph = csr_matrix((np.ones(len(first), dtype=bool), (first, second)), shape=(len(atoms), len(atoms)))
    n_parts, parts = connected_components(graph, directed=False)
    cells = _unwrapped(graph, parts, first, second, shifts)
    around = cells[first] + shifts - cells[second]
    counts, molecules, symbols = [0, 0, 0, 0], [], np.array(atoms.get_chemical_symbols())
    for part in range(n_parts):
        vectors = np.unique(around[parts[first] == part], axis=0)
        dimension = int(np.linalg.matrix_rank(vectors)) if len(vectors) else 0
        counts[dimension] += 1
        if dimension == 0 and len(members := symbols[parts == part]) > 1:
            molecules.append(Formula.from_list(members.tolist()).format('hill'))
    return tuple(counts), tuple(sorted(molecules))


def _unwrapped(
    graph: csr_matrix, parts: np.ndarray, first: np.ndarray, second: np.ndarray, shifts: np.ndarray
) -> np.ndarray:
    """Return the cell, shape (N, 3), in which each atom lies once its part is followed bond by bond from one atom."""
    shift_of = dict(zip(zip(first.tolist(), second.tolist(), strict=True), shifts, strict=True))
    cells = np.zeros((len(parts), 3), dtype=int)
    for start in np.unique(parts, return_index=True)[1].tolist():
        order, before = breadth_first_order(graph, start, directed=False)
        for atom in order[1:].tolist():
            cells[atom] = cells[before[atom]] + shift_of[int(before[atom]), atom]
    return cells
