"""Errors that rise over a round: by more than their standard error, and what is known of the reason.

More labels and another training should not make a potential worse. Where they do, the labels are not alike, the
training fell short, or the loss gave way on one error for the sake of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from aiida_mlip_autopipe.science.evaluation.records import ERROR_WORDS, STANDARD_ERRORS, ErrorKey, Errors

__all__ = ['Rise', 'Risen', 'reasons_of', 'risen_over', 'rises', 'tell_risen']

ENERGY: ErrorKey = 'energy_rmse_meV'


class Rise(TypedDict):
    """An error before and after a round, in its unit; the standard error is that of the latter, None: not known."""

    before: float
    now: float
    standard_error: float | None


class Risen(TypedDict):
    """The errors that rose over a round: ``test`` or ``hot`` -> name -> by how much; and why, as far as it is known."""

    errors: dict[str, dict[ErrorKey, Rise]]
    reasons: list[str]


def risen_over(
    before: Mapping[str, Errors | None],
    now: Mapping[str, Errors | None],
    run: Mapping[str, Any],
    weights: Mapping[str, Any],
    labels: str | None = None,
) -> Risen | None:
    """Return what rose over a round, and why; None if nothing did.

    Parameters
    ----------
    before, now : mapping
        ``test`` and ``hot`` -> errors of the potential before and after the round.
    run : mapping
        What the training told of itself: ``limited_by``, ``learning_rates_lowered_by``.
    weights : mapping
        The parameters of the training: ``energy_weight``, ``forces_weight`` and those of the second stage.
    labels : str, optional
        What is wrong with the new labels, in words.
    """
    found = rises(before, now)
    if not found:
        return None
    return {'errors': found, 'reasons': list(reasons_of(found, before, now, run, weights, labels))}


def rises(before: Mapping[str, Errors | None], now: Mapping[str, Errors | None]) -> dict[str, dict[ErrorKey, Rise]]:
    """Return the errors that are larger now by more than their standard error.

    The test frames are the same, so most of what makes an error uncertain is in both and cancels: one standard error
    is a cautious bound. Of a single trajectory there is none, and any rise counts.
    """
    found: dict[str, dict[ErrorKey, Rise]] = {}
    for frames, later in now.items():
        earlier = before.get(frames)
        if earlier is None or later is None:
            continue
        for key in ERROR_WORDS:
            was, value, spread = earlier[key], later[key], later[STANDARD_ERRORS[key]]
            if was is not None and value is not None and value - was > (spread or 0.0):
                found.setdefault(frames, {})[key] = {'before': was, 'now': value, 'standard_error': spread}
    return found


def reasons_of(
    found: Mapping[str, Mapping[ErrorKey, Rise]],
    before: Mapping[str, Errors | None],
    now: Mapping[str, Errors | None],
    run: Mapping[str, Any],
    weights: Mapping[str, Any],
    labels: str | None = None,
) -> Iterator[str]:
    """Yield what may have made errors rise; the arguments are those of `risen_over`."""
    for frames in found:
        earlier, later = before[frames], now[frames]
        if earlier is not None and later is not None and earlier['n_frames'] != later['n_frames']:
            yield f'the set {frames!r} has {later["n_frames"]} frames, before {earlier["n_frames"]}'
    if labels:
        yield labels
    if factor := run.get('learning_rates_lowered_by'):
        yield f'the training diverged, and was begun again with learning rates {factor:g} times as high'
    if run.get('limited_by') == 'training':
        yield 'the training was limited by its steps (training.n_steps): its errors still fell at the end'
    if any(_traded(one, before[frames], now[frames]) for frames, one in found.items()) and _favours_forces(weights):
        yield ('forces, which gained, weigh more in the loss than energies do (training.energy_weight, forces_weight)')


def _traded(found: Mapping[ErrorKey, Rise], before: Errors | None, now: Errors | None) -> bool:
    """Return whether energies got worse while forces got better."""
    if ENERGY not in found or before is None or now is None:
        return False
    return now['force_rmse_meV_A'] < before['force_rmse_meV_A']


def _favours_forces(weights: Mapping[str, Any]) -> bool:
    """Return whether forces weigh more than energies at the end of a training."""
    energy = weights['swa_energy_weight'] if weights['swa_fraction'] > 0 else weights['energy_weight']
    return weights['forces_weight'] > energy


def tell_risen(risen: Risen) -> str:
    """Return which errors rose and why, in words."""
    told = ', '.join(
        f'{name} from {form.format(one["before"])} to {form.format(one["now"])}{_spread(one, form)} {unit}'
        f'{" (hotter test set)" * (frames == "hot")}'
        for frames, those in risen['errors'].items()
        for key, (name, unit, form) in ERROR_WORDS.items()
        if (one := those.get(key)) is not None
    )
    why = '; '.join(risen['reasons']) or (
        'the reason is not known; other random seeds of the training (training.random_seed) show whether it is chance'
    )
    return f'errors rose: {told}: {why}'


def _spread(rise: Rise, form: str) -> str:
    spread = rise['standard_error']
    return ' (one trajectory, so of unknown uncertainty)' if spread is None else f' ± {form.format(spread)}'
