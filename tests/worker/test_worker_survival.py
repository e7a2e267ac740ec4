"""MD jobs that are killed, stopped, short of disk space or robbed of their folder: what is left, how they go on."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import psutil
import pytest
from ase.build import bulk

from aiida_mlip_autopipe.science.dynamics.recorder import Record, checkpoint_path
from aiida_mlip_autopipe.science.frames import iter_chunks, read_manifest, write_extxyz
from aiida_mlip_autopipe.worker.job import run_job
from tests.support.faults import (
    EVERY,
    INTERVAL,
    LIMIT_S,
    MD,
    assert_all_of,
    assert_beginning_of,
    fill,
    flip_a_bit,
    frames_of,
    has_pending,
    in_the_middle,
    md_processes,
    saved_frames,
    small_disk,
    wait_for,
    without_numbers,
)
from tests.support.potentials import tiny_potential as tiny_potential_of

HERE = MD | {'n_processes': 1}


def write_job(folder, potential, parameters, arguments=None, **files):
    """Write seed and input of an MD job into a folder; return the path of the input."""
    folder.mkdir(exist_ok=True)
    seed = bulk('Si')
    seed.info = {'frame_id': 'seed-00000001', 'origin': 'seed-00000001', 'config_type': 'seed'}
    write_extxyz(folder / 'seeds.xyz', [seed])
    content = {'schema_version': 1, 'stage': 'md', 'job': '12345678', 'parameters': parameters,
               'files': {'potential': str(potential), 'seeds': 'seeds.xyz', **{k: str(v) for k, v in files.items()}},
               'arguments': arguments or {}}  # fmt: skip
    (folder / 'input.json').write_text(json.dumps(content))
    return folder / 'input.json'


def run_here(folder, potential, parameters=HERE, arguments=None, **files):
    """Run an MD job in this process; return its result."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        run_job('md', write_job(folder, potential, parameters, arguments, **files))
    finally:
        signal.signal(signal.SIGTERM, before)
    return json.loads((folder / 'result.json').read_text())


class Worker:
    """A worker in processes of its own."""

    def __init__(self, folder, potential, parameters=MD):
        path = write_job(folder, potential, parameters)
        self.folder = folder
        self.log = folder.with_name(f'{folder.name}.log')
        with self.log.open('wb') as log:
            self.process = subprocess.Popen(
                [sys.executable, '-m', 'aiida_mlip_autopipe.worker', 'md', path.name],
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, 'OMP_NUM_THREADS': '1'},
            )
        self.family = []

    def reach_the_middle(self):
        """Wait until a replica is on its way."""

        def event():
            assert self.process.poll() is None, f'the worker ended too early: {self.log.read_text()}'
            return in_the_middle(self.folder)

        wait_for(event, 'a replica is in the middle')
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def clear(self):
        """Kill what is left."""
        for process in (self.process, *self.family):
            with suppress(psutil.NoSuchProcess):  # both kinds make sure that it is still the same process
                process.kill()
        self.process.wait(LIMIT_S)

    def end(self):
        """Wait until the worker and all its processes have ended; return the result."""
        self.process.wait(LIMIT_S)
        psutil.wait_procs(self.family, LIMIT_S)
        assert not any(process.is_running() for process in self.family)
        return json.loads((self.folder / 'result.json').read_text())


@pytest.fixture
def start(tiny_potential, tmp_path):
    """Return a function that starts a worker and kills what is left of it in the end."""
    workers = []

    def function(folder=tmp_path / 'job', parameters=MD):
        workers.append(Worker(folder, tiny_potential, parameters))
        workers[-1].reach_the_middle()
        return workers[-1]

    yield function
    for worker in workers:
        worker.clear()


@pytest.fixture(scope='module')
def completed(tiny_potential, tmp_path_factory):
    """Return the folder of a job that nothing interrupted; copy it before use."""
    folder = tmp_path_factory.mktemp('whole')
    result = run_here(folder, tiny_potential)
    assert result['status'] == 'ok' and result['outputs']['complete'], result['error']
    return folder


@pytest.fixture(scope='module')
def whole(completed):
    """Return the frames of a run that nothing interrupts."""
    frames = frames_of(completed)
    assert [steps for steps, _ in frames.values()] == [EVERY, EVERY]
    return frames


@pytest.fixture
def assert_continues(tiny_potential, tmp_path, whole):
    """Return a function: a job that goes on from a folder ends with the frames of an uninterrupted run."""

    def function(parent):
        folder = tmp_path / 'next'
        result = run_here(folder, tiny_potential, parent=parent)
        assert result['status'] == 'ok' and result['outputs']['complete'], result['error']
        assert read_manifest(folder)['n_frames'] == result['outputs']['n_frames'] == 2 * len(EVERY)
        assert_all_of(folder, whole)

    return function


def assert_interrupted(result, folder, whole):
    """Check the result of a job that was stopped in the middle, and the frames it left."""
    assert result['status'] == 'ok', result['error']
    assert not result['outputs']['complete']
    manifest = read_manifest(folder)
    assert 'interrupted' in [replica['ended'] for replica in manifest['replicas']]
    assert 0 < manifest['n_frames'] == result['outputs']['n_frames'] < 2 * len(EVERY)
    assert_beginning_of(folder, whole)


def error_of(result):
    """Return code and message of a job that failed."""
    assert result['status'] == 'error'
    return result['error']['code'], result['error']['message']


# ------------------------------------------------------------------------------------------------- killed, not stopped


def stop_in_the_middle(worker):
    """Stop both processes of a worker, each in the middle of its replica; return them by replica."""
    processes = md_processes(worker.process.pid)
    for process in processes:
        stop(process)
    before = checkpoints(worker.folder)
    processes[0].resume()  # which replica has it?
    wait_for(lambda: checkpoints(worker.folder) != before, 'the first process writes a checkpoint')
    stop(processes[0])
    ((owner, _),) = checkpoints(worker.folder) - before
    if not saved_frames(worker.folder).get(1 - owner):
        processes[1].resume()
        wait_for(lambda: saved_frames(worker.folder).get(1 - owner), 'the second process saves frames')
        stop(processes[1])
    return {owner: processes[0], 1 - owner: processes[1]}


def stop(process):
    """Stop a process and wait until it stands still."""
    process.suspend()
    wait_for(lambda: process.status() == psutil.STATUS_STOPPED, 'the process stands still')


def checkpoints(folder):
    """Return the replicas that have a checkpoint, each with its time."""
    paths = [(index, checkpoint_path(folder, index)) for index in range(2)]
    return {(index, path.stat().st_mtime_ns) for index, path in paths if path.exists()}


def test_a_killed_md_process_stops_the_others(start, whole, assert_continues):
    """The worker ends by itself; the replica of the process that lived is saved where it was.

    The process started last is killed: the pool does not see the end of that one by itself.
    """
    worker = start()
    processes = stop_in_the_middle(worker)
    victim = max(processes, key=lambda replica: processes[replica].create_time())
    other = 1 - victim
    steps = {replica: Record.read(worker.folder, replica).facts['step'] for replica in processes}
    assert all(0 < step < EVERY[-1] for step in steps.values())
    processes[victim].kill()
    wait_for(lambda: has_pending(processes[other], signal.SIGTERM), 'the other process is told to end')
    processes[other].resume()
    result = worker.end()
    assert_interrupted(result, worker.folder, whole)
    replicas = read_manifest(worker.folder)['replicas']
    assert [replica['ended'] for replica in replicas] == ['interrupted', 'interrupted']
    assert replicas[victim]['n_steps'] == steps[victim] and replicas[other]['n_steps'] > steps[other]
    assert_continues(worker.folder)


@pytest.fixture(scope='module')
def killed(tiny_potential, tmp_path_factory):
    """Return the folder of a job whose worker was killed; its processes ended by themselves. Copy it before use.

    The last checkpoint of a replica in the middle is some time ago: there are frames after it.
    """
    folder = tmp_path_factory.mktemp('killed')
    (folder / 'result.json').write_text('{"status": "ok"}')  # of an earlier attempt
    worker = Worker(folder, tiny_potential, MD)
    try:
        worker.reach_the_middle()
        replica = begun_replica(folder)
        early = checkpoint_path(folder, replica).read_bytes()
        n_frames = saved_frames(folder)[replica]
        wait_for(lambda: saved_frames(folder)[replica] > n_frames, 'more frames')
        worker.process.kill()
        psutil.wait_procs(worker.family, LIMIT_S)
        assert not any(process.is_running() for process in worker.family)
    finally:
        worker.clear()
    checkpoint_path(folder, replica).write_bytes(early)
    assert not (folder / 'result.json').exists() and not (folder / 'manifest.json').exists()
    return folder


def begun_replica(folder):
    """Return the index of the replica that is farthest on its way."""
    on_their_way = {replica: n for replica, n in saved_frames(folder).items() if n < len(EVERY)}
    return max(on_their_way, key=lambda replica: on_their_way[replica])


def test_frames_of_a_killed_job_are_collected(killed, tiny_potential, tmp_path, whole, assert_continues):
    """Those after the last checkpoint, too; going on from the collection counts none of them twice."""
    result = run_here(tmp_path / 'collected', tiny_potential, arguments={'collect_only': True}, parent=killed)
    assert_interrupted(result, tmp_path / 'collected', whole)
    assert result['outputs']['n_frames'] >= sum(saved_frames(killed).values())
    assert_continues(tmp_path / 'collected')


def test_a_requeued_job_goes_on(killed, tiny_potential, tmp_path, whole):
    """The scheduler starts the same job once more in the same folder."""
    folder = shutil.copytree(killed, tmp_path / 'job')
    first = folder / f'shards/r{begun_replica(folder):03d}.0.h5'
    written = first.stat().st_mtime_ns
    result = run_here(folder, tiny_potential)
    assert result['status'] == 'ok' and result['outputs']['complete'], result['error']
    assert read_manifest(folder)['n_frames'] == 2 * len(EVERY)
    assert_all_of(folder, whole)
    assert first.stat().st_mtime_ns == written


def test_another_potential_is_no_way_to_go_on(killed, tiny_potential, tmp_path):
    """Frames of two potentials are not one trajectory."""
    other = tiny_potential_of(tmp_path, seed=1)
    for potential, committee in [(other, []), (tiny_potential, [str(other)])]:
        folder = tmp_path / f'of-{len(committee)}'
        path = write_job(folder, potential, HERE, {'collect_only': True}, parent=killed)
        content = json.loads(path.read_text())
        content['files'] |= {'committee': committee} if committee else {}
        path.write_text(json.dumps(content))
        assert run_job('md', path) == 1
        code, message = error_of(json.loads((folder / 'result.json').read_text()))
        assert code == 'NO_FRAMES' and 'holds no frame of these replicas' in message


# ------------------------------------------------------------------------------------------------------------ stopped


def test_a_signal_leads_to_a_checkpoint(start, whole, assert_continues):
    """Sent to the worker alone, it reaches the processes that run the replicas."""
    worker = start()
    worker.process.send_signal(signal.SIGTERM)
    result = worker.end()
    assert worker.process.returncode == 0
    assert_interrupted(result, worker.folder, whole)
    assert_continues(worker.folder)


def test_a_job_ends_before_its_wall_clock(tiny_potential, tmp_path, whole, assert_continues):
    """One that was to go on from a folder that vanished begins anew, and is stopped in turn."""
    vanished, folder = tmp_path / 'vanished', tmp_path / 'job'
    result = run_here(folder, tiny_potential, arguments={'wallclock_s': 0.5}, parent=vanished)
    assert result['status'] == 'ok' and not result['outputs']['complete']
    assert result['outputs']['n_frames'] < 2 * len(EVERY)
    assert_beginning_of(folder, whole)
    assert_continues(folder)


# ------------------------------------------------------------------------------------------------ disks and their files


def test_a_full_disk(start, tiny_potential, tmp_path, whole, assert_continues):
    """The error is told, what was saved before is told, and another folder takes it up."""
    with small_disk(tmp_path / 'disk', megabytes=12) as disk:
        worker = start(disk / 'job', HERE)
        saved = saved_frames(worker.folder)
        fill(disk)
        code, message = error_of(worker.end())
        assert code == 'DISK_FULL' and 'No space left' in message
        manifest = read_manifest(worker.folder)
        assert not manifest['complete'] and manifest['n_frames'] >= sum(saved.values())
        copy = shutil.copytree(worker.folder, tmp_path / 'copy')
        assert read_manifest(copy) == manifest
        assert_beginning_of(copy, whole)
        assert_continues(worker.folder)


def test_a_disk_that_is_full_from_the_start(tiny_potential, tmp_path):
    with small_disk(tmp_path / 'disk', megabytes=1) as disk:
        code, _ = error_of(run_here(disk, tiny_potential))
        assert code == 'DISK_FULL'


def test_a_vanished_folder(start, tmp_path):
    """The job ends and says so."""
    worker = start(parameters=HERE)
    worker.folder.rename(tmp_path / 'gone')
    shutil.rmtree(tmp_path / 'gone')
    code, message = error_of(worker.end())
    assert code == 'SCRATCH_MISSING' and f'vanished from {worker.folder}' in message


def test_shards_that_vanished(completed, tiny_potential, tmp_path, caplog):
    """A requeued job does not count what is gone from its own folder, and leaves the other replica as it is."""
    folder = shutil.copytree(completed, tmp_path / 'job')
    for shard in folder.glob('shards/r000.*'):
        shard.unlink()
    result = run_here(folder, tiny_potential, arguments={'wallclock_s': 1e-6})
    assert result['outputs']['n_frames'] == len(EVERY) and not result['outputs']['complete']
    assert [replica['ended'] for replica in read_manifest(folder)['replicas']] == ['waiting', 'completed']
    assert 'replica 0 is started again' in caplog.text and 'the scratch folder was cleaned' in caplog.text


def test_a_corrupt_shard_is_made_again(completed, tmp_path, caplog, assert_continues):
    """One bit in the middle of a finished shard; the other replica stays as it is."""
    folder = shutil.copytree(completed, tmp_path / 'job')
    flip_a_bit(folder / 'shards/r000.1.h5')
    assert_continues(folder)
    assert 'replica 0 is started again' in caplog.text and 'replica 1' not in caplog.text
    assert (tmp_path / 'next/shards/r001.0.h5').samefile(folder / 'shards/r001.0.h5')
    assert not (tmp_path / 'next/shards/r000.0.h5').samefile(folder / 'shards/r000.0.h5')


def test_a_corrupt_checkpoint_is_no_start(killed, tiny_potential, tmp_path, caplog, whole):
    """Its replica is begun anew; its frames can still be collected."""
    folder = shutil.copytree(killed, tmp_path / 'job')
    replica = begun_replica(folder)
    path = checkpoint_path(folder, replica)
    content = bytearray(path.read_bytes())
    for damaged in (content[: len(content) // 2], content[:200] + bytes([content[200] ^ 1]) + content[201:], b''):
        path.write_bytes(damaged)
        assert Record.read(folder, replica) is None
        assert f'the checkpoint {path} is not used' in caplog.text
        caplog.clear()
    run_here(tmp_path / 'collected', tiny_potential, arguments={'collect_only': True}, parent=folder)
    assert_beginning_of(tmp_path / 'collected', whole)


# ------------------------------------------------------------------------------------------ potentials without numbers


def test_a_potential_that_yields_no_numbers(tiny_potential, tmp_path):
    """Each replica is ended by its guard; the manifest of an earlier attempt does not pass for one."""
    broken = without_numbers(tiny_potential, tmp_path / 'broken.model')
    (tmp_path / 'job').mkdir()
    (tmp_path / 'job/manifest.json').write_text('{}')
    code, message = error_of(run_here(tmp_path / 'job', broken))
    assert code == 'NO_FRAMES' and 'finite_forces (2)' in message
    assert not (tmp_path / 'job/manifest.json').exists()


def test_a_committee_member_that_yields_no_numbers(tiny_potential, tmp_path):
    """It spoils nothing but the disagreement, which is not a number and never a reason to go on."""
    without_numbers(tiny_potential, tmp_path / 'broken.model')
    parameters = HERE | {'early_stop': {'min_disagreement_eV_A': 1e-9, 'chunk_frames': 2, 'patience': 2}}
    path = write_job(tmp_path / 'job', tiny_potential, parameters)
    content = json.loads(path.read_text())
    content['files']['committee'] = [str(tmp_path / 'broken.model')]
    path.write_text(json.dumps(content))
    assert run_job('md', path) == 0
    manifest = read_manifest(tmp_path / 'job')
    assert manifest['complete'] and [replica['ended'] for replica in manifest['replicas']] == ['nothing_new'] * 2
    (chunk, other) = iter_chunks([tmp_path / 'job'])
    assert len(chunk) == len(other) == 4 and chunk.steps.tolist() == EVERY[:4] == [INTERVAL * i for i in range(1, 5)]
    assert np.isnan(chunk.disagreements).all() and np.isfinite(chunk.positions).all()
