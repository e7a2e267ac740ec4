"""Magnetic moments: which elements carry them, which order they have, and whether a calculation has kept it.

Moments are collinear, in µB, positive or negative along one axis. A structure holds those that its calculation starts
from in the array ``initial_magmoms``, ASE's own name, so that they go with their atoms into supercells.

Largest moments: the unpaired d or f electrons of the high-spin ion or atom with the most of them (Hund's first rule; J.
M. D. Coey, Magnetism and Magnetic Materials, Cambridge University Press 2010, chapter 4). They are upper bounds from
which a calculation comes down.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.neighborlist import neighbor_list

__all__ = [
    'INITIAL_MOMENTS',
    'antiferromagnetic_signs',
    'has_moments',
    'largest_moment',
    'lost_order',
    'magnetic_elements',
    'order_in_words',
]

INITIAL_MOMENTS = 'initial_magmoms'
"""ASE's name of the array."""

MAGNETIC_ELEMENTS = frozenset(
    chemical_symbols[number]
    for block in (range(24, 29), range(58, 70), range(92, 97))  # Cr to Ni, Ce to Tm, U to Cm
    for number in block
)
"""Magnetic as metals, too, or in most of their compounds."""
MAGNETIC_IN_COMPOUNDS = frozenset({'Ti', 'V', 'Cu', 'Ru'})
"""Metals and alloys of these carry no moment; their compounds with an anion may."""
ANIONS = frozenset({'O', 'F', 'S', 'Cl', 'Se', 'Br', 'I'})

LARGEST_MOMENT_UB = {
    'Ti': 2, 'V': 3, 'Cr': 5, 'Mn': 5, 'Fe': 5, 'Co': 4, 'Ni': 2, 'Cu': 1, 'Ru': 4, 'O': 1,
    'Ce': 2, 'Pr': 3, 'Nd': 4, 'Pm': 5, 'Sm': 6, 'Eu': 7, 'Gd': 8, 'Tb': 6, 'Dy': 5, 'Ho': 4, 'Er': 3, 'Tm': 2,
    'U': 4, 'Np': 5, 'Pu': 6, 'Am': 7, 'Cm': 8,
}  # fmt: skip
"""Of an atom in a molecule or a solid, in µB; of oxygen in O2."""
OTHER_MOMENT_UB = 1.0

ZERO_UB = 1e-3
"""What is smaller is no moment, in µB."""
LOST_UB, SEEN_UB, TURNED_UB = 0.1, 0.3, 0.5
"""Of an atom: a moment below the first is gone; above the second its sign counts; a cell that began without a total
moment has none below the third."""
MOST_TO_TRY = 14
BOND_FACTOR = 1.3
OPPOSITE = np.cos(np.deg2rad(150))
SHELLS, SHELL_GAP, MOST_CUTOFF_A = 2, 1.1, 12.0


def magnetic_elements(elements: Iterable[str]) -> list[str]:
    """Return which elements of a system are expected to carry a moment, in the order given.

    Titanium, vanadium, copper and ruthenium do in compounds with oxygen, sulphur, selenium or a halogen; oxygen alone
    does, as its molecule is a triplet. The oxygen of an oxide does not.
    """
    listed = list(elements)
    if set(listed) == {'O'}:
        return ['O']
    compound = ANIONS.intersection(listed)
    return [one for one in listed if one in MAGNETIC_ELEMENTS or (compound and one in MAGNETIC_IN_COMPOUNDS)]


def largest_moment(symbol: str) -> float:
    """Return an upper bound of the moment of an atom in a molecule or a solid, in µB."""
    return float(LARGEST_MOMENT_UB.get(symbol, OTHER_MOMENT_UB))


def has_moments(atoms: Atoms) -> bool:
    """Return whether a structure has an initial moment that is not zero."""
    return bool(np.any(np.abs(atoms.arrays.get(INITIAL_MOMENTS, 0.0)) > ZERO_UB))


def antiferromagnetic_signs(atoms: Atoms, moments: np.ndarray) -> np.ndarray:
    """Return the moments of a crystal with signs such that neighbours are antiparallel as far as possible.

    Neighbours are magnetic atoms on opposite sides of an atom without a moment, through which they couple
    (superexchange: J. B. Goodenough, Phys. Rev. 100, 564 (1955); J. Kanamori, J. Phys. Chem. Solids 10, 87 (1959)), as
    the next-nearest ones of rock salt; where there are none, the nearest. Of all choices of signs without a total
    moment the one with the most antiparallel neighbours is taken.

    Parameters
    ----------
    atoms : Atoms
    moments : ndarray, shape (N,)
        Sizes, in µB; zero for atoms without a moment.

    Returns
    -------
    ndarray, shape (N,)

    Raises
    ------
    ValueError
        If no choice of signs makes the total moment zero, or there are too many atoms to try all.
    """
    magnetic = np.flatnonzero(np.abs(moments) > ZERO_UB)
    if len(magnetic) > MOST_TO_TRY:
        raise ValueError(
            f'it has {len(magnetic)} magnetic atoms, and all orders are tried for up to {MOST_TO_TRY}; give a smaller '
            'cell, or initial moments in the structure file with magnetic_order: from_file'
        )
    couplings = _couplings(atoms, magnetic)
    sizes = np.abs(moments[magnetic])
    best: tuple[float, np.ndarray] | None = None
    for rest in itertools.product((1.0, -1.0), repeat=max(len(magnetic) - 1, 0)):
        signs = np.array([1.0, *rest])[: len(magnetic)]
        if abs(signs @ sizes) > ZERO_UB:
            continue
        energy = float(signs @ couplings @ signs)
        if best is None or energy < best[0] - 1e-9:
            best = energy, signs
    if best is None:
        raise ValueError(
            f'its {len(magnetic)} magnetic atom(s) cannot be antiparallel in pairs; give a cell that holds the order '
            '(two or more cells of the crystal), or initial moments in it with magnetic_order: from_file'
        )
    found = np.zeros(len(atoms))
    found[magnetic] = best[1] * sizes
    return found


def _couplings(atoms: Atoms, magnetic: np.ndarray) -> np.ndarray:
    """Return how many neighbours of each kind the magnetic atoms are, images included: (n, n)."""
    place = {int(atom): number for number, atom in enumerate(magnetic)}
    couplings = np.zeros((len(magnetic), len(magnetic)))
    radii = BOND_FACTOR * covalent_radii[atoms.numbers]
    centres, ends, vectors = neighbor_list('ijD', atoms, radii)
    for centre in set(centres.tolist()) - set(place):
        mine = (centres == centre) & np.isin(ends, magnetic)
        directions = vectors[mine] / np.linalg.norm(vectors[mine], axis=1)[:, None]
        pairs = np.argwhere(directions @ directions.T < OPPOSITE)
        for one, other in pairs:
            couplings[place[int(ends[mine][one])], place[int(ends[mine][other])]] += 1
    if couplings.any():
        return couplings
    for i, j, _ in _shells(atoms, magnetic)[0]:
        couplings[place[i], place[j]] += 1
    return couplings


def _shells(atoms: Atoms, magnetic: np.ndarray) -> list[list[tuple[int, int, float]]]:
    """Return the pairs and distances (Å) of magnetic atoms in the first two shells of neighbours, images included."""
    sub = atoms[magnetic]
    cutoff = 4.0
    while True:
        i, j, d = neighbor_list('ijd', sub, cutoff)
        edges = [] if not len(d) else _edges(np.sort(d))
        if len(edges) > SHELLS or cutoff > MOST_CUTOFF_A:
            break
        cutoff *= 1.3
    bounds = [0.0, *edges[:SHELLS], cutoff][: SHELLS + 1]
    rows = sorted(zip(magnetic[i].tolist(), magnetic[j].tolist(), d.tolist(), strict=True), key=lambda row: row[2])
    return [[row for row in rows if low < row[2] <= high] for low, high in itertools.pairwise(bounds)]


def _edges(distances: np.ndarray) -> list[float]:
    """Return the ends of the shells: where the next distance is longer by more than a tenth."""
    return [float(one) * 1.01 for one, nxt in itertools.pairwise(distances) if nxt > SHELL_GAP * one]


def order_in_words(atoms: Atoms) -> str:
    """Return the magnetic order of a crystal, as it is in every supercell of it.

    Such as 'Ni -2, 2 µB; antiparallel neighbours 6/12, 6/6': of the twelve nearest and the six next-nearest magnetic
    neighbours of an atom.
    """
    moments = atoms.get_initial_magnetic_moments()
    magnetic = np.flatnonzero(np.abs(moments) > ZERO_UB)
    sizes = []
    for symbol in sorted({str(atoms.symbols[number]) for number in magnetic}):
        values = sorted({round(float(moments[n]), 2) for n in magnetic if atoms.symbols[n] == symbol})
        sizes.append(f'{symbol} {", ".join(f"{value:g}" for value in values)} µB')
    counts = []
    for pairs in _shells(atoms, magnetic):
        against = sum(moments[i] * moments[j] < 0 for i, j, _ in pairs)
        counts.append(f'{against / len(magnetic):g}/{len(pairs) / len(magnetic):g}')
    return f'{"; ".join(sizes)}; antiparallel neighbours {", ".join(counts)}'


def lost_order(start: np.ndarray, total: float, absolute: float, sites: np.ndarray | None) -> str | None:
    """Return in words that a calculation ended in another magnetic order than it began with; None if it did not.

    Parameters
    ----------
    start : ndarray, shape (N,)
        Moments at the start, in µB; zero for atoms without.
    total, absolute : float
        Magnetisation of the cell at the end, and its absolute one, in µB.
    sites : ndarray or None, shape (N,)
        Moments of the sites at the end, where they are known.
    """
    magnetic = np.abs(start) > ZERO_UB
    n_magnetic = int(magnetic.sum())
    figures = f'total {total:.2f} µB, absolute {absolute:.2f} µB, {n_magnetic} magnetic atoms'
    if not n_magnetic:
        return None
    if absolute < LOST_UB * n_magnetic:
        return f'its moments are gone ({figures})'
    if abs(start.sum()) > ZERO_UB and abs(total) < LOST_UB * abs(start.sum()) / np.abs(start[magnetic]).mean():
        return f'its total moment is gone ({figures})'
    if sites is None:
        if abs(start.sum()) <= ZERO_UB and abs(total) > TURNED_UB * n_magnetic:
            return f'it has a total moment where it began without one ({figures})'
        return None
    alike = np.sign(sites) == np.sign(start)
    large = magnetic & (np.abs(sites) > SEEN_UB)
    turned = large & ~alike
    if (large & alike).any() and turned.any():
        some = np.flatnonzero(turned)[:4]
        told = ', '.join(f'{number} ({start[number]:+.1f} to {sites[number]:+.2f})' for number in some)
        return f'{turned.sum()} of its moments have turned: atom {told} µB; {figures}'
    gone = magnetic & (np.abs(sites) < LOST_UB)
    if gone.any() and not abs(start.sum()) > ZERO_UB:
        return f'{gone.sum()} of its moments are gone ({figures})'
    return None
