"""Frames of many replicas read back from their shards, in chunks: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from aiida_mlip_autopipe.science.frames.h5md import ShardReader
from aiida_mlip_autopipe.science.frames.hashes import content_hash
from aiida_mlip_autopipe.science.frames.manifest import read_manifest
from aiida_mlip_autopipe.science.frames.records import ShardEntry

__all__ = ['FrameChunk', 'iter_chunks', 'load_frames']


@dataclass(frozen=True)
class FrameChunk:
    """Consecutive frames of one replica.

    Attributes
    ----------
    numbers : ndarray of int, shape (N,)
    positions : ndarray of float64, shape (n, N, 3), in Å
    cells : ndarray of float64, shape (n, 3, 3), in Å
    pbc : ndarray of bool, shape (3,)
    folder_index : int
        Which of the folders.
    shard : ShardEntry
        Their shard's entry in the manifest.
    first : int
        Number of the first frame within the replica, all its parts.
    steps : ndarray of int, shape (n,)
    energies : ndarray, shape (n,), in eV
    temperatures : ndarray, shape (n,), in K
    max_forces : ndarray, shape (n,), in eV/Å
        Of each frame the norm of the largest force on an atom.
    disagreements : ndarray, shape (n,), in eV/Å
        Of each frame how far the potentials of a committee differ in the forces; NaN where there was none.
    moments : ndarray or None, shape (N,), in µB
        From which a label of each frame starts.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cells: np.ndarray
    pbc: np.ndarray
    folder_index: int
    shard: ShardEntry
    first: int
    steps: np.ndarray
    energies: np.ndarray
    temperatures: np.ndarray
    max_forces: np.ndarray
    disagreements: np.ndarray
    moments: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.positions)


def iter_chunks(folders: Iterable[str | Path], chunk_size: int = 256) -> Iterator[FrameChunk]:
    """Yield all frames: folders in order, shards in the manifest's order, frames in time; constant memory.

    Checksums are not compared here: call `read_manifest` once before.
    """
    if chunk_size < 1:
        raise ValueError(f'chunk_size is {chunk_size}: at least 1 frame is needed')
    for folder_index, folder in enumerate(map(Path, folders)):
        first = 0
        for shard in read_manifest(folder, verify=False)['shards']:
            first = first if shard['part'] else 0
            with ShardReader(folder / shard['path']) as reader:
                for row in range(0, shard['n_frames'], chunk_size):
                    rows = slice(row, min(row + chunk_size, shard['n_frames']))
                    yield _read(reader, rows, folder_index, shard, first + row)
            first += shard['n_frames']


def load_frames(folders: Iterable[str | Path], indices: Any) -> list[Atoms]:
    """Return single frames by their global index, in the order asked, with ``info`` filled as for candidates.

    Parameters
    ----------
    folders : iterable of path
        The folders, in the same order as for `iter_chunks`.
    indices : array_like of int
        Global indices.

    Raises
    ------
    ValueError
        If an index is negative or not smaller than the number of frames.
    """
    wanted = np.asarray(indices, dtype=int).reshape(-1)
    paths = [Path(folder) for folder in folders]
    manifests = [read_manifest(path, verify=False) for path in paths]
    shards = [(i, manifest['md_job'], shard) for i, manifest in enumerate(manifests) for shard in manifest['shards']]
    ends = np.cumsum([shard['n_frames'] for _, _, shard in shards], dtype=int)
    total = int(ends[-1]) if len(ends) else 0
    if wanted.size and (wanted.min() < 0 or wanted.max() >= total):
        raise ValueError(
            f'indices go from {wanted.min()} to {wanted.max()}, there are {total} frames (0 to {total - 1})'
        )
    owner = np.searchsorted(ends, wanted, side='right')
    frames: dict[int, Atoms] = {}
    for which in np.unique(owner):
        folder_index, md_job, shard = shards[which]
        places = np.flatnonzero(owner == which)
        local = wanted[places] - (ends[which] - shard['n_frames'])
        rows, inverse = np.unique(local, return_inverse=True)
        with ShardReader(paths[folder_index] / shard['path']) as reader:
            chunk = _read(reader, rows, folder_index, shard, 0)
        for place, row in zip(places, inverse, strict=True):
            frames[int(place)] = _frame(chunk, int(row), md_job)
    return [frames[place] for place in range(len(wanted))]


def _read(reader: ShardReader, rows: Any, folder_index: int, shard: ShardEntry, first: int) -> FrameChunk:
    columns = reader.read(rows)
    return FrameChunk(
        numbers=reader.numbers,
        positions=columns['positions'].astype(float),
        cells=columns['cell'],
        pbc=reader.pbc,
        folder_index=folder_index,
        shard=shard,
        first=first,
        steps=columns['step'],
        energies=columns['energy'],
        temperatures=columns['temperature'],
        max_forces=columns['max_force'],
        disagreements=columns['disagreement'],
        moments=reader.moments,
    )


def _frame(chunk: FrameChunk, row: int, md_job: str) -> Atoms:
    shard, step = chunk.shard, int(chunk.steps[row])
    atoms = Atoms(numbers=chunk.numbers, positions=chunk.positions[row], cell=chunk.cells[row], pbc=chunk.pbc)
    if chunk.moments is not None:
        atoms.set_initial_magnetic_moments(chunk.moments)
    name = content_hash(chunk.numbers, chunk.positions[row], chunk.cells[row], chunk.pbc)
    atoms.info = {
        'frame_id': f'{md_job}-r{shard["replica"]:03d}-s{step:06d}-{name}',
        'origin': shard['origin'],
        'config_type': 'candidate',
        'md_job': md_job,
        'seed_id': shard['seed_id'],
        'replica': shard['replica'],
        'step': step,
        'temperature_K': shard['temperature_K'],
        'integrator': shard['integrator'],
    }
    if (end := shard['temperature_end_K']) is not None:
        atoms.info['temperature_end_K'] = end
    if (pressure := shard['pressure_GPa']) is not None:
        atoms.info['pressure_GPa'] = pressure
    if np.isfinite(chunk.disagreements[row]):
        atoms.info['disagreement_eV_A'] = float(chunk.disagreements[row])
    return atoms
