"""Facts per element, and what can be estimated from them.

Unpaired electrons of free atoms: ground terms as tabulated in ASE; where that table breaks parity (Ce, Es, Lr), Hund's
first rule on the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable

from ase.data import atomic_numbers, chemical_symbols, ground_state_magnetic_moments
from ase.formula import Formula

from aiida_mlip_autopipe.config.errors import nearest

__all__ = [
    'element_problems',
    'elements_not_there',
    'formula_problems',
    'timestep_fs',
    'unpaired_electrons',
]

UNPAIRED_CORRECTIONS = {'Ce': 2, 'Es': 3, 'Lr': 1}


def unpaired_electrons(symbol: str) -> int:
    """Return the number of unpaired electrons of the free atom in its ground state."""
    if symbol in UNPAIRED_CORRECTIONS:
        return UNPAIRED_CORRECTIONS[symbol]
    number = atomic_numbers[symbol]
    return int(ground_state_magnetic_moments[number]) if number < len(ground_state_magnetic_moments) else 0


def timestep_fs(elements: Iterable[str]) -> tuple[float, str]:
    """Return a time step for the lightest element, in fs, and that element: its vibrations are the fastest."""
    lightest = min(elements, key=atomic_numbers.__getitem__)
    number = atomic_numbers[lightest]
    return (0.5 if number == 1 else 1.0 if number <= atomic_numbers['F'] else 2.0), lightest


def element_problems(symbols: Iterable[str]) -> list[str]:
    """Return ``'Sj' is not an element; did you mean 'Si'?`` for each symbol that is none."""
    problems = []
    for symbol in symbols:
        if atomic_numbers.get(symbol, 0) > 0:
            continue
        near = nearest(symbol, chemical_symbols[1:], 0.5)
        problems.append(
            f'{symbol!r} is not an element; ' + (f'did you mean {near!r}?' if near else "give one such as 'Si'")
        )
    return problems


def elements_not_there(symbols: Iterable[str], elements: Iterable[str], prefix: str) -> list[str]:
    """Return what is wrong with symbols that are keys, each below ``prefix``, and no elements of the system."""
    known, problems = list(elements), []
    for symbol in symbols:
        if symbol not in known:
            wrong = element_problems([symbol]) or [f'{symbol} is not in the system ({", ".join(known)}); remove it']
            problems += [f'{prefix}{symbol}: {problem}' for problem in wrong]
    return problems


def formula_problems(composition: str) -> list[str]:
    """Return what is wrong with a chemical formula: its form, or its elements."""
    try:
        counts = Formula(composition).count()
    except ValueError:
        counts = {}
    if counts and all(counts.values()):
        return element_problems(counts)
    near = nearest(composition, chemical_symbols[1:], 0.99)
    return [
        f'{composition!r} is not a chemical formula; '
        + (f'did you mean {near!r}?' if near else "write it as 'NaCl' or 'CaF2'")
    ]
