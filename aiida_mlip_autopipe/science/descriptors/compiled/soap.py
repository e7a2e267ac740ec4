"""What Numba compiles: SOAP power spectra of stacked positions.

The idea, environment by environment.

1. *Neighbours*: images within the cutoff of a centre (:mod:`.neighbours`), in batches of one species.
2. *Harmonics*: unnormalised solid harmonics of eight neighbours at a time, weighted.
3. *Density*: the radial functions g_nl(r) / r^l, whatever they are, come from a table of cubics; harmonics times radial
   functions are summed over the neighbours, a_nlm = sum_j w_j r^l Y_lm(r_j) (g_nl(r_j) / r^l) / norm_lm.
4. *Coefficients*: c_nlm = norm_lm sum_Z mixing_Z a^Z_nlm, where the mixing holds species weights and compression.
5. *Power spectrum*: p_nn'l = pi sqrt(8 / (2 l + 1)) sum_m c_nlm c'_n'lm; the prefactor is part of the norms.

Where coefficients are averaged over all atoms ('inner'), each pair of atoms is visited once: it adds r^l Y_lm(r) to one
atom's density and (-1)^l times the same to the other's, so that pairs of like atoms need even degrees only.

Source of the definitions: A. P. Bartók, R. Kondor and G. Csányi, Phys. Rev. B 87, 184115 (2013); L. Himanen et al.,
Comput. Phys. Commun. 247, 106949 (2020). Steps 2, 3 and 5 are :mod:`.vectors`.
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
    aligned_zeros,
    bin_images,
    collect_neighbours,
    compiled,
    entry,
    lean,
    lowest_partner,
    room_for,
    sort_by_kind,
    species_places,
    wrap_frame,
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
    'EXP',
    'INNER',
    'MODES',
    'NO_WEIGHTING',
    'OFF',
    'OUTER',
    'POLY',
    'POW',
    'SoapBasis',
    'calculate_soap_descriptors_fast',
]

#: How rows are averaged over the centres of a frame.
OFF, INNER, OUTER = range(3)
MODES = {'off': OFF, 'inner': INNER, 'outer': OUTER}

#: Weighting functions of a neighbour's distance.
NO_WEIGHTING, POLY, POW, EXP = range(4)

#: Neighbours whose harmonics are held at a time: they stay in the first-level cache.
BATCH = 64

#: Pairs of a kind wait until there are so many: then the sums are fetched and stored more rarely.
MIN_WAITING = 4 * BATCH

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
def _weight(r, kind, weights):
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
def _set_weights(batch, start, size, basis, weights):
    """Fill the weights of neighbours from start on."""
    x, y, z = batch
    for j in range(size):
        r = math.sqrt(x[start + j] ** 2 + y[start + j] ** 2 + z[start + j] ** 2)
        weights[j] = _weight(r, basis.weighting, basis.weights)


@lean
def _add_neighbours(batch, begin, count, basis, step, buffers, density, place):
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
def _mix(density, basis, share, coefficients):
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
def _write_power_spectrum(coefficients, basis, row):
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
def _copy(values, scale, row):
    """Write scaled values to a row."""
    for f in range(len(row)):
        row[f] = scale * values[f]


@compiled
def _buffers(basis):
    """Return what holds a batch of neighbours: harmonics, distances, offsets, fractions, weights."""
    return (
        aligned_zeros(BATCH * len(basis.degrees) ** 2),
        aligned_zeros(BATCH),
        np.zeros(BATCH, dtype=np.int64),
        aligned_zeros(BATCH),
        np.ones(BATCH),
    )


@compiled
def _describe_environments(channels, sites, places, images, ranks, starts, n_bins, average, basis, rows):
    """Fill rows (C or 1, features) from the neighbours of each centre; return the status of the frame."""
    n_species, width = len(basis.species), LANES * len(basis.blocks)
    size = len(basis.degrees) ** 2 * width
    room = len(ranks) + LANES
    found = room_for(1, room)
    batch = found if n_species == 1 else room_for(n_species, room)
    found_ranks, kinds = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    buffers, counts = _buffers(basis), np.zeros(n_species, dtype=np.int64)
    density = aligned_zeros(n_species * size)
    coefficients = aligned_zeros(len(basis.mixing) * size + LANES)
    row, total = aligned_zeros(rows.shape[1] + LANES), np.zeros(rows.shape[1])
    for i in range(len(sites)):
        n_found = collect_neighbours(
            sites[i], places[i], ANY_RANK, images, ranks, starts, n_bins, basis.cutoff, found, found_ranks, 0
        )
        counts[0] = n_found
        if n_species > 1:
            for j in range(n_found):
                kinds[j] = found_ranks[j] & SPECIES_MASK
            counts[:] = 0
            sort_by_kind(found, n_found, kinds, batch, counts, room)
        on_centre = 0
        for species in range(n_species):
            on_centre += _add_neighbours(
                batch, species * room, counts[species], basis, ALL_DEGREES, buffers, density, species * size
            )
        if on_centre > 1:
            return COINCIDENT
        if average != INNER:
            _mix(density, basis, 1.0, coefficients)
            density[:] = 0.0
            if average == OFF and i < len(sites) - LANES:
                _write_power_spectrum(coefficients, basis, rows[i])  # the excess is overwritten by what follows
                continue
            _write_power_spectrum(coefficients, basis, row)
            if average == OFF:
                _copy(row, 1.0, rows[i])
            else:
                for f in range(rows.shape[1]):
                    total[f] += row[f]
    if average == OUTER:
        _copy(total, 1.0 / len(sites), rows[0])
    elif average == INNER:
        _mix(density, basis, 1.0 / len(sites), coefficients)
        _write_power_spectrum(coefficients, basis, row)
        _copy(row, 1.0, rows[0])
    return FINE


@lean
def _add_on_centre(channels, basis, density):
    """Add each atom to the density around itself: only l = 0 counts there."""
    width = LANES * len(basis.blocks)
    size = len(basis.degrees) ** 2 * width
    weight = _weight(0.0, basis.weighting, basis.weights)
    for channel in channels:
        for n in range(width):
            value = 0.0
            for order in range(3, -1, -1):
                value = value * -0.5 + basis.table[order * width + n]
            density[channel * size + n] += weight * value


@lean
def _add_pairs(pair_density, n_species, degrees, width, density):
    """Add the densities of pairs of species to those of the species, from both ends of each pair."""
    size = len(degrees) ** 2 * width
    kind = 0
    for one in range(n_species):
        for two in range(one, n_species):
            for degree in range(len(degrees)):
                parity = 1.0 if degree % 2 == 0 else -1.0
                for place in range(degree**2 * width, (degree + 1) ** 2 * width):
                    value = pair_density[kind * size + place]
                    density[two * size + place] += value
                    density[one * size + place] += parity * value
            kind += 1


@lean
def _pair_kind(one, two, n_species):
    """Return the number of a pair of species, counted as in the features; ~number if the first is the higher."""
    low, high = min(one, two), max(one, two)
    kind = low * n_species - low * (low - 1) // 2 + high - low
    return ~kind if one > two else kind


@lean
def _add_waiting(batch, counts, room, least, basis, buffers, pair_density):
    """Add pairs of those kinds of which at least so many wait to their densities; return how many have no length."""
    n_species = len(basis.species)
    size = len(basis.degrees) ** 2 * LANES * len(basis.blocks)
    coincident, kind = 0, 0
    for one in range(n_species):
        for two in range(one, n_species):
            begin, count, place = kind * room, counts[kind], kind * size
            if count >= least:
                if one == two:
                    coincident += _add_neighbours(
                        batch, begin, count, basis, EVEN_DEGREES, buffers, pair_density, place
                    )
                else:
                    coincident += _add_neighbours(batch, begin, count, basis, ALL_DEGREES, buffers, pair_density, place)
                counts[kind] = 0
            kind += 1
    return coincident


@compiled
def _describe_pairs(channels, sites, places, images, ranks, starts, n_bins, basis, row):
    """Fill the row (features,) of coefficients averaged over all atoms, from each pair once; return the status."""
    n_species, width = len(basis.species), LANES * len(basis.blocks)
    n_kinds = n_species * (n_species + 1) // 2
    size = len(basis.degrees) ** 2 * width
    room = len(ranks) + MIN_WAITING + LANES
    found = room_for(1, room)
    batch = found if n_species == 1 else room_for(n_kinds, room)
    found_ranks, kinds = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    buffers, counts = _buffers(basis), np.zeros(n_kinds, dtype=np.int64)
    density, pair_density = aligned_zeros(n_species * size), aligned_zeros(n_kinds * size)
    coincident = 0
    for i in range(len(sites)):
        waiting = counts[0] if n_species == 1 else 0
        lowest = lowest_partner(i)
        n_found = collect_neighbours(
            sites[i], places[i], lowest, images, ranks, starts, n_bins, basis.cutoff, found, found_ranks, waiting
        )
        least = MIN_WAITING if i < len(sites) - 1 else 0
        if n_species == 1:
            counts[0] = n_found
        else:
            for j in range(n_found):
                kinds[j] = _pair_kind(channels[i], found_ranks[j] & SPECIES_MASK, n_species)
            sort_by_kind(found, n_found, kinds, batch, counts, room)
        coincident += _add_waiting(batch, counts, room, least, basis, buffers, pair_density)
    if coincident > 0:
        return COINCIDENT
    _add_pairs(pair_density, n_species, basis.degrees, width, density)
    _add_on_centre(channels, basis, density)
    coefficients = aligned_zeros(len(basis.mixing) * size + LANES)
    _mix(density, basis, 1.0 / len(sites), coefficients)
    scratch = aligned_zeros(len(row) + LANES)
    _write_power_spectrum(coefficients, basis, scratch)
    _copy(scratch, 1.0, row)
    return FINE


@entry
def calculate_soap_descriptors_fast(positions, numbers, cells, pbc, centers, basis, average, rows):
    """Fill rows with the SOAP power spectra of stacked frames.

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
        Positions (T, C, 3) around which to describe, in Å; C = 0: around all atoms.
    basis : SoapBasis
        Radial functions, weights, channels.
    average : int
        ``OFF``, ``INNER`` or ``OUTER``.
    rows : numpy.ndarray
        (T, C or N, features) for ``OFF``, otherwise (T, 1, features), float64, C-contiguous; filled in the order of the
        basis' pairs, l, n, n'.

    Returns
    -------
    numpy.ndarray
        (T,), uint8: what is wrong with each frame, 0 for nothing; rows of the others mean nothing.
    """
    channels = species_places(numbers, basis.species)
    status = np.zeros(len(positions), dtype=np.uint8)
    all_atoms = centers.shape[1] == 0
    for t in range(len(positions)):
        status[t], cell, dual, atoms, atom_coordinates, sites, site_coordinates = wrap_frame(
            positions[t], positions[t] if all_atoms else centers[t], cells[t], pbc
        )
        if status[t] != FINE:
            continue
        images, ranks, starts, places, n_bins = bin_images(
            atoms, channels, atom_coordinates, site_coordinates, cell, dual, pbc, basis.cutoff
        )
        if len(ranks) == 0:
            status[t] = COLLAPSED
        elif average == INNER and all_atoms:
            status[t] = _describe_pairs(channels, sites, places, images, ranks, starts, n_bins, basis, rows[t, 0])
        else:
            status[t] = _describe_environments(
                channels, sites, places, images, ranks, starts, n_bins, average, basis, rows[t]
            )
    return status
