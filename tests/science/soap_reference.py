"""SOAP written down once more, for reading: NumPy and SciPy, no Numba, no tables, no neighbour list.

Each step is the formula. A density of Gaussians ``w_j exp(-eta |r - r_j|²)``, ``eta = 1 / (2 sigma²)``, stands on the
neighbours of a centre; its expansion ``c_nlm = sum_j w_j G_nl(r_j) Y_lm(r_j)`` in orthonormal radial functions g_n and
real spherical harmonics needs only the overlap ``G_nl(r)`` of a Gaussian at distance r with ``g_n Y_l``; the features
are ``p = pi sqrt(8 / (2l + 1)) sum_m c_nlm c_n'lm``. Parameters and the order of the features are dscribe's. Time and
memory grow with images times centres: for frames of a few dozen atoms.

Source: A. P. Bartók, R. Kondor and G. Csányi, Phys. Rev. B 87, 184115 (2013), with erratum; M. A. Caro, Phys. Rev. B
100, 024112 (2019) and M. J. Willatt, F. Musil and M. Ceriotti, Phys. Chem. Chem. Phys. 20, 29661 (2018) for the
weighting; J. P. Darby, J. R. Kermode and G. Csányi, npj Comput. Mater. 8, 166 (2022) for the compression.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from scipy.linalg import inv, sqrtm
from scipy.special import gamma, ive, sph_harm_y

#: Radial functions have decayed to this at their own radius, and so has a neighbour's Gaussian at the cutoff.
DECAY = 1e-3
QUADRATURE_POINTS = 400


def soap(
    atoms: Atoms,
    species: Sequence[int | str],
    r_cut: float | None = None,
    n_max: int = 8,
    l_max: int = 6,
    sigma: float = 1.0,
    rbf: str = 'gto',
    average: str = 'off',
    weighting: dict[str, Any] | None = None,
    compression: dict[str, Any] | None = None,
    centers: Sequence[Any] | None = None,
    periodic: bool = True,
) -> np.ndarray:
    """Return the SOAP features of a frame.

    Parameters
    ----------
    atoms : ase.Atoms
        Frame, in Å.
    species, r_cut, n_max, l_max, sigma, rbf, average, weighting, compression, periodic
        As dscribe has them; lengths in Å.
    centers : sequence, optional
        Indices of atoms, or points (C, 3) in Å; all atoms when left out.

    Returns
    -------
    numpy.ndarray
        (C, features) with ``average='off'``, otherwise (features,).
    """
    weighting, compression = weighting or {}, {'mode': 'off'} | (compression or {})
    r_cut = decay_radius(weighting) if r_cut is None else r_cut
    numbers = sorted({_number(item) for item in species})
    functions = overlaps_gto if rbf == 'gto' else overlaps_polynomial
    coefficients = expand(
        *neighbours(atoms, _points(atoms, centers), r_cut + sigma * np.sqrt(-2 * np.log(DECAY)), periodic),
        numbers,
        functions(r_cut, n_max, l_max, sigma),
        l_max,
        lambda distances: weights(distances, weighting),
    )
    factors = {_number(item): factor for item, factor in (compression.get('species_weighting') or {}).items()}
    coefficients = coefficients * np.array([factors.get(number, 1.0) for number in numbers])[:, None, None, None]
    if average == 'inner':
        coefficients = coefficients.mean(axis=0, keepdims=True)
    rows = np.array([contract(one, compression['mode']) for one in coefficients])
    return rows if average == 'off' else rows.mean(axis=0)


def _number(item: int | str) -> int:
    return atomic_numbers[item] if isinstance(item, str) else int(item)


def _points(atoms: Atoms, centers: Sequence[Any] | None) -> np.ndarray:
    """Return centres as points (C, 3)."""
    chosen = range(len(atoms)) if centers is None else centers
    return np.array([atoms.positions[item] if np.ndim(item) == 0 else item for item in chosen], dtype=float)


def neighbours(
    atoms: Atoms, points: np.ndarray, reach: float, periodic: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return numbers (M,) and displacements (C, M, 3) of all images that matter, and which are within reach (C, M).

    Along a lattice vector, planes through the lattice are 1 / |reciprocal vector| apart: that many images reach as far
    as needed from any two points, wherever they are.
    """
    cell = atoms.cell.complete().array
    pbc = atoms.pbc & periodic
    reciprocal = np.linalg.inv(cell).T
    between = (points[:, None] - atoms.positions) @ reciprocal.T  # fractional, (C, N, 3)
    margin = reach * np.linalg.norm(reciprocal, axis=1)
    first = np.where(pbc, np.floor(between.min(axis=(0, 1)) - margin), 0).astype(int)
    last = np.where(pbc, np.ceil(between.max(axis=(0, 1)) + margin), 0).astype(int)
    shifts = np.array(list(product(*(range(a, b + 1) for a, b in zip(first, last, strict=True))))) @ cell
    images = (shifts[:, None] + atoms.positions).reshape(-1, 3)
    displacements = images - points[:, None]
    within = np.sum(displacements**2, axis=-1) <= reach**2
    return np.tile(atoms.numbers, len(shifts)), displacements, within


def expand(
    numbers: np.ndarray,
    displacements: np.ndarray,
    within: np.ndarray,
    species: Sequence[int],
    overlaps: Callable[[np.ndarray], np.ndarray],
    l_max: int,
    weigh: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return coefficients (C, species, n_max, l_max + 1, 2 l_max + 1); for a degree l the last axis holds zeros from
    2 l + 1 on."""
    environments = []
    for vectors, mask in zip(displacements, within, strict=True):
        channels = []
        for number in species:
            chosen = vectors[mask & (numbers == number)]
            distances = np.linalg.norm(chosen, axis=1)
            radial = overlaps(distances) * weigh(distances)  # (n_max, l_max + 1, M)
            channels.append(np.einsum('nlj,lmj->nlm', radial, real_harmonics(chosen, l_max)))
        environments.append(channels)
    return np.array(environments)


def real_harmonics(vectors: np.ndarray, l_max: int) -> np.ndarray:
    """Return real, orthonormal spherical harmonics (l_max + 1, 2 l_max + 1, M) of the directions of vectors (M, 3)."""
    polar = np.arctan2(np.hypot(vectors[:, 0], vectors[:, 1]), vectors[:, 2])
    azimuth = np.arctan2(vectors[:, 1], vectors[:, 0])
    harmonics = np.zeros((l_max + 1, 2 * l_max + 1, len(vectors)))
    for degree in range(l_max + 1):
        harmonics[degree, 0] = sph_harm_y(degree, 0, polar, azimuth).real
        for order in range(1, degree + 1):
            complex_one = np.sqrt(2) * sph_harm_y(degree, order, polar, azimuth)
            harmonics[degree, 2 * order - 1], harmonics[degree, 2 * order] = complex_one.imag, complex_one.real
    return harmonics


def gto(r_cut: float, n_max: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Return exponents alpha (n_max,) and Löwdin weights beta (n_max, n_max) of Gaussian-type orbitals.

    ``g_n(r) = sum_k beta_nk r^l exp(-alpha_k r²)``, where r^l exp(-alpha_k r²) has decayed at the k-th of the radii
    between 1 Å and r_cut.
    """
    radii = np.linspace(1, r_cut, n_max)
    alpha = -np.log(DECAY / radii**degree) / radii**2
    overlap = 0.5 * gamma(degree + 1.5) * np.add.outer(alpha, alpha) ** (-degree - 1.5)
    return alpha, _loewdin(inv(overlap))


def overlaps_gto(r_cut: float, n_max: int, l_max: int, sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return the overlap of a Gaussian at r with each basis function: r (M,) to (n_max, l_max + 1, M); analytic."""
    eta = 1 / (2 * sigma**2)

    def overlaps(distances: np.ndarray) -> np.ndarray:
        by_degree = []
        for degree in range(l_max + 1):
            alpha, beta = gto(r_cut, n_max, degree)
            widening = 1 + alpha / eta
            primitives = np.exp(-np.outer(alpha / widening, distances**2)) * (widening ** (-degree - 1.5))[:, None]
            by_degree.append((np.pi / eta) ** 1.5 * distances**degree * (beta @ primitives))
        return np.stack(by_degree, axis=1)

    return overlaps


def polynomial(r_cut: float, n_max: int) -> np.ndarray:
    """Return Löwdin weights (n_max, n_max) of ``g_n(r) = sum_k beta_nk (r_cut - r)^(k + 2)``, k from 1."""
    overlap = np.empty((n_max, n_max))  # element by element: at n_max 8, the last bit of an entry shows as 1e-5 in beta
    for a in range(1, n_max + 1):
        for b in range(1, n_max + 1):
            # integral of (r_cut - r)^(a + 2) (r_cut - r)^(b + 2) r² from 0 to r_cut
            overlap[a - 1, b - 1] = 2 * r_cut ** (7 + a + b) / ((5 + a + b) * (6 + a + b) * (7 + a + b))
    return _loewdin(np.linalg.inv(overlap))


def overlaps_polynomial(r_cut: float, n_max: int, l_max: int, sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return the overlap of a Gaussian at r with each basis function: r (M,) to (n_max, l_max + 1, M).

    ``4 pi int r'² g_n(r') exp(-eta (r² + r'²)) i_l(2 eta r r') dr'`` by quadrature; i_l is the modified spherical
    Bessel function, of which SciPy's ``ive`` gives ``exp(-x) i_l(x) = sqrt(pi / 2x) ive(l + 1/2, x)``.
    """
    eta = 1 / (2 * sigma**2)
    nodes, node_weights = np.polynomial.legendre.leggauss(QUADRATURE_POINTS)
    radii, node_weights = 0.5 * r_cut * (nodes + 1), 0.5 * r_cut * node_weights
    functions = polynomial(r_cut, n_max) @ (r_cut - radii) ** np.arange(3, n_max + 3)[:, None]

    def overlaps(distances: np.ndarray) -> np.ndarray:
        x = 2 * eta * np.multiply.outer(radii, distances)
        gaussian = np.exp(-eta * np.subtract.outer(radii, distances) ** 2)
        by_degree = []
        for degree in range(l_max + 1):
            at_zero = 1.0 if degree == 0 else 0.0
            bessel = np.where(x > 0, np.sqrt(np.pi / (2 * np.maximum(x, 1e-300))) * ive(degree + 0.5, x), at_zero)
            by_degree.append(4 * np.pi * (functions * radii**2 * node_weights) @ (gaussian * bessel))
        return np.stack(by_degree, axis=1)

    return overlaps


def _loewdin(inverse: np.ndarray) -> np.ndarray:
    """Return the square root of an inverse overlap by SciPy's route: where it is ill-conditioned, any other differs."""
    beta = sqrtm(inverse)
    if np.iscomplexobj(beta):
        raise ValueError('the overlap of the radial functions is not positive in double precision')
    return beta


def weights(distances: np.ndarray, weighting: dict[str, Any]) -> np.ndarray:
    """Return the weight of each neighbour; ``w0`` is the weight of atoms on the centre itself."""
    kind = weighting.get('function')
    if kind is None:
        values = np.ones_like(distances)
    else:
        x = distances / weighting['r0']
        if kind == 'poly':
            inside = np.minimum(x, 1.0)
            values = weighting['c'] * np.maximum(1 + 2 * inside**3 - 3 * inside**2, 0) ** weighting['m']
            values = np.where(x > 1, 0.0, values)  # also for m = 0
        elif kind == 'pow':
            values = weighting['c'] / (weighting['d'] + x ** weighting['m'])
        else:
            values = weighting['c'] / (weighting['d'] + np.exp(-x))
    return np.where(distances == 0, weighting['w0'], values) if weighting.get('w0') is not None else values


def decay_radius(weighting: dict[str, Any]) -> float:
    """Return the radius that dscribe takes for r_cut when none is given: where the weight has decayed."""
    if weighting['function'] == 'poly':
        return weighting['r0']
    ratio = weighting['c'] / weighting.get('threshold', 1e-2) - weighting['d']
    if weighting['function'] == 'pow':
        return weighting['r0'] * ratio ** (1 / weighting['m'])
    return weighting['r0'] * np.log(ratio)


def contract(c: np.ndarray, mode: str) -> np.ndarray:
    """Return the power spectrum of coefficients (species, n_max, l_max + 1, 2 l_max + 1), in dscribe's order.

    ``off``: pairs of species Z <= Z'; for each l, n, n', with n' >= n where Z = Z'. ``crossover``: only Z = Z'.
    ``mu2``: all species in one channel. ``mu1nu1``: each species with the sum of all, n and n' in full.
    """
    if mode == 'mu2':
        c = c.sum(axis=0, keepdims=True)
    if mode == 'mu1nu1':
        pairs = [(one, c.sum(axis=0), False) for one in c]
    else:
        pairs = [(c[a], c[b], a == b) for a in range(len(c)) for b in range(a, len(c) if mode == 'off' else a + 1)]
    n_max, n_degrees = c.shape[1:3]
    factors = np.pi * np.sqrt(8 / (2 * np.arange(n_degrees) + 1))
    features = []
    for one, other, alike in pairs:
        spectrum = factors[:, None, None] * np.einsum('alm,blm->lab', one, other)
        kept = np.triu(np.ones((n_max, n_max), dtype=bool)) if alike else np.ones((n_max, n_max), dtype=bool)
        features.append(spectrum[:, kept].ravel())
    return np.concatenate(features)
