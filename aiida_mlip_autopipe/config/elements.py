"""Facts per element, and what can be estimated from them.

Melting temperatures: CRC Handbook of Chemistry and Physics, at ambient pressure (carbon and arsenic: triple point;
phosphorus: white), rounded to 1 K. Compounds: the same source, a few common ones. Unpaired electrons of free atoms:
ground terms as tabulated in ASE; where that table breaks parity (Ce, Es, Lr), Hund's first rule on the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ase.data import atomic_numbers, chemical_symbols, ground_state_magnetic_moments
from ase.formula import Formula

from aiida_mlip_autopipe.config.errors import nearest

__all__ = [
    'COMPOUND_MELTING_K',
    'FALLBACK_MELTING_K',
    'MELTING_K',
    'MeltingEstimate',
    'element_problems',
    'elements_not_there',
    'formula_problems',
    'melting_estimate',
    'timestep_fs',
    'unpaired_electrons',
]

MELTING_K: dict[str, int] = {
    'H': 14, 'Li': 454, 'Be': 1560, 'B': 2348, 'C': 4762, 'N': 63, 'O': 54, 'F': 53, 'Ne': 25, 'Na': 371, 'Mg': 923,
    'Al': 933, 'Si': 1687, 'P': 317, 'S': 388, 'Cl': 172, 'Ar': 84, 'K': 337, 'Ca': 1115, 'Sc': 1814, 'Ti': 1941,
    'V': 2183, 'Cr': 2180, 'Mn': 1519, 'Fe': 1811, 'Co': 1768, 'Ni': 1728, 'Cu': 1358, 'Zn': 693, 'Ga': 303,
    'Ge': 1211, 'As': 1090, 'Se': 494, 'Br': 266, 'Kr': 116, 'Rb': 312, 'Sr': 1050, 'Y': 1795, 'Zr': 2127, 'Nb': 2750,
    'Mo': 2895, 'Tc': 2430, 'Ru': 2606, 'Rh': 2236, 'Pd': 1828, 'Ag': 1235, 'Cd': 594, 'In': 430, 'Sn': 505,
    'Sb': 904, 'Te': 723, 'I': 387, 'Xe': 161, 'Cs': 302, 'Ba': 1000, 'La': 1193, 'Ce': 1072, 'Pr': 1204, 'Nd': 1289,
    'Pm': 1315, 'Sm': 1345, 'Eu': 1095, 'Gd': 1586, 'Tb': 1632, 'Dy': 1685, 'Ho': 1745, 'Er': 1802, 'Tm': 1818,
    'Yb': 1097, 'Lu': 1936, 'Hf': 2506, 'Ta': 3290, 'W': 3687, 'Re': 3458, 'Os': 3306, 'Ir': 2719, 'Pt': 2041,
    'Au': 1337, 'Hg': 234, 'Tl': 577, 'Pb': 601, 'Bi': 545, 'Po': 527, 'Rn': 202, 'Ra': 969, 'Ac': 1323, 'Th': 2023,
    'Pa': 1845, 'U': 1408, 'Np': 917, 'Pu': 913, 'Am': 1449, 'Cm': 1618,
}  # fmt: skip
COMPOUND_MELTING_K: dict[str, int] = {
    'LiF': 1121, 'NaF': 1269, 'NaCl': 1074, 'KCl': 1044, 'KBr': 1007, 'MgO': 3098, 'CaO': 2886, 'CaF2': 1691,
    'Al2O3': 2326, 'SiO2': 1986, 'TiO2': 2116, 'ZnO': 2247, 'SiC': 3103, 'GaAs': 1511, 'GaP': 1730, 'GaSb': 985,
    'InAs': 1215, 'InP': 1335, 'InSb': 797, 'CdTe': 1315, 'PbTe': 1197, 'H2O': 273,
}  # fmt: skip
FALLBACK_MELTING_K = 1000
AMBIENT_K = 300

UNPAIRED_CORRECTIONS = {'Ce': 2, 'Es': 3, 'Lr': 1}


class MeltingEstimate(NamedTuple):
    """An estimated melting temperature, in K, and what it rests on (empty for a tabulated element)."""

    temperature_K: int
    basis: str

    def __str__(self) -> str:
        return f'{self.temperature_K} K{", " if self.basis else ""}{self.basis}'


def melting_estimate(composition: Mapping[str, int]) -> MeltingEstimate:
    """Return an estimate of the melting temperature of a composition (element -> count).

    A tabulated element or compound gives its own. Else it is the mean over those elements that are solid under ambient
    conditions: gases bind into a compound without softening it in proportion. Ionic and covalent compounds melt higher
    than this mean, so the estimate errs on the cold side.
    """
    if len(composition) == 1:
        symbol = next(iter(composition))
        if symbol in MELTING_K:
            return MeltingEstimate(MELTING_K[symbol], '')
        return MeltingEstimate(FALLBACK_MELTING_K, f'assumed, since none is tabulated for {symbol}')
    reduced = Formula.from_dict(dict(composition)).reduce()[0].count()
    for name, temperature in COMPOUND_MELTING_K.items():
        if Formula(name).count() == reduced:
            return MeltingEstimate(temperature, f'of {name}')
    known = {symbol: count for symbol, count in composition.items() if symbol in MELTING_K}
    solid = {symbol: count for symbol, count in known.items() if MELTING_K[symbol] > AMBIENT_K}
    if solid:
        mean = sum(MELTING_K[symbol] * count for symbol, count in solid.items()) / sum(solid.values())
        return MeltingEstimate(round(mean), f'mean of {", ".join(sorted(solid))}')
    if known:
        symbol = max(known, key=MELTING_K.__getitem__)
        return MeltingEstimate(MELTING_K[symbol], f'of {symbol}')
    return MeltingEstimate(FALLBACK_MELTING_K, f'assumed, since none is tabulated for {", ".join(sorted(composition))}')


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
