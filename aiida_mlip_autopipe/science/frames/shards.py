"""Shards: the H5MD files of one replica, written so that a kill at any moment loses no frame that was flushed.

The shards of a replica are its parts: a part that has reached the size limit is closed and another begins. Frames are
gathered until they fill a chunk and then go to the H5MD file; those gathered so far go to its tail when they are
flushed (see `h5md`). A file is open only while it is written, so that a thousand replicas need no more open files than
one. On a full disk the error comes before HDF5 writes, and what was flushed stays readable.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from aiida_mlip_autopipe.science.frames.h5md import (
    ManifestError,
    ShardReader,
    append_chunk,
    empty_shard,
    record_type,
    tail_path,
)
from aiida_mlip_autopipe.science.frames.hashes import file_sha256

__all__ = ['ShardReader', 'ShardWriter', 'adopt_parts', 'find_parts', 'first_frames']

FOLDER = 'shards'
CHUNK_BYTES = 262144
MIN_CHUNK_FRAMES, MAX_CHUNK_FRAMES = 16, 1024
FLUSH_SECONDS = 1.0


class ShardWriter:
    """Appends the frames of one replica to its shards.

    Parameters
    ----------
    folder : path
        Folder of the job; the files are ``shards/r003.0.h5``, ``shards/r003.1.h5`` ... in it.
    replica : int
        Index of the replica.
    numbers : array_like of int, shape (N,)
        Atomic numbers.
    pbc : array_like of bool, shape (3,)
        Periodic directions.
    timestep_fs : float
        Time of one step, in fs.
    max_megabytes : float
        Size limit of a part, in MB of 1e6 bytes; a part holds at least one chunk.
    parts : iterable of dict
        Parts that exist already, as `adopt_parts` or `close` returned them. They stay as they are: another begins.
    moments : array_like, shape (N,), optional
        Moments of the atoms from which a label starts, in µB; all frames have them.
    """

    def __init__(
        self,
        folder: str | Path,
        replica: int,
        numbers: Any,
        pbc: Any,
        timestep_fs: float,
        *,
        max_megabytes: float = 256.0,
        parts: Iterable[dict[str, Any]] = (),
        moments: Any = None,
    ) -> None:
        self._folder = Path(folder)
        self._replica = replica
        self._timestep_fs = timestep_fs
        self._max_bytes = int(1e6 * max_megabytes)
        self._finished = [dict(part) for part in parts]
        numbers = np.asarray(numbers)
        record = record_type(len(numbers))
        n_rows = min(CHUNK_BYTES, self._max_bytes // 4) // max(record['positions'].itemsize, 1)
        n_rows = int(np.clip(n_rows, MIN_CHUNK_FRAMES, MAX_CHUNK_FRAMES))
        kept = None if moments is None else tuple(np.asarray(moments, dtype=float).tolist())
        self._empty = _empty_shard(tuple(numbers.tolist()), tuple(np.asarray(pbc, dtype=bool).tolist()), n_rows, kept)
        self._gathered = np.zeros(n_rows, record)
        self._columns = {name: self._gathered[name] for name in record.names or ()}
        self._path: Path | None = None
        self._n_whole = self._n_gathered = self._n_tail = 0
        self._next_flush = 0.0

    @property
    def n_frames(self) -> int:
        """Frames of the whole replica, all parts, flushed or not."""
        return self._n_finished + self._n_whole + self._n_gathered

    @property
    def _n_finished(self) -> int:
        return sum(part['n_frames'] for part in self._finished)

    @property
    def parts(self) -> list[dict[str, Any]]:
        """What is on disk: path, part and n_frames of each part; bytes and sha256 too of those that are finished."""
        entries = [dict(part) for part in self._finished]
        if self._path is not None and self._n_whole + self._n_tail:
            entries.append(_entry(self._path, self._n_whole + self._n_tail))
        return entries

    def append(
        self,
        step: int,
        positions: Any,
        cell: Any,
        energy: float,
        temperature: float,
        max_force: float,
        disagreement: float = float('nan'),
    ) -> None:
        """Take a frame; it is on disk once its chunk is full, or with the first frame a second after the last flush.

        Parameters
        ----------
        step : int
            Step of the replica.
        positions : array_like, shape (N, 3)
            In Å.
        cell : array_like, shape (3, 3)
            Lattice vectors as rows, in Å.
        energy, temperature, max_force, disagreement : float
            In eV, K, eV/Å and eV/Å.

        Raises
        ------
        OSError
            If the disk is full; what was flushed stays readable.
        """
        if self._path is None:
            self._path = self._begin()
        if self._n_gathered == len(self._gathered):  # an earlier attempt failed
            self._write_gathered()
        row, columns = self._n_gathered, self._columns
        columns['number'][row] = self._n_whole + row
        columns['step'][row], columns['time'][row] = step, step * self._timestep_fs
        columns['positions'][row], columns['cell'][row] = positions, cell
        columns['energy'][row], columns['temperature'][row] = energy, temperature
        columns['max_force'][row], columns['disagreement'][row] = max_force, disagreement
        self._n_gathered += 1
        if self._n_gathered == len(self._gathered):
            self._write_gathered()
            if self._path.stat().st_size + self._gathered.nbytes > self._max_bytes:
                self._finish()
        elif time.monotonic() >= self._next_flush:
            self.flush()

    def _begin(self) -> Path:
        """Return the path of another, empty part."""
        number = self._finished[-1]['part'] + 1 if self._finished else 0
        path = self._folder / FOLDER / f'r{self._replica:03d}.{number}.h5'
        partial = path.with_suffix('.new')
        path.parent.mkdir(parents=True, exist_ok=True)
        tail_path(path).unlink(missing_ok=True)
        partial.write_bytes(self._empty)
        partial.replace(path)
        self._next_flush = time.monotonic() + FLUSH_SECONDS
        return path

    def flush(self) -> None:
        """Bring everything appended to the disk: readable from now on, whatever becomes of this process."""
        if self._path is not None and self._n_tail < self._n_gathered:
            with tail_path(self._path).open('r+b' if self._n_tail else 'wb') as tail:
                tail.seek(self._n_tail * self._gathered.itemsize)
                tail.write(self._gathered[self._n_tail : self._n_gathered].tobytes())
                tail.truncate()
            self._n_tail = self._n_gathered
        self._next_flush = time.monotonic() + FLUSH_SECONDS

    def _write_gathered(self) -> None:
        """Move what was gathered into the H5MD file."""
        assert self._path is not None
        append_chunk(self._path, self._gathered[: self._n_gathered])
        self._n_whole += self._n_gathered
        self._n_gathered = self._n_tail = 0
        self._next_flush = time.monotonic() + FLUSH_SECONDS

    def _finish(self) -> None:
        """Close the part; the next frame begins another."""
        if self._path is None:
            return
        if self._n_gathered:
            self._write_gathered()
        if self._n_whole:
            tail_path(self._path).unlink(missing_ok=True)
            self._finished.append(_sealed(self._folder, _entry(self._path, self._n_whole)))
        else:
            _remove(self._path)
        self._path, self._n_whole = None, 0

    def truncate(self, n: int) -> None:
        """Keep the first ``n`` frames of the replica."""
        n = max(n, 0)
        n_left = n - self._n_finished - self._n_whole
        if n_left >= self._n_gathered:
            return
        if n_left >= 0:
            self._n_gathered = n_left
            if self._path is not None and self._n_tail > n_left:
                os.truncate(tail_path(self._path), n_left * self._gathered.itemsize)
                self._n_tail = n_left
            return
        self._finish()
        kept = first_frames(self._finished, n)
        for part in self._finished[len(kept) :]:
            _remove(self._folder / part['path'])
        if kept and 'sha256' not in kept[-1]:
            path = self._folder / kept[-1]['path']
            _rewrite(path, path, kept[-1]['n_frames'])
            kept[-1] = _sealed(self._folder, kept[-1])
        self._finished = kept

    def close(self) -> list[dict[str, Any]]:
        """Bring everything to the disk; return path, part, n_frames, bytes and sha256 of each part.

        Raises
        ------
        OSError
            If the disk is full; what was flushed stays readable, by `find_parts` and `adopt_parts`.
        """
        self._finish()
        return [dict(part) for part in self._finished]


@lru_cache(maxsize=8)
def _empty_shard(
    numbers: tuple[int, ...], pbc: tuple[bool, ...], n_rows: int, moments: tuple[float, ...] | None
) -> bytes:
    """Return what all replicas of one composition begin with."""
    return empty_shard(np.array(numbers), np.array(pbc), n_rows, None if moments is None else np.array(moments))


def _entry(path: Path, n_frames: int) -> dict[str, Any]:
    return {'path': f'{FOLDER}/{path.name}', 'part': int(path.stem.rpartition('.')[2]), 'n_frames': n_frames}


def _sealed(folder: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a finished part with its size and checksum."""
    path = folder / entry['path']
    return entry | {'bytes': path.stat().st_size, 'sha256': file_sha256(path)}


def _remove(path: Path) -> None:
    path.unlink()
    tail_path(path).unlink(missing_ok=True)


def _rewrite(source: Path, target: Path, n_frames: int) -> None:
    """Write the first frames of a shard as another, or in its place: that is there complete, or as it was."""
    partial = target.with_suffix('.new')
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with ShardReader(source) as reader:
            partial.write_bytes(empty_shard(reader.numbers, reader.pbc, reader.n_rows, reader.moments))
            for frames in reader.chunks(n_frames):
                append_chunk(partial, frames)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    tail_path(target).unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------- parts left on disk


def first_frames(parts: Iterable[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """Return the entries of parts for the first ``n`` frames; that of a part to be cut is without bytes and sha256."""
    kept = []
    for part in parts:
        n_kept = min(part['n_frames'], n)
        if n_kept == part['n_frames']:
            kept.append(dict(part))
        elif n_kept > 0:
            kept.append({'path': part['path'], 'part': part['part'], 'n_frames': n_kept})
        n -= n_kept
    return kept


def find_parts(folder: str | Path, replica: int) -> list[dict[str, Any]]:
    """Return path, part and n_frames of what a replica left on disk: in order, up to the first that is unreadable."""
    found: list[dict[str, Any]] = []
    while True:
        path = Path(folder) / FOLDER / f'r{replica:03d}.{len(found)}.h5'
        try:
            with ShardReader(path) as reader:
                found.append(_entry(path, reader.n_frames))
        except ManifestError:
            return found


def adopt_parts(parent: str | Path, folder: str | Path, parts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bring the parts of an interrupted replica from one job's folder into another's.

    A finished part is linked, or copied where that is impossible; one that its writer did not close, or that holds more
    frames than stated, is written anew. Nothing in the folder of the parent changes, unless it is the same folder.

    Parameters
    ----------
    parent, folder : path
        Folders of the interrupted job and of the one that goes on.
    parts : iterable of dict
        path, part and n_frames of each part, as `ShardWriter.parts`, `ShardWriter.close` or `find_parts` return them.

    Returns
    -------
    list of dict
        path, part, n_frames, bytes and sha256 of each part that holds frames.

    Raises
    ------
    ManifestError
        If a part is missing or corrupt or holds fewer frames than stated.
    """
    return [_adopt(Path(parent), Path(folder), part) for part in parts if part['n_frames']]


def _adopt(parent: Path, folder: Path, part: dict[str, Any]) -> dict[str, Any]:
    source, target = parent / part['path'], folder / part['path']
    if not source.is_file():
        raise ManifestError(f'{source} does not exist: the scratch folder was cleaned; run the MD again')
    if 'sha256' in part and file_sha256(source) == part['sha256']:
        _link(source, target)
        return dict(part)
    if _is_whole(source, part['n_frames']):
        _link(source, target)
    else:
        _rewrite(source, target, part['n_frames'])
    return _sealed(folder, {name: part[name] for name in ('path', 'part', 'n_frames')})


def _is_whole(path: Path, n_frames: int) -> bool:
    """Return whether a shard can stay as it is; read it all then, which compares the checksums of its chunks."""
    with ShardReader(path) as reader:
        if reader.n_frames < n_frames:
            raise ManifestError(f'{path} holds {reader.n_frames} frames, {n_frames} were written: run the MD again')
        if not reader.clean or reader.n_frames > n_frames:
            return False
        for _ in reader.chunks(n_frames):
            pass
    return True


def _link(source: Path, target: Path) -> None:
    """Make a file known under another path: by a hard link, or by a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and source.samefile(target):
        return
    target.unlink(missing_ok=True)
    tail_path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
