"""Which elements can be labelled with the pseudopotentials of the profile."""

from __future__ import annotations

from collections.abc import Iterable

from ase.data import atomic_numbers

__all__ = ['covered', 'families_covered']

#: Elements of most materials that are computed.
COMMON = (
    'H Li B C N O F Na Mg Al Si P S Cl K Ca Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Sr Y Zr Nb Mo Ru Rh Pd Ag Cd In '
    'Sn Sb Te I Cs Ba La Ce Hf Ta W Ir Pt Au Pb Bi'
)
WAYS_OUT = (
    'for these: `aiida-pseudo install sssp` and labelling.pseudo_family, or `mlip-autopipe init --pseudos FOLDER` with '
    'their UPF files'
)


def covered(elements: Iterable[str]) -> str:
    """Return in words which elements are there, which common ones are missing, and the ways out."""
    there = sorted(elements, key=atomic_numbers.__getitem__)
    missing = [symbol for symbol in COMMON.split() if symbol not in there]
    words = f'{len(there)}: {" ".join(there)}' if there else 'none'
    return f'{words}; of the common ones not {" ".join(missing)} ({WAYS_OUT})' if missing else words


def families_covered() -> list[tuple[str, str]]:
    """Return the label of each installed family with recommended cutoffs, and what it covers."""
    from aiida_mlip_autopipe.labelling.espresso.family import installed_families

    return [(label, covered(family.elements)) for label, family in sorted(installed_families().items())]
