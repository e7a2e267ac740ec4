"""Jobs through a real Slurm: the GPU is handed out, and MD that was stopped in the middle goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiida import engine, orm
from aiida.engine.processes import control
from aiida.schedulers import JobState
from ase.build import bulk

from aiida_mlip_autopipe.calculations.mace_md import MaceMdCalculation
from aiida_mlip_autopipe.config import ConfigExpander
from aiida_mlip_autopipe.config.schema import JobOptions
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.science.frames import read_manifest
from aiida_mlip_autopipe.science.parameters import DynamicsParameters
from aiida_mlip_autopipe.worker.files import PROGRESS_FILE
from aiida_mlip_autopipe.workflows.exploration.mace_md_base import MaceMdBaseWorkChain
from tests.support.faults import LIMIT_S, frames_of, wait_for

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'gpu_computer'
ONE_GPU = yaml.safe_load((EXAMPLE / 'gpu.yaml').read_text())
SHORT = DynamicsParameters(temperatures_K=[300.0], n_steps=10, sample_interval=1, engine='ase', random_seed=3)
LONG = DynamicsParameters(
    temperatures_K=[300.0, 600.0], n_steps=200, sample_interval=5, engine='ase', n_processes=1, random_seed=3
)
WALLCLOCK_S = 45


@pytest.fixture(scope='module')
def daemon_profile(slurm, aiida_config, daemon_profile) -> Any:
    """Return the profile; the daemon knows the Slurm, and gives up early on what Slurm refuses."""
    options = {'transport.task_retry_initial_interval': 1, 'transport.task_maximum_attempts': 3}
    before = {name: aiida_config.get_option(name) for name in options}
    for name, value in options.items():
        aiida_config.set_option(name, value)
    aiida_config.store()
    yield daemon_profile
    for name, value in before.items():
        aiida_config.set_option(name, value)
    aiida_config.store()


@pytest.fixture(scope='module')
def potential(daemon_profile, tiny_potential) -> PotentialData:
    """Return the tiny potential as a node."""
    from aiida_mlip_autopipe.science.potential import inspect_potential

    return PotentialData.from_file(tiny_potential, inspect_potential(tiny_potential), origin='file').store()


@pytest.fixture
def md_inputs(slurm_worker_code, potential) -> Callable[..., dict[str, Any]]:
    """Return ``md_inputs(parameters, **options)``: the inputs of an MD job of one seed."""

    def factory(parameters: DynamicsParameters, **options: Any) -> dict[str, Any]:
        atoms = bulk('Si', 'diamond', a=5.43)
        atoms.rattle(0.03, seed=1)
        atoms.info.update(frame_id='seed-1', origin='seed-1', config_type='seed')
        return {
            'code': slurm_worker_code,
            'potential': potential,
            'seeds': FramesData.from_atoms([atoms]),
            'parameters': orm.Dict(parameters.model_dump(mode='json')),
            'metadata': {'options': {'max_wallclock_seconds': 600, **options}},
        }

    return factory


def holding(name: str) -> str:
    """Return shell lines that write what the job sees and when, and wait for the file ``go``."""
    return f'echo "$CUDA_VISIBLE_DEVICES $(date +%s.%N)" > {name}\nwhile [ ! -e go ]; do sleep 0.1; done'


@pytest.mark.nightly
def test_the_gpu_is_handed_out_to_one_job_after_the_other(slurm, md_inputs, submit_and_wait):
    """A job that asks for the GPU sees it; a second one waits until the first has ended, though there are CPUs."""
    options = {
        **ONE_GPU,
        'prepend_text': holding('seen.txt'),
        'append_text': 'date +%s.%N > ended.txt',
        'additional_retrieve_list': ['seen.txt', 'ended.txt'],
    }
    first = engine.submit(MaceMdCalculation, **md_inputs(SHORT, **options))
    wait_for(lambda: first.get_scheduler_state() is JobState.RUNNING, 'the first job runs')
    second = engine.submit(MaceMdCalculation, **md_inputs(SHORT, **options))
    wait_for(lambda: second.get_scheduler_state() is JobState.QUEUED, 'the second job is queued')
    wait_for(lambda: slurm.jobs()[second.get_job_id()] == ('PENDING', 'Resources'), 'the second job waits')
    assert slurm.jobs()[first.get_job_id()][0] == 'RUNNING'
    for node in (first, second):
        Path(node.get_remote_workdir(), 'go').touch()
    for node in (first, second):
        submit_and_wait(node, timeout=LIMIT_S)
        assert node.is_finished_ok, node.exit_message
        assert node.outputs.manifest['n_frames'] == SHORT.n_steps
    devices, times = zip(*(written(node, 'seen.txt') for node in (first, second)), strict=True)
    assert devices == ('0', '0')
    assert float(times[1]) > float(*written(first, 'ended.txt'))


def test_the_input_of_the_example_asks_for_the_same():
    """The input is valid, and all worker jobs get the options that the doctor was given."""
    expansion = ConfigExpander(EXAMPLE / 'input.yaml').expand(recommended={'Si': (16.0, 64.0)})
    assert expansion.configuration.options.worker == JobOptions(**ONE_GPU)


def written(node: orm.CalcJobNode, name: str) -> list[str]:
    """Return the words in a file that came back from a job."""
    return node.outputs.retrieved.base.repository.get_object_content(name).split()


def test_more_gpus_than_a_node_has_are_refused(slurm, md_inputs, daemon):
    """Nothing is queued; the process waits for a hand, and its log has Slurm's own words."""
    node = engine.submit(MaceMdCalculation, **md_inputs(SHORT, custom_scheduler_commands='#SBATCH --gres=gpu:2'))
    wait_for(lambda: node.paused, 'the process is paused')
    assert slurm.jobs() == {}
    assert node.get_job_id() is None
    log = '\n'.join(entry.message for entry in orm.Log.collection.get_logs_for(node))
    assert 'Requested node configuration is not available' in log
    assert 'submit_calculation' in node.process_status
    control.kill_processes([node], timeout=60)
    wait_for(lambda: node.is_terminated, 'the process is killed')


@pytest.mark.nightly
def test_md_goes_on_after_its_wall_clock(slurm, md_inputs, submit_and_wait):
    """The time runs out in the middle: the job leaves a checkpoint, the next one goes on, each frame is there once.

    The job is held still until its time is over, so that it is in the middle however fast the machine is.
    """
    node = engine.submit(MaceMdBaseWorkChain, job=md_inputs(LONG, max_wallclock_seconds=WALLCLOCK_S))
    job = job_with_frames(node)
    slurm.command('scontrol', 'suspend', job)
    time.sleep(WALLCLOCK_S)
    slurm.command('scontrol', 'resume', job)
    submit_and_wait(node, timeout=LIMIT_S)
    assert_continued(node)


@pytest.mark.nightly
def test_md_goes_on_after_a_signal(slurm, md_inputs, submit_and_wait):
    """Slurm's SIGTERM to all processes of a job, as before it kills them: there is time to leave a checkpoint.

    Two replicas are on their way, the others wait.
    """
    parameters = LONG.model_copy(update={'temperatures_K': [300.0 + 50.0 * i for i in range(6)], 'n_processes': 2})
    node = engine.submit(MaceMdBaseWorkChain, job=md_inputs(parameters))
    slurm.command('scancel', '--signal=TERM', '--full', job_with_frames(node))
    submit_and_wait(node, timeout=LIMIT_S)
    assert_continued(node)


def jobs_of(node: orm.WorkChainNode) -> list[orm.CalcJobNode]:
    """Return the jobs of an MD WorkChain, in the order in which it submitted them."""
    return sorted((child for child in node.called if isinstance(child, orm.CalcJobNode)), key=lambda job: job.pk)


def job_with_frames(node: orm.WorkChainNode) -> str:
    """Return the Slurm job of an MD WorkChain, as soon as it has written a frame."""

    def running() -> str | None:
        jobs = jobs_of(node)
        if not jobs:
            return None
        job = jobs[-1]
        progress = Path(job.get_remote_workdir() or '/nowhere', PROGRESS_FILE)
        frames = json.loads(progress.read_text())['frames'] if progress.is_file() else 0
        return job.get_job_id() if frames and not job.is_terminated else None

    return wait_for(running, 'the job writes frames')


def assert_continued(node: orm.WorkChainNode) -> None:
    """Check that interrupted jobs were gone on from, and that each frame is there exactly once."""
    assert node.is_finished_ok, node.exit_message
    jobs = jobs_of(node)
    assert len(jobs) >= 2
    assert {job.exit_status for job in jobs[:-1]} == {MaceMdCalculation.exit_codes.ERROR_NOT_COMPLETE.status}
    assert jobs[-1].inputs.continue_from.uuid in {job.outputs.remote_folder.uuid for job in jobs[:-1]}
    assert 0 < n_steps(jobs[-2]) < n_steps(jobs[-1])

    parameters = jobs[0].inputs.parameters
    every = list(range(parameters['sample_interval'], parameters['n_steps'] + 1, parameters['sample_interval']))
    folder = Path(node.outputs.remote_folder.get_remote_path())
    replicas = range(len(parameters['temperatures_K']))
    assert {replica: steps for replica, (steps, _) in frames_of(folder).items()} == dict.fromkeys(replicas, every)
    assert node.outputs.manifest['n_frames'] == read_manifest(folder)['n_frames'] == len(replicas) * len(every)


def n_steps(job: orm.CalcJobNode) -> int:
    """Return the steps that all replicas have done by the end of a job."""
    return sum(replica['n_steps'] for replica in job.outputs.manifest['replicas'])
