"""Isolated atoms: one atom of an element in a large box, whose energy is the zero of that element's energy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['is_isolated_atom', 'isolated_atom_id']


def is_isolated_atom(atoms: Atoms) -> bool:
    """Return whether a frame is an isolated atom, which fixes a reference energy and nothing else."""
    return atoms.info.get('config_type') == 'IsolatedAtom'


def isolated_atom_id(symbol: str) -> str:
    """Return the ``frame_id`` of the isolated atom of an element."""
    return f'atom-{symbol}'
