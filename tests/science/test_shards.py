"""Shards of a replica: written in parts, cut, killed, filled up to the brim, taken over by another job."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import MDAnalysis
import numpy as np
import pytest
from ase.build import bulk

from aiida_mlip_autopipe.science.frames.h5md import tail_path
from aiida_mlip_autopipe.science.frames.shards import (
    ManifestError,
    ShardReader,
    ShardWriter,
    adopt_parts,
    file_sha256,
    find_parts,
    first_frames,
)
from tests.support.md_job import write_md_job

SMALL = 0.05
NOISE = np.random.default_rng(0).normal(scale=0.1, size=(997, 2, 3))
CELL = np.array([[5.4, 0, 0], [0.3, 5.5, 0], [0.2, 0.4, 5.6]])


def writer_of(folder, **options):
    return ShardWriter(folder, 3, [14, 14], [True, True, False], 2.0, **options)


def append(writer, first, last):
    """Append frames whose every number follows from their own."""
    for i in range(first, last):
        writer.append(i, np.full((2, 3), i) + noise(i), CELL * (1 + i), -float(i), 300.0 + i, i / 2, i / 4)


def noise(i):
    """Return displacements like thermal ones: they compress no better."""
    return NOISE[i % len(NOISE)]


def check(folder, parts, n):
    """Make sure that parts hold the first n frames, and return them as one mapping of arrays."""
    columns = []
    for number, part in enumerate(parts):
        assert part['part'] == number and part['path'] == f'shards/r003.{number}.h5'
        with ShardReader(folder / part['path']) as reader:
            assert reader.n_frames == part['n_frames'] > 0
            assert reader.numbers.tolist() == [14, 14] and reader.pbc.tolist() == [True, True, False]
            columns.append(reader.read(slice(None)))
    frames = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
    i = np.arange(n)
    np.testing.assert_array_equal(frames['step'], i)
    np.testing.assert_array_equal(frames['time'], 2.0 * i)
    positions = noise(i) + i[:, None, None]
    np.testing.assert_array_equal(frames['positions'], positions.astype('f4'))
    np.testing.assert_array_equal(frames['cell'], CELL * (1 + i[:, None, None]))
    np.testing.assert_array_equal(frames['energy'], -i)
    np.testing.assert_array_equal(frames['temperature'], 300.0 + i)
    np.testing.assert_array_equal(frames['max_force'], i / 2)
    np.testing.assert_array_equal(frames['disagreement'], i / 4)
    return frames


def names(folder):
    return sorted(path.name for path in (folder / 'shards').iterdir())


# ------------------------------------------------------------------------------------------------------------ writing


def test_a_shard_is_h5md(tmp_path):
    writer = writer_of(tmp_path)
    append(writer, 1, 5)
    (part,) = writer.close()
    path = tmp_path / part['path']
    assert part == {
        'path': 'shards/r003.0.h5',
        'part': 0,
        'n_frames': 4,
        'bytes': path.stat().st_size,
        'sha256': file_sha256(path),
    }
    with h5py.File(path) as file:
        assert file['h5md'].attrs['version'].tolist() == [1, 1]
        assert file['particles/all/position/value'].shape == (4, 2, 3)
        assert file['particles/all/position/value'].dtype == np.float32
        assert file['particles/all/position/value'].compression == 'gzip'
        assert file['particles/all/position/value'].attrs['unit'] == 'angstrom'
        assert file['particles/all/box/edges/time'][()].tolist() == [2.0, 4.0, 6.0, 8.0]
        assert file['observables/temperature/value'][()].tolist() == [301.0, 302.0, 303.0, 304.0]
        assert file['observables/max_force/value'].attrs['unit'] == 'eV angstrom-1'
        assert file['observables/disagreement/value'][()].tolist() == [0.25, 0.5, 0.75, 1.0]
        assert file['observables/disagreement/step'][()].tolist() == [1, 2, 3, 4]
        assert list(file['particles/all/box'].attrs['boundary']) == ['periodic', 'periodic', 'none']


def test_mdanalysis_reads_a_shard(tmp_path):
    atoms = bulk('Si', cubic=True)
    atoms.set_cell(CELL, scale_atoms=True)
    positions = atoms.positions + np.random.default_rng(0).normal(scale=0.1, size=(1100, 8, 3))
    write_md_job(tmp_path, 'aaaaaaaa', [(atoms, [(10 * i, positions[i], CELL, -i, 300, 0) for i in range(1100)])])
    universe = MDAnalysis.Universe.empty(8).load_new(str(tmp_path / 'shards/r000.0.h5'), format='H5MD')
    assert len(universe.trajectory) == 1100
    for i in (0, 3, 1023, 1024, 1099):
        frame = universe.trajectory[i]
        assert frame.time == pytest.approx(10 * i * 2.0 / 1000)  # in ps
        assert frame.data['step'] == 10 * i and frame.data['potential_energy'] == -i
        np.testing.assert_array_equal(frame.positions, positions[i].astype('f4'))
        np.testing.assert_allclose(frame.dimensions, atoms.cell.cellpar(), rtol=1e-6)


@pytest.mark.parametrize('n', [1, 15, 4000, 5200])
def test_parts_stay_below_the_limit_and_hold_all_frames(tmp_path, n):
    writer = writer_of(tmp_path, max_megabytes=SMALL)
    append(writer, 0, n)
    assert writer.n_frames == n
    parts = writer.close()
    check(tmp_path, parts, n)
    assert max(part['bytes'] for part in parts) <= 1e6 * SMALL
    assert len(parts) > 2 or n < 4000
    assert names(tmp_path) == sorted(Path(part['path']).name for part in parts)
    assert all(part['bytes'] == (tmp_path / part['path']).stat().st_size for part in parts)


def test_a_replica_without_frames_leaves_no_file(tmp_path):
    writer = writer_of(tmp_path)
    assert writer.close() == writer.parts == []
    append(writer, 0, 3)
    writer.flush()
    writer.truncate(0)
    assert writer.close() == [] and names(tmp_path) == []


def test_what_is_flushed_is_on_disk_and_the_rest_follows(tmp_path):
    writer = writer_of(tmp_path)
    append(writer, 0, 5)
    assert writer.parts == []
    writer.flush()
    assert writer.parts == find_parts(tmp_path, 3) == [{'path': 'shards/r003.0.h5', 'part': 0, 'n_frames': 5}]
    append(writer, 5, 8)
    assert writer.n_frames == 8 and find_parts(tmp_path, 3)[0]['n_frames'] == 5
    append(writer, 8, 1300)  # more than a chunk
    writer.flush()
    assert writer.parts == find_parts(tmp_path, 3)
    check(tmp_path, writer.parts, 1300)
    check(tmp_path, writer.close(), 1300)


def test_a_frame_a_second_after_the_last_flush_brings_all_to_the_disk(tmp_path):
    writer = writer_of(tmp_path)
    append(writer, 0, 5)
    assert writer.parts == find_parts(tmp_path, 3)[1:] == []
    time.sleep(1.05)
    append(writer, 5, 6)
    check(tmp_path, writer.parts, 6)


def test_frames_are_read_across_the_file_and_its_tail(tmp_path):
    writer = writer_of(tmp_path)
    append(writer, 0, 1032)
    writer.flush()
    assert tail_path(tmp_path / 'shards/r003.0.h5').stat().st_size > 0
    with ShardReader(tmp_path / 'shards/r003.0.h5') as reader:
        for rows in (
            [3, 1023, 1024, 1031],
            [3],
            [1026],
            slice(1022, 1027),
            slice(0, 3),
            slice(1025, None),
            slice(1100, 1200),
        ):
            expected = np.arange(1032)[rows]
            assert reader.read(rows)['step'].tolist() == expected.tolist()
            assert len(reader.read(rows)['positions']) == len(expected)
    writer.close()


@pytest.mark.parametrize('flushed', [True, False])
@pytest.mark.parametrize('n', [5999, 5200, 5120, 4500, 4096, 2000, 3, 0])
def test_truncate_keeps_the_first_frames(tmp_path, n, flushed):
    """In memory, in the tail, within the part that is written, in one that is finished; then more frames follow."""
    writer = writer_of(tmp_path, max_megabytes=0.25)
    append(writer, 0, 6000)
    assert [part['n_frames'] for part in writer.parts[:1]] == [4096]
    if flushed:
        writer.flush()
    writer.truncate(6000)
    assert writer.n_frames == 6000
    writer.truncate(n)
    assert writer.n_frames == n
    if flushed and n:
        check(tmp_path, writer.parts, n)
    append(writer, n, n + 40)
    writer.flush()
    check(tmp_path, writer.parts, n + 40)
    parts = writer.close()
    check(tmp_path, parts, n + 40)
    assert names(tmp_path) == [Path(part['path']).name for part in parts]
    assert all(part['sha256'] == file_sha256(tmp_path / part['path']) for part in parts)


def test_first_frames_of_parts():
    parts = [{'path': str(part), 'part': part, 'n_frames': 10, 'bytes': 5, 'sha256': 'a'} for part in range(3)]
    assert first_frames(parts, 30) == first_frames(parts, 99) == parts
    assert first_frames(parts, 20) == parts[:2]
    assert first_frames(parts, 13) == [parts[0], {'path': '1', 'part': 1, 'n_frames': 3}]
    assert first_frames(parts, 0) == []


# ---------------------------------------------------------------------------------------------- kill and full disk

WRITE = """
import os, signal, sys
from pathlib import Path
from tests.science.test_shards import append, writer_of

def write(folder, told, n=10**9):
    writer = writer_of(folder, max_megabytes=0.05)
    for first in range(0, n, 7):
        append(writer, first, first + 7)
        writer.flush()
        told(writer.n_frames)
    told(n - 600)
    writer.truncate(n - 600)
    writer.close()

"""
WRITE_ON = WRITE + 'write(Path(sys.argv[1]), lambda n: print(n, flush=True))'
WRITE_AND_DIE = (
    WRITE
    + """
for number in range(int(sys.argv[2])):
    folder = Path(sys.argv[1]) / str(number)
    folder.mkdir()
    if os.fork() == 0:
        told = os.open(folder / 'told', os.O_CREAT | os.O_WRONLY)
        signal.setitimer(signal.ITIMER_REAL, (number + 1) * float(sys.argv[3]) / 1000)
        write(folder, lambda n: os.write(told, b'%d\\n' % n), 1500)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
)


def start(program, *arguments):
    command = [sys.executable, '-c', program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def check_what_is_left(folder, n):
    """Make sure that the n frames that were flushed can be read, and be taken over by another job."""
    parts = find_parts(folder, 3)
    n_left = sum(part['n_frames'] for part in parts)
    assert n_left >= n
    if n:
        check(folder, [part for part in parts if part['n_frames']], n_left)
        adopted = adopt_parts(folder, folder / 'next', first_frames(parts, n))
        check(folder / 'next', adopted, n)
        assert names(folder / 'next') == sorted(Path(part['path']).name for part in adopted)
        for part in adopted:
            with h5py.File(folder / 'next' / part['path']) as file:
                assert len(file['particles/all/position/step']) == part['n_frames']


@pytest.mark.parametrize('n', [10, 1300, 2500])
def test_a_killed_writer_loses_nothing_that_was_flushed(tmp_path, n):
    process = start(WRITE_ON, tmp_path)
    for line in process.stdout:
        if int(line) >= n:
            break
    os.kill(process.pid, signal.SIGKILL)
    told = [int(line), *map(int, process.stdout.read().split())]
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert told[-1] >= n
    check_what_is_left(tmp_path, told[-1])


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_nothing_that_was_flushed(tmp_path):
    """In the middle of a chunk, at the end of a part, while it is cut: 100 moments, half a millisecond apart."""
    process = start(WRITE_AND_DIE, tmp_path, 100, 0.5)
    statuses = [int(line) for line in process.communicate()[0].split()]
    assert process.returncode == 0 and len(statuses) == 100
    assert statuses.count(-signal.SIGALRM) > 40
    for number in range(100):
        told = [0, *map(int, (tmp_path / str(number) / 'told').read_text().split())]
        check_what_is_left(tmp_path / str(number), told[-1])


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder on a disk of 2 MB."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    as_root = [] if os.geteuid() == 0 else ['sudo', '-n']
    subprocess.run([*as_root, 'mount', '-t', 'tmpfs', '-o', 'size=2m,mode=777', 'tmpfs', str(folder)], check=True)
    yield folder
    subprocess.run([*as_root, 'umount', str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_what_was_flushed_stays(small_disk, tmp_path):
    writer = writer_of(small_disk)
    n_flushed = 0
    with pytest.raises(OSError, match='No space left on device'):
        for first in range(0, 200_000, 100):
            append(writer, first, first + 100)
            writer.flush()
            n_flushed = writer.n_frames
    with pytest.raises(OSError, match='No space left on device'):
        writer.close()
    (part,) = find_parts(small_disk, 3)
    assert part['n_frames'] >= n_flushed > 5000
    check(small_disk, [part], part['n_frames'])
    check(tmp_path, adopt_parts(small_disk, tmp_path, writer.parts), n_flushed)


# ----------------------------------------------------------------------------------------------------------- adoption


@pytest.fixture
def parent(tmp_path):
    """Return the folder of a job that was interrupted in the third part of a replica, and what its checkpoint says."""
    folder = tmp_path / 'parent'
    writer = writer_of(folder, max_megabytes=0.25)
    while len(writer.parts) < 3 or writer.parts[2]['n_frames'] < 1200:
        append(writer, writer.n_frames, writer.n_frames + 1200)
        writer.flush()
    parts = writer.parts
    append(writer, writer.n_frames, writer.n_frames + 9)
    writer.flush()
    return folder, parts


def digests(folder):
    return {path.name: file_sha256(path) for path in (folder / 'shards').iterdir()}


def test_finished_parts_are_linked_and_a_cut_one_is_written_anew(parent, tmp_path):
    folder, parts = parent
    n = sum(part['n_frames'] for part in parts)
    before = digests(folder)
    adopted = adopt_parts(folder, tmp_path, parts)
    assert digests(folder) == before
    check(tmp_path, adopted, n)
    assert adopted[:2] == parts[:2]
    same = [(folder / part['path']).samefile(tmp_path / part['path']) for part in adopted]
    assert same == [True, True, False]
    assert all(part['sha256'] == file_sha256(tmp_path / part['path']) for part in adopted)

    writer = writer_of(tmp_path, max_megabytes=0.25, parts=adopted)
    append(writer, n, n + 500)
    writer.truncate(n + 400)
    check(tmp_path, writer.close(), n + 400)
    assert digests(folder) == before
    shutil.rmtree(folder)
    check(tmp_path, find_parts(tmp_path, 3), n + 400)


def test_cutting_an_adopted_part_leaves_the_parent_alone(parent, tmp_path):
    folder, parts = parent
    before = digests(folder)
    writer = writer_of(tmp_path, parts=adopt_parts(folder, tmp_path, parts))
    writer.truncate(parts[0]['n_frames'] - 1)
    check(tmp_path, writer.close(), parts[0]['n_frames'] - 1)
    assert digests(folder) == before and names(tmp_path) == ['r003.0.h5']


def test_parts_are_adopted_where_they_are_and_more_than_once(parent, tmp_path):
    folder, parts = parent
    n = sum(part['n_frames'] for part in parts)
    for _ in range(2):
        check(tmp_path, adopt_parts(folder, tmp_path, parts), n)
    for _ in range(2):
        adopted = adopt_parts(folder, folder, parts)
        check(folder, adopted, n)
    assert names(folder) == ['r003.0.h5', 'r003.1.h5', 'r003.2.h5']
    assert adopt_parts(folder, tmp_path, adopted) == adopted
    assert adopt_parts(folder, tmp_path, [{**parts[0], 'n_frames': 0}]) == []


def test_parts_are_copied_where_links_do_not_reach(parent, small_disk):
    folder, parts = parent
    adopted = adopt_parts(folder, small_disk, parts)
    check(small_disk, adopted, sum(part['n_frames'] for part in parts))
    assert adopted[0]['bytes'] == parts[0]['bytes'] and (folder / parts[0]['path']).stat().st_nlink == 1


def test_a_missing_part_is_named(parent, tmp_path):
    folder, parts = parent
    (folder / parts[1]['path']).unlink()
    with pytest.raises(ManifestError, match=r'r003\.1\.h5 does not exist'):
        adopt_parts(folder, tmp_path, parts)
    assert find_parts(folder, 3) == [{name: parts[0][name] for name in ('path', 'part', 'n_frames')}]


@pytest.mark.parametrize('number', [0, 2])
def test_fewer_frames_than_stated_are_noticed(parent, tmp_path, number):
    folder, parts = parent
    held = parts[number]['n_frames'] + (9 if number == 2 else 0)
    stated = [{'path': parts[number]['path'], 'part': number, 'n_frames': held + 1}]
    with pytest.raises(ManifestError, match=rf'r003\.{number}\.h5 holds {held} frames, {held + 1} were written'):
        adopt_parts(folder, tmp_path, stated)
    assert not (tmp_path / parts[number]['path']).exists()


@pytest.mark.parametrize('number', [0, 2])
@pytest.mark.parametrize('known', [True, False])
def test_a_corrupt_part_is_noticed(parent, tmp_path, number, known):
    """By the checksum of the file where it is stated, otherwise by those within the file."""
    folder, parts = parent
    path = folder / parts[number]['path']
    content = bytearray(path.read_bytes())
    with h5py.File(path, swmr=True, locking=False) as file:
        chunk = file['particles/all/position/value'].id.get_chunk_info(0)
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(content)
    part = parts[number] if known else {name: parts[number][name] for name in ('path', 'part', 'n_frames')}
    with pytest.raises(ManifestError, match=rf'r003\.{number}\.h5 cannot be read'):
        adopt_parts(folder, tmp_path, [part])
    assert not (tmp_path / 'shards').exists() or names(tmp_path) == []


@pytest.mark.parametrize('content', [b'', b'not HDF5', None])
def test_what_is_no_shard_is_named(parent, tmp_path, content):
    folder, parts = parent
    path = folder / parts[0]['path']
    path.write_bytes(path.read_bytes()[:9000] if content is None else content)
    with pytest.raises(ManifestError, match=r'r003\.0\.h5 cannot be read'):
        adopt_parts(folder, tmp_path, parts)
