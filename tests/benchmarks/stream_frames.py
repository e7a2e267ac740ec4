"""A long trajectory, read from disk and described chunk by chunk: time, and memory of the whole process.

``OMP_NUM_THREADS=1 python -m tests.benchmarks.stream_frames --frames 1000000``

Writes an H5MD shard of rattled silicon (64 atoms) in a temporary folder, lists it in a manifest as often as it takes,
and streams it through SOAP with ``average='inner'``, reducing to the mean and the spread of each feature.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from ase.build import bulk

from aiida_mlip_autopipe.science.descriptors import SOAP
from aiida_mlip_autopipe.science.frames import SCHEMA_VERSION, iter_chunks, write_manifest
from aiida_mlip_autopipe.science.frames.shards import ShardWriter

SHARD_FRAMES = 20_000
REPORTS = 10


def write_shards(folder: Path, n_frames: int) -> None:
    """Write a shard, and a manifest that holds at least so many frames."""
    atoms = bulk('Si', 'diamond', a=5.43, cubic=True) * (2, 2, 2)
    generator = np.random.default_rng(0)
    size = min(SHARD_FRAMES, n_frames)
    writer = ShardWriter(folder, 0, atoms.numbers, atoms.pbc, timestep_fs=1.0)
    for step in range(size):
        displacements = generator.normal(scale=0.1, size=atoms.positions.shape)
        writer.append(step, atoms.positions + displacements, atoms.cell.array, 0.0, 300.0, 0.0)
    (shard,) = writer.close()
    write_manifest(folder, {'schema_version': SCHEMA_VERSION, 'shards': [shard] * -(-n_frames // size)})


def main() -> None:
    """Stream, and print progress and figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--frames', type=int, default=100_000)
    parser.add_argument('--threads', type=int, default=1)
    arguments = parser.parse_args()
    soap = SOAP(['Si'], r_cut=5.0, n_max=8, l_max=6, sigma=0.5, average='inner')
    n_features = soap.get_number_of_features()
    count, total, squares = 0, np.zeros(n_features), np.zeros(n_features)
    with tempfile.TemporaryDirectory() as name:
        write_shards(Path(name), arguments.frames)
        soap.create(bulk('Si'))  # compiles
        start, cpu_start = time.perf_counter(), time.process_time()
        for described in soap.stream(iter_chunks([name], 256), n_jobs=arguments.threads):
            before = count
            count += len(described.rows)
            total += described.rows.sum(axis=0)
            squares += (described.rows**2).sum(axis=0)
            if before * REPORTS // arguments.frames != count * REPORTS // arguments.frames:
                print(f'{count} frames, {time.perf_counter() - start:.1f} s', flush=True)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    spread = np.sqrt(squares / count - (total / count) ** 2)
    print(f'mean spread of the features over the frames: {spread.mean():.3g}')
    print(f'{count} frames of 64 atoms: {wall:.1f} s wall, {cpu:.1f} s CPU, {cpu / count / 64 * 1e6:.2f} µs per atom')
    print(f'projected for a million frames: {wall / count * 1e6 / 3600:.3f} h')
    print(f'peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB')


if __name__ == '__main__':
    main()
