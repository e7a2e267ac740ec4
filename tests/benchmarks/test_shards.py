"""Frames on disk: how fast they are written and what they take. No time is asserted: machines differ.

``OMP_NUM_THREADS=1 pytest tests/benchmarks -k shards`` prints the tables. Time is CPU time, of one thread.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from aiida_mlip_autopipe.science.frames.shards import ShardReader, ShardWriter

from .conftest import cpu_time
from .thermal_frames import silicon, thermal_blocks

WRITING, MANY, FILTERS = (
    'Shards: writing and reading',
    'Shards: many replicas at once',
    'Shards: compression of positions',
)
N_FRAMES = {1: 50_000, 2: 20_000}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder for shards."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def thermal(repeat: int, n_frames: int) -> np.ndarray:
    return np.concatenate([positions for positions, _ in thermal_blocks(silicon(repeat), n_frames)])


def append(writer: ShardWriter, positions: np.ndarray, cell: np.ndarray, scalars: np.ndarray, first: int = 0) -> None:
    for step, (frame, (energy, temperature, force, disagreement)) in enumerate(zip(positions, scalars, strict=True)):
        writer.append(10 * (first + step), frame, cell, energy, temperature, force, disagreement)


@pytest.mark.parametrize('repeat', N_FRAMES)
def test_shards_writing(benchmark: Any, add_row: Callable[..., None], folder: Path, repeat: int) -> None:
    """One replica, in one process, with and without a flush each 100 frames."""
    atoms, n_frames = silicon(repeat), N_FRAMES[repeat]
    positions = thermal(repeat, n_frames)
    scalars = np.random.default_rng(0).normal(size=(n_frames, 4))
    parts = []

    def write(between: int) -> None:
        writer = ShardWriter(folder, 0, atoms.numbers, atoms.pbc, 1.0)
        for first in range(0, n_frames, between):
            rows = slice(first, first + between)
            append(writer, positions[rows], atoms.cell.array, scalars[rows], first)
            writer.flush()
        parts[:] = writer.close()

    def read() -> None:
        with ShardReader(folder / parts[0]['path']) as reader:
            for first in range(0, n_frames, 256):
                reader.read(slice(first, first + 256))

    benchmark.pedantic(write, args=(n_frames,), rounds=3)
    seconds, flushing, reading = benchmark.stats.stats.min, cpu_time(lambda: write(100)), cpu_time(read)
    assert [part['n_frames'] for part in parts] == [n_frames]
    add_row(
        WRITING,
        frames=f'Si{len(atoms)}',
        **{
            'written/s': round(n_frames / seconds, -2),
            'MB/s': round(positions.nbytes / 2 / seconds / 1e6, 1),
            'written/s, flushed each 100': round(n_frames / flushing, -2),
            'read/s': round(n_frames / reading, -2),
            'bytes/frame': round(parts[0]['bytes'] / n_frames),
            'of float32 positions': f'{parts[0]["bytes"] / (positions.nbytes / 2):.2f}',
        },
    )


def test_shards_many_replicas(add_row: Callable[..., None], folder: Path) -> None:
    """A batch of 1024 replicas of eight atoms, as on a GPU: each gets a frame in turn, all are flushed at intervals."""
    atoms, n_replicas, n_frames = silicon(1), 1024, 200
    positions = thermal(1, n_frames)
    start = time.process_time()
    writers = [ShardWriter(folder, replica, atoms.numbers, atoms.pbc, 1.0) for replica in range(n_replicas)]
    opened = time.process_time() - start
    flushes = []
    for step, frame in enumerate(positions):
        for writer in writers:
            writer.append(step, frame, atoms.cell.array, 0.0, 300.0, 0.0)
        if step % 50 == 0:
            flushes.append(cpu_time(lambda: [writer.flush() for writer in writers], rounds=1))
    written = time.process_time() - start - opened
    closed = [writer.close() for writer in writers]
    assert all(parts[0]['n_frames'] == n_frames for parts in closed)
    add_row(
        MANY,
        replicas=n_replicas,
        **{
            'opening (s)': round(opened, 2),
            'frames/s': round(n_replicas * n_frames / written, -2),
            'one flush of all (s)': round(max(flushes[1:]), 3),
            'closing (s)': round(time.process_time() - start - opened - written, 2),
        },
    )


FILTER_OPTIONS: dict[str, dict[str, Any]] = {
    'none': {},
    'lzf': {'compression': 'lzf'},
    'shuffle, lzf': {'compression': 'lzf', 'shuffle': True},
    'shuffle, gzip 1': {'compression': 'gzip', 'compression_opts': 1, 'shuffle': True},
    'shuffle, gzip 4': {'compression': 'gzip', 'compression_opts': 4, 'shuffle': True},
}


@pytest.mark.parametrize('name', FILTER_OPTIONS)
def test_shards_compression(add_row: Callable[..., None], folder: Path, name: str) -> None:
    """Why shards are compressed as they are: thermal positions of 64 atoms, chunks of 341 frames."""
    positions = thermal(2, 34_100).astype('f4')

    def write() -> None:
        with h5py.File(folder / 'a.h5', 'w') as file:
            target = file.create_dataset('a', positions.shape, 'f4', chunks=(341, 64, 3), **FILTER_OPTIONS[name])
            for first in range(0, len(positions), 341):
                target[first : first + 341] = positions[first : first + 341]

    seconds = cpu_time(write)
    size = (folder / 'a.h5').stat().st_size
    with h5py.File(folder / 'a.h5') as file:
        assert np.array_equal(file['a'][-341:], positions[-341:])
    add_row(
        FILTERS,
        filters=name,
        left=f'{size / positions.nbytes:.3f}',
        **{'MB/s': round(positions.nbytes / seconds / 1e6)},
    )
