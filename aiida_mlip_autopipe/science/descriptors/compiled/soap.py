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

import numpy as np

from aiida_mlip_autopipe.science.descriptors.compiled.neighbours import (
    ANY_RANK,
    COINCIDENT,
    COLLAPSED,
    FINE,
    SPECIES_MASK,
    Vectors,
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
from aiida_mlip_autopipe.science.descriptors.compiled.power_spectrum import (
    ALL_DEGREES,
    BATCH,
    EVEN_DEGREES,
    SoapBasis,
    add_neighbours,
    buffers_for,
    copy_row,
    mix,
    weight_of,
    write_power_spectrum,
)
from aiida_mlip_autopipe.science.descriptors.compiled.vectors import LANES

__all__ = ['INNER', 'MODES', 'OFF', 'OUTER', 'calculate_soap_descriptors_fast']

#: How rows are averaged over the centres of a frame.
OFF, INNER, OUTER = range(3)
MODES = {'off': OFF, 'inner': INNER, 'outer': OUTER}

#: Pairs of a kind wait until there are so many: then the sums are fetched and stored more rarely.
MIN_WAITING = 4 * BATCH


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
    basis: SoapBasis,
    rows: np.ndarray,
) -> int:
    """Fill rows (C or 1, features) from the neighbours of each centre; return the status of the frame."""
    n_species, width = len(basis.species), LANES * len(basis.blocks)
    size = len(basis.degrees) ** 2 * width
    room = len(ranks) + LANES
    found = room_for(1, room)
    batch = found if n_species == 1 else room_for(n_species, room)
    found_ranks, kinds = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    buffers, counts = buffers_for(basis), np.zeros(n_species, dtype=np.int64)
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
            on_centre += add_neighbours(
                batch, species * room, counts[species], basis, ALL_DEGREES, buffers, density, species * size
            )
        if on_centre > 1:
            return COINCIDENT
        if average != INNER:
            mix(density, basis, 1.0, coefficients)
            density[:] = 0.0
            if average == OFF and i < len(sites) - LANES:
                write_power_spectrum(coefficients, basis, rows[i])  # the excess is overwritten by what follows
                continue
            write_power_spectrum(coefficients, basis, row)
            if average == OFF:
                copy_row(row, 1.0, rows[i])
            else:
                for f in range(rows.shape[1]):
                    total[f] += row[f]
    if average == OUTER:
        copy_row(total, 1.0 / len(sites), rows[0])
    elif average == INNER:
        mix(density, basis, 1.0 / len(sites), coefficients)
        write_power_spectrum(coefficients, basis, row)
        copy_row(row, 1.0, rows[0])
    return FINE


@lean
def _add_on_centre(channels: np.ndarray, basis: SoapBasis, density: np.ndarray) -> None:
    """Add each atom to the density around itself: only l = 0 counts there."""
    width = LANES * len(basis.blocks)
    size = len(basis.degrees) ** 2 * width
    weight = weight_of(0.0, basis.weighting, basis.weights)
    for channel in channels:
        for n in range(width):
            value = 0.0
            for order in range(3, -1, -1):
                value = value * -0.5 + basis.table[order * width + n]
            density[channel * size + n] += weight * value


@lean
def _add_pairs(
    pair_density: np.ndarray, n_species: int, degrees: tuple[int, ...], width: int, density: np.ndarray
) -> None:
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
def _pair_kind(one: int, two: int, n_species: int) -> int:
    """Return the number of a pair of species, counted as in the features; ~number if the first is the higher."""
    low, high = min(one, two), max(one, two)
    kind = low * n_species - low * (low - 1) // 2 + high - low
    return ~kind if one > two else kind


@lean
def _add_waiting(
    batch: Vectors,
    counts: np.ndarray,
    room: int,
    least: int,
    basis: SoapBasis,
    buffers: tuple[np.ndarray, ...],
    pair_density: np.ndarray,
) -> int:
    """Add pairs of those kinds of which at least so many wait to their densities; return how many have no length."""
    n_species = len(basis.species)
    size = len(basis.degrees) ** 2 * LANES * len(basis.blocks)
    coincident, kind = 0, 0
    for one in range(n_species):
        for two in range(one, n_species):
            begin, count, place = kind * room, counts[kind], kind * size
            if count >= least:
                if one == two:
                    coincident += add_neighbours(batch, begin, count, basis, EVEN_DEGREES, buffers, pair_density, place)
                else:
                    coincident += add_neighbours(batch, begin, count, basis, ALL_DEGREES, buffers, pair_density, place)
                counts[kind] = 0
            kind += 1
    return coincident


@compiled
def _describe_pairs(
    channels: np.ndarray,
    sites: np.ndarray,
    places: np.ndarray,
    images: np.ndarray,
    ranks: np.ndarray,
    starts: np.ndarray,
    n_bins: np.ndarray,
    basis: SoapBasis,
    row: np.ndarray,
) -> int:
    """Fill the row (features,) of coefficients averaged over all atoms, from each pair once; return the status."""
    n_species, width = len(basis.species), LANES * len(basis.blocks)
    n_kinds = n_species * (n_species + 1) // 2
    size = len(basis.degrees) ** 2 * width
    room = len(ranks) + MIN_WAITING + LANES
    found = room_for(1, room)
    batch = found if n_species == 1 else room_for(n_kinds, room)
    found_ranks, kinds = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    buffers, counts = buffers_for(basis), np.zeros(n_kinds, dtype=np.int64)
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
    mix(density, basis, 1.0 / len(sites), coefficients)
    scratch = aligned_zeros(len(row) + LANES)
    write_power_spectrum(coefficients, basis, scratch)
    copy_row(scratch, 1.0, row)
    return FINE


@entry
def calculate_soap_descriptors_fast(
    positions: np.ndarray,
    numbers: np.ndarray,
    cells: np.ndarray,
    pbc: np.ndarray,
    centers: np.ndarray,
    basis: SoapBasis,
    average: int,
    rows: np.ndarray,
) -> np.ndarray:
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
