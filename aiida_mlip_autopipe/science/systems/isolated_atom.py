"""Isolated atoms: one atom of an element in a large box, whose energy is the zero of that element's energy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['is_isolated_atom']


def is_isolated_atom(atoms: Atoms) -> bool:
    """Return whether a frame is an isolated atom, which fixes a reference energy and nothing else."""
    return atoms.info.get('config_type') == 'IsolatedAtom'
