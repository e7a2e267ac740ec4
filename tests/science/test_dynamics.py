"""Dynamics: the right ensemble, the same answer twice, and a broken replica that ends alone."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_mlip_autopipe.science.dynamics import NoFramesError, run_replicas, single_point
from aiida_mlip_autopipe.science.frames import iter_chunks, load_frames, read_manifest
from aiida_mlip_autopipe.science.parameters import DynamicsParameters, GuardParameters
from aiida_mlip_autopipe.science.potential import PotentialError
from tests.support.trajectories import few_steps, run_one, silicon


def clashing_structure():
    """Return two silicon atoms so close that their replica cannot live."""
    atoms = Atoms('Si2', positions=[[0, 0, 0], [0.9, 0, 0]], cell=[6, 6, 6], pbc=True)
    atoms.info = {'frame_id': 'seed-0badbad0', 'origin': 'seed-0badbad0'}
    return atoms


def test_single_point_of_mace(tiny_potential):
    atoms = bulk('Si', cubic=True)
    atoms.rattle(0.1, seed=1)
    result = single_point(tiny_potential, atoms)
    assert isinstance(result['energy'], float) and -5 < result['energy'] / len(atoms) < 5
    assert result['forces'].shape == (8, 3) and result['forces'].dtype == np.float64
    assert result['stress'].shape == (6,)
    assert np.abs(result['forces'].sum(axis=0)).max() < 1e-6
    step, displaced = 1e-4, []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[3, 1] += sign * step
        displaced.append(single_point(tiny_potential, moved)['energy'])
    assert result['forces'][3, 1] == pytest.approx(-(displaced[0] - displaced[1]) / (2 * step), abs=1e-5)
    single = single_point(tiny_potential, atoms, dtype='float32')
    assert np.allclose(single['forces'], result['forces'], atol=1e-4)


def test_unknown_element_and_bad_files_are_named(tiny_potential, tmp_path):
    with pytest.raises(PotentialError, match='knows Si, but the structures hold C'):
        single_point(tiny_potential, bulk('SiC', 'zincblende', a=4.36))
    with pytest.raises(PotentialError, match=r'nowhere\.model is not a file'):
        single_point(tmp_path / 'nowhere.model', bulk('Si'))
    (tmp_path / 'noise.model').write_bytes(b'not a pickle')
    with pytest.raises(PotentialError, match=r'noise\.model cannot be loaded'):
        single_point(tmp_path / 'noise.model', bulk('Si'))


@pytest.mark.slow
@pytest.mark.parametrize('ensemble', ['nvt', pytest.param('npt', marks=pytest.mark.nightly)])
def test_mean_temperature_is_the_target_with_few_atoms(ensemble, tmp_path):
    parameters = DynamicsParameters(ensemble=ensemble, n_steps=1500, sample_interval=10, timestep_fs=4.0,
                                    thermostat_time_fs=40, friction_per_fs=0.02, random_seed=1)  # fmt: skip
    ended, frames = run_one(bulk('Cu', cubic=True), EMT(), parameters, tmp_path)
    assert ended['ended'] == 'completed' and len(frames) == 150
    assert frames.temperatures.mean() == pytest.approx(300, rel=0.15)
    assert (np.ptp(np.linalg.det(frames.cells)) > 0.1) == (ensemble == 'npt')


@pytest.mark.slow
def test_npt_answers_to_pressure(tmp_path):
    means = []
    for pressure in (0.0, 15.0):
        parameters = DynamicsParameters(ensemble='npt', n_steps=240, sample_interval=2, barostat_time_fs=100,
                                        pressures_GPa=[pressure])  # fmt: skip
        _, frames = run_one(bulk('Cu', cubic=True), EMT(), parameters, tmp_path / f'{pressure}')
        means.append(np.linalg.det(frames.cells)[60:].mean())
    bulk_modulus = -15.0 / np.log(means[1] / means[0])
    assert 100 < bulk_modulus < 250  # GPa; EMT's copper has about 135, and it stiffens


@pytest.mark.slow
@pytest.mark.parametrize('ensemble', ['nvt', pytest.param('npt', marks=pytest.mark.nightly)])
def test_a_ramp_is_followed(ensemble, tmp_path):
    parameters = DynamicsParameters(ensemble=ensemble, temperatures_K=[(100, 900)], n_steps=3000, sample_interval=10,
                                    timestep_fs=4.0, thermostat_time_fs=20, friction_per_fs=0.05,
                                    guards=GuardParameters(max_volume_ratio=3, energy_window_eV=50))  # fmt: skip
    ended, frames = run_one(bulk('Cu', cubic=True), EMT(), parameters, tmp_path)
    assert ended['ended'] == 'completed'
    first, last = frames.temperatures[:60].mean(), frames.temperatures[-60:].mean()
    assert first == pytest.approx(180, rel=0.25) and last == pytest.approx(820, rel=0.25)
    (chunk,) = iter_chunks([tmp_path], chunk_size=1000)
    assert (chunk.shard['temperature_K'], chunk.shard['temperature_end_K']) == (100, 900)


@pytest.mark.slow
def test_equilibration_leaves_no_frame_and_brings_the_temperature(tmp_path):
    parameters = few_steps(temperatures_K=[600], n_steps=20, sample_interval=1, equilibration_steps=1500,
                           timestep_fs=4.0, thermostat_time_fs=50, ensemble='nve')  # fmt: skip
    ended, frames = run_one(bulk('Cu', cubic=True) * (2, 2, 2), EMT(), parameters, tmp_path)
    assert ended['n_frames'] == 20 and frames.steps.tolist() == list(range(1, 21))
    assert frames.temperatures.mean() == pytest.approx(600, rel=0.25)
    cold = few_steps(temperatures_K=[600], n_steps=20, sample_interval=1, timestep_fs=4.0, ensemble='nve')
    _, frames = run_one(bulk('Cu', cubic=True) * (2, 2, 2), EMT(), cold, tmp_path / 'cold')
    assert frames.temperatures[-1] < 500  # half of the energy went into the bonds


@pytest.mark.slow
def test_same_seed_same_bits_here_and_side_by_side(tiny_potential, tmp_path):
    seeds = [silicon(), silicon('seed-00000002', cubic=False)]
    progress = []
    one = run_replicas(tiny_potential, seeds, few_steps(), tmp_path / 'a', md_job='aaaaaaaa')
    two = run_replicas(tiny_potential, seeds, few_steps(n_processes=2), tmp_path / 'b', md_job='aaaaaaaa',
                       progress=progress.append)  # fmt: skip
    other = run_replicas(tiny_potential, seeds, few_steps(random_seed=1), tmp_path / 'c', md_job='aaaaaaaa')
    names = [[atoms.info['frame_id'] for atoms in load_frames([tmp_path / name], range(8))] for name in 'abc']
    assert names[0] == names[1] and not set(names[0]) & set(names[2])
    for here, there in zip(iter_chunks([tmp_path / 'a']), iter_chunks([tmp_path / 'b']), strict=True):
        assert here.positions.tobytes() == there.positions.tobytes()
        assert here.energies.tobytes() == there.energies.tobytes()
    assert one['n_frames'] == two['n_frames'] == other['n_frames'] == 8
    assert progress[-1] == {'frames': 8, 'frames_total': 8, 'replicas_done': 2, 'replicas_total': 2,
                            'guards_tripped': 0}  # fmt: skip
    assert read_manifest(tmp_path / 'b') == two


@pytest.mark.parametrize('ensemble', ['nvt', 'npt'])
def test_the_largest_force_is_that_of_the_frame(ensemble, tiny_potential, tmp_path):
    parameters = few_steps(ensemble=ensemble, temperatures_K=[600], dtype='float64')
    run_replicas(tiny_potential, [silicon()], parameters, tmp_path, md_job='aaaaaaaa')
    (chunk,) = iter_chunks([tmp_path])
    expected = [
        np.linalg.norm(single_point(tiny_potential, atoms)['forces'], axis=1).max()
        for atoms in load_frames([tmp_path], range(4))
    ]
    assert min(expected) > 1e-3
    np.testing.assert_allclose(chunk.max_forces, expected, rtol=1e-4, atol=1e-6)


def test_the_largest_force_costs_no_force_call(tmp_path):
    calculator = EMT()
    calls = []
    calculate = calculator.calculate
    calculator.calculate = lambda *args, **kwargs: (calls.append(1), calculate(*args, **kwargs))[1]
    parameters = few_steps(n_steps=9, sample_interval=3)
    _, frames = run_one(bulk('Cu', cubic=True), calculator, parameters, tmp_path)
    assert len(frames) == 3
    assert len(calls) == 1 + parameters.n_steps


def test_jobs_share_the_replicas_without_overlap(tiny_potential, tmp_path):
    seeds = [silicon(cubic=False)]
    parameters = few_steps(temperatures_K=[100, 200, 300], n_steps=3)
    manifests = [
        run_replicas(tiny_potential, seeds, parameters, tmp_path / f'{i}', md_job='aaaaaaaa', job_index=i, n_jobs=2)
        for i in range(2)
    ]
    assert [[shard['replica'] for shard in manifest['shards']] for manifest in manifests] == [[0, 2], [1]]
    with pytest.raises(ValueError, match='job_index 3 of n_jobs 4'):
        run_replicas(tiny_potential, seeds, parameters, tmp_path, md_job='a', job_index=3, n_jobs=4)


def test_a_guard_ends_its_replica_alone(tiny_potential, tmp_path):
    seeds = [silicon(), clashing_structure(), silicon('seed-00000003', cubic=False)]
    manifest = run_replicas(tiny_potential, seeds, few_steps(), tmp_path, md_job='aaaaaaaa')
    guards = [replica['guard'] for replica in manifest['replicas']]
    assert guards[0] is None and guards[2] is None
    assert guards[1]['name'] == 'min_distance_factor' and guards[1]['step'] == 0
    assert guards[1]['value'] == pytest.approx(0.9 / 2.22, rel=0.01) and guards[1]['bound'] == 0.6
    assert [replica['n_frames'] for replica in manifest['replicas']] == [4, 0, 4]
    assert [replica['ended'] for replica in manifest['replicas']] == ['completed', 'guard', 'completed']
    assert [shard['replica'] for shard in manifest['shards']] == [0, 2]
    assert read_manifest(tmp_path)['n_frames'] == 8
    assert len(load_frames([tmp_path], range(8))) == 8


def test_frames_before_a_trip_are_dropped(tiny_potential, tmp_path):
    hot = few_steps(temperatures_K=[3000], n_steps=400, sample_interval=1, timestep_fs=2.0,
                    guards=GuardParameters(n_drop=3, min_distance_factor=0.85, max_volume_ratio=1.1))  # fmt: skip
    manifest = run_replicas(tiny_potential, [silicon()], hot, tmp_path, md_job='aaaaaaaa')
    (shard,) = manifest['shards']
    (replica,) = manifest['replicas']
    assert replica['ended'] == 'guard'
    (chunk,) = iter_chunks([tmp_path], chunk_size=1000)
    written = replica['guard']['step'] - 1
    assert shard['n_frames'] == len(chunk) == written - 3 > 0
    assert chunk.steps[-1] == shard['n_frames']


def test_no_frame_at_all_is_an_error(tiny_potential, tmp_path):
    with pytest.raises(NoFramesError, match=r'min_distance_factor \(1\)'):
        run_replicas(tiny_potential, [clashing_structure()], few_steps(), tmp_path, md_job='aaaaaaaa')
    assert not (tmp_path / 'manifest.json').exists()


def test_bad_seeds_are_named(tiny_potential, tmp_path):
    molecule = Atoms('Si2', positions=[[0, 0, 0], [2.3, 0, 0]], info={'frame_id': 'seed-00000009'})
    with pytest.raises(ValueError, match=r"seed-00000009.*'npt'"):
        run_replicas(tiny_potential, [molecule], few_steps(ensemble='npt'), tmp_path, md_job='a')
    with pytest.raises(ValueError, match='no seed structure'):
        run_replicas(tiny_potential, [], few_steps(), tmp_path, md_job='a')
    with pytest.raises(ValueError, match='frame_id'):
        run_replicas(tiny_potential, [bulk('Si')], few_steps(), tmp_path, md_job='a')
    assert run_replicas(tiny_potential, [molecule], few_steps(), tmp_path, md_job='a')['n_frames'] == 4


@pytest.mark.slow
def test_an_unfit_potential_is_told_from_a_process(tiny_potential, tmp_path):
    carbide = bulk('SiC', 'zincblende', a=4.36)
    carbide.info['frame_id'] = 'seed-0000000c'
    with pytest.raises(PotentialError, match='knows Si, but the structures hold C'):
        run_replicas(tiny_potential, [carbide, carbide], few_steps(n_processes=2), tmp_path, md_job='a')


@pytest.mark.slow
def test_processes_end_when_their_parent_is_killed(tiny_potential, tmp_path):
    script = tmp_path / 'run.py'
    script.write_text(
        'import sys\n'
        'from pathlib import Path\n'
        'from ase.build import bulk\n'
        'from aiida_mlip_autopipe.science.dynamics import run_replicas\n'
        'from aiida_mlip_autopipe.science.parameters import DynamicsParameters\n'
        'if __name__ == "__main__":\n'
        '    seeds = [bulk("Si", cubic=True) for _ in range(2)]\n'
        '    for i, atoms in enumerate(seeds):\n'
        '        atoms.info["frame_id"] = f"seed-{i:08x}"\n'
        '    parameters = DynamicsParameters(n_steps=10**6, sample_interval=1, n_processes=2)\n'
        '    run_replicas(Path(sys.argv[1]), seeds, parameters, Path(sys.argv[2]), md_job="a",\n'
        '                 progress=lambda state: print("frame", flush=True))\n'
    )
    process = subprocess.Popen(
        [sys.executable, script, tiny_potential, tmp_path], stdout=subprocess.PIPE, start_new_session=True
    )
    while process.stdout.readline().strip() != b'frame':
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and _session_alive(process.pid):
        time.sleep(0.2)
    assert not _session_alive(process.pid)


def _session_alive(session):
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True
