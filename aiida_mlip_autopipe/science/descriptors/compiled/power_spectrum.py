"""From neighbours to a SOAP power spectrum, one environment at a time: steps 2 to 5 of :mod:`.soap`."""

# An intrinsic is called without its first parameter, which annotations cannot say.
# mypy: disable-error-code="call-arg"

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from aiida_mlip_autopipe.science.descriptors.compiled.neighbours import (
    MIN_DISTANCE,
    Vectors,
    aligned_zeros,
    compiled,
    lean,
)
from aiida_mlip_autopipe.science.descriptors.compiled.vectors import (
    LANES,
    accumulate,
    add_scaled,
    find_intervals,
    multiply_rows,
    sized,
    solid_harmonics,
)

__all__ = [
    'ALL_DEGREES',
    'BATCH',
    'EVEN_DEGREES',
    'EXP',
    'NO_WEIGHTING',
    'POLY',
    'POW',
    'SoapBasis',
    'add_neighbours',
    'buffers_for',
    'copy_row',
    'mix',
    'weight_of',
    'write_power_spectrum',
]

#: Weighting functions of a neighbour's distance.
NO_WEIGHTING, POLY, POW, EXP = range(4)

#: Neighbours whose harmonics are held at a time: they stay in the first-level cache.
BATCH = 64

ALL_DEGREES, EVEN_DEGREES = sized(1), sized(2)
LIKE, UNLIKE = sized(1), sized(2)


class SoapBasis(NamedTuple):
    """What the kernel needs to know beside the frames; sizes travel as lengths of tuples.

    Attributes
    ----------
    species : numpy.ndarray
        Atomic numbers (S,), int64, ascending.
    cutoff : float
        Distance up to which atoms count, in Å.
    table : numpy.ndarray
        Cubics of g_nl(r) / r^l, flat over (interval, l, order, n), n padded to whole vectors.
    intervals_per_A : float
        Intervals of the table per Å.
    norms : numpy.ndarray
        ((l_max + 1)²,): what makes the solid harmonics orthonormal, with the prefactor of the power spectrum.
    mixing : numpy.ndarray
        (channels, S): the share of each species' density in each channel.
    pairs : numpy.ndarray
        (P, 2), int64: pairs of channels, in the order of the features.
    weighting : int
        ``NO_WEIGHTING``, ``POLY``, ``POW`` or ``EXP``.
    weights : numpy.ndarray
        (5,): c, d, m, r0, and the weight of an atom on the centre (NaN: that of the function).
    degrees : tuple
        Length l_max + 1.
    functions : tuple
        Length n_max.
    blocks : tuple
        Length of n_max padded to whole vectors, in vectors.
    """

    species: Any
    cutoff: float
    table: Any
    intervals_per_A: float
    norms: Any
    mixing: Any
    pairs: Any
    weighting: int
    weights: Any
    degrees: tuple[int, ...]
    functions: tuple[int, ...]
    blocks: tuple[int, ...]


@lean
def weight_of(r: float, kind: int, weights: np.ndarray) -> float:
    """Return the weight of a neighbour at distance r (in Å), as dscribe defines the three functions."""
    c, d, m, r0, on_centre = weights
    if r < MIN_DISTANCE and not math.isnan(on_centre):
        return on_centre
    s = r / r0
    if kind == POLY:
        return c * (1.0 + 2.0 * s**3 - 3.0 * s**2) ** m if r <= r0 else 0.0
    if kind == POW:
        return c / (d + s**m)
    if kind == EXP:
        return c / (d + math.exp(-s))
    return 1.0


@lean
def _set_weights(batch: Vectors, start: int, size: int, basis: SoapBasis, weights: np.ndarray) -> None:
    """Fill the weights of neighbours from start on."""
    x, y, z = batch
    for j in range(size):
        r = math.sqrt(x[start + j] ** 2 + y[start + j] ** 2 + z[start + j] ** 2)
        weights[j] = weight_of(r, basis.weighting, basis.weights)


@lean
def add_neighbours(
    batch: Vectors,
    begin: int,
    count: int,
    basis: SoapBasis,
    step: tuple[int, ...],
    buffers: tuple[np.ndarray, ...],
    density: np.ndarray,
    place: int,
) -> int:
    """Add neighbours begin to begin + count, of one species, to the density at ``place``; return how many on it."""
    x, y, z = batch
    harmonics, distances, offsets, fractions, weights = buffers
    weighted = basis.weighting != NO_WEIGHTING or not math.isnan(basis.weights[4])
    row = 4 * LANES * len(basis.blocks) * len(basis.degrees)
    n_intervals = len(basis.table) // row
    on_centre = 0
    for start in range(begin, begin + count, BATCH):
        size = min(BATCH, begin + count - start)
        if weighted:
            _set_weights(batch, start, size, basis, weights)
        for j in range(0, size, LANES):
            solid_harmonics(x, y, z, start + j, weights, j, harmonics, distances, basis.degrees, step)
            on_centre += find_intervals(
                distances, j, size - j, basis.intervals_per_A, n_intervals, row, offsets, fractions, MIN_DISTANCE
            )
        accumulate(
            harmonics, offsets, fractions, size, basis.table, 4 * LANES * len(basis.blocks), density, place,
            basis.degrees, basis.blocks, step,
        )  # fmt: skip
    return on_centre


@lean
def mix(density: np.ndarray, basis: SoapBasis, share: float, coefficients: np.ndarray) -> None:
    """Fill coefficients (channels, lm, n), flat, from the densities of the species, times ``share``."""
    n_harmonics = len(basis.degrees) ** 2
    size = n_harmonics * LANES * len(basis.blocks)
    coefficients[:] = 0.0
    for channel in range(len(basis.mixing)):
        for species in range(basis.mixing.shape[1]):
            portion = share * basis.mixing[channel, species]
            if portion != 0.0:
                add_scaled(
                    basis.norms, n_harmonics, portion, density, species * size, coefficients, channel * size,
                    basis.blocks,
                )  # fmt: skip


@lean
def write_power_spectrum(coefficients: np.ndarray, basis: SoapBasis, row: np.ndarray) -> None:
    """Fill a row with the products of coefficients, in the order of the pairs, l, n, n', and up to 7 places beyond."""
    n_max, width = len(basis.functions), LANES * len(basis.blocks)
    size = len(basis.degrees) ** 2 * width
    place = 0
    for pair in range(len(basis.pairs)):
        one, two = basis.pairs[pair, 0] * size, basis.pairs[pair, 1] * size
        for degree in range(len(basis.degrees)):
            start = degree * degree * width
            if one == two:
                multiply_rows(coefficients, one + start, two + start, 2 * degree + 1, row, place, basis.functions, LIKE)
                place += n_max * (n_max + 1) // 2
            else:
                multiply_rows(
                    coefficients, one + start, two + start, 2 * degree + 1, row, place, basis.functions, UNLIKE
                )
                place += n_max * n_max


@lean
def copy_row(values: np.ndarray, scale: float, row: np.ndarray) -> None:
    """Write scaled values to a row."""
    for f in range(len(row)):
        row[f] = scale * values[f]


@compiled
def buffers_for(basis: SoapBasis) -> tuple[np.ndarray, ...]:
    """Return what holds a batch of neighbours: harmonics, distances, offsets, fractions, weights."""
    return (
        aligned_zeros(BATCH * len(basis.degrees) ** 2),
        aligned_zeros(BATCH),
        np.zeros(BATCH, dtype=np.int64),
        aligned_zeros(BATCH),
        np.ones(BATCH),
    )
