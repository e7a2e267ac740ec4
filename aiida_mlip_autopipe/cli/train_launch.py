"""From the input of a training by itself to its submission: what can be wrong is told before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_mlip_autopipe.cli.console import console
from aiida_mlip_autopipe.cli.launch import (
    DUMP_EXTRA,
    SLOTS_PER_MEMBER,
    check_slots,
    collect_problems,
    named_frames,
    named_surrogate,
)
from aiida_mlip_autopipe.config import ConfigError
from aiida_mlip_autopipe.science.training.limits import FEW_VALIDATED

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.manage.configuration.profile import Profile
    from aiida.orm import WorkChainNode
    from ase import Atoms

    from aiida_mlip_autopipe.config.training import TrainConfiguration
    from aiida_mlip_autopipe.data import FramesData
    from aiida_mlip_autopipe.science.training.labelled_set import TrainingSet

__all__ = ['TrainLaunch', 'prepare_training', 'submit_training', 'tell']

HEADER = 'The full configuration of the training. This file is itself a valid input.'
FEW_TESTED = 10
RUN_AND_STAGE = 2


@dataclass(frozen=True)
class TrainLaunch:
    """A training that is ready to be submitted; ``told`` says what it trains on, line by line."""

    configuration: TrainConfiguration
    builder: ProcessBuilder
    told: list[str]
    warnings: list[str]


def prepare_training(path: Path) -> TrainLaunch:
    """Check an input against the profile, divide its set as the training will, and return what is to be submitted.

    Raises
    ------
    ValueError
        With all that is wrong with the input, the set, the code or the potential to fine-tune.
    """
    from aiida.orm import Dict

    from aiida_mlip_autopipe.calculations.mace_train import check_start
    from aiida_mlip_autopipe.config.training import read_training
    from aiida_mlip_autopipe.workflows.training.train_set import TrainSetWorkChain

    configuration = read_training(path)
    nodes, whole = _load(configuration, path)
    trained_on, tested = _divided(configuration, nodes, whole)
    builder: Any = TrainSetWorkChain.build(configuration, configuration.codes.worker, nodes)
    parameters = Dict(configuration.training.model_dump(mode='json'))
    if problem := check_start(parameters, [nodes['data']], nodes['surrogate'], nodes['replay']):
        raise ConfigError([problem.replace('foundation:', 'surrogate:', 1)], str(path))
    builder.metadata.label = path.stem
    told = list(_told(configuration, trained_on, tested))
    return TrainLaunch(configuration, builder, told, [*whole.warnings, *_few(trained_on[1], len(tested))])


def submit_training(launch: TrainLaunch, profile: Profile) -> WorkChainNode:
    """Submit a training to the daemon.

    Raises
    ------
    ValueError
        If the daemon does not run or has too few slots.
    """
    from aiida.engine import submit

    from aiida_mlip_autopipe.config.dump import dump_yaml, flatten

    needed = RUN_AND_STAGE + SLOTS_PER_MEMBER * launch.configuration.training.committee_size
    check_slots(profile, needed, 'lower training.committee_size')
    node: Any = submit(launch.builder)
    data = launch.configuration.model_dump(mode='json')
    node.base.extras.set(DUMP_EXTRA, dump_yaml(data, dict.fromkeys(flatten(data), ''), HEADER))
    return node


def _load(configuration: TrainConfiguration, path: Path) -> tuple[dict[str, Any], TrainingSet]:
    """Return the nodes that a configuration names, and its set as it will be trained on."""
    from aiida_mlip_autopipe.science.frames import read_any
    from aiida_mlip_autopipe.workflows.inputs import find_code

    found: list[TrainingSet] = []

    def data() -> FramesData | None:
        """Return the data as a node; of a node the set is judged, and made in the run."""
        node = named_frames(configuration.data, 'data', lambda name: _judged(configuration, read_any(name)).frames)
        try:
            found.append(_judged(configuration, node.get_atoms()))  # type: ignore[union-attr]
        except ValueError as error:
            raise ValueError(f'data: {error}') from error
        return node

    steps: dict[str, Callable[[], Any]] = {
        'code': lambda: find_code(configuration.codes.worker, 'codes.worker'),
        'data': data,
        'test': partial(named_frames, configuration.test, 'test', _labelled),
        'replay': partial(named_frames, configuration.replay, 'replay', read_any),
    }
    nodes, problems = collect_problems(steps)
    if found:
        elements = sorted({symbol for atoms in found[0].frames for symbol in atoms.symbols})
        surrogate = configuration.surrogate or 'bootstrap'
        more, further = collect_problems({'surrogate': lambda: named_surrogate(surrogate, elements)})
        nodes, problems = nodes | more, problems + further
    if problems:
        raise ConfigError(problems, str(path))
    del nodes['code']
    return nodes, found[0]


def _judged(configuration: TrainConfiguration, frames: list[Atoms]) -> TrainingSet:
    from aiida_mlip_autopipe.science.training.labelled_set import training_set

    return training_set(frames, configuration.isolated_atoms, configuration.origin, configuration.labelling)


def _labelled(name: str) -> list[Atoms]:
    """Return the frames of a file with the results of their calculations where a node keeps them."""
    from aiida_mlip_autopipe.science.frames import keep_results, read_any

    return [keep_results(atoms) for atoms in read_any(name)]


def _divided(
    configuration: TrainConfiguration, nodes: dict[str, Any], whole: TrainingSet
) -> tuple[tuple[int, int], list[Atoms]]:
    """Return how many frames train and validate, and the test frames."""
    from aiida_mlip_autopipe.science.training import split_by_origin
    from aiida_mlip_autopipe.science.training.labelled_set import hold_out, test_frames

    training, test = configuration.training, nodes['test']
    if test is None:
        rest, tested = hold_out(whole.frames, configuration.test_fraction, training.random_seed)
    else:
        bounds = configuration.labelling
        rest, tested = whole.frames, test_frames(test.get_atoms(), whole.frames, configuration.origin, bounds)
    parts = split_by_origin(rest, training.validation_fraction, training.random_seed)
    return (len(parts[0]), len(parts[1])), tested


def _told(configuration: TrainConfiguration, trained_on: tuple[int, int], tested: list[Atoms]) -> Iterator[str]:
    training = configuration.training
    origins = len({atoms.info['origin'] for atoms in tested})
    yield (
        f'{trained_on[0]} frames train (isolated atoms among them), {trained_on[1]} validate, {len(tested)} test '
        f'({origins} origins)'
    )
    members = f', {training.committee_size} potentials' if training.committee_size > 1 else ''
    yield f'{training.method}: {training.n_steps} steps of {training.batch_size} frames{members}'


def _few(n_validate: int, n_tested: int) -> Iterator[str]:
    """Yield which of the held-out sets are so small that what they say is a matter of chance."""
    if n_validate < FEW_VALIDATED:
        yield (
            f'validation: {n_validate} frame(s) choose the best epoch, which is a matter of chance below '
            f'{FEW_VALIDATED}; raise training.validation_fraction, or give more origins'
        )
    if n_tested < FEW_TESTED:
        yield f'test: the errors on {n_tested} frame(s) are uncertain; give more (test, or test_fraction)'


def tell(launch: TrainLaunch) -> None:
    """Print what will be trained on what, and what to beware of."""
    for line in launch.told:
        console.print(line, soft_wrap=True)
    for warning in launch.warnings:
        console.print(f'[yellow]Warning:[/] {warning}', soft_wrap=True)
