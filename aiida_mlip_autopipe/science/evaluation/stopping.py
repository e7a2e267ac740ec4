"""When the rounds end: what a run has reached, against what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida_mlip_autopipe.science.parameters import EvaluationParameters, LoopParameters

__all__ = ['REASONS_TO_STOP', 'missed_tolerances', 'why_to_stop']

REASONS_TO_STOP = {
    'tolerances': 'all tolerances hold',
    'nothing_new': 'nothing new was found to label',
    'rounds': 'all rounds (loop.max_rounds) are done',
    'labels': 'the labels of another round do not fit into the budget (loop.max_labels)',
}
"""Each is an end that the user asked for; the first two are what the method is for."""


def missed_tolerances(
    metrics: Mapping[str, Any], evaluation: EvaluationParameters
) -> dict[str, dict[str, float | None]]:
    """Return the errors that are above their tolerance.

    Parameters
    ----------
    metrics : mapping
        As `evaluate` returns them.
    evaluation : EvaluationParameters
        Tolerances; None: not asked for.

    Returns
    -------
    dict
        Name of the error -> ``is`` and ``wanted``, in its unit. An error that is not a number (None) is above any.
    """
    return {
        name: {'is': metrics[name], 'wanted': limit}
        for name, limit in _tolerances(evaluation).items()
        if metrics[name] is None or not metrics[name] <= limit
    }


def _tolerances(evaluation: EvaluationParameters) -> dict[str, float]:
    """Return the tolerances that were given, by the name of the error."""
    limits = {
        'energy_rmse_meV': evaluation.max_energy_rmse_meV,
        'force_rmse_meV_A': evaluation.max_force_rmse_meV_A,
        'stress_rmse_GPa': evaluation.max_stress_rmse_GPa,
    }
    return {name: limit for name, limit in limits.items() if limit is not None}


def why_to_stop(
    loop: LoopParameters,
    evaluation: EvaluationParameters,
    metrics: Mapping[str, Any],
    *,
    n_rounds: int,
    n_labels: int,
    n_next: int,
) -> str | None:
    """Return why no further round is due (a key of `REASONS_TO_STOP`); None if one is.

    Parameters
    ----------
    loop : LoopParameters
        Rounds and budget.
    evaluation : EvaluationParameters
        Tolerances.
    metrics : mapping
        Errors of the newest potential on the test set.
    n_rounds, n_labels : int
        Rounds done, labels computed or tried.
    n_next : int
        Labels that the next round may ask for.

    """
    if n_rounds >= loop.min_rounds and _tolerances(evaluation) and not missed_tolerances(metrics, evaluation):
        return 'tolerances'
    if n_rounds >= loop.max_rounds:
        return 'rounds'
    if loop.max_labels is not None and n_labels + n_next > loop.max_labels:
        return 'labels'
    return None
