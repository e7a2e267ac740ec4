"""What limits a potential: the labels that it was trained on, or the training.

A training that still gets better when it goes on has not learnt its labels; one whose errors on its own labels are far
below those on frames that it has not seen needs other labels. Where neither is the case, the size of the network or the
noise of the labels is what is left. Energies and forces count alike: the error is the geometric mean of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, Literal, TypedDict

from aiida_mlip_autopipe.science.evaluation.records import FrameErrors

__all__ = ['Continuation', 'Limit', 'can_forecast', 'error_of', 'gains', 'limited_by', 'tell_limit']

Limit = Literal['training', 'labels', 'neither']
LEAST_GAIN = 0.05
"""A continuation that lowers the error by less was not worth its time."""
GAP = 1.5
"""Of the errors on unseen frames over those on the labels that were trained on."""
FEW_VALIDATED = 10
"""With fewer frames in the validation set, the best epoch is a matter of chance."""
LEAST_ROUNDS = 3
"""With fewer rounds, a line through their errors is drawn through their noise."""


class Continuation(TypedDict):
    """What it brought to go on: steps, errors on the validation set after them, and whether its potential is kept."""

    n_steps: int
    energy_rmse_meV: float
    force_rmse_meV_A: float
    kept: bool


def error_of(metrics: FrameErrors) -> float:
    """Return the geometric mean of the errors of energies (meV/atom) and forces (meV/Å)."""
    return sqrt(metrics['energy_rmse_meV'] * metrics['force_rmse_meV_A'])


def gains(before: FrameErrors, after: FrameErrors) -> bool:
    """Return whether it was worth to go on."""
    return error_of(after) < (1 - LEAST_GAIN) * error_of(before)


def limited_by(metrics: dict[str, FrameErrors], validation: Sequence[FrameErrors]) -> Limit:
    """Return what limits a potential.

    Parameters
    ----------
    metrics : dict
        Errors of the final potential, on 'train' and 'validation'.
    validation : sequence of FrameErrors
        Errors on the validation set after the training and after each continuation, in their order.
    """
    if len(validation) > 1 and gains(validation[-2], validation[-1]):
        return 'training'
    if error_of(metrics['validation']) > GAP * error_of(metrics['train']):
        return 'labels'
    return 'neither'


def can_forecast(limit: Limit, n_rounds: int) -> bool:
    """Return whether the errors of the rounds say what further labels would bring."""
    return limit == 'labels' and n_rounds >= LEAST_ROUNDS


def tell_limit(training: Mapping[str, Any]) -> str:
    """Return what limits a potential, in words, with the figures and what would help.

    Parameters
    ----------
    training : mapping
        ``train`` and ``validation``: errors; ``run``: with ``limited_by`` and ``continuations``.
    """
    run, validation = training['run'], training['validation']
    ratio = error_of(validation) / error_of(training['train'])
    few = f' ({validation["n_frames"]} frames: few)' if validation['n_frames'] < FEW_VALIDATED else ''
    beside = f'errors on the validation set{few} are {ratio:.1f} times those on the training set'
    if run['limited_by'] == 'training':
        last = run['continuations'][-1]
        return (
            f'the training limits the potential: continued by {last["n_steps"]} steps its errors still fell, to '
            f'{last["energy_rmse_meV"]:.1f} meV/atom and {last["force_rmse_meV_A"]:.0f} meV/Å on the validation set'
            f'{few}; raise training.n_steps before labels are bought'
        )
    if run['limited_by'] == 'labels':
        return f'the labels limit the potential: {beside}; more of them would help'
    return (
        f'neither labels nor steps limit the potential: {beside}, and it gains nothing from more steps; a larger '
        'network (training.num_channels, max_L) or labels with less noise would help'
    )
