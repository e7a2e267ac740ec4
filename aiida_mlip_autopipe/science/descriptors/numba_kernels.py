"""What Numba compiles: neighbours of periodic frames and the SOAP power spectrum of stacked positions.

The idea, frame by frame. Atoms are wrapped into the cell and surrounded with their periodic images up to the cutoff;
images are sorted into bins of the cutoff's size. Around each centre the density of a species is expanded as

    a_klm = sum_j r^l Y_lm(r_j) exp(-e_lk r_j^2),

which is turned into the orthonormal radial basis once per centre, c_nlm = sum_k t_lnk a_klm, and contracted to
p_nn'l = pi sqrt(8 / (2 l + 1)) sum_m c_nlm c_n'lm. The exponents e and the transforms t are those of
:func:`~aiida_mlip_autopipe.science.descriptors.soap.gto_basis`.

Source of the definitions: L. Himanen et al., Comput. Phys. Commun. 247, 106949 (2020) (dscribe), and A. P. Bartók,
R. Kondor and G. Csányi, Phys. Rev. B 87, 184115 (2013). Solid harmonics: E. W. Hobson's recursion, without a division.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ['INNER', 'MAX_IMAGES_PER_ATOM', 'OFF', 'OUTER', 'calculate_soap_descriptors_fast']

#: Cached on disk, so that only the first process ever waits; a division by zero gives NaN instead of an exception.
compiled = njit(cache=True, error_model='numpy')

#: How rows are averaged over the atoms of a frame.
OFF, INNER, OUTER = 0, 1, 2

#: A cell that needs more periodic images per atom than this has collapsed.
MAX_IMAGES_PER_ATOM = 50_000

#: Atoms further out than so many cells (or Å, where aperiodic) have exploded, and too few digits are left to wrap them.
MAX_COORDINATE = 1e6


@compiled
def _set_cross(a, b, scale, out):
    """Fill out (3,) with a x b / scale, or with a unit vector along a x b where scale is 0."""
    x, y, z = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
    if scale == 0.0:
        scale = math.sqrt(x * x + y * y + z * z)
    out[0], out[1], out[2] = x / scale, y / scale, z / scale


@compiled
def _complete_cell(cell, pbc):
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
def _reciprocal(cell):
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
def _all_below(values, bound):
    """Return whether all elements of a two-dimensional array are smaller than the bound in size, and none is NaN."""
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            if not abs(values[row, column]) < bound:
                return False
    return True


@compiled
def _fractional(positions, dual):
    """Return fractional coordinates (N, 3)."""
    fractional = np.empty_like(positions)
    for i in range(len(positions)):
        for k in range(3):
            fractional[i, k] = (
                positions[i, 0] * dual[k, 0] + positions[i, 1] * dual[k, 1] + positions[i, 2] * dual[k, 2]
            )
    return fractional


@compiled
def _wrap(positions, fractional, cell, pbc):
    """Return positions (N, 3) wrapped along the periodic directions; wrap the fractional coordinates in place."""
    wrapped = positions.copy()
    for i in range(len(positions)):
        for k in range(3):
            if pbc[k]:
                shift = math.floor(fractional[i, k])
                fractional[i, k] -= shift
                for x in range(3):
                    wrapped[i, x] -= shift * cell[k, x]
    return wrapped


@compiled
def _extent(fractional, dual, cutoff):
    """Return smallest and largest fractional coordinate and the width of the cutoff, (3,) each."""
    low, high, margin = np.empty(3), np.empty(3), np.empty(3)
    for k in range(3):
        low[k], high[k] = np.inf, -np.inf
        for i in range(len(fractional)):
            low[k] = min(low[k], fractional[i, k])
            high[k] = max(high[k], fractional[i, k])
        inverse_height = math.sqrt(dual[k, 0] ** 2 + dual[k, 1] ** 2 + dual[k, 2] ** 2)
        margin[k] = cutoff * inverse_height * (1 + 1e-9) + 1e-9
    return low, high, margin


@compiled
def _shift_ranges(fractional, low, high, margin, pbc):
    """Return first and last lattice shift (N, 3) of each atom's images inside the margin, and the number of images."""
    first = np.zeros(fractional.shape, dtype=np.int64)
    last = np.zeros(fractional.shape, dtype=np.int64)
    total = 0.0
    for i in range(len(fractional)):
        count = 1.0
        for k in range(3):
            if pbc[k] and margin[k] < MAX_IMAGES_PER_ATOM:
                first[i, k] = math.ceil(low[k] - margin[k] - fractional[i, k])
                last[i, k] = math.floor(high[k] + margin[k] - fractional[i, k])
                count *= last[i, k] - first[i, k] + 1
            elif pbc[k]:
                count *= 2 * MAX_IMAGES_PER_ATOM
        total += count
    return first, last, total


@compiled
def _images(wrapped, fractional, channels, cell, first, last, n_images):
    """Return positions (M, 3), fractional coordinates (M, 3) and channels (M,) of all images."""
    positions = np.empty((n_images, 3))
    coordinates = np.empty((n_images, 3))
    image_channels = np.empty(n_images, dtype=np.int64)
    index = 0
    for i in range(len(wrapped)):
        for u in range(first[i, 0], last[i, 0] + 1):
            for v in range(first[i, 1], last[i, 1] + 1):
                for w in range(first[i, 2], last[i, 2] + 1):
                    for x in range(3):
                        positions[index, x] = wrapped[i, x] + u * cell[0, x] + v * cell[1, x] + w * cell[2, x]
                    coordinates[index, 0] = fractional[i, 0] + u
                    coordinates[index, 1] = fractional[i, 1] + v
                    coordinates[index, 2] = fractional[i, 2] + w
                    image_channels[index] = channels[i]
                    index += 1
    return positions, coordinates, image_channels


@compiled
def _grid(low, high, margin, n_images):
    """Return the number of bins (3,) and their widths (3,): at least the cutoff, and not many more bins than images."""
    n_bins, width = np.empty(3, dtype=np.int64), np.empty(3)
    for k in range(3):
        extent = high[k] - low[k] + 2 * margin[k]
        n_bins[k] = int(min(max(extent / margin[k], 1.0), 1.0 + n_images ** (1 / 3)))
        width[k] = extent / n_bins[k]
    return n_bins, width


@compiled
def _bin(coordinate, low, margin, width, n_bins):
    """Return the bin of a fractional coordinate along one direction."""
    return min(max(int((coordinate - low + margin) / width), 0), n_bins - 1)


@compiled
def _sort_into_bins(images, coordinates, channels, low, margin, width, n_bins):
    """Return where each bin starts (bins + 1,) and images (M, 3) and channels (M,) sorted by bin."""
    starts = np.zeros(n_bins[0] * n_bins[1] * n_bins[2] + 2, dtype=np.int64)
    bins = np.empty(len(images), dtype=np.int64)
    for i in range(len(images)):
        bins[i] = 0
        for k in range(3):
            bins[i] = bins[i] * n_bins[k] + _bin(coordinates[i, k], low[k], margin[k], width[k], n_bins[k])
        starts[bins[i] + 2] += 1
    for i in range(1, len(starts)):
        starts[i] += starts[i - 1]
    sorted_images, sorted_channels = np.empty_like(images), np.empty_like(channels)
    for i in range(len(images)):
        place = starts[bins[i] + 1]
        starts[bins[i] + 1] += 1
        sorted_channels[place] = channels[i]
        for x in range(3):
            sorted_images[place, x] = images[i, x]
    return starts, sorted_images, sorted_channels


@compiled
def _solid_harmonics(x, y, z, r2, l_max, harmonics):
    """Fill unnormalised real solid harmonics, r^l Y_lm / norm_lm, at l^2 + l + m of (l_max + 1)^2."""
    cosine, sine, diagonal = 1.0, 0.0, 1.0
    for m in range(l_max + 1):
        previous, current = 0.0, diagonal
        for l in range(m, l_max + 1):  # noqa: E741 - the field's name
            harmonics[l * l + l - m] = current * sine
            harmonics[l * l + l + m] = current * cosine
            following = (2 * l + 1) * z * current - (l + m) * (l - m) * r2 * previous
            previous, current = current, following
        diagonal *= 2 * m + 1
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine


@compiled
def _harmonic_norms(l_max):
    """Return what makes the solid harmonics orthonormal, times sqrt(pi sqrt(8 / (2 l + 1))) of the power spectrum."""
    norms = np.empty((l_max + 1) ** 2)
    for l in range(l_max + 1):  # noqa: E741
        for m in range(l + 1):
            log_ratio = math.lgamma(l - m + 1.0) + math.lgamma(l + m + 1.0)
            norm = math.sqrt((2 * l + 1) / (4 * math.pi) * (2.0 if m > 0 else 1.0)) * math.exp(-0.5 * log_ratio)
            norm *= math.sqrt(math.pi * math.sqrt(8.0 / (2 * l + 1)))
            norms[l * l + l - m] = norm
            norms[l * l + l + m] = norm
    return norms


@compiled
def _add_neighbour(density, x, y, z, r2, exponents, harmonics, radial):
    """Add one neighbour at (x, y, z), in Å, to the density (lm, k) of its species."""
    l_max, n_max = exponents.shape[0] - 1, exponents.shape[1]
    _solid_harmonics(x, y, z, r2, l_max, harmonics)
    for l in range(l_max + 1):  # noqa: E741
        for k in range(n_max):
            radial[k] = math.exp(-exponents[l, k] * r2)
        for lm in range(l * l, (l + 1) * (l + 1)):
            value = harmonics[lm]
            for k in range(n_max):
                density[lm, k] += value * radial[k]


@compiled
def _contract_density(density, transforms, norms, coefficients):
    """Fill the coefficients (species, lm, n) in the orthonormal radial basis from the density (species, lm, k)."""
    n_max = transforms.shape[1]
    for channel in range(len(density)):
        for l in range(len(transforms)):  # noqa: E741
            for lm in range(l * l, (l + 1) * (l + 1)):
                for n in range(n_max):
                    total = 0.0
                    for k in range(n_max):
                        total += transforms[l, n, k] * density[channel, lm, k]
                    coefficients[channel, lm, n] = norms[lm] * total


@compiled
def _add_power_spectrum(coefficients, l_max, weight, block, row):
    """Add the weighted power spectrum of one environment to a row, in the order Z1 <= Z2, l, n, n'."""
    n_species, _, n_max = coefficients.shape
    index = 0
    for one in range(n_species):
        for two in range(one, n_species):
            for l in range(l_max + 1):  # noqa: E741
                block[:] = 0.0
                for lm in range(l * l, (l + 1) * (l + 1)):
                    for n in range(n_max):
                        value = coefficients[one, lm, n]
                        for other in range(n_max):
                            block[n, other] += value * coefficients[two, lm, other]
                for n in range(n_max):
                    for other in range(n if one == two else 0, n_max):
                        row[index] += weight * block[n, other]
                        index += 1


@compiled
def _add_environment(centre, place, n_bins, starts, images, channels, cutoff, exponents, harmonics, radial, density):
    """Add all images within the cutoff of a centre (3,) in the bin place (3,) to the density (species, lm, k)."""
    for u in range(max(place[0] - 1, 0), min(place[0] + 2, n_bins[0])):
        for v in range(max(place[1] - 1, 0), min(place[1] + 2, n_bins[1])):
            line = (u * n_bins[1] + v) * n_bins[2]
            for j in range(starts[line + max(place[2] - 1, 0)], starts[line + min(place[2] + 2, n_bins[2])]):
                x, y, z = images[j, 0] - centre[0], images[j, 1] - centre[1], images[j, 2] - centre[2]
                r2 = x * x + y * y + z * z
                if r2 <= cutoff * cutoff:
                    _add_neighbour(density[channels[j]], x, y, z, r2, exponents, harmonics, radial)


@compiled
def _fill_frame(positions, channels, cell, pbc, cutoff, exponents, transforms, norms, average, density, rows):
    """Fill the zeroed rows (N or 1, features) of one frame; return False where it has no usable geometry."""
    n_atoms, l_max, n_max = len(positions), exponents.shape[0] - 1, exponents.shape[1]
    cell = _complete_cell(cell, pbc)
    dual = _reciprocal(cell)
    fractional = _fractional(positions, dual)
    if not (_all_below(cell, np.inf) and _all_below(dual, np.inf) and _all_below(fractional, MAX_COORDINATE)):
        return False
    wrapped = _wrap(positions, fractional, cell, pbc)
    low, high, margin = _extent(fractional, dual, cutoff)
    first, last, n_images = _shift_ranges(fractional, low, high, margin, pbc)
    if n_images > MAX_IMAGES_PER_ATOM * n_atoms:
        return False
    images, coordinates, image_channels = _images(wrapped, fractional, channels, cell, first, last, int(n_images))
    n_bins, width = _grid(low, high, margin, n_images)
    starts, images, image_channels = _sort_into_bins(images, coordinates, image_channels, low, margin, width, n_bins)

    coefficients, block = np.empty_like(density), np.empty((n_max, n_max))
    harmonics, radial, place = np.empty((l_max + 1) ** 2), np.empty(n_max), np.empty(3, dtype=np.int64)
    density[:] = 0.0
    for i in range(n_atoms):
        for k in range(3):
            place[k] = _bin(fractional[i, k], low[k], margin[k], width[k], n_bins[k])
        _add_environment(
            wrapped[i], place, n_bins, starts, images, image_channels, cutoff, exponents, harmonics, radial, density
        )
        if average != INNER:
            _contract_density(density, transforms, norms, coefficients)
            weight, row = (1.0 / n_atoms, 0) if average == OUTER else (1.0, i)
            _add_power_spectrum(coefficients, l_max, weight, block, rows[row])
            density[:] = 0.0
    if average == INNER:
        _contract_density(density, transforms, norms / n_atoms, coefficients)
        _add_power_spectrum(coefficients, l_max, 1.0, block, rows[0])
    return True


@compiled
def calculate_soap_descriptors_fast(
    positions, numbers, cells, pbc, species, cutoff, exponents, transforms, average=OUTER
):
    """Return the SOAP power spectra of stacked frames.

    Parameters
    ----------
    positions : numpy.ndarray
        Positions (T, N, 3), float64, in Å; wrapped or not.
    numbers : numpy.ndarray
        Atomic numbers (N,), int64.
    cells : numpy.ndarray
        Cell vectors as rows (T, 3, 3), float64, in Å; only those of periodic directions are read.
    pbc : numpy.ndarray
        Periodic directions (3,), bool.
    species : numpy.ndarray
        Atomic numbers of all elements (S,), int64, ascending.
    cutoff : float
        Distance up to which atoms count, in Å (for dscribe's definition: r_cut + 3.717 sigma).
    exponents, transforms : numpy.ndarray
        Radial basis (l_max + 1, n_max) in 1/Å² and (l_max + 1, n_max, n_max).
    average : int
        ``OFF``, ``INNER`` or ``OUTER``.

    Returns
    -------
    numpy.ndarray
        Power spectra (T, N, features) for ``OFF``, otherwise (T, 1, features), in the order Z1 <= Z2, l, n, n'. Frames
        without a usable geometry (coordinates not finite or exploded, a cell without volume or collapsed) give NaN.

    Raises
    ------
    ValueError
        If an atomic number is not among the species.
    """
    n_frames, n_atoms = positions.shape[0], positions.shape[1]
    l_max, n_max, n_species = exponents.shape[0] - 1, exponents.shape[1], len(species)
    channels = np.full(n_atoms, -1)
    for i in range(n_atoms):
        for channel in range(n_species):
            if species[channel] == numbers[i]:
                channels[i] = channel
        if channels[i] < 0:
            raise ValueError('an atomic number of the frames is not among species; add it there')
    n_channels = n_species * n_max
    features = np.zeros((n_frames, n_atoms if average == OFF else 1, n_channels * (n_channels + 1) // 2 * (l_max + 1)))
    norms = _harmonic_norms(l_max)
    density = np.empty((n_species, (l_max + 1) ** 2, n_max))
    for t in range(n_frames):
        if not _fill_frame(
            positions[t], channels, cells[t], pbc, cutoff, exponents, transforms, norms, average, density, features[t]
        ):
            features[t] = np.nan
    return features
