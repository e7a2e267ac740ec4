"""What a value should be for this system, where neither the user nor the protocol says so.

Each suggestion comes with its reason, which ends up as a comment in the expanded configuration: a heuristic that a
reader cannot check is a guess.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers, covalent_radii

from aiida_mlip_autopipe.config.elements import timestep_fs
from aiida_mlip_autopipe.config.melting import MeltingEstimate, melting_estimate
from aiida_mlip_autopipe.config.schema import HeuristicRules
from aiida_mlip_autopipe.science.generate.distances import shortest_distance, smallest_distance_ratio
from aiida_mlip_autopipe.science.parameters import (
    GenerationParameters,
    GuardParameters,
    LimitParameters,
    PhysicsParameters,
)
from aiida_mlip_autopipe.science.registry import ENSEMBLES, GENERATORS
from aiida_mlip_autopipe.science.systems import Dimensionality

__all__ = ['Suggestion', 'displacements', 'physics_temperature', 'suggest', 'temperatures']

TEMPERATURES, MELTING_POINT = 'exploration.temperatures_K', 'system.melting_point_K'
PHYSICS_TEMPERATURE = 'physics.temperature_K'
TEMPERATURE_STEP_K = 10
BOND_OF_MOLECULE_eV_A2 = 40.0  # stretching: C-H and C-C about 30, O-H 49
LINDEMANN_RATIO = 450.0  # k d^2 / (k_B T_melting): Na 260, NaCl 280, MgO 320, C 370, Cu 440, Si 470, Fe 520, W 740
ATOM_OF_CRYSTAL_eV_A2 = 10.0  # where no melting point is known: Pb 2, NaCl 3, Al 5, Cu 8, Si 12, MgO 19, W 31
ASKED_OF_MOLECULES = (
    'which does not melt; give the temperatures at which the potential is to be used, and some above them'
)
ASKED_OF_COMPOUNDS = (
    'no tabulated melting point, and that of a molecular, ionic or covalent compound does not follow from its '
    f'elements; give temperatures, or {MELTING_POINT}'
)
SEED_MARGIN, GUARD_MARGIN = 0.85, 0.75  # over the shortest distance in the source; a guard leaves room for vibration
LOWEST_FACTOR = 0.5  # below, two atoms are on top of each other whatever the source shows
MAX_PAIRS_SHOWN = 3


class Suggestion(NamedTuple):
    """A value and the reason for it."""

    value: Any
    reason: str


def suggest(sources: Sequence[Atoms], user: Mapping[str, Any]) -> dict[str, Suggestion]:
    """Return suggestions by key (``exploration.timestep_fs``).

    Parameters
    ----------
    sources : sequence of Atoms
        The structures that the seeds are made from.
    user : mapping
        What the user gave, flat: some suggestions follow from it.
    """
    elements = sorted({symbol for atoms in sources for symbol in atoms.symbols}, key=atomic_numbers.__getitem__)
    suggestions = {
        'exploration.timestep_fs': _timestep(elements),
        'physics.timestep_fs': _timestep(elements, PhysicsParameters.model_fields['timestep_fs'].default),
        **_distances(sources, elements),
    }
    if 'exploration.pressures_GPa' in user:
        barostats = (name for name, one in ENSEMBLES.items() if one.controls_pressure)
        suggestions['exploration.ensemble'] = Suggestion(next(barostats), 'pressures are given')
    return suggestions


def temperatures(
    sources: Sequence[Atoms],
    found: Sequence[Dimensionality],
    rules: HeuristicRules,
    user: Mapping[str, Any],
    melting_fractions: Sequence[float] | None = None,
) -> tuple[dict[str, Suggestion], list[str]]:
    """Return the temperature grid by its key, or why it must be asked for; of several sources the first to melt counts.

    Parameters
    ----------
    sources, found : sequence
        The structures that the seeds are made from, and what they are.
    rules : HeuristicRules
        How far the protocol's heuristics go.
    user : mapping
        What the user gave, flat.
    melting_fractions : sequence of float, optional
        The temperatures that the user asks for, as fractions of the melting point; None: those of the protocol.
    """
    if TEMPERATURES in user:
        return {}, []
    given = _given_melting(user)
    if given is not None:
        return {TEMPERATURES: _grid(given, rules, melting_fractions)}, []
    estimates = []
    for atoms, one in zip(sources, found, strict=True):
        estimate = melting_estimate(Counter(atoms.symbols))
        if one.vacuum_axes == 'abc':
            return {}, [f'{TEMPERATURES}: missing; {atoms.get_chemical_formula()} is a {one}, {ASKED_OF_MOLECULES}']
        if estimate is None:
            return {}, [f'{TEMPERATURES}: missing; {atoms.get_chemical_formula()} ({one}) has {ASKED_OF_COMPOUNDS}']
        estimates.append(estimate)
    return {TEMPERATURES: _grid(min(estimates), rules, melting_fractions)}, []


def displacements(
    sources: Sequence[Atoms], found: Sequence[Dimensionality], grid: Any, user: Mapping[str, Any]
) -> dict[str, Suggestion]:
    """Return, by key, displacements of seeds that hold as much energy as at the lowest temperature.

    Gaussian displacements of standard deviation s along each axis give an atom of a crystal, whose force constant is k,
    the potential energy ``3/2 k s**2``, in equilibrium ``3/2 k_B T``. By Lindemann's rule k follows from the melting
    point and the shortest bond d, ``k d**2 / (k_B T_melting) = 450``: from the Debye temperatures of 11 elements and
    compounds 260 to 740, so that s is good to a third. In molecules the displacements stretch one bond an atom of force
    constant k by ``k s**2`` on average. Of several sources the stiffest counts.

    Parameters
    ----------
    sources, found : sequence
        The structures that the seeds are made from, and what they are.
    grid : any
        The temperatures, as the user wrote them or as they were estimated.
    user : mapping
        What the user gave, flat.
    """
    lowest = _lowest(grid)
    if lowest is None:
        return {}
    stiffest = min(_thermal_displacement(atoms, one, lowest, user) for atoms, one in zip(sources, found, strict=True))
    return {
        f'generation.{name}.{key}': Suggestion(value, stiffest.reason)
        for name, method in GENERATORS.items()
        for key, value in method.displacing_by(stiffest.value).items()
    }


def _thermal_displacement(atoms: Atoms, found: Dimensionality, lowest: float, user: Mapping[str, Any]) -> Suggestion:
    """Return the standard deviation of displacements (Å) at the lowest temperature, and what it is estimated from."""
    if found.is_molecular or 'H' in atoms.symbols:
        value = np.sqrt(1.5 * units.kB * lowest / BOND_OF_MOLECULE_eV_A2)
        return Suggestion(
            round(float(value), 3), f'what bonds of {BOND_OF_MOLECULE_eV_A2:g} eV/Å² hold at {lowest:g} K'
        )
    melting, bond = _given_melting(user) or melting_estimate(Counter(atoms.symbols)), shortest_distance(atoms)
    if melting is None or bond is None:
        value, estimate = (
            np.sqrt(units.kB * lowest / ATOM_OF_CRYSTAL_eV_A2),
            f'{ATOM_OF_CRYSTAL_eV_A2:g} eV/Å² per atom',
        )
    else:
        value = bond * np.sqrt(lowest / (LINDEMANN_RATIO * melting.temperature_K))
        estimate = f"Lindemann's rule, bonds of {bond:.2f} Å, melting estimate {melting}"
    return Suggestion(round(float(value), 3), f'the energy of {lowest:g} K ({estimate})')


def _given_melting(user: Mapping[str, Any]) -> MeltingEstimate | None:
    given = user.get(MELTING_POINT)
    if isinstance(given, int | float) and not isinstance(given, bool) and given > 0:
        return MeltingEstimate(round(given), 'given')
    return None


def physics_temperature(grid: Any) -> dict[str, Suggestion]:
    """Return, by key, the temperature of the physics checks where the usual one is above what is explored."""
    usual, lowest = PhysicsParameters.model_fields['temperature_K'].default, _lowest(grid)
    if lowest is None or lowest >= usual:
        return {}
    return {PHYSICS_TEMPERATURE: Suggestion(lowest, f'the lowest of {TEMPERATURES}')}


def _lowest(grid: Any) -> float | None:
    """Return the lowest temperature of a grid, which may have ramps, as the user wrote it; None if it has none."""
    asked = grid if isinstance(grid, list) else []
    ends = [end for one in asked for end in (one if isinstance(one, list | tuple) else (one,))]
    return min(
        (end for end in ends if isinstance(end, int | float) and not isinstance(end, bool) and end > 0), default=None
    )


def _grid(estimate: MeltingEstimate, rules: HeuristicRules, melting_fractions: Sequence[float] | None) -> Suggestion:
    low, high = rules.melting_fractions
    fractions: Sequence[float] | np.ndarray
    if melting_fractions is not None:
        fractions, words = melting_fractions, ', '.join(f'{fraction:g}' for fraction in melting_fractions)
    else:
        fractions = np.linspace(low, high, rules.n_temperatures) if rules.n_temperatures > 1 else [(low + high) / 2]
        words = f'{low:g}..{high:g}'
    rounded = {
        max(TEMPERATURE_STEP_K, round(f * estimate.temperature_K / TEMPERATURE_STEP_K) * TEMPERATURE_STEP_K)
        for f in fractions
    }
    return Suggestion(sorted(map(float, rounded)), f'{words} of the melting estimate ({estimate})')


def _timestep(elements: Sequence[str], longest: float = np.inf) -> Suggestion:
    value, lightest = timestep_fs(elements)
    return Suggestion(min(value, longest), f'the lightest element is {lightest}')


def _distances(sources: Sequence[Atoms], elements: Sequence[str]) -> dict[str, Suggestion]:
    """Suggest the shortest distances: the usual ones, or less where the source itself has shorter bonds."""
    ratio = min(smallest_distance_ratio(atoms) for atoms in sources)
    found = {}
    for section, model, margin in (
        ('generation', GenerationParameters, SEED_MARGIN),
        ('exploration.guards', GuardParameters, GUARD_MARGIN),
        ('exploration.limits', LimitParameters, GUARD_MARGIN),
    ):
        usual = model.model_fields['min_distance_factor'].default
        factor = usual if margin * ratio >= usual else max(LOWEST_FACTOR, np.floor(100 * margin * ratio) / 100)
        found[f'{section}.min_distance_factor'] = Suggestion(float(factor), _pairs(elements, float(factor)))
    return found


def _pairs(elements: Sequence[str], factor: float) -> str:
    pairs = list(itertools.combinations_with_replacement(elements, 2))
    shown = [
        f'{a}-{b} {factor * (covalent_radii[atomic_numbers[a]] + covalent_radii[atomic_numbers[b]]):.2f} Å'
        for a, b in pairs[:MAX_PAIRS_SHOWN]
    ]
    return f'of the covalent radii: {", ".join(shown)}{", ..." if len(pairs) > MAX_PAIRS_SHOWN else ""}'
