"""The input of a training by itself: a labelled set, how it is divided, and what a training is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from aiida_mlip_autopipe.config.errors import ConfigError, nearest, translate
from aiida_mlip_autopipe.config.expander import load_protocol, merged
from aiida_mlip_autopipe.config.loader import load_yaml, read_text
from aiida_mlip_autopipe.config.schema import CodesConfiguration, OptionsConfiguration
from aiida_mlip_autopipe.config.system import find_frames, find_surrogate
from aiida_mlip_autopipe.science.parameters import (
    EvaluationParameters,
    LabellingParameters,
    StageParameters,
    TrainingParameters,
)
from aiida_mlip_autopipe.science.parameters.base import FiniteFloat

__all__ = ['TrainConfiguration', 'read_training', 'training_configuration']

OF_THE_PIPELINE = ('n_test', 'hot_factor')
PROTOCOLS = ('fast', 'balanced', 'stringent')


class TrainConfiguration(StageParameters):
    """The full configuration of a training by itself."""

    data: str = Field(min_length=1, description='Labelled frames: a file that ASE reads, or node:<pk or UUID>.')
    test: str | None = Field(
        None, min_length=1, description='Labelled test frames, likewise; by default some origins of data are held out.'
    )
    test_fraction: float = Field(
        0.1, gt=0, lt=0.9, description='Fraction of the origins of data that are held out, where test is not given.'
    )
    origin: str = Field(
        'origin',
        min_length=1,
        description='The entry of info that names the structure or trajectory from which a frame descends.',
    )
    isolated_atoms: dict[str, FiniteFloat] | Literal['fit'] | None = Field(
        None,
        description='Energy of the isolated atom of each element in eV, where data has none '
        '(config_type=IsolatedAtom); fit: a fit to the set, with which cohesive energies mean nothing.',
    )
    protocol: Literal['fast', 'balanced', 'stringent'] = Field('fast', description='Values for the training.')
    surrogate: str | None = Field(
        None,
        min_length=1,
        description='The potential to fine-tune: a path of a .model file, the name of a foundation model, or '
        'node:<pk or UUID>.',
    )
    replay: str | None = Field(
        None, min_length=1, description='Frames on which the surrogate is not to be forgotten, for multihead.'
    )
    labelling: LabellingParameters = Field(
        default_factory=LabellingParameters, description='What is too large in a label (max_force_eV_A ...).'
    )
    training: TrainingParameters = Field(default_factory=TrainingParameters, description='MACE training.')
    evaluation: EvaluationParameters = Field(
        default_factory=lambda: EvaluationParameters(hot_factor=None), description='Tolerances and precision.'
    )
    codes: CodesConfiguration = Field(default_factory=CodesConfiguration, description='AiiDA codes.')
    options: OptionsConfiguration = Field(default_factory=OptionsConfiguration, description='Options of the jobs.')

    @model_validator(mode='after')
    def _has_what_it_fine_tunes(self) -> TrainConfiguration:
        from aiida_mlip_autopipe.science.training.sets import start_problem

        problem = start_problem(self.training.method, self.surrogate is not None, self.replay is not None)
        if problem is not None:
            raise ValueError(problem.replace('foundation:', 'surrogate:', 1))
        return self

    @model_validator(mode='after')
    def _fits_no_free_atom(self) -> TrainConfiguration:
        if self.isolated_atoms == 'fit' and self.training.trains_on_isolated_atoms:
            raise ValueError(
                f'training.free_atom: {self.training.free_atom} with the method {self.training.method} would train on '
                'the energies of isolated atoms, but isolated_atoms is fit: set it to shifted, or give the energies'
            )
        return self


def read_training(path: Path) -> TrainConfiguration:
    """Return the configuration that an input file stands for; paths in it are relative to it.

    Raises
    ------
    ConfigError
        With all its problems.
    """
    data = load_yaml(read_text(path), str(path))
    return training_configuration(data, path.parent.resolve(), str(path))


def training_configuration(
    data: Mapping[str, Any], base: Path | None = None, name: str = 'input'
) -> TrainConfiguration:
    """Return a full configuration: what is given, else what the protocol says, else the defaults.

    Raises
    ------
    ConfigError
        With the keys that do not exist, the values that are out of bounds and the files that are not there.
    """
    user = deepcopy(dict(data))
    problems = list(_unknown(user))
    for key, find in (
        ('data', partial(find_frames, 'data')),
        ('test', partial(find_frames, 'test')),
        ('replay', partial(find_frames, 'replay')),
        ('surrogate', find_surrogate),
    ):
        if isinstance(user.get(key), str) and user[key]:
            user[key], unfound = find(user[key], (base or Path()).resolve())
            problems += unfound
    protocol = user.get('protocol', 'fast')
    preset = load_protocol(protocol if protocol in PROTOCOLS else 'fast').configuration
    training = {**preset.get('training', {})}
    if user.get('isolated_atoms') == 'fit':
        training['free_atom'] = 'shifted'  # there is none that could be exact
    whole = merged([{'training': training, 'evaluation': {'hot_factor': None}}, user])
    try:
        configuration = TrainConfiguration.model_validate(whole, strict=True)
    except ValidationError as error:
        raise ConfigError([*problems, *translate(error, whole)], name) from error
    if problems:
        raise ConfigError(problems, name)
    return configuration


def _unknown(user: dict[str, Any]) -> list[str]:
    """Take keys that do not exist, or have no meaning here, out of the input; return what is wrong with them."""
    known = list(TrainConfiguration.model_fields)
    problems = []
    for key in [key for key in user if key not in known]:
        del user[key]
        near = nearest(key, known)
        problems.append(
            f'{key}: unknown key; '
            + (f'did you mean {near}?' if near else f'the keys of a training are {", ".join(known)}')
        )
    evaluation = user.get('evaluation')
    for key in OF_THE_PIPELINE:
        if isinstance(evaluation, dict) and key in evaluation:
            del evaluation[key]
            problems.append(f'evaluation.{key}: the test set of a training is test or test_fraction; remove it')
    return problems
