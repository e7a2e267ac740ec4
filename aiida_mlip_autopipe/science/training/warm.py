"""Begin a training with the weights of the round before, where the data only grew, and afresh where that did not help.

The network, the elements and the energies of the free atoms must be those of the earlier potential: what it has learnt
is a difference to them. The learning rate begins half-way between its highest and its lowest, so that not all is
forgotten, and ends where that of any training ends.

Weights that begin warm can generalise worse than fresh ones (J. Ash and R. Adams, On Warm-Starting Neural Network
Training, NeurIPS 2020). So the frames that validate decide: where the force error on them is higher than that of the
earlier potential, a training from random weights follows, and the potential with the lower error is kept.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import TypedDict

from aiida_mlip_autopipe.science.evaluation.errors import evaluate
from aiida_mlip_autopipe.science.frames import file_sha256
from aiida_mlip_autopipe.science.parameters import EvaluationParameters, TrainingParameters
from aiida_mlip_autopipe.science.potential.load import PotentialError
from aiida_mlip_autopipe.science.potential.network import asked_network, read_network
from aiida_mlip_autopipe.science.training.once import TrainingResult
from aiida_mlip_autopipe.science.training.sets import Sets, TrainingError, free_atom_energies, symbols

__all__ = ['WarmStart', 'from_weights', 'start', 'tell_warm_start', 'why_not_warm']

log = logging.getLogger(__name__)


class Errors(TypedDict):
    """Force errors on the validation set, in meV/Å; None for what was not trained or gave no finite errors."""

    warm_force_rmse_meV_A: float | None
    fresh_force_rmse_meV_A: float | None


class WarmStart(Errors):
    """What it brought to begin with the weights of an earlier potential.

    ``previous_sha256``: that potential; ``kept``: whether the result descends from it; ``refused``: why it was not
    tried, or None; ``previous_force_rmse_meV_A``: its force error on the validation set, or None if it is not finite.
    """

    previous_sha256: str
    kept: bool
    refused: str | None
    previous_force_rmse_meV_A: float | None


def from_weights(parameters: TrainingParameters) -> TrainingParameters:
    """Return how a training goes on from weights: the same steps, from half-way down to the lowest rate."""
    highest = parameters.lr if parameters.method == 'scratch' else parameters.finetune_lr
    knows_free_atom = parameters.has_exact_free_atom  # so does the network that goes on
    return parameters.model_copy(
        update={
            'method': 'naive',
            'free_atom': 'shifted' if knows_free_atom else parameters.free_atom,
            'finetune_lr': highest * sqrt(parameters.final_lr_factor),
            'final_lr_factor': sqrt(parameters.final_lr_factor),
        }
    )


def start(
    warm: Callable[[Mapping[str, Path], TrainingParameters], TrainingResult],
    fresh: Callable[[str, list[TrainingResult]], TrainingResult],
    given: Mapping[str, Path],
    previous: Path,
    sets: Sets,
    parameters: TrainingParameters,
) -> TrainingResult:
    """Train from the weights of an earlier potential, afresh where that cannot be or did not help.

    Parameters
    ----------
    warm : callable
        Trains from the weights of a foundation, in the folder of the job.
    fresh : callable
        Trains from random weights, in a folder of this name below that of the job, after these results.
    given : mapping
        Absolute paths of the sets, by name.
    previous : Path
        The earlier potential.
    sets : dict
        The frames.
    parameters : TrainingParameters
        Those of a training from scratch.

    Returns
    -------
    TrainingResult
        The better one; its ``run`` holds a `WarmStart` as ``warm_start``.
    """
    refused = why_not_warm(previous, sets, parameters)
    told = WarmStart(
        previous_sha256=file_sha256(previous),
        kept=False,
        refused=refused,
        previous_force_rmse_meV_A=None,
        **_errors_of(),
    )
    if refused is not None:
        log.warning(f'the training does not begin with the weights of {previous}: {refused}')
        return _with(result := fresh('', []), told, _errors_of(fresh=result))
    settings = EvaluationParameters(dtype=parameters.dtype, device=parameters.device)
    before = evaluate(previous, sets['validation'], settings).metrics['force_rmse_meV_A']
    told['previous_force_rmse_meV_A'] = before if math.isfinite(before) else None
    try:
        first = _as_from_scratch(warm({**given, 'foundation': previous}, from_weights(parameters)))
    except TrainingError as error:
        log.warning(f'the training from the weights of {previous} failed, and begins afresh: {error}')
        result = fresh('fresh', [])
        return _with(result, told, _errors_of(fresh=result))
    if not _error(first) > before:
        return _with(first, {**told, 'kept': True}, _errors_of(warm=first))
    log.warning(f'the weights of {previous} did not help ({before:.1f} -> {_error(first):.1f} meV/Å): it begins afresh')
    try:
        second = fresh('fresh', [first])
    except TrainingError as error:
        log.warning(f'the training from random weights failed: {error}')
        return _with(first, {**told, 'kept': True}, _errors_of(warm=first))
    kept = min(first, second, key=_error)
    return _with(kept, {**told, 'kept': kept is first}, _errors_of(first, second))


def why_not_warm(previous: Path, sets: Sets, parameters: TrainingParameters) -> str | None:
    """Return in words why a training cannot begin with the weights of a potential, or None."""
    try:
        network, energies, precision = read_network(previous)
    except PotentialError as error:
        return str(error)
    asked = asked_network(parameters)
    if other := [f'{name} {network[name]:g} of {asked[name]:g}' for name in asked if network[name] != asked[name]]:
        return f'its network is another one: {", ".join(other)} asked for'
    labelled = free_atom_energies(sets['training'])
    if set(energies) != symbols(sets['training'] + sets['validation']):
        return f'it knows {", ".join(energies)}, the labels have {", ".join(sorted(labelled))}'
    for symbol, energy in energies.items():
        if not math.isclose(energy, labelled[symbol], rel_tol=2 * precision, abs_tol=0):
            return f'its free atom of {symbol} has {energy:.6f} eV, that of the labels {labelled[symbol]:.6f} eV'
    return None


def tell_warm_start(run: Mapping[str, object]) -> str | None:
    """Return in words what the weights of the round before were worth, from what a training recorded; None if nothing.

    Parameters
    ----------
    run : mapping
        ``warm_start``: a `WarmStart`; records of earlier versions have none.
    """
    told = run.get('warm_start')
    if not isinstance(told, Mapping):
        return None
    if told['refused'] is not None:
        return f'it was trained from random weights, not from those of the round before: {told["refused"]}'
    before, warm, fresh = (
        'none' if told[f'{name}_force_rmse_meV_A'] is None else f'{told[f"{name}_force_rmse_meV_A"]:.0f} meV/Å'
        for name in ('previous', 'warm', 'fresh')
    )
    change = f'(force error on the validation set {before} -> {warm})'
    if not told['kept']:
        return f'the weights of the round before did not help {change}, so it was trained from random ones ({fresh})'
    tried = '' if told['fresh_force_rmse_meV_A'] is None else f'; random ones gave {fresh}'
    return f'it began with the weights of the round before {change}{tried}'


def _as_from_scratch(result: TrainingResult) -> TrainingResult:
    """Return a result whose foundation is no foundation, but an earlier state of the same training."""
    run = {name: value for name, value in result.run.items() if name != 'foundation_sha256'}
    return replace(result, run={**run, 'method': 'scratch'})


def _error(result: TrainingResult) -> float:
    return result.metrics['validation']['force_rmse_meV_A']


def _errors_of(warm: TrainingResult | None = None, fresh: TrainingResult | None = None) -> Errors:
    return {
        'warm_force_rmse_meV_A': None if warm is None else _error(warm),
        'fresh_force_rmse_meV_A': None if fresh is None else _error(fresh),
    }


def _with(kept: TrainingResult, told: WarmStart, errors: Errors) -> TrainingResult:
    return replace(kept, run={**kept.run, 'warm_start': {**told, **errors}})
