"""What becomes of an MD job that does not finish: each handler on built nodes, and jobs that are really killed."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiida import engine, orm
from aiida.common.links import LinkType
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.transports.plugins.local import LocalTransport
from ase import Atoms
from ase.build import bulk
from plumpy import ProcessState

from aiida_mlip_autopipe.calculations.mace_md import MaceMdCalculation
from aiida_mlip_autopipe.calculations.monitors import ALL_BROKE, ENTRY_POINT, all_replicas_broke
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.provenance.states import explored_seeds
from aiida_mlip_autopipe.science.frames import read_manifest
from aiida_mlip_autopipe.science.parameters import DynamicsParameters, GuardParameters
from aiida_mlip_autopipe.workflows.exploration.mace_md_base import MaceMdBaseWorkChain

DYNAMICS = DynamicsParameters(temperatures_K=[300.0], n_steps=10, sample_interval=1, random_seed=7, n_processes=1)
RECOVERED = (110, 120, 140, 400, 410, 411)


def silicon(number: int) -> Atoms:
    """Return two displaced atoms of silicon."""
    atoms = bulk('Si', 'diamond', a=5.43)
    atoms.rattle(0.03, seed=number)
    atoms.info.update(frame_id=f'seed-{number}', origin=f'seed-{number}', config_type='seed')
    return atoms


@pytest.fixture(scope='module')
def potential(aiida_profile, tiny_potential) -> PotentialData:
    """Return the tiny potential as a node."""
    from aiida_mlip_autopipe.science.potential import inspect_potential

    return PotentialData.from_file(tiny_potential, inspect_potential(tiny_potential), origin='file').store()


@pytest.fixture
def job_inputs(installed_worker_code, potential) -> Callable[..., dict[str, Any]]:
    """Return a function that gives the inputs of an MD job of some seeds; its arguments change the dynamics."""

    def factory(n_seeds: int = 1, **changes: Any) -> dict[str, Any]:
        return {
            'code': installed_worker_code,
            'potential': potential,
            'seeds': FramesData.from_atoms([silicon(number) for number in range(n_seeds)]).store(),
            'parameters': orm.Dict(DYNAMICS.model_copy(update=changes).model_dump(mode='json')),
        }

    return factory


# ------------------------------------------------------------------------------------------- handlers, nothing is run


@pytest.fixture
def workchain(job_inputs) -> Callable[..., MaceMdBaseWorkChain]:
    """Return a function that gives the WorkChain just after its setup."""

    def factory(**inputs: Any) -> MaceMdBaseWorkChain:
        process = instantiate_process(get_manager().get_runner(), MaceMdBaseWorkChain, job=job_inputs(), **inputs)
        process.node.store()
        process.setup()
        process.ctx.children = []
        return process

    return factory


@pytest.fixture
def ended(localhost, tmp_path) -> Callable[..., orm.CalcJobNode]:
    """Return a function that builds an MD job that ended, with what it left in its folder."""
    numbers = iter(range(1000))

    def factory(
        exit_status: int, message: str = '', *, n_steps: int | None = None, n_frames: int = 5, n_checkpoints: int = 2
    ) -> orm.CalcJobNode:
        folder = tmp_path / f'job-{next(numbers)}'
        (folder / 'checkpoints').mkdir(parents=True)
        for replica in range(n_checkpoints):
            (folder / 'checkpoints' / f'r{replica:03d}.npz').touch()
        node = orm.CalcJobNode(computer=localhost, process_type='aiida.calculations:mlip_autopipe.mace_md')
        node.set_process_state(ProcessState.FINISHED)
        node.set_process_label('MaceMdCalculation')
        node.set_exit_status(exit_status)
        node.set_exit_message(message)
        node.store()
        outputs = {'remote_folder': orm.RemoteData(remote_path=str(folder), computer=localhost)}
        if n_steps is not None:
            outputs['manifest'] = orm.Dict({'n_frames': n_frames, 'replicas': [{'n_steps': n_steps, 'guard': None}]})
        for name, output in outputs.items():
            output.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label=name)
            output.store()
        return node

    return factory


def inspect(process: MaceMdBaseWorkChain, node: orm.CalcJobNode) -> None:
    """Let the WorkChain inspect an attempt as if it had run it just now."""
    process.ctx.again = process.ctx.is_finished = False
    process.ctx.iteration += 1
    process.ctx.children.append(node)
    assert process.inspect_process() is None


def options_of(process: MaceMdBaseWorkChain) -> dict[str, Any]:
    """Return the options of the next attempt."""
    return process.ctx.inputs['metadata']['options']


@pytest.mark.parametrize('exit_status', RECOVERED)
def test_an_interrupted_job_goes_on_from_its_folder(workchain, ended, exit_status):
    """Whatever ended it, the next attempt has the folder of the last; in half batches if memory was short."""
    process, node = workchain(), ended(exit_status, 'cut')
    inspect(process, node)
    assert process.should_run_process() and process.ctx.verdict is None
    assert process.ctx.inputs['continue_from'].uuid == node.outputs.remote_folder.uuid
    assert options_of(process).get('batch_divisor', 1) == (2 if exit_status in (110, 411) else 1)
    inspect(process, ended(exit_status, 'cut'))
    assert options_of(process).get('batch_divisor', 1) == (4 if exit_status in (110, 411) else 1)


def test_headway_does_not_count(workchain, ended):
    """A job that is stopped again and again goes on as long as more steps are done each time."""
    process = workchain(max_iterations=orm.Int(2))
    for number in range(1, 8):
        inspect(process, ended(410, 'stopped', n_steps=100 * number))
        assert process.should_run_process()
    inspect(process, ended(400, 'killed'))
    assert process.should_run_process()
    inspect(process, ended(410, 'stopped', n_steps=701))  # more than before the one that was killed
    assert process.should_run_process()
    for _ in range(2):
        inspect(process, ended(410, 'stopped', n_steps=701))
    assert not process.should_run_process()
    assert process.ctx.verdict[0] == 720


def test_a_job_given_up_delivers_its_newest_frames(workchain, ended):
    """The outputs are those of the last attempt with frames, the exit code says that they are not all."""
    process = workchain(max_iterations=orm.Int(1))
    node = ended(410, 'stopped by the wall clock', n_steps=0, n_frames=3)
    inspect(process, node)
    assert not process.left_untold_frames()
    exit_code = process.results()
    assert exit_code.status == MaceMdBaseWorkChain.exit_codes.WARNING_NOT_ALL_FRAMES.status == 720
    assert 'stopped by the wall clock' in exit_code.message
    assert process.outputs['manifest'].uuid == node.outputs.manifest.uuid
    assert process.outputs['remote_folder'].uuid == node.outputs.remote_folder.uuid


@pytest.mark.parametrize('n_checkpoints', [0, 2])
def test_frames_that_nobody_told_of_are_collected(workchain, ended, n_checkpoints):
    """A killed job leaves no manifest: its checkpoints are asked; without any there is nothing to deliver."""
    process = workchain(max_iterations=orm.Int(1))
    node = ended(400, 'killed', n_checkpoints=n_checkpoints)
    inspect(process, node)
    assert process.left_untold_frames() == bool(n_checkpoints)
    if n_checkpoints:
        assert process.ctx.untold.uuid == node.outputs.remote_folder.uuid
        process.ctx.collection = ended(0, n_steps=10)
        assert process.results().status == 720
        assert process.outputs['manifest'].uuid == process.ctx.collection.outputs.manifest.uuid
    else:
        assert process.results() == MaceMdBaseWorkChain.exit_codes.ERROR_MAXIMUM_ITERATIONS_EXCEEDED
        assert not process.outputs


def test_an_attempt_cut_at_its_start_is_not_gone_on_from(workchain, ended):
    """It had not yet brought over what the one before left."""
    process, first = workchain(), ended(410, 'stopped', n_steps=10, n_checkpoints=5)
    inspect(process, first)
    inspect(process, ended(140, 'node failed', n_checkpoints=1))
    assert process.ctx.inputs['continue_from'].uuid == first.outputs.remote_folder.uuid
    second = ended(400, 'killed', n_checkpoints=5)
    inspect(process, second)
    assert process.ctx.inputs['continue_from'].uuid == second.outputs.remote_folder.uuid


def test_a_vanished_folder_is_no_crash(workchain, ended):
    """Neither before the next attempt is submitted nor after it found nothing."""
    process, node = workchain(), ended(410, 'stopped', n_steps=10)
    for path in sorted(Path(node.outputs.remote_folder.get_remote_path()).rglob('*'), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    inspect(process, node)
    assert process.should_run_process() and 'continue_from' not in process.ctx.inputs

    inspect(process, ended(410, 'stopped', n_steps=10))
    assert 'continue_from' in process.ctx.inputs
    inspect(process, ended(310, 'missing'))
    assert process.should_run_process() and 'continue_from' not in process.ctx.inputs
    inspect(process, ended(310, 'missing, and nothing was to be there'))
    assert not process.should_run_process() and process.ctx.verdict[0] == 310


@pytest.mark.parametrize(('message', 'status'), [(f'{ALL_BROKE}: 8 of 8', 314), ('the user has enough', 150)])
def test_a_job_stopped_by_a_monitor_is_given_up(workchain, ended, message, status):
    """With a code of its own where all replicas broke; what is there is collected."""
    process = workchain()
    inspect(process, ended(150, message))
    assert not process.should_run_process() and process.left_untold_frames()
    process.ctx.collection = ended(0, n_steps=10)
    exit_code = process.results()
    assert (exit_code.status, exit_code.message) == (status, message)
    assert 'manifest' in process.outputs


@pytest.mark.parametrize('exit_status', [201, 311, 312, 330, 390])
def test_the_reason_of_the_worker_is_passed_on(workchain, ended, exit_status):
    """At the last iteration, too; with the frames, if there are any."""
    process = workchain(max_iterations=orm.Int(1))
    node = ended(exit_status, 'so it is', n_steps=10) if exit_status in (330, 390) else ended(exit_status, 'so it is')
    inspect(process, node)
    assert not process.should_run_process()
    assert process.left_untold_frames() == (exit_status in (201, 312))
    exit_code = process.results()
    assert (exit_code.status, exit_code.message) == (exit_status, 'so it is')
    assert ('manifest' in process.outputs) == (exit_status in (330, 390))


def test_every_job_is_watched(workchain):
    """The monitor is there without a word from the user, and what it is told has a creator."""
    process = workchain(min_broken=orm.Int(3))
    (watch,) = process.ctx.inputs['monitors'].values()
    assert watch['entry_point'] == ENTRY_POINT and watch['kwargs'] == {'min_broken': 3}
    assert watch.creator is not None


# -------------------------------------------------------------------------------------------------------- the monitor


@pytest.mark.parametrize(
    ('done', 'total', 'broken', 'verdict'),
    [(3, 9, 3, True), (2, 9, 2, False), (3, 9, 2, False), (9, 9, 9, False), (0, 9, 0, False)],
)
def test_a_job_whose_replicas_all_broke_is_stopped(localhost, tmp_path, done, total, broken, verdict):
    """From so many on, if no replica ended well and some are still to come."""
    node = orm.CalcJobNode(computer=localhost).store()
    node.set_remote_workdir(str(tmp_path))
    said = {'frames': 5, 'frames_total': 90, 'replicas_done': done, 'replicas_total': total, 'guards_tripped': broken}
    with LocalTransport() as transport:
        assert all_replicas_broke(node, transport, min_broken=3) is None
        (tmp_path / 'progress.json').write_text(json.dumps(said))
        message = all_replicas_broke(node, transport, min_broken=3)
        (tmp_path / 'progress.json').write_text('{"frames": 5, "repl')
        assert all_replicas_broke(node, transport, min_broken=3) is None
    assert (message is not None) == verdict
    assert message is None or (message.startswith(ALL_BROKE) and f'{done} of {done}' in message)


# ----------------------------------------------------------------------------------------------- jobs really killed


@contextmanager
def killer(localhost: orm.Computer, how: signal.Signals, times: int) -> Iterator[list[str]]:
    """Kill the worker of each new MD job once some frames are in a checkpoint, so many times; yield the folders."""
    killed: list[str] = []
    over = threading.Event()
    base = localhost.get_workdir()

    def watch() -> None:
        while not over.is_set() and len(killed) < times:
            for process in psutil.process_iter(['cmdline', 'cwd']):
                folder, command = process.info['cwd'] or '', process.info['cmdline'] or []
                if not folder.startswith(base) or folder in killed or 'md' not in command[-2:]:
                    continue
                if has_saved_frames(Path(folder)):
                    process.send_signal(how)
                    killed.append(folder)
            time.sleep(0.05)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def has_saved_frames(folder: Path) -> bool:
    """Return whether a checkpoint is younger than the news of some frames."""
    progress = folder / 'progress.json'
    if not progress.is_file():
        return False
    told = progress.stat().st_mtime
    checkpoints = (folder / 'checkpoints').glob('r*.npz')
    return json.loads(progress.read_text())['frames'] >= 5 and any(one.stat().st_mtime > told for one in checkpoints)


LONG = {'n_steps': 1500, 'sample_interval': 10, 'checkpoint_interval_s': 0.2}


@pytest.mark.nightly
def test_a_stopped_job_goes_on_and_completes(localhost, job_inputs):
    """All frames are there in the end, each once; the interrupted job no longer counts as the one that explored."""
    inputs = job_inputs(2, **LONG)
    with killer(localhost, signal.SIGTERM, times=1) as killed:
        outputs, node = engine.run_get_node(MaceMdBaseWorkChain, job=inputs)
    assert len(killed) == 1
    assert node.is_finished_ok, node.exit_message
    first, last = (one for one in node.called if one.process_class is MaceMdCalculation)
    assert first.exit_status == 410
    assert last.inputs.continue_from.uuid == first.outputs.remote_folder.uuid
    manifest = read_manifest(outputs['remote_folder'].get_remote_path())
    assert [replica['n_frames'] for replica in manifest['replicas']] == [150, 150]
    assert outputs['manifest']['complete']
    assert explored_seeds(inputs['seeds']) == {'seed-0': [last.pk], 'seed-1': [last.pk]}


@pytest.mark.nightly
def test_a_job_given_up_delivers_what_a_kill_left(localhost, job_inputs):
    """Killed as often as it may be, it ends with its own code, and its frames can be read."""
    with killer(localhost, signal.SIGKILL, times=1):
        outputs, node = engine.run_get_node(MaceMdBaseWorkChain, job=job_inputs(1, **LONG), max_iterations=orm.Int(1))
    assert node.exit_status == 720
    manifest = read_manifest(outputs['remote_folder'].get_remote_path())
    assert 0 < manifest['n_frames'] < 150
    assert not manifest['complete'] and outputs['manifest']['n_frames'] == manifest['n_frames']


@pytest.mark.nightly
def test_a_hopeless_job_is_stopped(localhost, job_inputs):
    """Every replica breaks; after a few of them the job is killed, and it ends with its own code and its frames."""
    guards = GuardParameters(energy_window_eV=0.01, n_drop=0)
    inputs = job_inputs(60, supercell_atoms=64, n_steps=200, sample_interval=1, guards=guards)
    watch = orm.Dict({'entry_point': ENTRY_POINT, 'kwargs': {'min_broken': 2}})
    outputs, node = engine.run_get_node(MaceMdBaseWorkChain, job={**inputs, 'monitors': {'watch': watch}})
    assert node.exit_status == MaceMdBaseWorkChain.exit_codes.ERROR_ALL_REPLICAS_BROKE.status, node.exit_message
    assert ALL_BROKE in node.exit_message
    first, *others = (one for one in node.called if one.process_class is MaceMdCalculation)
    assert first.exit_status == 150 and len(others) <= 1
    broken = [replica for replica in outputs['manifest']['replicas'] if replica['guard']]
    assert 2 <= len(broken) < 60
    assert outputs['manifest']['n_frames'] > 0
