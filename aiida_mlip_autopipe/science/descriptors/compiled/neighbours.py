"""Neighbours of periodic frames, compiled: images of all atoms in bins, and those within a cutoff of a centre.

Centres and atoms are wrapped into the cell. Every atom is repeated by those lattice vectors that bring it within the
cutoff of where centres are; the images are sorted into bins in fractional space whose edge is at least half the cutoff,
so that the neighbours of a centre stand in the 125 bins around its own. Nothing is assumed about the shape of the cell
or its size beside the cutoff.

A frame that cannot be described gets one of the codes below instead.
"""

# An intrinsic is called without its first parameter, which annotations cannot say.
# mypy: disable-error-code="call-arg"

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from aiida_mlip_autopipe.science.descriptors.compiled.vectors import LANES, collect_within

__all__ = [
    'ANY_RANK',
    'BAD_CELL',
    'COINCIDENT',
    'COLLAPSED',
    'EXPLODED',
    'FINE',
    'MAX_COORDINATE',
    'MAX_IMAGES_PER_ATOM',
    'MIN_DISTANCE',
    'NOT_FINITE',
    'SPECIES_MASK',
    'Vectors',
    'aligned_zeros',
    'bin_images',
    'collect_neighbours',
    'compiled',
    'entry',
    'lean',
    'lowest_partner',
    'room_for',
    'sort_by_kind',
    'species_places',
    'wrap_frame',
]

#: Three arrays of numbers: x, y and z.
Vectors = tuple[np.ndarray, np.ndarray, np.ndarray]

#: For what Python calls: cached on disk, so that only the first process ever waits; a division by zero gives NaN and no
#: exception; the interpreter's lock is released, so that threads work side by side.
entry = njit(cache=True, error_model='numpy', nogil=True)

#: For what only compiled functions call: part of their caller's cache, and without a way in from Python, which would
#: crash.
compiled = njit(  # type: ignore[call-overload]
    error_model='numpy', no_cpython_wrapper=True, no_cfunc_wrapper=True
)

#: For what neither allocates nor returns arrays and is called for every environment: to count references to its
#: arguments would take longer than some of the work.
lean = njit(  # type: ignore[call-overload]
    error_model='numpy', no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False
)

#: What can be wrong with a frame.
FINE, NOT_FINITE, BAD_CELL, EXPLODED, COLLAPSED, COINCIDENT = range(6)

#: A cell that needs more periodic images per atom than this has collapsed.
MAX_IMAGES_PER_ATOM = 50_000

#: Atoms further out than so many cells (or Å, where aperiodic) have exploded: too few digits are left to wrap them.
MAX_COORDINATE = 1e6

#: Atoms closer than this, in Å, stand on top of each other; an atom closer than this to a centre stands on it.
MIN_DISTANCE = 1e-3

#: Enough for the number of any element.
SPECIES_BITS = 7
SPECIES_MASK = 2**SPECIES_BITS - 1

#: All images are neighbours, whatever their rank.
ANY_RANK = -(2**SPECIES_BITS)

#: Bins of half the cutoff: neighbours are at most two bins away.
BINS_PER_CUTOFF = 2


@compiled
def aligned_zeros(size: int) -> np.ndarray:
    """Return zeros (size,), float64, that begin at a cache line: a vector of eight then never straddles two."""
    array = np.zeros(size + 8)
    start = (64 - array.ctypes.data % 64) // 8 % 8
    return array[start : start + size]


@compiled
def _set_cross(a: np.ndarray, b: np.ndarray, scale: float, out: np.ndarray) -> None:
    """Fill out (3,) with a x b / scale, or with a unit vector along a x b where scale is 0."""
    x, y, z = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
    if scale == 0.0:
        scale = math.sqrt(x * x + y * y + z * z)
    out[0], out[1], out[2] = x / scale, y / scale, z / scale


@compiled
def _complete_cell(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Return the cell (3, 3) with each aperiodic vector replaced by a unit vector normal to the others."""
    full = np.zeros((3, 3))
    n_periodic = 0
    for i in range(3):
        full[i, i] = 1.0
        if pbc[i]:
            n_periodic += 1
            for x in range(3):
                full[i, x] = cell[i, x]
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        if n_periodic == 2 and not pbc[i]:
            _set_cross(full[j], full[k], 0.0, full[i])
        elif n_periodic == 1 and pbc[i]:
            shortest = 0
            for x in range(3):
                full[j, x] = 0.0
                shortest = x if abs(full[i, x]) < abs(full[i, shortest]) else shortest
            full[j, shortest] = 1.0
            _set_cross(full[i], full[j], 0.0, full[k])
            _set_cross(full[k], full[i], 0.0, full[j])
    return full


@compiled
def _reciprocal(cell: np.ndarray) -> np.ndarray:
    """Return the vectors (3, 3) dual to the rows of the cell; NaN for a cell without volume."""
    dual = np.empty((3, 3))
    _set_cross(cell[1], cell[2], 1.0, dual[0])
    volume = cell[0, 0] * dual[0, 0] + cell[0, 1] * dual[0, 1] + cell[0, 2] * dual[0, 2]
    if volume == 0.0:
        volume = np.nan
    for i in range(3):
        _set_cross(cell[(i + 1) % 3], cell[(i + 2) % 3], volume, dual[i])
    return dual


@compiled
def _all_below(values: np.ndarray, bound: float) -> bool:
    """Return whether all elements of a two-dimensional array are smaller than the bound in size, and none is NaN."""
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            if not abs(values[row, column]) < bound:
                return False
    return True


@compiled
def _wrap(positions: np.ndarray, cell: np.ndarray, dual: np.ndarray, pbc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return positions (N, 3) wrapped along the periodic directions, and their fractional coordinates (N, 3)."""
    wrapped, fractional = np.empty_like(positions), np.empty_like(positions)
    for i in range(len(positions)):
        for x in range(3):
            wrapped[i, x] = positions[i, x]
        for k in range(3):
            coordinate = positions[i, 0] * dual[k, 0] + positions[i, 1] * dual[k, 1] + positions[i, 2] * dual[k, 2]
            shift = math.floor(coordinate) if pbc[k] else 0.0
            fractional[i, k] = coordinate - shift
            for x in range(3):
                wrapped[i, x] -= shift * cell[k, x]
    return wrapped, fractional


@entry
def wrap_frame(positions: np.ndarray, centers: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> tuple[Any, ...]:
    """Wrap atoms (N, 3) and centres (C, 3) into the cell.

    Returns
    -------
    status : int
        ``FINE``, ``NOT_FINITE``, ``BAD_CELL`` or ``EXPLODED``; the rest means nothing unless it is ``FINE``.
    cell, dual : numpy.ndarray
        (3, 3): the cell with its aperiodic directions filled in, and the dual vectors.
    atoms, atom_coordinates, sites, site_coordinates : numpy.ndarray
        Wrapped positions and fractional coordinates of atoms (N, 3) and centres (C, 3).
    """
    full = _complete_cell(cell, pbc)
    dual = _reciprocal(full)
    atoms, atom_coordinates = _wrap(positions, full, dual, pbc)
    sites, site_coordinates = _wrap(centers, full, dual, pbc)
    status = FINE
    if not (_all_below(positions, np.inf) and _all_below(centers, np.inf)):
        status = NOT_FINITE
    elif not (_all_below(full, np.inf) and _all_below(dual, np.inf)):
        status = BAD_CELL
    elif not (_all_below(positions, MAX_COORDINATE**2) and _all_below(centers, MAX_COORDINATE**2)):
        status = EXPLODED
    else:
        for i in range(len(positions)):
            for k in range(3):
                x = positions[i, 0] * dual[k, 0] + positions[i, 1] * dual[k, 1] + positions[i, 2] * dual[k, 2]
                if not abs(x) < MAX_COORDINATE:
                    status = EXPLODED
    return status, full, dual, atoms, atom_coordinates, sites, site_coordinates


@compiled
def _extent(coordinates: np.ndarray, dual: np.ndarray, cutoff: float) -> Vectors:
    """Return smallest and largest fractional coordinate and the width of the cutoff, (3,) each."""
    low, high, margin = np.empty(3), np.empty(3), np.empty(3)
    for k in range(3):
        low[k], high[k] = np.inf, -np.inf
        for i in range(len(coordinates)):
            low[k] = min(low[k], coordinates[i, k])
            high[k] = max(high[k], coordinates[i, k])
        inverse_height = math.sqrt(dual[k, 0] ** 2 + dual[k, 1] ** 2 + dual[k, 2] ** 2)
        margin[k] = cutoff * inverse_height * (1 + 1e-9) + 1e-9
    return low, high, margin


@compiled
def _shift_ranges(
    coordinates: np.ndarray, low: np.ndarray, high: np.ndarray, margin: np.ndarray, pbc: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return first and last lattice shift (N, 3) of each atom's images within the margin, and the number of images."""
    first = np.zeros(coordinates.shape, dtype=np.int64)
    last = np.zeros(coordinates.shape, dtype=np.int64)
    total = 0.0
    for i in range(len(coordinates)):
        count = 1.0
        for k in range(3):
            if pbc[k] and margin[k] < MAX_IMAGES_PER_ATOM:
                first[i, k] = math.ceil(low[k] - margin[k] - coordinates[i, k])
                last[i, k] = math.floor(high[k] + margin[k] - coordinates[i, k])
                count *= max(last[i, k] - first[i, k] + 1, 0)
            elif pbc[k]:
                count *= 2 * MAX_IMAGES_PER_ATOM
        total += count
    return first, last, total


@compiled
def _grid(low: np.ndarray, high: np.ndarray, margin: np.ndarray, n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of bins (3,) and their widths (3,): at least half the cutoff, and not many more than images."""
    n_bins, width = np.empty(3, dtype=np.int64), np.empty(3)
    for k in range(3):
        extent = high[k] - low[k] + 2 * margin[k]
        n_bins[k] = int(min(BINS_PER_CUTOFF * extent / margin[k], 2.0 + n_images ** (1 / 3)))
        width[k] = extent / n_bins[k]
    return n_bins, width


@compiled
def _bin(coordinate: float, low: float, margin: float, width: float, n_bins: int) -> int:
    """Return the bin of a fractional coordinate along one direction."""
    return min(max(int((coordinate - low + margin) / width), 0), n_bins - 1)


@compiled
def _sort_by_bin(
    unsorted: np.ndarray, bins: np.ndarray, starts: np.ndarray, images: np.ndarray, ranks: np.ndarray
) -> None:
    """Fill images and ranks, bin by bin; ``starts`` holds how many there are in each, and where each begins after."""
    n_images = unsorted.shape[1]
    for i in range(1, len(starts)):
        starts[i] += starts[i - 1]
    for i in range(n_images):
        place = starts[bins[0, i] + 1]
        starts[bins[0, i] + 1] += 1
        ranks[place] = bins[1, i]
        for x in range(3):
            images[x * n_images + place] = unsorted[x, i]


@compiled
def bin_images(
    atoms: np.ndarray,
    channels: np.ndarray,
    atom_coordinates: np.ndarray,
    site_coordinates: np.ndarray,
    cell: np.ndarray,
    dual: np.ndarray,
    pbc: np.ndarray,
    cutoff: float,
) -> tuple[np.ndarray, ...]:
    """Return all images that can be neighbours of a centre, sorted by bin.

    Returns
    -------
    images : numpy.ndarray
        (3 M + 8,): all x, then y, then z, in Å.
    ranks : numpy.ndarray
        (M,), int64: the place of their species in the last ``SPECIES_BITS`` bits; before these 4 i for atom i itself,
        4 i + 1 for its images by lexicographically positive lattice vectors, 4 i - 1 by negative ones. Of a pair and
        its mirror image just one has a higher rank than its centre (:func:`lowest_partner`).
    starts : numpy.ndarray
        (bins + 1,), int64: where each bin begins.
    places : numpy.ndarray
        (C, 3), int64: the bin of each centre.
    n_bins : numpy.ndarray
        (3,), int64. M is 0 and the rest means nothing if there are more than ``MAX_IMAGES_PER_ATOM`` images per atom.
    """
    low, high, margin = _extent(site_coordinates, dual, cutoff)
    first, last, total = _shift_ranges(atom_coordinates, low, high, margin, pbc)
    n_images = int(total) if total <= MAX_IMAGES_PER_ATOM * len(atoms) else 0
    n_bins, width = _grid(low, high, margin, n_images)
    starts = np.zeros(n_bins[0] * n_bins[1] * n_bins[2] + 2, dtype=np.int64)
    places = np.empty(site_coordinates.shape, dtype=np.int64)
    images, unsorted = np.empty(3 * n_images + LANES), np.empty((3, n_images))
    ranks, bins = np.empty(n_images + LANES, dtype=np.int64), np.empty((2, n_images), dtype=np.int64)
    if n_images == 0:
        return images, ranks[:0], starts, places, n_bins
    for i in range(len(places)):
        for k in range(3):
            places[i, k] = _bin(site_coordinates[i, k], low[k], margin[k], width[k], n_bins[k])

    index = 0
    for i in range(len(atoms)):
        for u in range(first[i, 0], last[i, 0] + 1):
            plane = _bin(atom_coordinates[i, 0] + u, low[0], margin[0], width[0], n_bins[0]) * n_bins[1]
            for v in range(first[i, 1], last[i, 1] + 1):
                line = _bin(atom_coordinates[i, 1] + v, low[1], margin[1], width[1], n_bins[1])
                line = (plane + line) * n_bins[2]
                for w in range(first[i, 2], last[i, 2] + 1):
                    place = line + _bin(atom_coordinates[i, 2] + w, low[2], margin[2], width[2], n_bins[2])
                    for x in range(3):
                        unsorted[x, index] = atoms[i, x] + u * cell[0, x] + v * cell[1, x] + w * cell[2, x]
                    sign = u if u != 0 else v if v != 0 else w
                    bins[0, index] = place
                    rank = 4 * i + (1 if sign > 0 else -1 if sign < 0 else 0)
                    bins[1, index] = (rank << SPECIES_BITS) + channels[i]
                    starts[place + 2] += 1
                    index += 1
    _sort_by_bin(unsorted, bins, starts, images, ranks)
    return images, ranks[:n_images], starts, places, n_bins


@lean
def lowest_partner(site: int) -> int:
    """Return the lowest rank with which an image makes a pair with atom ``site`` that no other centre makes."""
    return (4 * site + 1) << SPECIES_BITS


@lean
def collect_neighbours(
    site: np.ndarray,
    place: np.ndarray,
    lowest_rank: int,
    images: np.ndarray,
    ranks: np.ndarray,
    starts: np.ndarray,
    n_bins: np.ndarray,
    cutoff: float,
    found: Vectors,
    found_ranks: np.ndarray,
    count: int,
) -> int:
    """Append the images within the cutoff of a centre (3,) in the bin (3,) to ``found`` and its ranks, from count on.

    ``found`` holds the displacements from the centre, in Å, x, y and z. Images below ``lowest_rank`` are passed over.
    Returns the new count; the arrays need room for all images beyond it, and for one vector.
    """
    x, y, z = found
    for u in range(max(place[0] - BINS_PER_CUTOFF, 0), min(place[0] + BINS_PER_CUTOFF + 1, n_bins[0])):
        for v in range(max(place[1] - BINS_PER_CUTOFF, 0), min(place[1] + BINS_PER_CUTOFF + 1, n_bins[1])):
            line = (u * n_bins[1] + v) * n_bins[2]
            begin = starts[line + max(place[2] - BINS_PER_CUTOFF, 0)]
            end = starts[line + min(place[2] + BINS_PER_CUTOFF + 1, n_bins[2])]
            count = collect_within(
                images, len(ranks), ranks, begin, end, site, cutoff * cutoff, lowest_rank, x, y, z, found_ranks, count
            )
    return count


@compiled
def species_places(numbers: np.ndarray, species: np.ndarray) -> np.ndarray:
    """Return the place of each atomic number (N,) among the species (S,); -1 where it is not there."""
    channels = np.full(len(numbers), -1)
    for i in range(len(numbers)):
        for channel in range(len(species)):
            if species[channel] == numbers[i]:
                channels[i] = channel
    return channels


@compiled
def room_for(n_kinds: int, room: int) -> Vectors:
    """Return arrays for displacements of several kinds, with room for each."""
    size = n_kinds * room
    return aligned_zeros(size), aligned_zeros(size), aligned_zeros(size)


@lean
def sort_by_kind(
    found: Vectors, n_found: int, kinds: np.ndarray, batch: Vectors, counts: np.ndarray, room: int
) -> None:
    """Distribute displacements (x, y, z) over the batches of their kinds; a negative kind ~k is turned round first."""
    x, y, z = found
    batch_x, batch_y, batch_z = batch
    for j in range(n_found):
        kind, sign = kinds[j], 1.0
        if kind < 0:
            kind, sign = ~kind, -1.0
        place = kind * room + counts[kind]
        counts[kind] += 1
        batch_x[place], batch_y[place], batch_z[place] = sign * x[j], sign * y[j], sign * z[j]
