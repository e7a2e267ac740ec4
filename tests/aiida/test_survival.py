"""MD jobs that are killed, stopped, short of disk space or robbed of their folder: exit codes, manifests, restarts."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
import pytest
from aiida import engine, orm
from ase.build import bulk

from aiida_mlip_autopipe.calculations.mace_md import MaceMdCalculation
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.science.frames import read_manifest
from aiida_mlip_autopipe.workflows.exploration.mace_md_base import MaceMdBaseWorkChain
from tests.support.faults import EVERY, MD, fill, frames_of, in_the_middle, small_disk, wait_for, without_numbers


class Fault(threading.Thread):
    """Harms the first job that comes to the middle of its replicas in the folder of a computer.

    Use it as a context manager around whatever submits the job.
    """

    def __init__(self, computer: orm.Computer, harm: Callable[[Path], None]) -> None:
        super().__init__(daemon=True)
        self._root = Path(computer.get_workdir())
        self._before = set(self._folders())
        self._harm = harm
        self._error: BaseException | None = None

    def _folders(self) -> list[Path]:
        return list(self._root.glob('*/*/*'))

    def run(self) -> None:
        """Wait for the job and harm it."""
        try:
            self._harm(wait_for(self._victim, 'a job is in the middle'))
        except BaseException as error:
            self._error = error

    def _victim(self) -> Path | None:
        return next((path for path in self._folders() if path not in self._before and in_the_middle(path)), None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self.join()
            if self._error is not None:
                raise self._error


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return the processes of the job in a folder."""
    return [process for process in psutil.process_iter(['cwd']) if process.info['cwd'] == str(folder.resolve())]


def kill(folder: Path) -> None:
    """Kill all processes of the job in a folder at once, its shell among them."""
    (group,) = {os.getpgid(process.pid) for process in processes_in(folder)}
    assert group != os.getpgrp()
    os.killpg(group, signal.SIGKILL)


def terminate(folder: Path) -> None:
    """Send the signal to end to all processes but the shell: without a scheduler its end is that of the job."""
    for process in processes_in(folder):
        if process.name() != 'bash':
            process.terminate()


def remove(folder: Path) -> None:
    """Remove a folder at once, whoever writes to it."""
    gone = folder.with_name('gone')
    folder.rename(gone)
    shutil.rmtree(gone)


@pytest.fixture(scope='module')
def potential(aiida_profile, tiny_potential) -> PotentialData:
    """Return the tiny potential as a node."""
    return potential_of(tiny_potential, tiny_potential)


def potential_of(path: Path, like: Path) -> PotentialData:
    """Return a file as a potential that says of itself what another one says."""
    from aiida_mlip_autopipe.science.potential import inspect_potential

    return PotentialData.from_file(path, inspect_potential(like), origin='file').store()


@pytest.fixture(scope='module')
def seeds(aiida_profile) -> FramesData:
    """Return a seed of two atoms."""
    atoms = bulk('Si')
    atoms.info.update(frame_id='seed-1', origin='seed-1', config_type='seed')
    return FramesData.from_atoms([atoms]).store()


@pytest.fixture
def job_inputs(installed_worker_code, potential, seeds) -> Callable[..., dict[str, Any]]:
    """Return ``job_inputs(n_processes=1, options=None, **inputs)``: the inputs of an MD job of two replicas."""

    def factory(n_processes: int = 1, options: dict[str, Any] | None = None, **inputs: Any) -> dict[str, Any]:
        given = {
            'code': installed_worker_code,
            'potential': potential,
            'seeds': seeds,
            'parameters': orm.Dict(MD | {'n_processes': n_processes}),
            'metadata': {'options': options or {}},
        }
        return given | inputs

    return factory


def run_job(inputs: dict[str, Any]) -> orm.CalcJobNode:
    """Run an MD job in this interpreter."""
    return engine.run_get_node(MaceMdCalculation, **inputs)[1]


def folder_of(node: orm.ProcessNode) -> Path:
    """Return the folder of a job, or of the job whose outputs a WorkChain gives."""
    return Path(node.outputs.remote_folder.get_remote_path())


def assert_ended(node: orm.CalcJobNode, name: str, status: int) -> None:
    """Check the exit code of a job."""
    assert node.exit_status == status == MaceMdCalculation.exit_codes[name].status, node.exit_message


def assert_manifest_of_a_part(node: orm.CalcJobNode) -> None:
    """Check that a job that did not finish tells of the frames that it left."""
    manifest = node.outputs.manifest.get_dict()
    assert not manifest['complete'] and 0 < manifest['n_frames'] < 2 * len(EVERY)
    assert manifest['n_frames'] == read_manifest(folder_of(node))['n_frames']
    assert_beginnings(folder_of(node))


def assert_beginnings(folder: Path) -> None:
    """Check that each replica has its first frames, each once."""
    for steps, _ in frames_of(folder).values():
        assert steps == EVERY[: len(steps)]


def assert_complete(node: orm.ProcessNode) -> None:
    """Check that a job has all frames of both replicas, each once."""
    assert node.is_finished_ok, node.exit_message
    assert node.outputs.manifest['complete'] and node.outputs.manifest['n_frames'] == 2 * len(EVERY)
    assert read_manifest(folder_of(node))['n_frames'] == 2 * len(EVERY)
    assert [steps for steps, _ in frames_of(folder_of(node)).values()] == [EVERY, EVERY]


@pytest.mark.nightly
def test_a_stopped_job_is_gone_on_from(localhost, job_inputs):
    """A signal to all its processes: the job has the time to say what it left, and the next one takes it up."""
    with Fault(localhost, terminate):
        stopped = run_job(job_inputs(n_processes=2))
    assert_ended(stopped, 'ERROR_NOT_COMPLETE', 410)
    assert_manifest_of_a_part(stopped)
    left = frames_of(folder_of(stopped))

    finished = run_job(job_inputs(continue_from=stopped.outputs.remote_folder))
    assert_complete(finished)
    for replica, (_, positions) in frames_of(folder_of(finished)).items():
        if replica in left:
            np.testing.assert_array_equal(positions[: len(left[replica][1])], left[replica][1])


def test_the_base_goes_on_after_a_kill(localhost, job_inputs):
    """All processes of the MD are killed without a warning; the WorkChain ends as if nothing had been."""
    with Fault(localhost, kill):
        _, base = engine.run_get_node(MaceMdBaseWorkChain, job=job_inputs())
    assert_complete(base)
    killed, finished = sorted(
        (node for node in base.called if isinstance(node, orm.CalcJobNode)), key=lambda node: node.pk
    )
    assert_ended(killed, 'ERROR_INCOMPLETE', 400)
    assert 'manifest' not in killed.outputs
    assert finished.inputs.continue_from.uuid == killed.outputs.remote_folder.uuid
    first = folder_of(killed) / 'shards/r000.0.h5'
    assert (folder_of(finished) / 'shards/r000.0.h5').samefile(first)  # taken up, not made again

    collected = run_job(job_inputs(options={'collect_only': True}, continue_from=killed.outputs.remote_folder))
    assert_ended(collected, 'ERROR_NOT_COMPLETE', 410)
    assert_manifest_of_a_part(collected)


def test_a_full_disk(aiida_profile, tmp_path, job_inputs):
    """The exit code names it, and the frames are told."""
    with small_disk(tmp_path / 'disk', megabytes=12) as disk:
        computer = orm.Computer(
            label=f'small-{tmp_path.name}',
            hostname='localhost',
            transport_type='core.local',
            scheduler_type='core.direct',
            workdir=str(disk),
        ).store()
        computer.configure(safe_interval=0)
        computer.set_minimum_job_poll_interval(0.2)
        computer.set_default_mpiprocs_per_machine(1)
        code = orm.InstalledCode(
            label='mlip-worker',
            computer=computer,
            filepath_executable=str(Path(sys.executable).with_name('mlip-autopipe-worker')),
            prepend_text='export OMP_NUM_THREADS=1',
        ).store()
        with Fault(computer, lambda folder: fill(disk)):
            node = run_job(job_inputs(code=code))
        assert_ended(node, 'ERROR_DISK_FULL', 330)
        assert 'No space left' in node.exit_message
        assert_manifest_of_a_part(node)


def test_a_vanished_folder(localhost, job_inputs):
    """The job ends with an exit code of its own, and is never taken from the cache."""
    with Fault(localhost, remove):
        node = run_job(job_inputs())
    assert_ended(node, 'ERROR_SCRATCH_MISSING', 310)
    assert 'vanished' in node.exit_message and 'manifest' not in node.outputs
    assert not MaceMdCalculation.is_valid_cache(node)


def test_a_potential_that_yields_no_numbers(tiny_potential, tmp_path, job_inputs):
    """Each replica is ended by its guard; nothing is left."""
    broken = potential_of(without_numbers(tiny_potential, tmp_path / 'nan.model'), tiny_potential)
    node = run_job(job_inputs(potential=broken))
    assert_ended(node, 'ERROR_NO_FRAMES', 311)
    assert 'finite_forces (2)' in node.exit_message and 'manifest' not in node.outputs


def test_a_potential_that_is_none(tiny_potential, tmp_path, job_inputs):
    """A file that was damaged on its way."""
    (tmp_path / 'cut.model').write_bytes(tiny_potential.read_bytes()[:1000])
    node = run_job(job_inputs(potential=potential_of(tmp_path / 'cut.model', tiny_potential)))
    assert_ended(node, 'ERROR_POTENTIAL_UNUSABLE', 312)
