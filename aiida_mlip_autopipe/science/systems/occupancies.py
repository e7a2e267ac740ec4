"""Sites that are shared by several elements or partly empty: a crystallographer's average, of no use as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ['partial_occupancies']

WHOLE = 1 - 1e-3
ARRAYS = ('occupancy', 'occupancies')
"""What ASE calls them in files that have one number for each atom, such as PDB."""


def partial_occupancies(atoms: Atoms) -> str | None:
    """Return what is wrong with a structure that has partly occupied sites, and the way out; None where it has none.

    ASE keeps the occupancies of a CIF in ``info['occupancy']``, by the number of the site in its array
    ``spacegroup_kinds``, and reads the element with the largest one for the whole site.
    """
    sites = [*_of_cif(atoms), *_of_atoms(atoms)]
    if not sites:
        return None
    return (
        f'{"; ".join(sites)}: a calculation needs a whole atom on each site, and as read this would be '
        f'{atoms.get_chemical_formula()}. Give ordered supercells that have this composition on average (special '
        'quasirandom structures, as from sqsgenerator, icet or ATAT), several of them as the frames of one file, or '
        'set the occupancies to 1 if an ordered compound is meant'
    )


def _of_cif(atoms: Atoms) -> Iterator[str]:
    occupancy = atoms.info.get('occupancy')
    kinds = atoms.arrays.get('spacegroup_kinds')
    for kind, shares in occupancy.items() if isinstance(occupancy, Mapping) else ():
        n_sites = len(atoms) if kinds is None else np.count_nonzero(kinds == int(kind))
        parts = [f'{share:g} {symbol}' for symbol, share in shares.items() if share > 0]
        if not n_sites or (len(parts) == 1 and sum(shares.values()) >= WHOLE):
            continue
        empty = ', the rest empty' if sum(shares.values()) < WHOLE else ''
        yield f'{n_sites} site{"" if n_sites == 1 else "s"} with {", ".join(parts) or "nothing"}{empty}'


def _of_atoms(atoms: Atoms) -> Iterator[str]:
    for name in ARRAYS:
        for place in np.flatnonzero(np.asarray(atoms.arrays.get(name, 1.0)) < WHOLE)[:3]:
            yield f'atom {place} with {atoms.arrays[name][place]:g} {atoms.symbols[place]}'
