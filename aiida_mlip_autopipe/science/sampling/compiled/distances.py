"""The closest atoms of stacked frames, compiled: one number per frame, with the neighbour search of the descriptors.

Distances are measured by the sum of two atoms' radii, so that one bound serves every pair of elements. Each pair of
atoms is looked at once, periodic images included, an atom's own as well; nothing is assumed about the shape of the cell
or its size.
"""

# An intrinsic, and what calls one, is called without its first parameter, which annotations cannot say.
# mypy: disable-error-code="call-arg"

from __future__ import annotations

import math

import numpy as np

from aiida_mlip_autopipe.science.descriptors.compiled.neighbours import (
    FINE,
    SPECIES_MASK,
    bin_images,
    collect_neighbours,
    compiled,
    entry,
    lowest_partner,
    wrap_frame,
)
from aiida_mlip_autopipe.science.descriptors.compiled.vectors import LANES

__all__ = ['closest_ratios']


@compiled
def _closest_ratio(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, kinds: np.ndarray, radii: np.ndarray, bound: float
) -> float:
    """Return the smallest ratio of one frame, see :func:`closest_ratios`."""
    status, full, dual, atoms, coordinates, _, _ = wrap_frame(positions, positions, cell, pbc)
    if status != FINE:
        return np.nan
    cutoff = 2.0 * bound * radii.max()
    if cutoff == 0.0:
        return bound
    images, ranks, starts, places, n_bins = bin_images(atoms, kinds, coordinates, coordinates, full, dual, pbc, cutoff)
    if len(ranks) == 0:
        return 0.0
    room = len(ranks) + LANES
    found, found_ranks = (np.empty(room), np.empty(room), np.empty(room)), np.empty(room, dtype=np.int64)
    smallest = bound
    for i in range(len(atoms)):
        n_found = collect_neighbours(
            atoms[i], places[i], lowest_partner(i), images, ranks, starts, n_bins, cutoff, found, found_ranks, 0
        )
        for j in range(n_found):
            r = math.sqrt(found[0][j] ** 2 + found[1][j] ** 2 + found[2][j] ** 2)
            smallest = min(smallest, r / (radii[kinds[i]] + radii[found_ranks[j] & SPECIES_MASK]))
    return smallest


@entry
def closest_ratios(
    positions: np.ndarray, cells: np.ndarray, pbc: np.ndarray, kinds: np.ndarray, radii: np.ndarray, bound: float
) -> np.ndarray:
    """Return the smallest distance over the sum of the two atoms' radii in each frame.

    Parameters
    ----------
    positions : numpy.ndarray
        (T, N, 3), float64, in Å; wrapped or not.
    cells : numpy.ndarray
        (T, 3, 3), float64, in Å; only vectors of periodic directions are read.
    pbc : numpy.ndarray
        Periodic directions (3,), bool.
    kinds : numpy.ndarray
        (N,), int64: the place of each atom's radius.
    radii : numpy.ndarray
        (S,), float64, in Å.
    bound : float
        Nothing beyond this ratio is looked for; 0 for no search at all.

    Returns
    -------
    numpy.ndarray
        (T,): the ratio, or the bound where nothing is closer; 0 for a cell that has collapsed, so that atoms have too
        many images to be looked at; NaN for a frame without a geometry: a position or cell vector is not finite, the
        cell does not span its periodic directions, or an atom is too far away to be wrapped.
    """
    ratios = np.empty(len(positions))
    for t in range(len(positions)):
        ratios[t] = _closest_ratio(positions[t], cells[t], pbc, kinds, radii, bound)
    return ratios
