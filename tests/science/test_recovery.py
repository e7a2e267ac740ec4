"""Interrupted replicas: they go on bit for bit, nothing is lost, nothing is counted twice."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_mlip_autopipe.science.dynamics import NoFramesError, Stop, run_replicas
from aiida_mlip_autopipe.science.dynamics.recorder import Record
from aiida_mlip_autopipe.science.frames import iter_chunks, read_manifest
from aiida_mlip_autopipe.science.parameters import DynamicsParameters, EarlyStopParameters
from aiida_mlip_autopipe.science.potential.load import load_calculator
from tests.support.trajectories import few_steps, run_one, silicon


class StopAfter(Stop):
    """Asks for the end after so many steps."""

    def __init__(self, n):
        super().__init__()
        self.n = n

    def now(self):
        """Count down."""
        self.n -= 1
        return self.n <= 0


CONDITIONS = [
    {'ensemble': 'nvt'},
    {'ensemble': 'nve'},
    {'ensemble': 'npt', 'barostat_time_fs': 100},
    {'ensemble': 'npt', 'temperatures_K': [(200, 600)], 'barostat_time_fs': 100},
    {'ensemble': 'nvt', 'equilibration_steps': 30},
    {'ensemble': 'npt', 'equilibration_steps': 30},
    {'early_stop': EarlyStopParameters(min_novelty=0.02, chunk_frames=2, patience=2)},
]


@pytest.mark.slow
@pytest.mark.parametrize('conditions', CONDITIONS)
def test_an_interrupted_replica_goes_on_bit_for_bit(conditions, tiny_potential, tmp_path):
    parameters = few_steps(**({'n_steps': 40, 'sample_interval': 2, 'temperatures_K': [500]} | conditions))
    calculator = load_calculator(tiny_potential, 'float32', 'cpu')
    whole, expected = run_one(silicon(cubic=False), calculator, parameters, tmp_path / 'whole')
    interrupted = 0
    while True:
        ended, _ = run_one(silicon(cubic=False), calculator, parameters, tmp_path / 'parts', StopAfter(13))
        if ended['ended'] != 'interrupted':
            break
        interrupted += 1
    assert interrupted >= 2 or ended['ended'] == 'nothing_new'
    assert ended == whole
    parts = list(iter_chunks([tmp_path / 'parts'], chunk_size=1000))
    assert np.concatenate([part.steps for part in parts]).tolist() == expected.steps.tolist()
    assert np.concatenate([part.positions for part in parts]).tobytes() == expected.positions.tobytes()
    assert np.concatenate([part.energies for part in parts]).tobytes() == expected.energies.tobytes()


def test_a_replica_ends_when_it_shows_nothing_new(tmp_path):
    copper = bulk('Cu', cubic=True)
    calm = few_steps(n_steps=400, sample_interval=2, temperatures_K=[300],
                     early_stop=EarlyStopParameters(min_novelty=0.5, chunk_frames=5, patience=3))  # fmt: skip
    ended, frames = run_one(copper, EMT(), calm, tmp_path / 'calm')
    assert ended['ended'] == 'nothing_new'
    assert len(frames) == 15  # three chunks of five
    curious = calm.model_copy(update={'early_stop': EarlyStopParameters(min_novelty=1e-6, chunk_frames=5, patience=3)})
    ended, frames = run_one(copper, EMT(), curious, tmp_path / 'curious')
    assert ended['ended'] == 'completed' and len(frames) == 200


def test_a_committee_that_agrees_ends_a_replica(tmp_path):
    copper = bulk('Cu', cubic=True)
    stop = EarlyStopParameters(min_disagreement_eV_A=0.05, chunk_frames=4, patience=2)
    parameters = few_steps(n_steps=100, sample_interval=2, temperatures_K=[300], early_stop=stop)
    ended, frames = run_one(copper, EMT(), parameters, tmp_path / 'a', committee=[EMT()])
    assert ended['ended'] == 'nothing_new' and len(frames) == 8
    assert np.abs(frames.disagreements).max() < 1e-12
    ended, frames = run_one(copper, EMT(), parameters, tmp_path / 'b', committee=[EMT(asap_cutoff=True)])
    assert frames.disagreements.min() > 0


def silicon_run(folder, potential, **kwargs):
    """Run two replicas of two atoms."""
    parameters = few_steps(n_steps=40, sample_interval=2, temperatures_K=[300, 500])
    return run_replicas(potential, [silicon(cubic=False)], parameters, folder, md_job='aaaaaaaa', **kwargs)


def content(folder):
    """Return steps and positions of all frames by replica."""
    frames = {}
    for chunk in iter_chunks([folder], chunk_size=1000):
        steps, positions = frames.setdefault(chunk.shard['replica'], ([], []))
        steps += chunk.steps.tolist()
        positions.append(chunk.positions)
    return {replica: (steps, np.concatenate(positions).tobytes()) for replica, (steps, positions) in frames.items()}


@pytest.mark.slow
def test_a_job_goes_on_in_another_folder(tiny_potential, tmp_path):
    silicon_run(tmp_path / 'whole', tiny_potential)
    parent = silicon_run(tmp_path / 'a', tiny_potential, stop=StopAfter(55))
    assert not parent['complete']
    assert [replica['ended'] for replica in parent['replicas']] == ['completed', 'interrupted']
    child = silicon_run(tmp_path / 'b', tiny_potential, parent=tmp_path / 'a')
    assert child['complete'] and [replica['n_frames'] for replica in child['replicas']] == [20, 20]
    assert read_manifest(tmp_path / 'b')['n_frames'] == 40
    assert content(tmp_path / 'b') == content(tmp_path / 'whole')
    assert read_manifest(tmp_path / 'a') == parent  # what the interrupted job left is as it was


def test_what_is_done_is_not_done_again(tiny_potential, tmp_path):
    silicon_run(tmp_path / 'a', tiny_potential)
    told = []
    again = silicon_run(tmp_path / 'b', tiny_potential, parent=tmp_path / 'a', progress=told.append)
    assert again['complete'] and told == []
    assert content(tmp_path / 'b') == content(tmp_path / 'a')


@pytest.mark.slow
def test_another_run_is_no_start(tiny_potential, tmp_path, caplog):
    silicon_run(tmp_path / 'a', tiny_potential, stop=StopAfter(55))
    parameters = few_steps(n_steps=40, sample_interval=2, temperatures_K=[300, 500], random_seed=7)
    manifest = run_replicas(tiny_potential, [silicon(cubic=False)], parameters, tmp_path / 'b', md_job='b',
                            parent=tmp_path / 'a')  # fmt: skip
    assert 'its checkpoint in' in caplog.text and 'belongs to another run' in caplog.text
    assert manifest['complete'] and content(tmp_path / 'b')[0] != content(tmp_path / 'a')[0]


@pytest.mark.slow
def test_a_damaged_shard_is_made_again(tiny_potential, tmp_path, caplog):
    silicon_run(tmp_path / 'a', tiny_potential, stop=StopAfter(55))
    shard = tmp_path / 'a/shards/r000.0.h5'
    content_ = bytearray(shard.read_bytes())
    content_[len(content_) // 2 :] = bytes(len(content_) - len(content_) // 2)
    shard.write_bytes(content_)
    manifest = silicon_run(tmp_path / 'b', tiny_potential, parent=tmp_path / 'a')
    assert 'replica 0 is started again' in caplog.text
    silicon_run(tmp_path / 'whole', tiny_potential)
    assert manifest['complete'] and content(tmp_path / 'b') == content(tmp_path / 'whole')


def test_nothing_left_is_said(tiny_potential, tmp_path):
    with pytest.raises(NoFramesError):
        silicon_run(tmp_path / 'b', tiny_potential, parent=tmp_path / 'nowhere', collect_only=True)


RUN = """
import json, sys
from pathlib import Path
from aiida_mlip_autopipe.science.dynamics import run_replicas
from aiida_mlip_autopipe.science.parameters import DynamicsParameters
from aiida_mlip_autopipe.science.potential.load import load_calculator
from tests.support.trajectories import silicon

if __name__ == '__main__':
    folder, potential, parameters = Path(sys.argv[1]), Path(sys.argv[2]), DynamicsParameters(**json.loads(sys.argv[3]))
    seeds = [silicon(cubic=False), silicon('seed-00000002', cubic=False)]
    run_replicas(potential, seeds, parameters, folder, md_job='aaaaaaaa',
                 progress=lambda state: print(state['frames'], flush=True))
"""


def flushed_frames(folder):
    """Return how many frames the records of a run say are in its shards."""
    records = [Record.read(folder, replica) for replica in (0, 1)]
    return sum(part['n_frames'] for record in records if record is not None for part in record.facts['parts'])


@pytest.mark.slow
def test_frames_flushed_before_a_kill_are_usable(tiny_potential, tmp_path):
    script, folder = tmp_path / 'run.py', tmp_path / 'job'
    script.write_text(RUN)
    parameters = DynamicsParameters(n_steps=160, sample_interval=2, timestep_fs=1.0, n_processes=2,
                                    checkpoint_interval_s=1.0, engine='ase')  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, script, folder, tiny_potential, parameters.model_dump_json()],
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
    )
    while not (flushed := flushed_frames(folder)):
        assert process.stdout.readline(), 'the run ended early'
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    seeds = [silicon(cubic=False), silicon('seed-00000002', cubic=False)]
    alone = parameters.model_copy(update={'n_processes': 1})

    def again(name, **kwargs):
        return run_replicas(tiny_potential, seeds, alone, tmp_path / name, md_job='b', parent=folder, **kwargs)

    collected = again('collected', collect_only=True)
    assert not collected['complete'] and collected['n_frames'] >= flushed > 0
    completed = again('completed')
    assert completed['complete'] and completed['n_frames'] == 2 * 80
    frames, whole = content(tmp_path / 'collected'), content(tmp_path / 'completed')
    for replica, (steps, positions) in frames.items():
        assert steps == list(range(2, 2 * len(steps) + 1, 2))
        assert whole[replica][1].startswith(positions)
    assert json.loads((tmp_path / 'completed/manifest.json').read_text())['complete']
