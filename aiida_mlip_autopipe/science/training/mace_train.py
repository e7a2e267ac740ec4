"""Train a MACE potential with ``mace_run_train`` and believe it only after a look.

The command runs as a process of its own. What it does silently wrong is refused before (NaN labels end with exit 0 and
a model; a missing isolated atom puts cohesion into the reference energies; a batch larger than the set dies in torch),
and what comes out is checked after: the last metrics are finite, and the potential is loaded and evaluated on both
sets.

Source: I. Batatia et al., MACE (NeurIPS 2022), and the command line of mace-torch 0.3.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_mlip_autopipe.science.frames import read_extxyz
from aiida_mlip_autopipe.science.parameters import EvaluationParameters, TrainingParameters
from aiida_mlip_autopipe.science.training.potential import PotentialError, inspect_potential, resolve_device
from aiida_mlip_autopipe.science.training.split import is_isolated_atom

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_mlip_autopipe.science.evaluation.errors import Evaluation

__all__ = ['TrainingError', 'TrainingResult', 'TrainingSetError', 'train']

NAME = 'autopipe'
POLL_SECONDS = 0.5
LOG_LINES = 12
HISTORY_KEYS = {
    'loss': 'loss',
    'rmse_e_meV': 'rmse_e_per_atom',
    'rmse_f_meV_A': 'rmse_f',
    'rmse_stress_meV_A3': 'rmse_stress',
}


class TrainingError(ValueError):
    """The training failed or its result is not to be trusted."""


class TrainingSetError(TrainingError):
    """The training or the validation set is unfit; nothing was started."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Attributes
    ----------
    potential : Path
        The MACE potential, saved for the CPU.
    history : dict of list
        By epoch, on the validation set: ``epoch``, ``loss``, ``rmse_e_meV`` (per atom), ``rmse_f_meV_A``,
        ``rmse_stress_meV_A3``; None where mace gave no finite number.
    metrics : dict of dict
        Errors of the final potential on 'train' and 'validation', as `evaluate` gives them.
    info : dict
        What `inspect_potential` says.
    """

    potential: Path
    history: dict[str, list[Any]]
    metrics: dict[str, dict[str, Any]]
    info: dict[str, Any]


def train(
    training: Path,
    validation: Path,
    parameters: TrainingParameters,
    folder: Path,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> TrainingResult:
    """Train a potential from scratch.

    Parameters
    ----------
    training, validation : Path
        Labelled frames (extxyz); ``training`` holds an isolated atom of each element.
    parameters : TrainingParameters
        What ``mace_run_train`` is asked for.
    folder : Path
        Receives ``potential.model`` and, in ``mace/``, what the command writes.
    progress : callable, optional
        Called after each epoch with ``epoch``, ``epochs``, ``rmse_e_meV``, ``rmse_f_meV_A``.

    Raises
    ------
    TrainingSetError
        If a set cannot be read, a label is missing or not finite, or an isolated atom is missing.
    TrainingError
        If the command fails, or its metrics or its potential are not finite.
    """
    frames = {'training': _read_set(training, 'training'), 'validation': _read_set(validation, 'validation')}
    _check_isolated_atoms(frames)
    n_training = sum(not is_isolated_atom(atoms) for atoms in frames['training'])
    work = Path(folder).absolute() / 'mace'
    shutil.rmtree(work, ignore_errors=True)  # mace appends to an earlier run's results
    work.mkdir(parents=True)
    command = _command(Path(training).absolute(), Path(validation).absolute(), parameters, n_training)
    history = _run(command, work, parameters.max_num_epochs, progress)
    _check_history(history, parameters.max_num_epochs)
    potential = Path(folder) / 'potential.model'
    shutil.copyfile(_newest_model(work), potential)
    info, metrics = _look_at(potential, frames, parameters)
    return TrainingResult(potential=potential, history=history, metrics=metrics, info=info)


# ------------------------------------------------------------------------------------------------------ before the run


def _read_set(path: Path, name: str) -> list[Atoms]:
    try:
        frames = read_extxyz(path)
    except ValueError as error:
        raise TrainingSetError(f'the {name} set: {error}') from error
    if all(map(is_isolated_atom, frames)):
        raise TrainingSetError(f'the {name} set {path} holds no frame beside isolated atoms: label more structures')
    for index, atoms in enumerate(frames):
        if problem := _label_problem(atoms):
            raise TrainingSetError(
                f'frame {index} ({atoms.info.get("frame_id", "unnamed")}) of the {name} set '
                f'{problem}; label it again or remove it'
            )
    return frames


def _label_problem(atoms: Atoms) -> str | None:
    """Return what is wrong with the labels of a frame. Without periodicity there is no stress."""
    labels = {'REF_energy': atoms.info.get('REF_energy')}
    if not is_isolated_atom(atoms):
        labels['REF_forces'] = atoms.arrays.get('REF_forces')
        if atoms.pbc.all():
            labels['REF_stress'] = atoms.info.get('REF_stress')
    for key, value in labels.items():
        if value is None:
            return f'has no {key}'
        values = np.asarray(value)
        if values.dtype.kind not in 'fi' or not np.isfinite(values).all():
            return f'has a {key} that is not finite'
    return None


def _check_isolated_atoms(frames: dict[str, list[Atoms]]) -> None:
    isolated = {atoms.get_chemical_symbols()[0] for atoms in frames['training'] if is_isolated_atom(atoms)}
    needed = {
        symbol for atoms in (*frames['training'], *frames['validation']) for symbol in atoms.get_chemical_symbols()
    }
    if missing := sorted(needed - isolated):
        raise TrainingSetError(
            f'the training set has no isolated atom of {", ".join(missing)}: label one atom of each '
            'element in a large box, with config_type=IsolatedAtom'
        )


def _command(training: Path, validation: Path, parameters: TrainingParameters, n_training: int) -> list[str]:
    """Return the command; the averaged last part starts only if an epoch comes before it."""
    options: dict[str, Any] = {
        'name': NAME,
        'train_file': training,
        'valid_file': validation,
        'model': 'ScaleShiftMACE',
        'num_channels': parameters.num_channels,
        'max_L': parameters.max_L,
        'r_max': parameters.r_max,
        'correlation': parameters.correlation,
        'max_ell': parameters.max_ell,
        'num_interactions': parameters.num_interactions,
        'E0s': 'IsolatedAtom',
        'loss': 'universal',  # 'weighted', mace's default, ignores the stress
        'compute_stress': True,
        'energy_weight': parameters.energy_weight,
        'forces_weight': parameters.forces_weight,
        'stress_weight': parameters.stress_weight,
        'batch_size': min(parameters.batch_size, n_training),
        'valid_batch_size': parameters.batch_size,
        'lr': parameters.lr,
        'scheduler': 'ExponentialLR',
        'lr_scheduler_gamma': parameters.lr_gamma,
        'ema_decay': parameters.ema_decay,
        'max_num_epochs': parameters.max_num_epochs,
        'default_dtype': parameters.dtype,
        'device': resolve_device(parameters.device),
        'seed': parameters.random_seed,
        'error_table': 'PerAtomRMSEstressvirials',
        'plot': False,
    }
    flags = ['--ema', '--save_cpu']
    start_swa = parameters.max_num_epochs - max(1, round(parameters.swa_fraction * parameters.max_num_epochs))
    if parameters.swa_fraction > 0 and start_swa > 0:
        flags.append('--swa')
        options |= {
            'start_swa': start_swa,
            'swa_lr': parameters.swa_lr,
            'swa_energy_weight': parameters.swa_energy_weight,
            'swa_forces_weight': parameters.forces_weight,
            'swa_stress_weight': parameters.stress_weight,
        }
    return [sys.executable, '-m', 'mace.cli.run_train', *(f'--{key}={value}' for key, value in options.items()), *flags]


# ------------------------------------------------------------------------------------------------------------ the run


def _run(
    command: list[str], work: Path, epochs: int, progress: Callable[[dict[str, Any]], None] | None
) -> dict[str, list[Any]]:
    # Two threads gain little on small frames and lose a factor of thirty where another process wants the same cores.
    defaults = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}
    # Unbuffered, so that the log's lines stand in the order in which they were written.
    environment = defaults | dict(os.environ) | {'MPLBACKEND': 'Agg', 'PYTHONUNBUFFERED': '1'}
    history: dict[str, list[Any]] = {'epoch': [], **{key: [] for key in HISTORY_KEYS}}
    log = work / 'mace_run_train.log'
    with log.open('wb') as output:
        process = subprocess.Popen(command, cwd=work, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            running, offset = True, 0
            while running:
                running = process.poll() is None
                offset = _follow(work, offset, history, epochs, progress)
                if running:
                    time.sleep(POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise TrainingError(
            f'mace_run_train ended with exit status {process.returncode}; the end of {log}:\n' + _tail(log)
        )
    return history


def _follow(
    work: Path,
    offset: int,
    history: dict[str, list[Any]],
    epochs: int,
    progress: Callable[[dict[str, Any]], None] | None,
) -> int:
    """Read what was added to the results since ``offset``, whole lines only; return the new offset."""
    results = next(iter(sorted((work / 'results').glob('*_train.txt'))), None)
    if results is None:
        return offset
    with results.open('rb') as handle:
        handle.seek(offset)
        added = handle.read()
    complete = added[: added.rfind(b'\n') + 1]
    for line in complete.splitlines():
        entry = json.loads(line)  # takes the bare NaN that mace may write
        if entry.get('mode') == 'eval' and entry.get('epoch') is not None:
            _record(entry, history)
            if progress is not None:
                progress(
                    {
                        'epoch': len(history['epoch']),
                        'epochs': epochs,
                        'rmse_e_meV': history['rmse_e_meV'][-1],
                        'rmse_f_meV_A': history['rmse_f_meV_A'][-1],
                    }
                )
    return offset + len(complete)


def _record(entry: dict[str, Any], history: dict[str, list[Any]]) -> None:
    history['epoch'].append(int(entry['epoch']))
    for key, name in HISTORY_KEYS.items():
        value = entry.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            history[key].append(value * (1.0 if key == 'loss' else 1e3))
        else:
            history[key].append(None)


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text(errors='replace').splitlines() if line.strip()]
    return '\n'.join(lines[-LOG_LINES:])


# ------------------------------------------------------------------------------------------------------ after the run


def _check_history(history: dict[str, list[Any]], epochs: int) -> None:
    if not history['epoch']:
        raise TrainingError('mace_run_train ended without an evaluated epoch: see mace/mace_run_train.log')
    bad = [key for key in ('loss', 'rmse_e_meV', 'rmse_f_meV_A') if history[key][-1] is None]
    if bad:
        raise TrainingError(
            f'{", ".join(bad)} are not finite after epoch {history["epoch"][-1]} of {epochs}: the '
            'training diverged; lower lr, or look for wrong labels'
        )


def _newest_model(work: Path) -> Path:
    """Return the averaged model of the last part where there is one, else that of the first part."""
    for name in (f'{NAME}_stagetwo.model', f'{NAME}.model'):
        if (work / name).is_file():
            return work / name
    raise TrainingError(f'mace_run_train ended well but wrote no model into {work}: see mace_run_train.log there')


def _look_at(
    potential: Path, frames: dict[str, list[Atoms]], parameters: TrainingParameters
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Load the potential and evaluate it on both sets: only then the training is done."""
    from aiida_mlip_autopipe.science.evaluation.errors import evaluate  # here: it imports this package

    settings = EvaluationParameters(dtype=parameters.dtype, device=parameters.device)
    try:
        info = inspect_potential(potential)
        metrics = {
            'train': _finite_metrics(evaluate(potential, frames['training'], settings), 'training'),
            'validation': _finite_metrics(evaluate(potential, frames['validation'], settings), 'validation'),
        }
    except PotentialError as error:
        raise TrainingError(f'the trained potential cannot be used: {error}') from error
    return info, metrics


def _finite_metrics(evaluation: Evaluation, name: str) -> dict[str, Any]:
    bad = [key for key, value in evaluation.metrics.items() if value is not None and not math.isfinite(value)]
    if bad:
        raise TrainingError(
            f'the trained potential gives no finite {", ".join(bad)} on the {name} set: lower lr, or '
            'look for wrong labels'
        )
    return evaluation.metrics
