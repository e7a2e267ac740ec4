"""What names a structure by its content, and a file by its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from aiida_mlip_autopipe.science.frames.carried import carried_arrays

__all__ = ['content_hash', 'file_sha256', 'structure_hash']

DIGITS = 16  # of eight, one pair in 1e5 structures is the same more often than not


def content_hash(
    numbers: ArrayLike,
    positions: ArrayLike,
    cell: ArrayLike,
    pbc: ArrayLike,
    carried: Mapping[str, np.ndarray] | None = None,
) -> str:
    """Return 16 hexadecimal digits that name a structure by its content.

    Until version 0.1 they were the first eight of these.

    Parameters
    ----------
    numbers : array_like of int, shape (N,)
        Atomic numbers.
    positions : array_like of float, shape (N, 3)
        Positions, in Å; rounded to single precision, as a shard holds them.
    cell : array_like of float, shape (3, 3)
        Lattice vectors as rows, in Å; rounded likewise.
    pbc : array_like of bool, shape (3,)
        Periodic directions.
    carried : mapping of str to ndarray, optional
        What its atoms carry beside, by name (`aiida_mlip_autopipe.science.frames.carried`): a label may depend on it.
    """
    digest = hashlib.sha256()
    digest.update(np.asarray(numbers, dtype='<i4').tobytes())
    for values in (positions, cell):
        digest.update((np.asarray(values, dtype='<f4') + np.float32(0)).tobytes())  # + 0: no negative zero
    digest.update(np.asarray(pbc, dtype='u1').tobytes())
    for name, values in sorted((carried or {}).items()):
        digest.update(name.encode() + np.asarray(values, dtype='<f8').tobytes())
    return digest.hexdigest()[:DIGITS]


def structure_hash(atoms: Atoms) -> str:
    """Return the `content_hash` of a structure with what its atoms carry."""
    return content_hash(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, carried_arrays(atoms))


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    with Path(path).open('rb') as handle:
        return hashlib.file_digest(handle, 'sha256').hexdigest()
