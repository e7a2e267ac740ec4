"""Rows of features, read in blocks and more than once: an array, a memory map, a file, or a callable of chunks.

However the rows arrive, they are worked on in blocks of one size, so that no sum depends on the size of the chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from aiida_mlip_autopipe.science.estimator import check_real

__all__ = ['BLOCK', 'RowFile', 'RowSource', 'blocks', 'write_rows']

#: Rows that are worked on at once: few enough to stay in the cache of a core.
BLOCK = 1024

RowSource = np.ndarray | Sequence[Sequence[float]] | Callable[[], Iterable[np.ndarray]]


def blocks(source: RowSource, name: str = 'X') -> Iterator[np.ndarray]:
    """Yield rows in blocks of `BLOCK`, float32 or float64, C-contiguous; the last may be shorter.

    The type and the number of features are those of the first chunk. A block is to be used before the next is asked
    for: it may be a buffer.

    Raises
    ------
    ValueError
        If a chunk is not two-dimensional, is complex, or differs from the first in its number of features. ``name``
        is what it calls the rows.
    """
    buffer, filled = None, 0
    for chunk in source() if callable(source) else _slices(np.asanyarray(source), name):
        rows = np.asarray(chunk)
        check_real(rows, name)
        if buffer is None and rows.ndim == 2:
            buffer = np.empty((BLOCK, rows.shape[1]), np.float32 if rows.dtype == np.float32 else np.float64)
        if buffer is None or rows.ndim != 2 or rows.shape[1] != buffer.shape[1] or rows.shape[1] == 0:
            wanted = 'n_features' if buffer is None else buffer.shape[1]
            raise ValueError(f'{name} has a chunk of shape {rows.shape}; give at least one feature, (n_rows, {wanted})')
        rows = np.ascontiguousarray(rows, dtype=buffer.dtype)
        while len(rows):
            if filled == 0 and len(rows) >= BLOCK:
                yield rows[:BLOCK]
                rows = rows[BLOCK:]
                continue
            taken = rows[: BLOCK - filled]
            buffer[filled : filled + len(taken)] = taken
            filled, rows = (filled + len(taken)) % BLOCK, rows[len(taken) :]
            if filled == 0:
                yield buffer
    if buffer is not None and filled:
        yield buffer[:filled]


def _slices(rows: np.ndarray, name: str) -> Iterator[np.ndarray]:
    if rows.ndim != 2:
        raise ValueError(f'{name} has shape {rows.shape}; give at least one row and one feature, (n_rows, n_features)')
    return (rows[first : first + BLOCK] for first in range(0, len(rows), BLOCK))


class RowFile:
    """Rows in a ``.npy`` file, read block by block into one buffer; a source for `blocks`.

    A memory map does the same, but what was read of it counts as memory of the process until the system needs it.

    Parameters
    ----------
    path : path
        File of a two-dimensional array, float32 or float64, in C order.

    Attributes
    ----------
    shape : tuple of int
        (n_rows, n_features).

    Raises
    ------
    ValueError
        If the file is no such array, or shorter than it says: whoever wrote it was interrupted.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self.path.open('rb') as handle:
            version = npy.read_magic(handle)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            self.shape, fortran_order, self.dtype = read_header(handle)
            self._start = handle.tell()
        if len(self.shape) != 2 or fortran_order or self.dtype not in (np.float32, np.float64):
            raise ValueError(
                f'{path} contains {self.dtype} {self.shape}; rows are float32 or float64, (n_rows, n_features)'
            )
        missing = self._start + self.shape[0] * self.shape[1] * self.dtype.itemsize - self.path.stat().st_size
        if missing > 0:
            raise ValueError(f'{path} is {missing} bytes too short: writing was interrupted; write it again')

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __call__(self) -> Iterator[np.ndarray]:
        """Yield blocks of rows, in a buffer that is used again."""
        buffer = np.empty((BLOCK, self.shape[1]), self.dtype)
        with self.path.open('rb') as handle:
            handle.seek(self._start)
            for first in range(0, self.shape[0], BLOCK):
                rows = buffer[: self.shape[0] - first]
                if handle.readinto(rows.data.cast('B')) != rows.nbytes:
                    raise ValueError(f'{self.path} was cut while it was read; write it again')
                yield rows


def write_rows(path: str | Path, chunks: Iterable[np.ndarray], n_rows: int) -> RowFile:
    """Write chunks of rows one after the other to a ``.npy`` file, in single precision, and return it as a source.

    Raises
    ------
    ValueError
        If there are not as many rows as announced.
    """
    with Path(path).open('wb') as handle:
        written = 0
        for chunk in chunks:
            if handle.tell() == 0:
                header = {'descr': '<f4', 'fortran_order': False, 'shape': (n_rows, chunk.shape[1])}
                npy.write_array_header_1_0(handle, header)
            np.ascontiguousarray(chunk, dtype='<f4').tofile(handle)
            written += len(chunk)
    if written != n_rows:
        raise ValueError(f'{written} rows were written instead of the {n_rows} announced; read the frames again')
    return RowFile(path)
