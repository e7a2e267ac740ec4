"""What Numba compiles for reading rows: one look at a number serves its row's digest, its fitness and its shifted copy.

The digest of a row is a sum of its mixed bit patterns, each times an odd number of its place (multilinear hashing:
D. Lemire and O. Kaser, Comput. J. 57, 1624 (2014)), then mixed. It depends on the values alone, so that equal rows are
found, a subsample can be drawn that does not depend on the order, and a second reading be held against the first.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ['digest_keys', 'stage_rows']

_MIX = np.uint64(0xBF58476D1CE4E5B9)
_HALF = np.uint64(32)


def digest_keys(n_features: int) -> np.ndarray:
    """Return the odd factor of each place in a row (n_features,), uint64; the same in every process."""
    generator = np.random.Generator(np.random.PCG64(20240415))
    return generator.integers(0, 2**64, n_features, dtype=np.uint64) | np.uint64(1)


@njit(cache=True, nogil=True)
def _mixed(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(30))) * _MIX
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True)
def stage_rows(
    rows: np.ndarray,
    bits: np.ndarray,
    sign: int,
    exponent: int,
    shift: np.ndarray,
    keys: np.ndarray,
    wanted: np.ndarray,
    staged: np.ndarray,
    digests: np.ndarray,
    finite: np.ndarray,
) -> int:
    """Digest rows, find those that are finite, and write those that count less a shift one after the other.

    Parameters
    ----------
    rows, bits : numpy.ndarray
        (n, d), float32 or float64, C-contiguous; and the same memory as unsigned integers.
    sign, exponent : int
        Bit masks of the type of the rows.
    shift : numpy.ndarray
        (d,), float64: subtracted in double precision, then rounded to the type of ``staged``.
    keys : numpy.ndarray
        (d,), from `digest_keys`.
    wanted : numpy.ndarray
        (n,), bool: which rows count.
    staged : numpy.ndarray
        (n, d): the finite rows that count, from the first on.
    digests, finite : numpy.ndarray
        (n,), uint64 and bool.

    Returns
    -------
    int
        How many rows were staged.
    """
    n_staged = 0
    for i in range(len(rows)):
        total = np.uint64(0)
        broken = False
        for j in range(rows.shape[1]):
            value = bits[i, j]
            if value == sign:
                value = value ^ sign  # minus zero is zero
            broken |= (value & exponent) == exponent
            wide = np.uint64(value)
            total += (wide ^ (wide >> _HALF)) * keys[j]
        digests[i] = _mixed(total)
        finite[i] = not broken
        if wanted[i] and not broken:
            for j in range(rows.shape[1]):
                staged[n_staged, j] = rows[i, j] - shift[j]
            n_staged += 1
    return n_staged
