"""One H5MD file of frames: how it is laid out, how it grows so that a kill cannot harm it, and how it is read.

The layout follows H5MD 1.1 (P. de Buyl, P. H. Colberg, F. Höfling, Comput. Phys. Commun. 185, 1546 (2014)), in Å, fs,
eV and K. The file grows by whole chunks, in the order of HDF5's single-writer multiple-reader access, which a kill
leaves readable at any moment. Frames that do not fill a chunk yet are in a file beside it, the tail: plain records,
each with the number of its frame.

Compression is gzip level 1 after a byte shuffle: of thermal float32 positions (64 atoms of silicon) it leaves 78 % at
60 MB/s, where lzf leaves 85 % at 125 MB/s and only h5py reads it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    import h5py

__all__ = ['ManifestError', 'ShardReader', 'append_chunk', 'empty_shard', 'record_type', 'tail_path']

RESERVE_BYTES = 65536
"""For what HDF5 writes beside the frames of a chunk."""

NOT_WRITTEN = -(2**63)
"""The step of a frame for which there is only room."""

LAYOUT = {
    'time': ('particles/all/position/time', 'f8', 'fs'),
    'positions': ('particles/all/position/value', 'f4', 'angstrom'),
    'cell': ('particles/all/box/edges/value', 'f8', 'angstrom'),
    'energy': ('observables/potential_energy/value', 'f8', 'eV'),
    'temperature': ('observables/temperature/value', 'f8', 'K'),
    'max_force': ('observables/max_force/value', 'f8', 'eV angstrom-1'),
    'disagreement': ('observables/disagreement/value', 'f8', 'eV angstrom-1'),
    'step': ('particles/all/position/step', 'i8', None),
}
"""Where a shard holds what of a frame, as which type, in which unit. The step comes last: with it a frame is there."""


MOMENTS = 'particles/all/initial_magmoms'
"""Where a shard holds the moments from which labels of its frames start, if there are any."""


class ManifestError(ValueError):
    """The manifest of a job or one of the shards it lists is missing or differs."""


def record_type(n_atoms: int) -> np.dtype:
    """Return the type of a frame in memory and in the tail; ``number`` counts the frames of the file."""
    shapes = {'positions': (n_atoms, 3), 'cell': (3, 3)}
    fields = [(name, kind, shapes.get(name, ())) for name, (_, kind, _) in LAYOUT.items()]
    return np.dtype([('number', 'i8'), *fields])


def tail_path(path: Path) -> Path:
    """Return the path of the tail of a file."""
    return path.with_suffix('.tail')


# ------------------------------------------------------------------------------------------------------------ writing


def empty_shard(numbers: np.ndarray, pbc: np.ndarray, n_rows: int, moments: np.ndarray | None = None) -> bytes:
    """Return the content of a file without frames.

    Parameters
    ----------
    numbers : ndarray of int, shape (N,)
        Atomic numbers.
    pbc : ndarray of bool, shape (3,)
        Periodic directions.
    n_rows : int
        Frames in a chunk.
    moments : ndarray, shape (N,), optional
        Moments of the atoms from which a label starts, in µB.
    """
    import h5py

    with h5py.File('shard', 'w', driver='core', backing_store=False, libver=('v110', 'v110')) as file:
        _create_layout(file, numbers, pbc, n_rows)
        if moments is not None:
            file[MOMENTS] = moments.astype('f8')
            file[MOMENTS].attrs['unit'] = 'bohr_magneton'
        file.flush()
        return file.id.get_file_image()


def _create_layout(file: h5py.File, numbers: np.ndarray, pbc: np.ndarray, n_rows: int) -> None:
    """Create the groups and the empty, growing datasets; step and time are shared by hard links."""
    from aiida_mlip_autopipe import __version__

    h5md = file.create_group('h5md')
    h5md.attrs['version'] = np.array([1, 1])
    h5md.create_group('author').attrs['name'] = 'aiida-mlip-autopipe'
    h5md.create_group('creator').attrs.update({'name': 'aiida-mlip-autopipe', 'version': __version__})
    h5md.create_group('modules/units').attrs['version'] = np.array([1, 0])
    particles = file.create_group('particles/all')
    particles['species'] = numbers.astype('i4')
    box = particles.create_group('box')
    box.attrs['dimension'] = 3
    box.attrs['boundary'] = ['periodic' if periodic else 'none' for periodic in pbc]
    record = record_type(len(numbers))
    for name, (place, kind, unit) in LAYOUT.items():
        shape = record[name].shape
        dataset = file.create_dataset(
            place,
            shape=(0, *shape),
            maxshape=(None, *shape),
            dtype=kind,
            chunks=(n_rows, *shape),
            compression='gzip',
            compression_opts=1,
            shuffle=True,
            fillvalue=NOT_WRITTEN if name == 'step' else None,
        )
        if unit is not None:
            dataset.attrs['unit'] = unit
    for name in ('cell', 'energy', 'temperature', 'max_force', 'disagreement'):
        group = file[LAYOUT[name][0]].parent
        for shared in ('step', 'time'):
            group[shared] = file[LAYOUT[shared][0]]


def append_chunk(path: Path, frames: np.ndarray) -> None:
    """Add records to a file whose chunks are all full; a kill on the way leaves it readable.

    Raises
    ------
    OSError
        If the disk is full; the file is as before then.
    """
    with _open_to_grow(path) as file:
        _reserve(path, frames.nbytes + RESERVE_BYTES)
        datasets = {name: file[place] for name, (place, _, _) in LAYOUT.items()}
        first = len(datasets['step'])
        for name, dataset in datasets.items():
            if name == 'step':
                file.flush()
            dataset.resize(first + len(frames), axis=0)
            dataset[first:] = frames[name]
        file.flush()
        os.truncate(path, file.id.get_filesize())


def _open_to_grow(path: Path) -> h5py.File:
    """Open a file as the single writer from the first moment, without a cache: only whole chunks are written."""
    import h5py
    from h5py import h5f, h5p

    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    access.set_libver_bounds(h5f.LIBVER_V110, h5f.LIBVER_V110)
    access.set_cache(0, 521, 0, 0.75)
    access.set_file_locking(False, True)
    return h5py.File(h5f.open(os.fsencode(path), h5f.ACC_RDWR | h5f.ACC_SWMR_WRITE, access))


def _reserve(path: Path, n_bytes: int) -> None:
    """Make sure that a file can grow by so many bytes: HDF5 does not survive a full disk."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        size = os.fstat(descriptor).st_size
        try:
            os.posix_fallocate(descriptor, size, n_bytes)
        except OSError as error:
            os.ftruncate(descriptor, size)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        os.close(descriptor)


# ------------------------------------------------------------------------------------------------------------ reading


class ShardReader:
    """Reads a file of frames and its tail: also of a writer that was killed or still runs, all that was flushed.

    Use it as a context manager.

    Parameters
    ----------
    path : path
        The H5MD file.

    Attributes
    ----------
    numbers : ndarray of int, shape (N,)
        Atomic numbers.
    pbc : ndarray of bool, shape (3,)
        Periodic directions.
    moments : ndarray or None, shape (N,)
        Moments from which a label starts, in µB.
    n_rows : int
        Frames in a chunk.
    n_frames : int
        How many frames can be read.
    clean : bool
        Whether the writer has closed it.

    Raises
    ------
    ManifestError
        If the file is missing or cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._named():
            self._file, self.clean = _open_to_read(self.path)
            try:
                particles = self._file['particles/all']
                boundary = particles['box'].attrs['boundary']
                self.numbers = particles['species'][()].astype(int)
                self.moments = self._file[MOMENTS][()] if MOMENTS in self._file else None
                self.pbc = np.array([text in ('periodic', b'periodic') for text in boundary])
                steps = self._file[LAYOUT['step'][0]]
                self.n_rows = steps.chunks[0]
                self._n_whole = len(steps) if self.clean else _count_written(steps)
                self._tail = self._read_tail()
            except BaseException:
                self._file.close()
                raise
        self.n_frames = self._n_whole + len(self._tail)

    def _read_tail(self) -> np.ndarray:
        """Return the frames that did not go into the file; the tail may hold some that did, and half a record."""
        path, kind = tail_path(self.path), record_type(len(self.numbers))
        if not path.is_file():
            return np.zeros(0, kind)
        self.clean = False
        content = path.read_bytes()
        records = np.frombuffer(content, kind, count=len(content) // kind.itemsize)
        records = records[records['number'] >= self._n_whole]
        follows = records['number'] == self._n_whole + np.arange(len(records))
        return records[: len(records) if follows.all() else int(np.argmin(follows))]

    def read(self, rows: Any) -> dict[str, np.ndarray]:
        """Return frames by their number in the file.

        Parameters
        ----------
        rows : slice or array_like of int
            Which frames; numbers in increasing order, each once, none negative.

        Returns
        -------
        dict of ndarray
            ``step`` (n,), ``time`` (n,) in fs, ``positions`` (n, N, 3) in Å, float32, ``cell`` (n, 3, 3) in Å,
            ``energy`` in eV, ``temperature`` in K, ``max_force`` and ``disagreement`` in eV/Å, all (n,).

        Raises
        ------
        ManifestError
            If the file is corrupt.
        """
        n = self._n_whole
        if isinstance(rows, slice):
            first, last, _ = rows.indices(self.n_frames)
            whole, rest = slice(min(first, n), min(last, n)), slice(max(first - n, 0), max(last - n, 0))
        else:
            rows = np.asarray(rows, dtype=int)
            whole, rest = rows[rows < n], rows[rows >= n] - n
        with self._named():
            columns = {name: self._file[place][whole] for name, (place, _, _) in LAYOUT.items()}
        tail = self._tail[rest]
        if len(tail):
            return {name: np.concatenate([column, tail[name]]) for name, column in columns.items()}
        return columns

    def chunks(self, n: int) -> Iterator[np.ndarray]:
        """Yield the first ``n`` frames as records, chunk by chunk."""
        for first in range(0, n, self.n_rows):
            columns = self.read(slice(first, min(first + self.n_rows, n)))
            frames = np.zeros(len(columns['step']), record_type(len(self.numbers)))
            for name, column in columns.items():
                frames[name] = column
            yield frames

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, KeyError, RuntimeError) as error:
            raise ManifestError(f'{self.path} cannot be read ({error}): run the MD again') from error

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()


def _open_to_read(path: Path) -> tuple[h5py.File, bool]:
    """Open a file; tell whether its writer has closed it."""
    import h5py

    try:
        return h5py.File(path, 'r', locking=False), True
    except OSError:
        return h5py.File(path, 'r', libver='latest', swmr=True, locking=False), False


def _count_written(steps: h5py.Dataset) -> int:
    """Return how many frames are there: a kill can leave room for a chunk at the end."""
    first = max(0, len(steps) - steps.chunks[0])
    return first + int(np.count_nonzero(steps[first:] != NOT_WRITTEN))
