"""Frames on disk: what is written comes back, what is missing is noticed."""

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_mlip_autopipe.science.frames import (
    ManifestError,
    ShardWriter,
    content_hash,
    file_sha256,
    iter_chunks,
    load_frames,
    read_extxyz,
    read_manifest,
    write_extxyz,
    write_manifest,
)


def write_job(folder, md_job, lengths, seed=0, pressure=None):
    """Write a folder of shards of random frames as an MD job does; returns its positions."""
    rng = np.random.default_rng(seed)
    shards, positions = [], []
    for replica, length in enumerate(lengths):
        path = folder / f'shards/r{replica:03d}.h5'
        writer = ShardWriter(path, [14, 14], [True, True, False], 2.0)
        for i in range(length):
            positions.append(rng.normal(size=(2, 3)))
            writer.append(10 * (i + 1), positions[-1], np.eye(3) * (5 + i / 3), -1.0 * i, 300.0 + i, 0.5 * i)
        writer.close()
        shards.append(
            {
                'path': f'shards/r{replica:03d}.h5',
                'replica': replica,
                'seed_id': f'seed-{replica:08x}',
                'origin': 'seed-00000000',
                'temperature_K': 300.0,
                'pressure_GPa': pressure,
                'random_seed': 1,
                'n_atoms': 2,
                'n_frames': length,
                'bytes': path.stat().st_size,
                'sha256': file_sha256(path),
                'guard': None,
            }
        )
    write_manifest(
        folder,
        {
            'schema_version': 1,
            'md_job': md_job,
            'job_index': 0,
            'n_jobs': 1,
            'n_frames': sum(lengths),
            'shards': shards,
        },
    )
    return np.array(positions)


def test_content_hash_is_stable_and_tells_structures_apart():
    atoms = bulk('Si')
    parts = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    assert content_hash(*parts) == content_hash(*parts) and len(content_hash(*parts)) == 8
    assert content_hash(atoms.numbers, atoms.positions.astype('f4'), *parts[2:]) == content_hash(*parts)
    assert content_hash(atoms.numbers, atoms.positions * -0.0, *parts[2:]) == content_hash(
        atoms.numbers, atoms.positions * 0.0, *parts[2:]
    )
    for changed in ([6, 14], *parts[1:]), (parts[0], parts[1] + 1e-3, *parts[2:]), (*parts[:3], [True, True, False]):
        assert content_hash(*changed) != content_hash(*parts)


def test_extxyz_round_trip_keeps_every_digit_and_type(tmp_path):
    rng = np.random.default_rng(0)
    atoms = bulk('Si', cubic=True)
    atoms.positions += rng.normal(scale=1e-5, size=(8, 3))
    atoms.set_cell(atoms.cell.array * (1 + rng.normal(scale=0.1, size=(3, 3))))
    atoms.arrays['REF_forces'] = rng.normal(size=(8, 3))
    atoms.arrays['flag'] = np.arange(8) % 2 == 0
    atoms.info = {
        'frame_id': 'seed-12345678',
        'md_job': '00123456',
        'origin': '1e234567',
        'config_type': 'T',
        'REF_energy': -1 / 3,
        'REF_stress': rng.normal(size=6),
        'replica': 3,
        'note': 'two words',
        'no': None,
    }
    lone = Atoms('H', positions=[[1, 2, 3]])
    write_extxyz(tmp_path / 'a.xyz', [atoms, lone])
    back, lone_back = read_extxyz(tmp_path / 'a.xyz')
    assert np.array_equal(back.positions, atoms.positions)
    assert np.array_equal(back.cell.array, atoms.cell.array)
    assert np.array_equal(back.arrays['REF_forces'], atoms.arrays['REF_forces'])
    assert np.array_equal(back.arrays['flag'], atoms.arrays['flag'])
    assert np.array_equal(back.info.pop('REF_stress'), atoms.info['REF_stress'])
    assert back.info == {key: value for key, value in atoms.info.items() if key != 'REF_stress'}
    assert type(back.info['replica']) is int and type(back.info['REF_energy']) is float
    assert back.pbc.all() and not lone_back.pbc.any() and not lone_back.cell.any()
    write_extxyz(tmp_path / 'b.xyz', [back, lone_back])
    assert len((tmp_path / 'b.xyz').read_bytes()) > 0


@pytest.mark.parametrize('content', [None, '', '3\nnot enough\nSi 0 0 0\n'])
def test_extxyz_errors_name_the_file(tmp_path, content):
    path = tmp_path / 'bad.xyz'
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r'bad\.xyz'):
        read_extxyz(path)


def test_chunks_and_single_frames_agree_on_the_global_order(tmp_path):
    first = write_job(tmp_path / 'md_0', 'aaaaaaaa', [3, 0, 5], seed=1)
    second = write_job(tmp_path / 'md_1', '12345678', [2], seed=2, pressure=1.5)
    positions = np.concatenate([first, second])
    folders = [tmp_path / 'md_0', tmp_path / 'md_1']
    chunks = list(iter_chunks(folders, chunk_size=2))
    assert [len(chunk) for chunk in chunks] == [2, 1, 2, 2, 1, 2]
    assert np.array_equal(np.concatenate([chunk.positions for chunk in chunks]), positions.astype('f4').astype(float))
    assert chunks[-1].folder_index == 1 and chunks[1].first == 2
    assert chunks[0].pbc.tolist() == [True, True, False]
    order = [9, 0, 4, 4, 7]
    frames = load_frames(folders, order)
    for index, atoms in zip(order, frames, strict=True):
        assert np.allclose(atoms.positions, positions[index], atol=1e-6)
        name = content_hash(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
        info = atoms.info
        assert info['frame_id'] == f'{info["md_job"]}-r{info["replica"]:03d}-s{info["step"]:06d}-{name}'
    assert frames[0].info['pressure_GPa'] == 1.5 and 'pressure_GPa' not in frames[1].info
    assert frames[0].info['md_job'] == '12345678' and frames[0].info['step'] == 20
    with pytest.raises(ValueError, match='10 frames'):
        load_frames(folders, [10])


def test_shard_is_h5md(tmp_path):
    write_job(tmp_path, 'aaaaaaaa', [4])
    with h5py.File(tmp_path / 'shards/r000.h5') as file:
        assert file['h5md'].attrs['version'].tolist() == [1, 1]
        assert file['particles/all/position/value'].shape == (4, 2, 3)
        assert file['particles/all/position/value'].attrs['unit'] == 'angstrom'
        assert file['particles/all/box/edges/time'][()].tolist() == [20.0, 40.0, 60.0, 80.0]
        assert file['observables/temperature/value'][()].tolist() == [300.0, 301.0, 302.0, 303.0]
        assert file['observables/max_force/value'][()].tolist() == [0.0, 0.5, 1.0, 1.5]
        assert file['observables/max_force/value'].attrs['unit'] == 'eV angstrom-1'
        assert file['observables/max_force/step'][()].tolist() == [10, 20, 30, 40]
        assert list(file['particles/all/box'].attrs['boundary']) == ['periodic', 'periodic', 'none']


def test_largest_forces_are_read_and_unknown_in_older_shards(tmp_path):
    write_job(tmp_path, 'aaaaaaaa', [3])
    chunks = list(iter_chunks([tmp_path], chunk_size=2))
    assert [chunk.max_forces.tolist() for chunk in chunks] == [[0.0, 0.5], [1.0]]
    with h5py.File(tmp_path / 'shards/r000.h5', 'a') as file:
        del file['observables/max_force']
    older = list(iter_chunks([tmp_path], chunk_size=2))
    assert [chunk.max_forces.shape for chunk in older] == [(2,), (1,)]
    assert all(np.isnan(chunk.max_forces).all() for chunk in older)
    assert len(load_frames([tmp_path], [2, 0])) == 2


def test_truncate_drops_the_last_frames(tmp_path):
    writer = ShardWriter(tmp_path / 'r.h5', [1], [False] * 3, 1.0)
    for step in range(5):
        writer.append(step, np.full((1, 3), step), np.zeros((3, 3)), 0.0, 0.0, 0.0)
    writer.truncate(3)
    writer.append(9, np.full((1, 3), 9), np.zeros((3, 3)), 0.0, 0.0, 0.0)
    writer.close()
    with h5py.File(tmp_path / 'r.h5') as file:
        assert file['particles/all/position/step'][()].tolist() == [0, 1, 2, 9]


def test_manifest_notices_what_is_missing_or_changed(tmp_path):
    with pytest.raises(ManifestError, match='does not exist'):
        read_manifest(tmp_path)
    write_job(tmp_path, 'aaaaaaaa', [2, 2])
    assert read_manifest(tmp_path)['n_frames'] == 4
    shard = tmp_path / 'shards/r001.h5'
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ManifestError, match=r'r001\.h5 differs'):
        read_manifest(tmp_path)
    shard.write_bytes(content[:-10])
    with pytest.raises(ManifestError, match='bytes'):
        read_manifest(tmp_path)
    shard.unlink()
    with pytest.raises(ManifestError, match=r'r001\.h5 .*does not exist'):
        read_manifest(tmp_path)
    (tmp_path / 'manifest.json').write_text('{"shards": ')
    with pytest.raises(ManifestError, match='not a manifest'):
        read_manifest(tmp_path)


def test_shard_of_a_killed_process_is_readable(tmp_path):
    path = tmp_path / 'r.h5'
    code = (
        'import sys, itertools, numpy as np\n'
        'from aiida_mlip_autopipe.science.frames import ShardWriter\n'
        'writer = ShardWriter(sys.argv[1], [14] * 8, [True] * 3, 1.0)\n'
        'for step in itertools.count():\n'
        '    writer.append(step, np.full((8, 3), step), np.eye(3), 0.0, 0.0, 0.0)\n'
        '    if step == 20: print("go", flush=True)\n'
        '    if step > 20: import time; time.sleep(0.05)\n'
    )
    process = subprocess.Popen([sys.executable, '-c', code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b'go\n'
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with h5py.File(path) as file:
        steps = file['particles/all/position/step'][()]
        assert len(steps) >= 20 and steps.tolist() == list(range(len(steps)))
        assert file['particles/all/position/value'][len(steps) - 1, 0, 0] == len(steps) - 1
