"""What Numba compiles for the atomic cluster expansion: densities and their products, of stacked positions.

Neighbours, spherical harmonics and the table of radial functions are those of SOAP, with two differences: the harmonics
are those of unit vectors, because the radial functions are the same for all degrees and do not vanish at r = 0; and the
atom in the centre does not count. What is made of the densities is :mod:`.products`.
"""

# An intrinsic is called without its first parameter, which annotations cannot say.
# mypy: disable-error-code="call-arg"

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from aiida_mlip_autopipe.science.descriptors.compiled.neighbours import (
    ANY_RANK,
    COINCIDENT,
    COLLAPSED,
    FINE,
    MIN_DISTANCE,
    SPECIES_MASK,
    Vectors,
    aligned_zeros,
    bin_images,
    collect_neighbours,
    compiled,
    entry,
    lean,
    room_for,
    sort_by_kind,
    species_places,
    wrap_frame,
)
from aiida_mlip_autopipe.science.descriptors.compiled.power_spectrum import ALL_DEGREES, BATCH
from aiida_mlip_autopipe.science.descriptors.compiled.products import multiply_densities, place_density
from aiida_mlip_autopipe.science.descriptors.compiled.soap import INNER, OFF
from aiida_mlip_autopipe.science.descriptors.compiled.vectors import LANES, accumulate, solid_harmonics

__all__ = ['AceBasis', 'calculate_ace_descriptors_fast']


class AceBasis(NamedTuple):
    """What the kernel needs to know beside the frames; sizes travel as lengths of tuples.

    Attributes
    ----------
    species : numpy.ndarray
        Atomic numbers (S,), int64, ascending.
    cutoff : float
        Distance up to which atoms count, in Å.
    table : numpy.ndarray
        Cubics of g_n(r), flat over (interval, order, n), n padded to whole vectors.
    intervals_per_A : float
        Intervals of the table per Å.
    norms : numpy.ndarray
        (inputs,): of the spherical harmonics.
    inputs, starts, first, second, weights, left, right, counts, factors : numpy.ndarray
        See :class:`~aiida_mlip_autopipe.science.descriptors.couplings.Products`.
    degrees : tuple
        Length l_max + 1.
    blocks : tuple
        Length of n_max padded to whole vectors, in vectors.
    """

    species: Any
    cutoff: float
    table: Any
    intervals_per_A: float
    norms: Any
    inputs: Any
    starts: Any
    first: Any
    second: Any
    weights: Any
    left: Any
    right: Any
    counts: Any
    factors: Any
    degrees: tuple[int, ...]
    blocks: tuple[int, ...]


@lean
def _add_neighbours(
    batch: Vectors,
    begin: int,
    count: int,
    basis: AceBasis,
    buffers: tuple[np.ndarray, ...],
    density: np.ndarray,
    place: int,
) -> int:
    """Add neighbours begin to begin + count of a batch, all of one species, to the density at ``place``.

    Their displacements become unit vectors; one on the centre gets no weight. Returns how many stand there.
    """
    x, y, z = batch
    harmonics, offsets, fractions, weights, distances = buffers
    row = 4 * LANES * len(basis.blocks)
    last = len(basis.table) // row - 1
    on_centre = 0
    for start in range(begin, begin + count, BATCH):
        size = min(BATCH, begin + count - start)
        for j in range(size):
            r = math.sqrt(x[start + j] ** 2 + y[start + j] ** 2 + z[start + j] ** 2)
            u = r * basis.intervals_per_A
            interval = min(int(u), last)
            offsets[j] = interval * row
            fractions[j] = u - interval - 0.5
            weights[j] = 1.0 if r >= MIN_DISTANCE else 0.0
            on_centre += int(r < MIN_DISTANCE)
            inverse = 1.0 / max(r, MIN_DISTANCE)
            x[start + j] *= inverse
            y[start + j] *= inverse
            z[start + j] *= inverse
        for j in range(0, size, LANES):
            solid_harmonics(x, y, z, start + j, weights, j, harmonics, distances, basis.degrees, ALL_DEGREES)
        accumulate(
            harmonics, offsets, fractions, size, basis.table, 0, density, place, basis.degrees, basis.blocks,
            ALL_DEGREES,
        )  # fmt: skip
    return on_centre


@lean
def _add_environment(
    found: Vectors,
    n_found: int,
    kinds: np.ndarray,
    sorted_found: Vectors,
    counts: np.ndarray,
    room: int,
    basis: AceBasis,
    buffers: tuple[np.ndarray, ...],
    density: np.ndarray,
) -> int:
    """Add the n_found displacements from a centre, of given kinds, to the density; return how many stand on it."""
    n_species = len(basis.species)
    size = len(basis.degrees) ** 2 * LANES * len(basis.blocks)
    if n_species == 1:
        return _add_neighbours(found, 0, n_found, basis, buffers, density, 0)
    on_centre = 0
    counts[:] = 0
    sort_by_kind(found, n_found, kinds, sorted_found, counts, room)
    for species in range(n_species):
        on_centre += _add_neighbours(
            sorted_found, species * room, counts[species], basis, buffers, density, species * size
        )
    return on_centre


@lean
def _multiply(values: np.ndarray, basis: AceBasis, out: np.ndarray) -> None:
    """Evaluate all functions for the densities in the eight lanes."""
    multiply_densities(
        values, basis.inputs, basis.starts, basis.first, basis.second, basis.weights, basis.left, basis.right,
        basis.counts, basis.factors, out,
    )  # fmt: skip


@lean
def _write_lanes(out: np.ndarray, n_lanes: int, first: int, rows: np.ndarray) -> None:
    """Write functions (functions, 8), flat, to rows (first + lane, functions)."""
    for block in range(0, rows.shape[1], LANES):
        for lane in range(n_lanes):
            for f in range(block, min(block + LANES, rows.shape[1])):
                rows[first + lane, f] = out[LANES * f + lane]


@lean
def _sum_lanes(totals: np.ndarray, scale: float, row: np.ndarray) -> None:
    """Write the sums over the lanes of totals (functions, 8), flat, times ``scale``."""
    for f in range(len(row)):
        total = 0.0
        for lane in range(LANES):
            total += totals[LANES * f + lane]
        row[f] = scale * total


@compiled
def _describe_environments(
    channels: np.ndarray,
    sites: np.ndarray,
    places: np.ndarray,
    images: np.ndarray,
    ranks: np.ndarray,
    starts: np.ndarray,
    n_bins: np.ndarray,
    average: int,
    basis: AceBasis,
    rows: np.ndarray,
) -> int:
    """Fill rows (C or 1, features) from the neighbours of each centre; return the status of the frame."""
    n_species = len(basis.species)
    room = len(ranks) + LANES + 1
    found, sorted_found = room_for(1, room), room_for(n_species if n_species > 1 else 0, room)
    found_ranks, kinds = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    counts = np.zeros(n_species, dtype=np.int64)
    buffers = (
        aligned_zeros(BATCH * len(basis.degrees) ** 2),
        np.zeros(BATCH, dtype=np.int64),
        aligned_zeros(BATCH),
        aligned_zeros(BATCH),
        aligned_zeros(BATCH),
    )
    density = aligned_zeros(n_species * len(basis.degrees) ** 2 * LANES * len(basis.blocks))
    values = aligned_zeros(LANES * (len(basis.inputs) + len(basis.starts)))
    n_values = LANES * len(basis.left)
    out, totals = aligned_zeros(n_values), aligned_zeros(n_values)
    for i in range(len(sites)):
        n_found = collect_neighbours(
            sites[i], places[i], ANY_RANK, images, ranks, starts, n_bins, basis.cutoff, found, found_ranks, 0
        )
        if n_species > 1:
            for j in range(n_found):
                kinds[j] = found_ranks[j] & SPECIES_MASK
        if _add_environment(found, n_found, kinds, sorted_found, counts, room, basis, buffers, density) > 1:
            return COINCIDENT
        if average == INNER:
            continue
        lane = i % LANES
        place_density(density, basis.inputs, basis.norms, lane, values)
        density[:] = 0.0
        if lane < LANES - 1 and i < len(sites) - 1:
            continue
        _multiply(values, basis, out)
        if average == OFF:
            _write_lanes(out, lane + 1, i - lane, rows)
        else:
            for k in range(n_values):
                totals[k] += out[k]
            values[:] = 0.0
    if average == INNER:
        place_density(density, basis.inputs, basis.norms / len(sites), 0, values)
        _multiply(values, basis, totals)
    if average != OFF:
        _sum_lanes(totals, 1.0 if average == INNER else 1.0 / len(sites), rows[0])
    return FINE


@entry
def calculate_ace_descriptors_fast(
    positions: np.ndarray,
    numbers: np.ndarray,
    cells: np.ndarray,
    pbc: np.ndarray,
    centers: np.ndarray,
    basis: AceBasis,
    average: int,
    rows: np.ndarray,
) -> np.ndarray:
    """Fill rows with the functions of the atomic cluster expansion of stacked frames.

    Parameters
    ----------
    positions : numpy.ndarray
        Positions (T, N, 3), float64, in Å; wrapped or not.
    numbers : numpy.ndarray
        Atomic numbers (N,), int64, all among the species of the basis.
    cells : numpy.ndarray
        Cell vectors as rows (T, 3, 3), float64, in Å; only those of periodic directions are read.
    pbc : numpy.ndarray
        Periodic directions (3,), bool.
    centers : numpy.ndarray
        Positions (T, C, 3) around which to describe, in Å; C = 0: around all atoms. An atom on a centre does not count.
    basis : AceBasis
        Radial functions and products.
    average : int
        ``OFF``, ``INNER`` or ``OUTER``.
    rows : numpy.ndarray
        (T, C or N, features) for ``OFF``, otherwise (T, 1, features), float64 or float32; filled.

    Returns
    -------
    numpy.ndarray
        (T,), uint8: what is wrong with each frame, 0 for nothing; rows of the others mean nothing.
    """
    channels = species_places(numbers, basis.species)
    status = np.zeros(len(positions), dtype=np.uint8)
    for t in range(len(positions)):
        status[t], cell, dual, atoms, atom_coordinates, sites, site_coordinates = wrap_frame(
            positions[t], positions[t] if centers.shape[1] == 0 else centers[t], cells[t], pbc
        )
        if status[t] != FINE:
            continue
        images, ranks, starts, places, n_bins = bin_images(
            atoms, channels, atom_coordinates, site_coordinates, cell, dual, pbc, basis.cutoff
        )
        if len(ranks) == 0:
            status[t] = COLLAPSED
        else:
            status[t] = _describe_environments(
                channels, sites, places, images, ranks, starts, n_bins, average, basis, rows[t]
            )
    return status
