"""Frames on disk: what is written comes back, what is missing is noticed."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_mlip_autopipe.science.frames import (
    ManifestError,
    content_hash,
    iter_chunks,
    load_frames,
    read_extxyz,
    read_manifest,
    write_extxyz,
    write_manifest,
)
from tests.support.md_job import write_md_job


def write_job(folder, md_job, lengths, seed=0, **entries):
    """Write a folder of shards of random frames as an MD job does; return their positions."""
    rng = np.random.default_rng(seed)
    atoms = Atoms('Si2', pbc=[True, True, False])
    positions = [rng.normal(size=(length, 2, 3)) for length in lengths]
    replicas = [
        (
            atoms,
            [
                (10 * (i + 1), frame, np.eye(3) * (5 + i / 3), -1.0 * i, 300.0 + i, 0.5 * i, i / 8 if i % 2 else np.nan)
                for i, frame in enumerate(frames)
            ],
        )
        for frames in positions
    ]
    write_md_job(folder, md_job, replicas, **entries)
    return np.concatenate(positions)


def test_content_hash_is_stable_and_tells_structures_apart():
    atoms = bulk('Si')
    parts = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    assert content_hash(*parts) == content_hash(*parts) == '1b6c93eb6dc7e7d7'
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
    second = write_job(tmp_path / 'md_1', '12345678', [2], seed=2, pressure_GPa=1.5, temperature_end_K=900.0)
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
    assert frames[0].info['pressure_GPa'] == 1.5 and frames[0].info['temperature_end_K'] == 900.0
    assert not {'pressure_GPa', 'temperature_end_K', 'disagreement_eV_A'} & set(frames[1].info)
    assert [atoms.info.get('disagreement_eV_A') for atoms in frames] == [1 / 8, None, 1 / 8, 1 / 8, None]
    assert frames[0].info['md_job'] == '12345678' and frames[0].info['step'] == 20
    with pytest.raises(ValueError, match='10 frames'):
        load_frames(folders, [10])


def test_manifest_notices_what_is_missing_or_changed(tmp_path):
    with pytest.raises(ManifestError, match='does not exist'):
        read_manifest(tmp_path)
    write_job(tmp_path, 'aaaaaaaa', [2, 2])
    assert read_manifest(tmp_path)['n_frames'] == 4
    shard = tmp_path / 'shards/r001.0.h5'
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ManifestError, match=r'r001\.0\.h5 differs'):
        read_manifest(tmp_path)
    shard.write_bytes(content[:-10])
    with pytest.raises(ManifestError, match='bytes'):
        read_manifest(tmp_path)
    shard.unlink()
    with pytest.raises(ManifestError, match=r'r001\.0\.h5 .*does not exist'):
        read_manifest(tmp_path)
    (tmp_path / 'manifest.json').write_text('{"shards": ')
    with pytest.raises(ManifestError, match='not a manifest'):
        read_manifest(tmp_path)
    write_manifest(tmp_path, {'schema_version': 1, 'shards': []})
    with pytest.raises(ManifestError, match='schema_version 1, this version reads 2'):
        read_manifest(tmp_path)


def test_chunks_hold_all_that_is_known_of_a_frame(tmp_path):
    write_job(tmp_path, 'aaaaaaaa', [3, 2])
    chunks = list(iter_chunks([tmp_path], chunk_size=2))
    assert [chunk.steps.tolist() for chunk in chunks] == [[10, 20], [30], [10, 20]]
    assert [chunk.energies.tolist() for chunk in chunks] == [[0.0, -1.0], [-2.0], [0.0, -1.0]]
    assert [chunk.temperatures.tolist() for chunk in chunks] == [[300.0, 301.0], [302.0], [300.0, 301.0]]
    assert [chunk.max_forces.tolist() for chunk in chunks] == [[0.0, 0.5], [1.0], [0.0, 0.5]]
    np.testing.assert_array_equal(chunks[0].disagreements, [np.nan, 1 / 8])
    np.testing.assert_array_equal(chunks[0].cells, np.eye(3) * np.array([5, 5 + 1 / 3])[:, None, None])
    assert [chunk.shard['replica'] for chunk in chunks] == [0, 0, 1]
    with pytest.raises(ValueError, match='chunk_size is 0'):
        next(iter_chunks([tmp_path], chunk_size=0))


def test_frames_are_counted_across_parts_replicas_and_jobs(tmp_path):
    """The limit of size cuts replicas into parts: nobody who reads sees the cuts."""
    folders = [tmp_path / 'md_0', tmp_path / 'md_1']
    positions = [
        write_job(folders[0], 'aaaaaaaa', [4000, 1, 3000], seed=1, max_megabytes=0.05),
        write_job(folders[1], 'bbbbbbbb', [2500], seed=2, max_megabytes=0.05),
    ]
    positions = np.concatenate(positions).astype('f4').astype(float)
    shards = read_manifest(folders[0])['shards']
    parts = [(shard['replica'], shard['part']) for shard in shards]
    assert parts == sorted(parts) and len(parts) > 4 and parts[-1][1] > 1
    assert max(shard['bytes'] for shard in shards) <= 50_000

    read: Counter[tuple[int, int]] = Counter()
    for chunk in iter_chunks(folders, chunk_size=200):
        begin, replica = read.total(), (chunk.folder_index, chunk.shard['replica'])
        assert chunk.first == read[replica]
        np.testing.assert_array_equal(chunk.positions, positions[begin : begin + len(chunk)])
        np.testing.assert_array_equal(chunk.steps, 10 * (chunk.first + 1 + np.arange(len(chunk))))
        read[replica] += len(chunk)
    assert read == {(0, 0): 4000, (0, 1): 1, (0, 2): 3000, (1, 0): 2500}

    order = np.random.default_rng(0).permutation(9501)[:300]
    frames = load_frames(folders, order)
    np.testing.assert_array_equal([atoms.positions for atoms in frames], positions[order])
    assert [atoms.info['md_job'] for atoms in frames] == ['aaaaaaaa' if i < 7001 else 'bbbbbbbb' for i in order]
    (lone,) = load_frames(folders, [4000])
    assert lone.info['replica'] == 1 and lone.info['step'] == 10


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    """Reading ten times as many frames takes no more memory."""
    peaks = []
    for n_frames in (2000, 20000):
        folder = tmp_path / str(n_frames)
        write_job(folder, 'aaaaaaaa', [n_frames])
        tracemalloc.start()
        assert sum(len(chunk) for chunk in iter_chunks([folder], chunk_size=100)) == n_frames
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] < 1e7
