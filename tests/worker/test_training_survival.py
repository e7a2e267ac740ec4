"""A training whose worker is killed: what is left, and how the next one goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from aiida_mlip_autopipe.science.frames import write_extxyz
from aiida_mlip_autopipe.science.parameters import TrainingParameters
from aiida_mlip_autopipe.science.potential.training_files import read_results
from aiida_mlip_autopipe.science.training import split_by_origin
from aiida_mlip_autopipe.worker.job import run_job
from tests.support.faults import LIMIT_S, wait_for
from tests.support.labels import labelled_silicon

N_EPOCHS = 25
PARAMETERS = TrainingParameters(num_channels=4, correlation=1, num_interactions=1, max_ell=1, r_max=4.0, batch_size=1,
                                n_steps=6 * N_EPOCHS, max_continuations=0, swa_fraction=0.5)  # fmt: skip


def write_job(folder, labelled, **files):
    """Write sets and input of a training job into a folder; return the path of the input."""
    folder.mkdir()
    for name, indices in zip(('training', 'validation'), split_by_origin(labelled, 0.25, 0), strict=True):
        write_extxyz(folder / f'{name}.xyz', [labelled[index] for index in indices])
    content = {
        'schema_version': 1,
        'stage': 'train',
        'job': '12345678',
        'parameters': PARAMETERS.model_dump(mode='json'),
        'files': {'training': 'training.xyz', 'validation': 'validation.xyz', **files},
        'arguments': {},
    }
    (folder / 'input.json').write_text(json.dumps(content))
    return folder / 'input.json'


def evaluated(folder):
    """Return the loss of each epoch that was evaluated so far, in the order in which they were."""
    return [(entry.epoch, entry.loss) for entry in read_results(folder / 'mace')[0]]


@pytest.fixture(scope='module')
def labelled(tiny_potential):
    return labelled_silicon(tiny_potential, 8)


@pytest.fixture
def start(labelled, tmp_path):
    """Return a function that starts a worker and waits until it has done some epochs: the worker and its child."""
    started = []

    def function(folder):
        path = write_job(folder, labelled)
        command = [sys.executable, '-m', 'aiida_mlip_autopipe.worker', 'train', path.name]
        with (tmp_path / 'worker.log').open('wb') as log:
            process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, env={**os.environ, 'OMP_NUM_THREADS': '1'}
            )
        started.append(process)

        def event():
            assert process.poll() is None, f'the worker ended too early: {(tmp_path / "worker.log").read_text()}'
            return len(evaluated(folder)) >= 5

        wait_for(event, 'five epochs')
        children = psutil.Process(process.pid).children()
        started.extend(children)
        return process, children

    yield function
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def test_a_killed_training_goes_on_in_the_next_job(start, labelled, tmp_path):
    """Its child ends with it, no epoch is done twice, and what was reached before is part of the history."""
    first, second = tmp_path / 'first', tmp_path / 'second'
    worker, children = start(first)
    worker.kill()
    worker.wait(LIMIT_S)
    assert len(children) == 1
    _, alive = psutil.wait_procs(children, 10)
    assert not alive and not (first / 'result.json').exists()
    before = evaluated(first)
    assert 5 <= len(before) < N_EPOCHS

    result = run_here(write_job(second, labelled, parent=str(first)))
    assert result['status'] == 'ok', result['error']
    run = result['outputs']['run']
    n_taken_over = run['continued_from_epoch']
    assert len(before) - 1 <= n_taken_over <= len(before)  # the newest checkpoint may have been half written
    after = evaluated(second)
    assert [epoch for epoch, _ in after] == list(range(N_EPOCHS))
    assert after[:n_taken_over] == before[:n_taken_over]
    history = json.loads((second / 'history.json').read_text())
    assert history['epoch'] == list(range(N_EPOCHS)) and history['loss'] == [loss for _, loss in after]
    log = (second / 'mace/mace_run_train.log').read_text()
    assert f'Epoch {n_taken_over}:' in log and f'Epoch {n_taken_over - 1}:' not in log


def run_here(path):
    """Run a job in this process; return its result."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        run_job('train', path)
    finally:
        signal.signal(signal.SIGTERM, before)
    return json.loads((path.parent / 'result.json').read_text())


def test_a_stopped_training_leaves_no_result_and_no_process(start, tmp_path):
    """A scheduler's signal, before it kills: the job is incomplete, so that it runs again."""
    worker, children = start(tmp_path / 'job')
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(LIMIT_S) == 128 + signal.SIGTERM
    assert not any(child.is_running() for child in children)
    assert not (tmp_path / 'job/result.json').exists()
    shutil.rmtree(tmp_path / 'job')
