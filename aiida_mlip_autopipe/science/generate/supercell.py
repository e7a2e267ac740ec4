"""The most isotropic supercell with at least a wanted number of atoms.

Periodic images of a displaced atom should be equally far in all directions. With the metric tensor ``G = C Cᵀ`` of the
lattice vectors (rows of C), scaled to unit determinant, the deviation from a cube is ``|G - 1|`` (Frobenius): zero for
a cube of any orientation. All sublattices of up to eight cells are enumerated by their Hermite normal forms (Santoro
and Mighell, Acta Cryst. A 28, 284 (1972)), reduced, and repeated along their own vectors; the best is taken. So the
two-atom cell of diamond asked for 8 atoms gives the cubic one, and for 64 its double.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.geometry import minkowski_reduce

from aiida_mlip_autopipe.science.systems import VACUUM_AXES, filled_axes, vacuum_axes

__all__ = ['anisotropy', 'isotropic_supercell']

MAX_BASE_CELLS = 8
MAX_EXCESS = 1.25  # a rounder cell may hold this many times the atoms needed, no more: a label costs their cube


def isotropic_supercell(atoms: Atoms, target_atoms: int) -> Atoms:
    """Return the most isotropic supercell of ``atoms`` with at least ``target_atoms`` atoms.

    Parameters
    ----------
    atoms : Atoms
        With three lattice vectors; repeated along those that are filled only (`filled_axes`).
    target_atoms : int
        Wanted number of atoms. A structure that has them is returned as it is, and so are molecules in a box: between
        copies of them there would be vacuum.
    """
    n_min = math.ceil(target_atoms / len(atoms))
    filled = filled_axes(atoms)
    if n_min <= 1 or not filled.any():
        return atoms.copy()
    cell = tuple(map(tuple, atoms.cell.tolist()))
    supercell = make_supercell(atoms, np.array(_most_isotropic(cell, tuple(filled.tolist()), n_min)))
    supercell.pbc = atoms.pbc
    supercell.info = {VACUUM_AXES: vacuum_axes(atoms)} if vacuum_axes(atoms) else {}
    return supercell


@lru_cache(maxsize=4096)
def _most_isotropic(cell_rows: tuple, filled_rows: tuple, n_min: int) -> list[list[int]]:
    """Return the matrix of the supercell of at least ``n_min`` cells; many structures have the same cell."""
    cell, filled = np.array(cell_rows), np.array(filled_rows)
    best: tuple[float, int] | None = None
    matrix = np.eye(3, dtype=int)
    for base in _bases(cell, filled):
        n_base = round(abs(np.linalg.det(base)))
        repeats = _repeats(math.ceil(n_min / n_base), int(n_min * MAX_EXCESS) // n_base, filled)
        if not len(repeats):
            continue
        deviations = anisotropy((base @ cell)[filled], repeats[:, filled]).round(6)
        chosen = int(np.lexsort((repeats.prod(axis=1), deviations))[0])
        score = (float(deviations[chosen]), n_base * int(repeats[chosen].prod()))
        if best is None or score < best:
            best, matrix = score, np.diag(repeats[chosen]) @ base
    return _aligned(matrix, cell, filled).tolist()


def anisotropy(vectors: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    """Return the deviations from a cube of a lattice and its repeats: 0 for a cube, a square or a line.

    Parameters
    ----------
    vectors : ndarray, shape (d, 3)
        Lattice vectors.
    repeats : ndarray of int, shape (n, d)
        Repeats along each vector.
    """
    metric = (vectors @ vectors.T) * repeats[:, :, None] * repeats[:, None, :]
    scale = np.linalg.det(metric) ** (1 / len(vectors))
    return np.linalg.norm(metric / scale[:, None, None] - np.eye(len(vectors)), axis=(1, 2))


def _bases(cell: np.ndarray, filled: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the identity and, for a filled cell, the roundest reduced sublattice of each small index."""
    yield np.eye(3, dtype=int)
    if not filled.all():
        return
    for index in range(1, MAX_BASE_CELLS + 1):
        reduced = [_reduced(form, cell) for form in _hermite_normal_forms(index)]
        deviations = [anisotropy(matrix @ cell, np.ones((1, 3), dtype=int)).item() for matrix in reduced]
        yield reduced[int(np.argmin(np.round(deviations, 6)))]


def _hermite_normal_forms(determinant: int) -> Iterator[np.ndarray]:
    """Yield one integer matrix for each sublattice of the given index."""
    for a, b in itertools.product(range(1, determinant + 1), repeat=2):
        c, rest = divmod(determinant, a * b)
        if rest or not c:
            continue
        for d, e, f in itertools.product(range(b), range(c), range(c)):
            yield np.array([[a, d, e], [0, b, f], [0, 0, c]])


def _reduced(matrix: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return the matrix of the same sublattice with the shortest possible vectors."""
    _, operation = minkowski_reduce(matrix @ cell)
    return np.asarray(operation, dtype=int) @ matrix


def _repeats(low: int, high: int, filled: np.ndarray) -> np.ndarray:
    """Return the repeats, shape (n, 3), along filled axes whose product is from ``low`` to ``high``."""
    largest = [high if full else 1 for full in filled]
    found = [
        (p, q, r)
        for p in range(1, largest[0] + 1)
        for q in range(1, min(largest[1], high // p) + 1)
        for r in range(max(1, -(-low // (p * q))), min(largest[2], high // (p * q)) + 1)
    ]
    return np.array(found, dtype=int).reshape(-1, 3)


def _aligned(matrix: np.ndarray, cell: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """Return the same lattice with its vectors ordered along x, y, z as far as possible, right-handed."""
    if not filled.all():
        return matrix
    best, chosen = -np.inf, matrix
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            candidate = np.array(signs)[:, None] * matrix[list(order)]
            vectors = candidate @ cell
            trace = float(np.trace(vectors / np.linalg.norm(vectors, axis=1)[:, None]))
            if np.linalg.det(vectors) > 0 and trace > best + 1e-9:
                best, chosen = trace, candidate
    return chosen
