"""From an ``input.yaml`` to a submitted pipeline: everything that can be checked is checked before submission."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_mlip_autopipe.cli.console import console
from aiida_mlip_autopipe.config import ConfigError, ConfigExpander, Configuration, Expansion

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder
    from aiida.engine.daemon.client import DaemonClient
    from aiida.manage.configuration.profile import Profile
    from aiida.orm import AbstractCode, StructureData, WorkChainNode
    from ase import Atoms

    from aiida_mlip_autopipe.data import FramesData, PotentialData
    from aiida_mlip_autopipe.science.parameters import LabellingParameters

__all__ = [
    'DUMP_EXTRA',
    'SLOTS_PER_SEQUENCE',
    'Launch',
    'check_slots',
    'collect_problems',
    'daemon_slots',
    'expand_in_profile',
    'load_nodes',
    'named_frames',
    'named_surrogate',
    'needed_slots',
    'prepare',
    'running_daemon',
    'submit',
    'tell_too_few_slots',
]

NODE_PREFIX = 'node:'
BOOTSTRAP = 'bootstrap'
SLOTS_PER_SEQUENCE = 3
SLOTS_PER_MEMBER = 2
DUMP_EXTRA = 'mlip_autopipe_exec_config_dump'
FEWER_AT_ONCE = 'lower labelling.max_concurrent or exploration.max_concurrent'


@dataclass(frozen=True)
class Launch:
    """A pipeline that is ready to be submitted."""

    expansion: Expansion
    builder: ProcessBuilder


def expand_in_profile(path: Path) -> Expansion:
    """Return the full configuration of an input, with what the profile recommends to the labelling code.

    Raises
    ------
    ValueError
        With all problems of the input; if the profile lacks what the labelling code needs; if the node that the input
        names does not exist.
    """
    from aiida_mlip_autopipe.workflows.inputs import recommended_in_profile

    expander = ConfigExpander(path)
    return expander.expand(recommended=recommended_in_profile, sources=_frames_of_node(expander))


def prepare(path: Path) -> Launch:
    """Check an input against the profile and return what is to be submitted.

    Raises
    ------
    ValueError
        If something is wrong with the input, or the profile lacks a code or what labelling needs, or the surrogate
        cannot be used: all of it, with the key, the value and the way out.
    """
    from aiida_mlip_autopipe.labelling.base import labeller_of
    from aiida_mlip_autopipe.workflows.autopipe import AutoPipeWorkChain
    from aiida_mlip_autopipe.workflows.inputs import build_inputs, functional_mismatch

    expansion = expand_in_profile(path)
    configuration = expansion.configuration
    nodes, problems = load_nodes(expansion)
    if problems:
        raise ConfigError(problems, str(path))
    mismatch = functional_mismatch(nodes['surrogate'], labeller_of(configuration.labelling), expansion.elements)
    for warning in filter(None, (mismatch, *expansion.warnings())):
        console.print(f'[yellow]Warning:[/] {warning}', soft_wrap=True)
    builder: Any = build_inputs(AutoPipeWorkChain.get_builder(), configuration, **nodes)
    builder.metadata.label = path.stem
    builder.metadata.description = f'{expansion.sources[0].get_chemical_formula()}, {configuration.protocol}'
    return Launch(expansion, builder)


def load_nodes(expansion: Expansion) -> tuple[dict[str, Any], list[str]]:
    """Return the nodes that a configuration names, by the names of ``build_inputs``, and what is wrong with others."""
    from aiida_mlip_autopipe.science.frames import read_any
    from aiida_mlip_autopipe.workflows.inputs import find_code

    configuration = expansion.configuration
    return collect_problems(
        {
            'worker_code': lambda: find_code(configuration.codes.worker, 'codes.worker'),
            'labelling_code': lambda: _labelling_code(configuration.codes.labelling),
            'structure': lambda: _structure(expansion),
            'surrogate': lambda: named_surrogate(configuration.surrogate, expansion.elements),
            'replay': lambda: named_frames(configuration.replay, 'replay', read_any),
            'data': lambda: _data(configuration.data, expansion.elements, configuration.labelling),
        }
    )


def collect_problems(steps: dict[str, Callable[[], Any]]) -> tuple[dict[str, Any], list[str]]:
    """Take each step; return what those that succeed return, by their names, and what the others say is wrong."""
    done, problems = {}, []
    for name, step in steps.items():
        try:
            done[name] = step()
        except ConfigError as error:
            problems += error.problems
        except ValueError as error:
            problems.append(str(error))
    return done, problems


def submit(launch: Launch, profile: Profile) -> WorkChainNode:
    """Submit a pipeline to the daemon.

    Raises
    ------
    ValueError
        If the daemon does not run or has too few slots.
    """
    from aiida.engine import submit as submit_process

    needed = needed_slots(launch.expansion.configuration)
    check_slots(profile, needed, FEWER_AT_ONCE)
    node: Any = submit_process(launch.builder)
    node.base.extras.set(DUMP_EXTRA, launch.expansion.dump())
    return node


def needed_slots(configuration: Configuration) -> int:
    """Return how many processes of a run are alive at once, at most.

    A parent keeps its slot while it waits for its children; with fewer slots than this they would wait for ever.
    """
    exploration = configuration.exploration
    committee = SLOTS_PER_MEMBER * configuration.training.committee_size
    sequences = max(configuration.labelling.max_concurrent, min(exploration.max_concurrent, exploration.n_jobs))
    run_and_stage = 2
    return run_and_stage + max(SLOTS_PER_SEQUENCE * sequences, committee)


def running_daemon(profile: Profile) -> DaemonClient:
    """Return the client of the daemon.

    Raises
    ------
    ValueError
        If the profile has no broker, or its daemon does not run.
    """
    from aiida.engine.daemon.client import get_daemon_client

    if profile.process_control_backend is None:
        raise ValueError(
            f'profile {profile.name!r} has no broker, so no run can be submitted; `mlip-autopipe --profile NAME init` '
            'creates one with a broker'
        )
    client = get_daemon_client(profile.name)
    if not client.is_daemon_running:
        raise ValueError(
            f'the daemon of profile {profile.name!r} is not running; start it with `mlip-autopipe init` or '
            f'`verdi -p {profile.name} daemon start 2`'
        )
    return client


def daemon_slots(profile: Profile) -> tuple[int, int]:
    """Return how many workers the daemon has, and how many processes each keeps alive at once.

    Raises
    ------
    ValueError
        If the daemon does not run.
    """
    from aiida.manage.configuration import get_config

    client = running_daemon(profile)
    per_worker = get_config().get_option('daemon.worker_process_slots', scope=profile.name)
    return client.get_numprocesses()['numprocesses'], per_worker


def check_slots(profile: Profile, needed: int, way_out: str) -> None:
    """Make sure that the daemon can keep so many processes alive at once.

    Raises
    ------
    ValueError
        If the daemon does not run or has fewer slots; it ends with ``way_out``.
    """
    workers, per_worker = daemon_slots(profile)
    if workers * per_worker < needed:
        raise ValueError(tell_too_few_slots(workers, per_worker, needed, way_out))


def tell_too_few_slots(workers: int, per_worker: int, needed: int, way_out: str = FEWER_AT_ONCE) -> str:
    """Return what is wrong with a daemon of so many slots, and the ways out."""
    return (
        f'the daemon has {workers} workers x {per_worker} slots, but this run needs {needed} slots at once and would '
        f'hang; raise them with `verdi config set daemon.worker_process_slots {needed}` and restart the daemon, or '
        f'{way_out}'
    )


def _frames_of_node(expander: ConfigExpander) -> list[Atoms] | None:
    """Return the structures of ``system.node``, which only AiiDA can load; None if the input names no node."""
    system = expander.data.get('system')
    identifier = system.get('node') if isinstance(system, dict) else None
    if identifier is None:
        return None
    from aiida.orm import StructureData

    from aiida_mlip_autopipe.data import FramesData
    from aiida_mlip_autopipe.data.source import source_atoms

    node = _load_node(identifier, 'system.node', (StructureData, FramesData))
    return source_atoms(node)


def _load_node(identifier: Any, key: str, types: tuple[type, ...]) -> Any:
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.orm import load_node

    text = str(identifier)
    try:
        node = load_node(int(text)) if text.isdigit() else load_node(uuid=text)
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        raise ValueError(
            f'{key}: {identifier!r} is not the PK or UUID of one node of this profile ({error})'
        ) from error
    if not isinstance(node, types):
        names = ' or '.join(one.__name__ for one in types)
        raise ValueError(f'{key}: <{identifier}> is a {type(node).__name__}; give a {names}')
    return node


def _structure(expansion: Expansion) -> StructureData | FramesData:
    """Return the node to start from: the one that is named, or a new one."""
    from aiida.orm import StructureData

    from aiida_mlip_autopipe.data import FramesData
    from aiida_mlip_autopipe.science.frames.carried import carried_arrays

    named = expansion.configuration.system.node
    if named is not None:
        return _load_node(named, 'system.node', (StructureData, FramesData))
    if len(expansion.sources) > 1 or carried_arrays(expansion.sources[0]):
        return FramesData.from_atoms(expansion.sources)
    return StructureData(ase=expansion.sources[0])


def _labelling_code(label: str | None) -> AbstractCode | None:
    """Return the code that labels; None for a labelling code that needs none."""
    from aiida_mlip_autopipe.workflows.inputs import find_code

    return None if label is None else find_code(label, 'codes.labelling')


def named_frames(name: str | None, key: str, read: Callable[[str], list[Atoms]]) -> FramesData | None:
    """Return the frames that the input names under a key as a node; None where there are none."""
    if name is None:
        return None
    from aiida_mlip_autopipe.data import FramesData

    if name.startswith(NODE_PREFIX):
        return _load_node(name.removeprefix(NODE_PREFIX), key, (FramesData,))
    try:
        return FramesData.from_atoms(read(name))
    except ValueError as error:
        raise ValueError(f'{key}: {error}') from error


def _data(name: str | None, elements: list[str], labelling: LabellingParameters) -> FramesData | None:
    """Return labelled frames to begin with as a node; None where there are none."""
    from aiida_mlip_autopipe.science.existing_data import read_labelled
    from aiida_mlip_autopipe.workflows.inputs import data_problem

    frames = named_frames(name, 'data', partial(read_labelled, bounds=labelling))
    if frames is not None and (problem := data_problem(frames, elements, labelling)):
        raise ValueError(problem)
    return frames


def named_surrogate(name: str, elements: list[str]) -> PotentialData | None:
    """Return the node of the first potential; None means that it is bootstrapped."""
    if name == BOOTSTRAP:
        return None
    from aiida_mlip_autopipe.config import check_surrogate_elements
    from aiida_mlip_autopipe.data import PotentialData

    if name.startswith(NODE_PREFIX):
        potential = _load_node(name.removeprefix(NODE_PREFIX), 'surrogate', (PotentialData,))
    else:
        from aiida_mlip_autopipe.science.potential import FOUNDATIONS, inspect_potential, load_foundation

        path = load_foundation(name)
        known = FOUNDATIONS.get(name)
        potential = PotentialData.from_file(
            path,
            inspect_potential(path) | ({'functional': known.functional_name} if known else {}),
            origin=name if known else 'file',
            licence=known.licence if known else 'unknown',
        )
    check_surrogate_elements(potential.elements, elements)
    return potential
