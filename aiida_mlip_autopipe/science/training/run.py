"""Train a potential, and go on where its errors still fall.

A training spends its budget of steps. Then it goes on by a fifth of them, with a learning rate that rises and falls
once more: if the errors are clearly lower after that, the training was what limited the
potential, and it goes on until they are not, or until its continuations are spent. See `limits`.

It begins with random weights, or with those of the round before. See `warm`. In the end the last layer is fitted anew
in closed form, where that helps. See `refit`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import copyfile

from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.potential.load import inspect_potential
from aiida_mlip_autopipe.science.training.limits import Continuation, error_of, gains, limited_by
from aiida_mlip_autopipe.science.training.once import TrainingResult, train_once
from aiida_mlip_autopipe.science.training.refit import with_refit
from aiida_mlip_autopipe.science.training.sets import (
    DivergedError,
    Sets,
    TrainingError,
    TrainingSetError,
    check_foundation,
    previous_problem,
    read_sets,
    start_problem,
)
from aiida_mlip_autopipe.science.training.warm import from_weights, start

__all__ = ['train']

CONTINUED_BY = 0.2
"""Steps of a continuation, as a fraction of those of the training."""
LOWER_RATES = 0.25
"""Factor of the learning rates of a training that diverged."""

Progress = Callable[[Mapping[str, object]], None]

log = logging.getLogger(__name__)


def train(
    training: Path,
    validation: Path,
    parameters: TrainingParameters,
    folder: Path,
    progress: Progress | None = None,
    *,
    foundation: Path | None = None,
    replay: Path | None = None,
    parent: Path | None = None,
    previous: Path | None = None,
) -> TrainingResult:
    """Train a potential from scratch, or fine-tune one.

    Parameters
    ----------
    training, validation : Path
        Labelled frames (extxyz); ``training`` holds an isolated atom of each element.
    parameters : TrainingParameters
        What ``mace_run_train`` is asked for.
    folder : Path
        Receives ``potential.model``, ``mace/`` and, for each continuation, such a folder of its own; an interrupted
        training in it that was asked the same goes on.
    progress : callable, optional
        Called after each epoch with ``epoch``, ``epochs``, ``rmse_e_meV``, ``rmse_f_meV_A``.
    foundation : Path, optional
        The potential to fine-tune, a MACE ``.model`` file; for the methods 'naive' and 'multihead'.
    replay : Path, optional
        Frames (extxyz) on which the foundation is not to be forgotten, for the method 'multihead'; they need no labels.
    parent : Path, optional
        The folder of an interrupted training to go on from.
    previous : Path, optional
        A potential, for the method 'scratch', that was trained on a part of these labels and on no frame that validates
        now. The training begins with its weights where it can and where that helps; ``run`` of the result tells.

    Raises
    ------
    TrainingSetError
        If a set or a label is unusable, an isolated atom is missing, or a further file does not go with the method.
    PotentialError
        If the foundation is no MACE potential.
    TrainingError
        If the command fails, or its metrics or its potential are not finite.
    """
    files = {'training': training, 'validation': validation, 'foundation': foundation, 'replay': replay}
    given = {name: Path(path).absolute() for name, path in files.items() if path is not None}
    if previous is not None and (problem := previous_problem(parameters.method)):
        raise TrainingSetError(problem)
    sets = _read_and_check(given, parameters)
    once = partial(_once_in, sets, Path(folder), None if parent is None else Path(parent))
    results = [_begin(once, given, None if previous is None else Path(previous).absolute(), sets, parameters, progress)]
    while _goes_on(results, parameters):
        begun = {**given, 'foundation': results[-1].potential}
        told = _counted_on(progress, results)
        try:
            results.append(once(f'continued_{len(results)}', begun, _of_continuation(parameters), told))
        except TrainingError as error:
            log.warning(f'the training is not continued: {error}')
            break
    return with_refit(_best_of(results, Path(folder)), sets, parameters)


def _once_in(
    sets: Sets,
    folder: Path,
    parent: Path | None,
    name: str,
    given: Mapping[str, Path],
    parameters: TrainingParameters,
    progress: Progress | None,
) -> TrainingResult:
    """Train in the folder of the job, or in one below it that has a name."""
    return train_once(given, sets, parameters, folder / name, progress, None if parent is None else parent / name)


def _begin(
    once: Callable[..., TrainingResult],
    given: Mapping[str, Path],
    previous: Path | None,
    sets: Sets,
    parameters: TrainingParameters,
    progress: Progress | None,
) -> TrainingResult:
    """Train, from the weights of an earlier potential where there is one and where it helps."""

    def fresh(name: str, before: list[TrainingResult]) -> TrainingResult:
        return _first(once, name, given, parameters, _counted_on(progress, before))

    def warm(begun: Mapping[str, Path], asked: TrainingParameters) -> TrainingResult:
        return once('', begun, asked, progress)

    return fresh('', []) if previous is None else start(warm, fresh, given, previous, sets, parameters)


def _first(
    once: Callable[..., TrainingResult],
    name: str,
    given: Mapping[str, Path],
    parameters: TrainingParameters,
    progress: Progress | None,
) -> TrainingResult:
    """Train; one that diverges is begun once more, with lower learning rates."""
    try:
        return once(name, given, parameters, progress)
    except DivergedError as error:
        log.warning(f'{error}; it begins once more with learning rates {LOWER_RATES:g} times as high')
    lower = {name: LOWER_RATES * getattr(parameters, name) for name in ('lr', 'finetune_lr', 'swa_lr')}
    result = once('lower_rates', given, parameters.model_copy(update=lower), progress)
    return replace(result, run={**result.run, 'learning_rates_lowered_by': LOWER_RATES})


def _read_and_check(given: Mapping[str, Path], parameters: TrainingParameters) -> Sets:
    if problem := start_problem(parameters.method, 'foundation' in given, 'replay' in given):
        raise TrainingSetError(problem)
    sets = read_sets(given['training'], given['validation'], given.get('replay'))
    if 'foundation' in given:
        check_foundation(parameters, inspect_potential(given['foundation'])['elements'], sets)
    return sets


def _counted_on(progress: Progress | None, results: list[TrainingResult]) -> Progress | None:
    """Return a progress that counts the epochs of a continuation after those that are done."""
    if progress is None:
        return None
    n_done = sum(len(one.history['epoch']) for one in results)

    def tell(state: Mapping[str, object]) -> None:
        progress({**state, **{name: n_done + int(str(state[name])) for name in ('epoch', 'epochs')}})

    return tell


def _goes_on(results: list[TrainingResult], parameters: TrainingParameters) -> bool:
    """Return whether it is worth to go on: once to see, then while it was; a rehearsal is not gone on with."""
    if parameters.method == 'multihead' or len(results) > parameters.max_continuations:
        return False
    return len(results) == 1 or gains(*(one.metrics for one in results[-2:]))


def _of_continuation(parameters: TrainingParameters) -> TrainingParameters:
    """Return what a continuation asks for: the same network and weights, and fewer steps."""
    n_steps = max(1, round(CONTINUED_BY * parameters.n_steps))
    return from_weights(parameters).model_copy(update={'n_steps': n_steps})


def _best_of(results: list[TrainingResult], folder: Path) -> TrainingResult:
    """Return the result with the lowest error, with what all of them tell of its limits."""
    judged = [one.metrics for one in results]
    best = min(range(len(results)), key=lambda index: error_of(judged[index]))
    potential = folder / 'potential.model'
    if results[best].potential != potential:
        copyfile(results[best].potential, potential)
    continuations = [
        Continuation(
            n_steps=int(str(one.run['n_steps'])),
            training_force_rmse_meV_A=one.metrics['train']['force_rmse_meV_A'],
            validation_force_rmse_meV_A=one.metrics['validation']['force_rmse_meV_A'],
            kept=index <= best,
        )
        for index, one in enumerate(results[1:], start=1)
    ]
    told = {'continuations': continuations, 'limited_by': limited_by(judged)}
    return replace(results[best], potential=potential, history=results[0].history, run=results[0].run | told)
