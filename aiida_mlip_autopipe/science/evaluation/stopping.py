"""Stopping criteria of the loop: the errors of a run compared with the tolerances, and the budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from aiida_mlip_autopipe.science.evaluation.records import ERROR_WORDS, STANDARD_ERRORS, ErrorKey, Errors
from aiida_mlip_autopipe.science.parameters import EvaluationParameters, LoopParameters

__all__ = ['REASONS_TO_STOP', 'Missed', 'has_converged', 'missed_tolerances', 'tell_missed', 'why_to_stop']

REASONS_TO_STOP = {
    'tolerances': 'all tolerances are met',
    'nothing_new': 'no new frames were found',
    'rounds': 'the maximum number of rounds (loop.max_rounds) was reached',
    'core_hours': 'the core-hour budget (loop.max_core_hours) is used up',
    'labels': 'the labels of another round would exceed the budget (loop.max_labels)',
}
"""With the others a limit of the user was reached; see `has_converged`."""


Missed = TypedDict('Missed', {'is': float | None, 'standard_error': float | None, 'wanted': float})
"""An error and the tolerance that it is above, in its unit; None is not a number, and above any tolerance."""


def missed_tolerances(
    errors: Mapping[str, Errors], evaluation: EvaluationParameters
) -> dict[str, dict[ErrorKey, Missed]]:
    """Return the errors that are not clearly within their tolerance.

    An error counts with its standard error, as a test set of few trajectories is met by chance; one that has none, as
    there is one trajectory, is not within. Nor is anything of a part of the test set that was planned and is not there.

    Parameters
    ----------
    errors : mapping
        ``test`` and, where there is one, ``hot`` -> errors as `evaluate` returns them.
    evaluation : EvaluationParameters
        Tolerances, the same for both; None: not asked for. With ``hot_factor``, there is to be a hotter test set.

    Returns
    -------
    dict
        ``test`` or ``hot`` -> name of the error; those alone where something is missed.
    """
    limits = _tolerances(evaluation)
    planned = ('test',) if evaluation.hot_factor is None else ('test', 'hot')
    missed = {
        frames: {
            name: Missed(
                {
                    'is': metrics[name] if metrics else None,
                    'standard_error': metrics[STANDARD_ERRORS[name]] if metrics else None,
                    'wanted': limit,
                }
            )
            for name, limit in limits.items()
            if not metrics or not _is_within(metrics, name, limit)
        }
        for frames in dict.fromkeys((*planned, *errors))
        for metrics in [errors.get(frames)]
    }
    return {frames: those for frames, those in missed.items() if those}


def tell_missed(missed: Mapping[str, Mapping[ErrorKey, Missed]]) -> str:
    """Return what `missed_tolerances` found, in words; empty if it is nothing."""
    return ', '.join(
        f'{name} ({unit}) {_told(those[key], form)} of {those[key]["wanted"]:g}'
        f'{" (hotter test set)" * (frames == "hot")}'
        for frames, those in missed.items()
        for key, (name, unit, form) in ERROR_WORDS.items()
        if key in those
    )


def _told(missed: Missed, form: str) -> str:
    error, spread = missed['is'], missed['standard_error']
    return ('-' if error is None else form.format(error)) + ('' if spread is None else f' ± {form.format(spread)}')


def has_converged(why: str, missed: Mapping[str, Mapping[ErrorKey, Missed]]) -> bool:
    """Return whether a run ended as it had reached what was asked for, not since a limit was reached."""
    return why == 'tolerances' or (why == 'nothing_new' and not missed)


def _is_within(metrics: Errors, name: ErrorKey, limit: float) -> bool:
    """Return whether an error and its standard error are together below a tolerance; what is no number is not."""
    error, spread = metrics[name], metrics[STANDARD_ERRORS[name]]
    return error is not None and spread is not None and error + spread <= limit


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
    found_nothing: bool = False,
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
        Rounds done, those that found nothing new among them; labels computed or tried.
    n_next : int
        Labels that the next round may ask for.
    core_hours : float
        Computing time so far.
    found_nothing : bool
        Whether the last round found nothing new. Before ``min_rounds`` that may be by chance: the next one explores
        with other random numbers.
    """
    if n_rounds >= loop.min_rounds and _tolerances(evaluation) and not missed_tolerances(errors, evaluation):
        return 'tolerances'
    if n_rounds >= loop.min_rounds and found_nothing:
        return 'nothing_new'
    if n_rounds >= loop.max_rounds:
        return 'rounds'
    if loop.max_labels is not None and n_labels + n_next > loop.max_labels:
        return 'labels'
    if loop.max_core_hours is not None and core_hours >= loop.max_core_hours:
        return 'core_hours'
    return None
