"""Isolated atoms: their energies are the E0s from which a potential counts cohesion.

An atom sits in the middle of a cubic periodic box, large enough that it does not see its images. Averages over the data
set in place of these energies are contaminated by cohesion, so every element gets its atom.
"""

from __future__ import annotations

from collections.abc import Iterable

from ase import Atoms
from ase.data import atomic_numbers

from aiida_mlip_autopipe.science.systems.isolated_atom import isolated_atom_id

__all__ = ['isolated_atom', 'isolated_atoms']


def isolated_atoms(elements: Iterable[str], box_A: float) -> list[Atoms]:
    """Return one isolated atom for each element, in the order of the atomic numbers.

    Parameters
    ----------
    elements : iterable of str
        Chemical symbols; repeated ones count once.
    box_A : float
        Edge of the cubic box, in Å.

    Raises
    ------
    ValueError
        If a symbol is not an element.
    """
    symbols = set(elements)
    for symbol in sorted(symbols):
        if atomic_numbers.get(symbol, 0) < 1:
            raise ValueError(f'elements: {symbol!r} is not an element; give chemical symbols such as Si')
    return [isolated_atom(symbol, box_A) for symbol in sorted(symbols, key=atomic_numbers.__getitem__)]


def isolated_atom(symbol: str, box_A: float) -> Atoms:
    """Return an atom in the middle of a cubic periodic box with edge ``box_A``, in Å."""
    atoms = Atoms(symbol, positions=[[box_A / 2] * 3], cell=[box_A] * 3, pbc=True)
    name = isolated_atom_id(symbol)
    atoms.info = {'frame_id': name, 'origin': name, 'config_type': 'IsolatedAtom'}
    return atoms
