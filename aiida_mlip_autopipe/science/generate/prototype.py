"""A crystal from the name of its structure and its composition.

The lattice constant is the experimental one that ASE tabulates where the element crystallises in the prototype, else
it follows from the nearest-neighbour distance taken as the sum of the covalent radii. That is a few percent off for
covalent crystals, more for ionic ones: give ``lattice_constant_A`` where it is known.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, covalent_radii, reference_states
from ase.formula import Formula

__all__ = ['PROTOTYPES', 'build_prototype', 'lattice_constant']


@dataclass(frozen=True)
class Prototype:
    """Atoms of each element in the formula, and the lattice constant over the nearest-neighbour distance."""

    stoichiometry: tuple[int, ...]
    a_over_distance: float
    example: str


PROTOTYPES: dict[str, Prototype] = {
    'sc': Prototype((1,), 1.0, 'Po'),
    'fcc': Prototype((1,), math.sqrt(2), 'Cu'),
    'bcc': Prototype((1,), 2 / math.sqrt(3), 'Fe'),
    'hcp': Prototype((1,), 1.0, 'Mg'),
    'diamond': Prototype((1,), 4 / math.sqrt(3), 'Si'),
    'zincblende': Prototype((1, 1), 4 / math.sqrt(3), 'GaAs'),
    'rocksalt': Prototype((1, 1), 2.0, 'NaCl'),
    'cesiumchloride': Prototype((1, 1), 2 / math.sqrt(3), 'CsCl'),
    'wurtzite': Prototype((1, 1), math.sqrt(8 / 3), 'ZnO'),
    'fluorite': Prototype((1, 2), 4 / math.sqrt(3), 'CaF2'),
}


def build_prototype(prototype: str, composition: str, lattice_constant_A: float | None = None) -> Atoms:
    """Return the primitive cell of a prototype.

    Parameters
    ----------
    prototype : str
        A key of ``PROTOTYPES``.
    composition : str
        Chemical formula with the prototype's stoichiometry, such as ``Si``, ``NaCl`` or ``CaF2``.
    lattice_constant_A : float, optional
        Lattice constant a of the conventional cell, in Å; default: see :func:`lattice_constant`.

    Raises
    ------
    ValueError
        For an unknown prototype, a symbol that is not an element, or a composition that does not fit.
    """
    symbols = _fitting_symbols(prototype, composition)
    a = lattice_constant(prototype, composition)[0] if lattice_constant_A is None else lattice_constant_A
    name = ''.join(f'{symbol}{count if count > 1 else ""}' for symbol, count in symbols.items())
    covera = math.sqrt(8 / 3) if prototype in ('hcp', 'wurtzite') else None
    if covera and lattice_constant_A is None and prototype == 'hcp':
        covera = (_reference_state(name, prototype) or {}).get('c/a', covera)
    atoms = bulk(name, prototype, a=a, covera=covera)
    atoms.arrays.pop('initial_magmoms', None)  # ASE's own, of the element as a ferromagnet: nobody asked for an order
    return atoms


def lattice_constant(prototype: str, composition: str) -> tuple[float, str]:
    """Return the lattice constant a, in Å, and where it is from.

    Raises
    ------
    ValueError
        As :func:`build_prototype`.
    """
    symbols = list(_fitting_symbols(prototype, composition))
    state = _reference_state(symbols[0], prototype) if len(symbols) == 1 else None
    if state is not None:
        return float(state['a']), f'experimental lattice constant of {symbols[0]}'
    distance = float(covalent_radii[atomic_numbers[symbols[0]]] + covalent_radii[atomic_numbers[symbols[-1]]])
    a = distance * PROTOTYPES[prototype].a_over_distance
    return round(a, 3), f'from the covalent radii: {symbols[0]}-{symbols[-1]} {distance:.2f} Å'


def _reference_state(symbol: str, prototype: str) -> dict | None:
    state = reference_states[atomic_numbers[symbol]]
    return state if state is not None and state['symmetry'] == prototype and 'a' in state else None


def _fitting_symbols(prototype: str, composition: str) -> dict[str, int]:
    """Return element -> count in one formula unit, in the order of the prototype's sites."""
    if prototype not in PROTOTYPES:
        near = difflib.get_close_matches(prototype, PROTOTYPES, 1)
        hint = f'did you mean {near[0]!r}? ' if near else ''
        raise ValueError(f'prototype: {prototype!r} is not known; {hint}known are {", ".join(PROTOTYPES)}')
    try:
        counts = Formula(composition).count()
    except ValueError:
        counts = {}
    if not counts or not all(counts.values()):
        raise ValueError(f'composition: {composition!r} is not a chemical formula; write it as NaCl or CaF2')
    strangers = [symbol for symbol in counts if atomic_numbers.get(symbol, 0) < 1]
    if strangers:
        raise ValueError(f'composition: {strangers[0]!r} is not an element; give chemical symbols such as Si')
    expected = PROTOTYPES[prototype].stoichiometry
    divisor = math.gcd(*counts.values())
    units = {symbol: count // divisor for symbol, count in counts.items()}
    if sorted(units.values()) != sorted(expected):
        example = PROTOTYPES[prototype].example
        raise ValueError(f'composition: {composition!r} does not fit {prototype}; give a formula such as {example}')
    order = sorted(units, key=lambda symbol: units[symbol]) if len(set(expected)) > 1 else list(units)
    return {symbol: units[symbol] for symbol in order}
