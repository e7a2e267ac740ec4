"""One run of ``mace_run_train``, and a check of its potential before it is handed over.

``mace_run_train`` runs as a process of its own. What it does silently wrong is refused before, and what comes out is
checked after: the last metrics are finite, and the potential is loaded and evaluated on both sets. An interrupted
training goes on from its checkpoints.

Source: I. Batatia et al., MACE (NeurIPS 2022), and the command line of mace-torch 0.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from aiida_mlip_autopipe.science.evaluation.errors import Evaluation, evaluate
from aiida_mlip_autopipe.science.evaluation.records import FrameErrors
from aiida_mlip_autopipe.science.frames import file_sha256, write_extxyz
from aiida_mlip_autopipe.science.parameters import EvaluationParameters, TrainingParameters
from aiida_mlip_autopipe.science.potential.fine_tuning import (
    label_replay,
    prepare_foundation,
    rehearses,
    save_potential,
)
from aiida_mlip_autopipe.science.potential.frame_weights import write_weighted
from aiida_mlip_autopipe.science.potential.load import PotentialError, PotentialInfo, inspect_potential, load_model
from aiida_mlip_autopipe.science.potential.reference_energies import relative_to_free_atoms
from aiida_mlip_autopipe.science.potential.schedule import Schedule, schedule_of
from aiida_mlip_autopipe.science.potential.training_command import Request, command
from aiida_mlip_autopipe.science.potential.training_files import WORK, go_on_after, list_checkpoints, newest_model
from aiida_mlip_autopipe.science.systems import is_isolated_atom
from aiida_mlip_autopipe.science.training.checkpoints import newest_sound, take_up
from aiida_mlip_autopipe.science.training.follow import Follower, run
from aiida_mlip_autopipe.science.training.history import History, best_epoch
from aiida_mlip_autopipe.science.training.sets import (
    DivergedError,
    Sets,
    TrainingError,
    free_atom_energies,
    symbols,
)
from aiida_mlip_autopipe.science.training.weights import weights_in

__all__ = ['TrainingResult', 'look_at', 'train_once']

#: How far the errors that mace gives and those found here may be apart: they are of the same weights and frames.
SAME_ERRORS = {'rel_tol': 0.05, 'abs_tol': 1.0}
OF_BOTH: tuple[tuple[Literal['energy_rmse_meV', 'force_rmse_meV_A'], str], ...] = (
    ('energy_rmse_meV', 'rmse_e_meV'),
    ('force_rmse_meV_A', 'rmse_f_meV_A'),
)


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Attributes
    ----------
    potential : Path
        The MACE potential, of one head, saved for the CPU: the weights of the epoch with the lowest loss.
    history : dict of list
        By epoch, on the validation set: ``epoch``, ``loss``, ``rmse_e_meV`` (per atom), ``rmse_f_meV_A``,
        ``rmse_stress_meV_A3``; None where mace gave no finite number.
    metrics : dict of dict
        Errors of the final potential on 'train' and 'validation', as `evaluate` gives them.
    info : dict
        What `inspect_potential` says.
    run : dict
        ``method``, ``n_epochs``, ``n_steps`` (of the optimiser), ``best_epoch``, ``stopped_early``,
        ``continued_from_epoch`` (the first of this attempt, if there was an earlier one), ``training_sha256``,
        ``validation_sha256`` and, where given, ``foundation_sha256``, ``replay_sha256``. Epochs count from 0,
        ``n_epochs`` is how many were evaluated.
    """

    potential: Path
    history: History
    metrics: dict[str, FrameErrors]
    info: PotentialInfo
    run: dict[str, object]


def train_once(
    given: Mapping[str, Path],
    sets: Sets,
    parameters: TrainingParameters,
    folder: Path,
    progress: Callable[[Mapping[str, object]], None] | None = None,
    parent: Path | None = None,
) -> TrainingResult:
    """Run ``mace_run_train`` to its end, and look at what it made; see `train` for what it raises.

    Parameters
    ----------
    given : mapping
        Absolute paths of what `train` takes, by name.
    sets : dict
        Their frames.
    parameters, folder, progress, parent
        As `train` takes them.
    """
    shas = {f'{name}_sha256': file_sha256(path) for name, path in given.items()}
    asked: dict[str, object] = {'parameters': parameters.model_dump(mode='json', exclude={'device'}), **shas}
    work, schedule = Path(folder).absolute() / WORK, schedule_of(parameters, _n_frames(parameters, sets))
    n_done = take_up(work, None if parent is None else Path(parent) / WORK, asked, schedule.stage_two)
    free_atoms = _free_atoms(given, sets)
    request = _request(given, parameters, sets, schedule, work, free_atoms)
    follower = Follower(work, schedule, progress)
    stopped_early = _run_to_the_end(request, work, follower, n_done > 0)
    potential, best = _hand_over(work, follower.history, request, Path(folder), free_atoms)
    # In single precision the sum over the free atoms would hide the errors of large cells, which mace has not seen.
    info, metrics = look_at(potential, sets, parameters, parameters.dtype if free_atoms is None else 'float64')
    _check_same(metrics['validation'], follower.history, best)
    outcome: dict[str, object] = {
        'method': parameters.method,
        'n_epochs': len(follower.history['epoch']),
        'n_steps': len(follower.history['epoch']) * schedule.steps_per_epoch,
        'best_epoch': best,
        'stopped_early': stopped_early,
        'continued_from_epoch': n_done or None,
    }
    return TrainingResult(potential, follower.history, metrics, info, outcome | shas)


# ------------------------------------------------------------------------------------------------------------ the run


def _request(
    given: Mapping[str, Path],
    parameters: TrainingParameters,
    sets: Sets,
    schedule: Schedule,
    work: Path,
    free_atoms: Mapping[str, float] | None,
) -> Request:
    foundation = replay = None
    if 'foundation' in given:
        foundation = prepare_foundation(given['foundation'], parameters, work / 'foundation.model')
        if 'replay' in given:
            replay = label_replay(sets['replay'], foundation, parameters, work / 'replay.xyz')
    paths = {name: given[name] for name in ('training', 'validation')}
    frames = {name: sets[name] for name in paths}
    if free_atoms is not None:
        for name in paths:
            frames[name] = relative_to_free_atoms(sets[name], free_atoms)
            paths[name] = work / f'{name}.xyz'
            write_extxyz(paths[name], frames[name])
    if parameters.weigh_by_represented:
        weights = weights_in(sets['training'])
        paths['training'] = write_weighted(frames['training'], weights, parameters.loss, work / 'training.xyz')
    return Request(
        parameters=parameters,
        **paths,
        schedule=schedule,
        foundation=foundation,
        replay=replay,
    )


def _free_atoms(given: Mapping[str, Path], sets: Sets) -> dict[str, float] | None:
    """Return the energies of the free atoms relative to which mace trains; None where it begins with a foundation.

    A foundation has its own energies of free atoms in its network, and mace begins with those.
    """
    return None if 'foundation' in given else free_atom_energies(sets['training'])


def _n_frames(parameters: TrainingParameters, sets: Sets) -> int:
    """Return the frames of an epoch: those trained on, isolated atoms among them if they are kept, and a replay set."""
    kept = (
        sets['training']
        if parameters.trains_on_isolated_atoms
        else [atoms for atoms in sets['training'] if not is_isolated_atom(atoms)]
    )
    return len(kept) + len(sets.get('replay', []))


def _run_to_the_end(request: Request, work: Path, follower: Follower, go_on: bool) -> bool:
    """Run mace until it has saved a model; return whether it was stopped before all epochs were done."""
    ended = run(command(request, go_on=go_on), work, follower)
    _check_history(follower.history, request.schedule.n_epochs)
    if not ended:
        start = newest_sound(work, follower.history['epoch'])
        if start is None:
            raise TrainingError(f'mace_run_train was stopped early and left no readable checkpoint in {work}')
        go_on_after(work, start, request.schedule.stage_two)
        # No epoch is left to do: mace saves the model alone.
        run(command(request, n_epochs=start.epoch + 1, go_on=True), work, follower)
    return follower.lost_patience


def _check_history(history: History, epochs: int) -> None:
    if not history['epoch']:
        raise TrainingError('mace_run_train ended without an evaluated epoch: see mace/mace_run_train.log')
    bad = [key for key in ('loss', 'rmse_e_meV', 'rmse_f_meV_A') if history[key][-1] is None]
    if bad:
        raise DivergedError(
            f'{", ".join(bad)} are not finite after epoch {history["epoch"][-1]} of {epochs}: the '
            'training diverged; lower the learning rate, or check the labels'
        )


# ------------------------------------------------------------------------------------------------------ after the run


def _hand_over(
    work: Path, history: History, request: Request, folder: Path, free_atoms: Mapping[str, float] | None
) -> tuple[Path, int]:
    """Save the potential with the weights of the best epoch and with one head; return its file and the epoch."""
    path = newest_model(work)
    if path is None:
        raise TrainingError(f'mace_run_train succeeded but wrote no model to {work}: see mace_run_train.log there')
    model = load_model(path)
    if request.replay is not None and not rehearses(model):
        raise TrainingError('mace_run_train ignored the replay set: see mace/mace_run_train.log')
    best = best_epoch(history, request.schedule.stage_two)
    found = [checkpoint for checkpoint in list_checkpoints(work) if checkpoint.epoch == best]
    if best is None or not found:
        raise TrainingError(f'the checkpoint of the best epoch, {best}, is not in {work}')
    potential = folder / 'potential.model'
    save_potential(model, found[0].weights(), path, potential, free_atoms)
    return potential, best


def look_at(
    potential: Path, sets: Sets, parameters: TrainingParameters, dtype: Literal['float32', 'float64']
) -> tuple[PotentialInfo, dict[str, FrameErrors]]:
    """Load the potential and evaluate it on both sets: only then the training is done."""
    settings = EvaluationParameters(dtype=dtype, device=parameters.device)
    try:
        info = inspect_potential(potential)
        # Those of a replay alone have no reference energy among the labels.
        info['elements'] = [element for element in info['elements'] if element in symbols(sets['training'])]
        metrics = {
            'train': _finite_metrics(evaluate(potential, sets['training'], settings), 'training'),
            'validation': _finite_metrics(evaluate(potential, sets['validation'], settings), 'validation'),
        }
    except PotentialError as error:
        raise TrainingError(f'the trained potential cannot be used: {error}') from error
    return info, metrics


def _finite_metrics(evaluation: Evaluation, name: str) -> FrameErrors:
    values = cast(dict[str, float | None], evaluation.metrics)  # of one potential there is no calibration
    bad = [key for key, value in values.items() if value is not None and not math.isfinite(value)]
    if bad:
        raise DivergedError(
            f'the trained potential gives no finite {", ".join(bad)} on the {name} set: lower the learning rate, or '
            'check the labels'
        )
    return evaluation.metrics


def _check_same(validation: FrameErrors, history: History, epoch: int) -> None:
    """Refuse a potential that is not what mace validated: another head, or other weights."""
    index = history['epoch'].index(epoch)
    for ours, theirs in OF_BOTH:
        found, expected = validation[ours], history[theirs][index]
        if not math.isclose(found, expected, **SAME_ERRORS):
            raise TrainingError(
                f'the saved potential has {ours} {found:.3f} on the validation set, but mace_run_train found '
                f'{expected:.3f} after epoch {epoch}: the saved model is not the trained one'
            )
