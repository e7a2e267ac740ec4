"""What limits a potential: the labels that it was trained on, or the training.

A training that still gets better when it goes on has not learnt its labels; one whose errors on its own labels are far
below those on frames that it has not seen needs other labels. Where neither is the case, the size of the network or the
noise of the labels is what is left.

Forces decide: of energies there is one for each frame, and of a few frames that validate it is right by chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, Literal, TypedDict

from aiida_mlip_autopipe.science.evaluation.records import FrameErrors
from aiida_mlip_autopipe.science.training.refit import tell_refit
from aiida_mlip_autopipe.science.training.warm import tell_warm_start

__all__ = [
    'FEW_VALIDATED',
    'Continuation',
    'Judged',
    'Limit',
    'can_forecast',
    'error_of',
    'gains',
    'limited_by',
    'tell_limit',
]

Limit = Literal['training', 'labels', 'neither']
Judged = Mapping[str, FrameErrors]
"""Errors of a potential on 'train' and 'validation'."""
LEAST_GAIN = 0.05
"""A continuation that lowers the error by less was not worth its time."""
GAP = 1.5
"""Of the force error on unseen frames over that on the labels that were trained on."""
FEW_VALIDATED = 10
"""With fewer frames in the validation set, the best epoch is a matter of chance."""
LEAST_ROUNDS = 3
"""With fewer rounds, a line through their errors is drawn through their noise."""


class Continuation(TypedDict):
    """What it brought to go on: steps, force errors (meV/Å) after them, and whether its potential is kept."""

    n_steps: int
    training_force_rmse_meV_A: float
    validation_force_rmse_meV_A: float
    kept: bool


def error_of(judged: Judged) -> float:
    """Return the geometric mean of the force errors on both sets, in meV/Å."""
    return sqrt(judged['train']['force_rmse_meV_A'] * judged['validation']['force_rmse_meV_A'])


def gains(before: Judged, after: Judged) -> bool:
    """Return whether it was worth to go on: unseen frames gained, or all did and the unseen are not far behind."""
    unseen = [one['validation']['force_rmse_meV_A'] for one in (before, after)]
    if unseen[1] < (1 - LEAST_GAIN) * unseen[0]:
        return True
    return not _has_gap(after) and error_of(after) < (1 - LEAST_GAIN) * error_of(before)


def limited_by(judged: Sequence[Judged]) -> Limit:
    """Return what limits a potential, from its errors after the training and after each continuation in their order."""
    if len(judged) > 1 and gains(judged[-2], judged[-1]):
        return 'training'
    return 'labels' if _has_gap(min(judged, key=error_of)) else 'neither'


def _has_gap(judged: Judged) -> bool:
    return judged['validation']['force_rmse_meV_A'] > GAP * judged['train']['force_rmse_meV_A']


def can_forecast(limit: Limit, n_rounds: int) -> bool:
    """Return whether the errors of the rounds say what further labels would bring."""
    return limit == 'labels' and n_rounds >= LEAST_ROUNDS


def tell_limit(training: Mapping[str, Any]) -> str:
    """Return what limits a potential and with which weights it began, in words, with the figures and what would help.

    Parameters
    ----------
    training : mapping
        ``train`` and ``validation``: errors; ``run``: with ``limited_by``, ``continuations`` and, where it did not
        simply begin with random weights, ``warm_start``; ``refit``, if its last layer was fitted anew.
    """
    said = (_limit_in_words(training), tell_warm_start(training['run']), tell_refit(training['run']))
    return '; '.join(filter(None, said))


def _limit_in_words(training: Mapping[str, Any]) -> str:
    run, validation = training['run'], training['validation']
    seen, unseen = (training[name]['force_rmse_meV_A'] for name in ('train', 'validation'))
    few = f' ({validation["n_frames"]} frames: few)' if validation['n_frames'] < FEW_VALIDATED else ''
    errors = f'force errors are {seen:.0f} meV/Å on the training set, {unseen:.0f} on the validation set{few}'
    if run['limited_by'] == 'training':
        return (
            f'the training limits the potential: {errors}, and they still fell in the last '
            f'{run["continuations"][-1]["n_steps"]} steps; raise training.n_steps before labels are bought'
        )
    if run['limited_by'] == 'labels':
        return f'the labels limit the potential: {errors}; more of them would help'
    tried = f', and {run["continuations"][-1]["n_steps"]} more steps gained nothing' if run['continuations'] else ''
    return (
        f'what limits the potential is not seen: {errors}, not far apart{tried}; a rate that falls more slowly '
        '(three times training.n_steps), a larger network (num_channels, max_L) or labels with less noise may help'
    )
