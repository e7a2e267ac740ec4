"""The energies of the free atoms stay out of the arithmetic of a training, and are put into the potential at its end.

Total energies of DFT are thousands of eV per atom, mostly of the free atoms, and single precision has seven digits: on
a cell of some hundred atoms the sum alone is wrong by several meV/atom, in the labels and in the network's own energy.
So mace is given the energies relative to the free atoms, subtracted in double precision, with which the free atom of
each element has zero. What it trains is the same network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ase.data import chemical_symbols

if TYPE_CHECKING:
    from ase import Atoms
    from torch.nn import Module

__all__ = ['relative_to_free_atoms', 'set_reference_energies']


def relative_to_free_atoms(frames: Sequence[Atoms], free_atoms: Mapping[str, float]) -> list[Atoms]:
    """Return copies of labelled frames whose ``REF_energy`` is relative to their free atoms.

    Parameters
    ----------
    frames : sequence of ase.Atoms
        With ``REF_energy`` in ``info``, in eV.
    free_atoms : mapping
        The energy of the free atom of each element, in eV.
    """
    copies = [atoms.copy() for atoms in frames]
    for atoms in copies:
        atoms.info['REF_energy'] -= sum(free_atoms[symbol] for symbol in atoms.get_chemical_symbols())
    return copies


def set_reference_energies(model: Module, free_atoms: Mapping[str, float]) -> None:
    """Give a model of one head the energies of the free atoms, in eV."""
    energies = model.get_buffer('atomic_energies_fn.atomic_energies')
    own = [free_atoms[chemical_symbols[int(number)]] for number in model.get_buffer('atomic_numbers')]
    energies.copy_(energies.new_tensor(own).reshape(energies.shape))
