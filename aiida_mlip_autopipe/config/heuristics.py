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
from aiida_mlip_autopipe.science.generate.distances import smallest_distance_ratio
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
    given = user.get(MELTING_POINT)
    if isinstance(given, int | float) and not isinstance(given, bool) and given > 0:
        return {TEMPERATURES: _grid(MeltingEstimate(round(given), 'given'), rules, melting_fractions)}, []
    estimates = []
    for atoms, one in zip(sources, found, strict=True):
        estimate = melting_estimate(Counter(atoms.symbols))
        if one.vacuum_axes == 'abc':
            return {}, [f'{TEMPERATURES}: missing; {atoms.get_chemical_formula()} is a {one}, {ASKED_OF_MOLECULES}']
        if estimate is None:
            return {}, [f'{TEMPERATURES}: missing; {atoms.get_chemical_formula()} ({one}) has {ASKED_OF_COMPOUNDS}']
        estimates.append(estimate)
    return {TEMPERATURES: _grid(min(estimates), rules, melting_fractions)}, []


def displacements(found: Sequence[Dimensionality], grid: Any) -> dict[str, Suggestion]:
    """Return, by key, displacements of seeds of molecules that hold as much energy as at the lowest temperature.

    Gaussian displacements of standard deviation s stretch a bond of force constant k by ``k s**2`` on average; in
    equilibrium an atom, which has about one bond, has a potential energy of ``3/2 k_B T``. Nothing is suggested where
    there is more than molecules: bonds of a crystal are some five times as soft.
    """
    lowest = _lowest(grid)
    if lowest is None or not all(one.is_molecular for one in found):
        return {}
    value = round(float(np.sqrt(1.5 * units.kB * lowest / BOND_OF_MOLECULE_eV_A2)), 3)
    reason = f'what bonds of {BOND_OF_MOLECULE_eV_A2:g} eV/Å² hold at {lowest:g} K'
    return {
        f'generation.{name}.{key}': Suggestion(min(changed, method.model_fields[key].default), reason)
        for name, method in GENERATORS.items()
        for key, changed in method.displacing_by(value).items()
    }


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
