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
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from aiida_mlip_autopipe.config.elements import melting_estimate, timestep_fs
from aiida_mlip_autopipe.config.schema import HeuristicRules
from aiida_mlip_autopipe.science.generate.distances import smallest_distance_ratio
from aiida_mlip_autopipe.science.parameters import GenerationParameters, GuardParameters, LimitParameters
from aiida_mlip_autopipe.science.registry import ENSEMBLES

__all__ = ['Suggestion', 'suggest']

TEMPERATURE_STEP_K = 10
SEED_MARGIN, GUARD_MARGIN = 0.85, 0.75  # over the shortest distance in the source; a guard leaves room for vibration
LOWEST_FACTOR = 0.5  # below, two atoms are on top of each other whatever the source shows
MAX_PAIRS_SHOWN = 3


class Suggestion(NamedTuple):
    """A value and the reason for it."""

    value: Any
    reason: str


def suggest(
    sources: Sequence[Atoms],
    rules: HeuristicRules,
    user: Mapping[str, Any],
    melting_fractions: Sequence[float] | None = None,
) -> dict[str, Suggestion]:
    """Return suggestions by key (``exploration.temperatures_K``).

    Parameters
    ----------
    sources : sequence of Atoms
        The structures that the seeds are made from.
    rules : HeuristicRules
        How far the protocol's heuristics go.
    user : mapping
        What the user gave, flat: some suggestions follow from it.
    melting_fractions : sequence of float, optional
        The temperatures that the user asks for, as fractions of the melting estimate; None: those of the protocol.
    """
    elements = sorted({symbol for atoms in sources for symbol in atoms.symbols}, key=atomic_numbers.__getitem__)
    suggestions = {
        'exploration.temperatures_K': _temperatures(sources, rules, melting_fractions),
        'exploration.timestep_fs': _timestep(elements),
        **_distances(sources, elements),
    }
    if 'exploration.pressures_GPa' in user:
        barostats = (name for name, one in ENSEMBLES.items() if one.controls_pressure)
        suggestions['exploration.ensemble'] = Suggestion(next(barostats), 'pressures are given')
    return suggestions


def _temperatures(
    sources: Sequence[Atoms], rules: HeuristicRules, melting_fractions: Sequence[float] | None
) -> Suggestion:
    """Suggest the temperature grid; of several sources the one that melts first decides."""
    estimate = min(melting_estimate(Counter(atoms.symbols)) for atoms in sources)
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


def _timestep(elements: Sequence[str]) -> Suggestion:
    value, lightest = timestep_fs(elements)
    return Suggestion(value, f'the lightest element is {lightest}')


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
