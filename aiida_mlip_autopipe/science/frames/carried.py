"""What each atom of a structure file may carry beside its element and its place, and keeps up to the label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms

__all__ = ['CARRIED', 'carried_arrays', 'carry']

CARRIED = ('initial_charges', 'initial_magmoms', 'tags')
"""Names of arrays, as in ASE: charges in e, (N,); moments in µB, (N,); integers of one's own, (N,)."""


def carried_arrays(atoms: Atoms) -> dict[str, np.ndarray]:
    """Return those of the `CARRIED` arrays that a structure has; zeros on all atoms are as good as none."""
    return {name: atoms.arrays[name] for name in CARRIED if name in atoms.arrays and atoms.arrays[name].any()}


def carry(arrays: Mapping[str, np.ndarray], atoms: Atoms) -> Atoms:
    """Return a structure that was given the arrays of another one with the same atoms in the same order."""
    for name, values in arrays.items():
        atoms.set_array(name, np.array(values))
    return atoms
