"""Spin, as pw.x is asked for it: of isolated atoms and of all else, the bands that it needs, and what became of it.

The potential cannot see a moment. So the labels of a data set have one magnetic order, which is part of the level of
theory; atoms bring theirs along from the source structure in the array ``initial_magmoms``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_mlip_autopipe.science.systems import (
    INITIAL_MOMENTS,
    is_isolated_atom,
    largest_moment,
    lost_order,
    magnetic_elements,
)

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
    from aiida_mlip_autopipe.science.label import Label

__all__ = [
    'MOST_SPECIES',
    'SITE_ORDERS',
    'atom_problem',
    'lost_moment',
    'magnetic_level',
    'n_bands',
    'order_words',
    'species_of',
    'spin_of',
    'starting_moments',
    'unfit',
]

SITE_ORDERS = ('antiferromagnetic', 'from_file')
"""Orders for which each atom must bring its own moment."""
ATOM_TOLERANCE_UB = 0.1
"""By which the moment of a free atom may differ from the number of its unpaired electrons."""
SPARE_BANDS, SPARE_MAJORITY = 1.2, 1.1
LEAST_SPARE_BANDS = 4
MOST_SPECIES, MOST_CHARACTERS = 10, 3
"""What pw.x takes."""


def starting_moments(atoms: Atoms, labelling: EspressoParameters) -> np.ndarray | None:
    """Return the moments from which a cell starts, (N,), in µB; None without spin, and for an isolated atom.

    Those that the atoms bring along; else those of their elements: as given, or the largest that a magnetic element
    has. A moment on each oxygen of an oxide would be a bad start; without a magnetic element, all atoms must do.
    """
    if is_isolated_atom(atoms) or not labelling.spin_polarised:
        return None
    if atoms.has(INITIAL_MOMENTS):
        return np.round(atoms.get_initial_magnetic_moments(), 2)
    if reason := unfit(atoms, labelling):
        raise ValueError(reason)
    symbols, given = sorted(set(atoms.symbols)), labelling.magnetic_moments
    magnetic = magnetic_elements(symbols) or ([] if given else symbols)
    of_element = {one: given.get(one, largest_moment(one) if one in magnetic else 0.0) for one in symbols}
    return np.array([of_element[symbol] for symbol in atoms.symbols])


def unfit(atoms: Atoms, labelling: EspressoParameters) -> str | None:
    """Return why a structure cannot be labelled with this magnetic order, and the way out."""
    if is_isolated_atom(atoms) or labelling.magnetic_order not in SITE_ORDERS or atoms.has(INITIAL_MOMENTS):
        return None
    return (
        f'labelling.magnetic_order: {labelling.magnetic_order}, but the structure {atoms.get_chemical_formula()} '
        f'({atoms.info.get("frame_id", "without a name")}) has no initial moments; give them in its array '
        f'{INITIAL_MOMENTS}, or leave it out'
    )


def species_of(atoms: Atoms, labelling: EspressoParameters) -> list[str]:
    """Return the species of pw.x of each atom: 'Ni', or 'Ni1', 'Ni2' ... from the largest moment to the smallest.

    Raises
    ------
    ValueError
        If pw.x does not take so many.
    """
    symbols = list(map(str, atoms.symbols))
    moments = starting_moments(atoms, labelling)
    if moments is None:
        return symbols
    names: dict[tuple[str, float], str] = {}
    for symbol in sorted(set(symbols)):
        own = sorted({float(m) for one, m in zip(symbols, moments, strict=True) if one == symbol}, reverse=True)
        names |= {(symbol, m): symbol if len(own) == 1 else f'{symbol}{n}' for n, m in enumerate(own, start=1)}
    if len(names) > MOST_SPECIES or any(len(name) > MOST_CHARACTERS for name in names.values()):
        raise ValueError(
            f'initial moments: {len(names)} different ones by element ({", ".join(names.values())}); pw.x takes '
            f'{MOST_SPECIES} species with names of {MOST_CHARACTERS} characters: round them to fewer values'
        )
    return [names[symbol, float(moment)] for symbol, moment in zip(symbols, moments, strict=True)]


def element_of(species: str) -> str:
    """Return the element of a species."""
    return re.sub(r'\d+$', '', species)


def spin_of(atoms: Atoms, labelling: EspressoParameters, z_valence: Mapping[str, float]) -> dict[str, Any]:
    """Return the spin of a structure in ``&SYSTEM``, with moments by species."""
    if is_isolated_atom(atoms):
        symbol = str(atoms.symbols[0])
        return spin_of_atom(symbol, labelling.atomic_magnetization.get(symbol, 0), z_valence[symbol])
    moments = starting_moments(atoms, labelling)
    if moments is None:
        return {}
    species = species_of(atoms, labelling)
    start = {one: float(moment) / z_valence[element_of(one)] for one, moment in zip(species, moments, strict=True)}
    kept = {one: round(min(max(value, -1.0), 1.0), 6) for one, value in sorted(start.items()) if value}
    return {'nspin': 2, 'starting_magnetization': kept}


def spin_of_atom(symbol: str, unpaired: int, z_valence: float) -> dict[str, Any]:
    """Return the spin of an isolated atom in ``&SYSTEM``.

    The number of unpaired electrons is imposed, but where they are all the electrons that the pseudopotential has, as
    in hydrogen: a channel without an electron has no Fermi energy, and pw.x cannot bracket it. There the atom starts
    fully polarised, and its empty channel lies too high to be filled.

    Parameters
    ----------
    symbol : str
    unpaired : int
        Of the ground state; 0: a closed shell, without spin polarisation.
    z_valence : float
        Electrons of the pseudopotential.
    """
    if not unpaired:
        return {}
    if unpaired < z_valence:
        return {'nspin': 2, 'tot_magnetization': unpaired}
    return {'nspin': 2, 'starting_magnetization': {symbol: 1.0}}


def n_bands(atoms: Atoms, labelling: EspressoParameters, n_electrons: float) -> int:
    """Return a number of bands that leaves some empty in both spin channels.

    The majority is counted with the largest moments that the elements may have, not with those at the start, as
    parallel moments may grow; where moments cancel, both channels hold half of the electrons.
    """
    bands = SPARE_BANDS * n_electrons / 2
    moments = starting_moments(atoms, labelling)
    if is_isolated_atom(atoms):
        bands = max(bands, (n_electrons + labelling.atomic_magnetization.get(str(atoms.symbols[0]), 0)) / 2)
    elif moments is not None:
        bounds = np.array([largest_moment(symbol) for symbol in atoms.symbols])
        surplus = abs(float((np.sign(moments) * np.maximum(np.abs(moments), bounds)).sum()))
        bands = max(bands, SPARE_MAJORITY * (n_electrons + surplus) / 2 if surplus else 0)
    return ceil(bands) + LEAST_SPARE_BANDS


def order_words(labelling: EspressoParameters) -> str:
    """Return the spin of all but isolated atoms in words, for a sentence or a table."""
    if not labelling.spin_polarised:
        return 'without spin polarisation'
    level = magnetic_level(labelling)
    if not level:
        return 'spin-polarised'
    if labelling.magnetic_order == 'try':
        return 'with the magnetic order of the lowest energy'
    order = 'moments of the structure file' if labelling.magnetic_order == 'from_file' else labelling.magnetic_order
    given = ', '.join(f'{name} {moment:g}' for name, moment in level.get('magnetic_moments', {}).items())
    told = [order if order != 'auto' else '', given and f'initial moments {given} µB', labelling.magnetic_pattern or '']
    return f'spin-polarised ({"; ".join(filter(None, told))})'


def atom_problem(symbol: str, unpaired: int, z_valence: float) -> str | None:
    """Return what is wrong with the unpaired electrons of a free atom, if anything, and the way out."""
    electrons = round(z_valence)
    if 0 <= unpaired <= electrons and (electrons - unpaired) % 2 == 0:
        return None
    fit = ', '.join(str(number) for number in range(electrons % 2, electrons + 1, 2))
    return (
        f'labelling.atomic_magnetization.{symbol}: {unpaired}, but with the {electrons} electrons of its '
        f'pseudopotential an atom has {fit} unpaired ones; give one of these'
    )


def lost_moment(atoms: Atoms, label: Label, labelling: EspressoParameters) -> str | None:
    """Return in words that a label has lost the moments that were asked for, with both; None if it has not.

    Moments that are only guessed from the elements may vanish: a guess is no order.
    """
    total, absolute = label.total_magnetization_uB, label.absolute_magnetization_uB
    if total is None or absolute is None:
        return None
    if is_isolated_atom(atoms):
        return _atom_lost_moment(str(atoms.symbols[0]), abs(total), labelling)
    start = starting_moments(atoms, labelling)
    if start is None or (labelling.magnetic_order == 'auto' and not labelling.magnetic_moments):
        return None
    reason = lost_order(start, total, absolute, label.site_moments_uB)
    return reason and (
        f'it lost its magnetic order ({labelling.magnetic_order}): {reason}; a potential cannot tell two orders apart'
    )


def _atom_lost_moment(symbol: str, found: float, labelling: EspressoParameters) -> str | None:
    asked = labelling.atomic_magnetization.get(symbol, 0)
    if abs(found - asked) <= ATOM_TOLERANCE_UB:
        return None
    return (
        f'the isolated atom of {symbol} has a moment of {found:.2f} µB where atomic_magnetization asks for {asked}: '
        'another state of the atom; lower degauss_Ry, or correct atomic_magnetization'
    )


def magnetic_level(labelling: EspressoParameters) -> dict[str, Any]:
    """Return the part of the level of theory that is the magnetic order; empty without spin or where none is asked."""
    if not labelling.spin_polarised or (labelling.magnetic_order == 'auto' and not labelling.magnetic_moments):
        return {}
    level: dict[str, Any] = {'magnetic_order': labelling.magnetic_order}
    if labelling.magnetic_moments:
        level['magnetic_moments'] = dict(sorted(labelling.magnetic_moments.items()))
    return level if labelling.magnetic_pattern is None else {**level, 'magnetic_pattern': labelling.magnetic_pattern}
