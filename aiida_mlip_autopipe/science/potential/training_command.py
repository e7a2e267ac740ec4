"""What ``mace_run_train`` is asked.

A fine-tuning takes the architecture of its foundation, whatever is asked. Reference energies are always those of the
isolated atoms in the training set: mace prefers them to a foundation's, which belong to another code and other
pseudopotentials.

Source: the command line of mace-torch 0.3.16.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.potential.load import resolve_device
from aiida_mlip_autopipe.science.potential.schedule import Schedule
from aiida_mlip_autopipe.science.potential.training_files import NAME

__all__ = ['Request', 'command']


@dataclass(frozen=True)
class Request:
    """A training.

    Attributes
    ----------
    parameters : TrainingParameters
        What to do.
    training, validation : Path
        Absolute paths of the labelled frames.
    schedule : Schedule
        The course of the training.
    foundation, replay : Path, optional
        Absolute paths of the potential to fine-tune and of frames labelled with it.
    """

    parameters: TrainingParameters
    training: Path
    validation: Path
    schedule: Schedule
    foundation: Path | None = None
    replay: Path | None = None


def command(request: Request, n_epochs: int | None = None, go_on: bool = False) -> list[str]:
    """Return the command line.

    Parameters
    ----------
    request : Request
        What to do.
    n_epochs : int, optional
        End after so many epochs instead of all of the schedule; the stages are not moved.
    go_on : bool
        Go on from the newest checkpoint.
    """
    options = _options(request) | _weights(request) | _stage_two(request)
    if n_epochs is not None:
        options['max_num_epochs'] = n_epochs
    flags = ['--ema', '--save_cpu', '--save_all_checkpoints']
    flags += ['--swa'] if request.schedule.stage_two is not None else []
    flags += ['--restart_latest'] if go_on else []
    module = 'aiida_mlip_autopipe.science.potential.child'
    return [sys.executable, '-m', module, *(f'--{key}={value}' for key, value in options.items()), *flags]


def _options(request: Request) -> dict[str, Any]:
    parameters, schedule = request.parameters, request.schedule
    return {
        'name': NAME,
        'train_file': request.training,
        'valid_file': request.validation,
        # mace's 'MACE' has no shift, and a first layer without residual connection: an atom alone has its E0.
        'model': 'MACE' if parameters.has_exact_free_atom else 'ScaleShiftMACE',
        'E0s': 'IsolatedAtom',
        'loss': parameters.loss,  # 'weighted', mace's default, ignores the stress
        'compute_stress': True,
        'energy_weight': parameters.energy_weight,
        'forces_weight': parameters.forces_weight,
        'stress_weight': parameters.stress_weight,
        'batch_size': schedule.batch_size,
        'valid_batch_size': parameters.batch_size,
        'scheduler': 'ExponentialLR',
        'lr_scheduler_gamma': schedule.lr_gamma,
        'ema_decay': parameters.ema_decay,
        'max_num_epochs': schedule.n_epochs,
        'keep_isolated_atoms': parameters.trains_on_isolated_atoms,
        'default_dtype': parameters.dtype,
        'device': resolve_device(parameters.device),
        'seed': parameters.random_seed,
        'error_table': 'PerAtomRMSEstressvirials',
        'plot': False,
    }


def _weights(request: Request) -> dict[str, Any]:
    """Return how large the network is, or from which foundation it starts."""
    parameters = request.parameters
    if request.foundation is None:
        names = ('num_channels', 'max_L', 'r_max', 'correlation', 'max_ell', 'num_interactions', 'lr')
        return {name: getattr(parameters, name) for name in names}
    options: dict[str, Any] = {
        'foundation_model': request.foundation,
        'lr': parameters.finetune_lr,
        'multiheads_finetuning': request.replay is not None,
    }
    if request.replay is not None:
        # Without force_mh_ft_lr, mace puts its own lr and ema_decay in the place of those asked for.
        options |= {'pt_train_file': request.replay, 'force_mh_ft_lr': True}
    return options


def _stage_two(request: Request) -> dict[str, Any]:
    parameters, start = request.parameters, request.schedule.stage_two
    if start is None:
        return {}
    lr = parameters.swa_lr if request.foundation is None else min(parameters.swa_lr, parameters.finetune_lr)
    options: dict[str, Any] = {
        'start_swa': start,
        'swa_lr': lr,
        'swa_energy_weight': parameters.swa_energy_weight,
        'swa_forces_weight': parameters.forces_weight,
        'swa_stress_weight': parameters.stress_weight,
    }
    if request.schedule.patience is not None:
        options['patience'] = request.schedule.patience  # in the first stage, mace itself then goes on to the second
    return options
