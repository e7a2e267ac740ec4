"""Stopping criteria of the loop: the errors of a run compared with the tolerances, and the budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from aiida_mlip_autopipe.science.evaluation.records import ErrorKey, Errors
from aiida_mlip_autopipe.science.parameters import EvaluationParameters, LoopParameters

__all__ = ['REASONS_TO_STOP', 'Missed', 'missed_tolerances', 'why_to_stop']

REASONS_TO_STOP = {
    'tolerances': 'all tolerances are met',
    'nothing_new': 'no new frames were found',
    'rounds': 'the maximum number of rounds (loop.max_rounds) was reached',
    'core_hours': 'the core-hour budget (loop.max_core_hours) is used up',
    'labels': 'the labels of another round would exceed the budget (loop.max_labels)',
}
"""The first two mean convergence, the others that a limit of the user was reached."""


Missed = TypedDict('Missed', {'is': float | None, 'wanted': float})
"""An error and the tolerance that it is above, in its unit; None is not a number, and above any tolerance."""


def missed_tolerances(
    errors: Mapping[str, Errors], evaluation: EvaluationParameters
) -> dict[str, dict[ErrorKey, Missed]]:
    """Return the errors that are above their tolerance.

    Parameters
    ----------
    errors : mapping
        ``test`` and, where there is one, ``hot`` -> errors as `evaluate` returns them.
    evaluation : EvaluationParameters
        Tolerances, the same for both; None: not asked for.

    Returns
    -------
    dict
        ``test`` or ``hot`` -> name of the error; those alone where something is missed.
    """
    limits = _tolerances(evaluation)
    missed = {
        frames: {
            name: Missed({'is': metrics[name], 'wanted': limit})
            for name, limit in limits.items()
            if (found := metrics[name]) is None or not found <= limit
        }
        for frames, metrics in errors.items()
    }
    return {frames: those for frames, those in missed.items() if those}


def _tolerances(evaluation: EvaluationParameters) -> dict[ErrorKey, float]:
    """Return the tolerances that were given, by the name of the error."""
    limits: dict[ErrorKey, float | None] = {
        'energy_rmse_meV': evaluation.max_energy_rmse_meV,
        'force_rmse_meV_A': evaluation.max_force_rmse_meV_A,
        'stress_rmse_GPa': evaluation.max_stress_rmse_GPa,
    }
    return {name: limit for name, limit in limits.items() if limit is not None}


def why_to_stop(
    loop: LoopParameters,
    evaluation: EvaluationParameters,
    errors: Mapping[str, Errors],
    *,
    n_rounds: int,
    n_labels: int,
    n_next: int,
    core_hours: float,
) -> str | None:
    """Return why no further round is due (a key of `REASONS_TO_STOP`); None if one is.

    Parameters
    ----------
    loop : LoopParameters
        Rounds and budget.
    evaluation : EvaluationParameters
        Tolerances.
    errors : mapping
        Of the newest potential, as `missed_tolerances` takes them.
    n_rounds, n_labels : int
        Rounds done, labels computed or tried.
    n_next : int
        Labels that the next round may ask for.
    core_hours : float
        Computing time so far.
    """
    if n_rounds >= loop.min_rounds and _tolerances(evaluation) and not missed_tolerances(errors, evaluation):
        return 'tolerances'
    if n_rounds >= loop.max_rounds:
        return 'rounds'
    if loop.max_labels is not None and n_labels + n_next > loop.max_labels:
        return 'labels'
    if loop.max_core_hours is not None and core_hours >= loop.max_core_hours:
        return 'core_hours'
    return None
