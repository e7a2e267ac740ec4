"""Radial functions, the tables of cubics in which the kernels look them up, and the norms of their harmonics.

A table covers distances from 0 to the cutoff with equal intervals. In each, a function is replaced by the cubic that
meets it at the four Chebyshev nodes, whose error falls with the fourth power of the interval. The number of intervals
is doubled until the table agrees with the function between the nodes.

Sources: GTO basis, L. Himanen et al., Comput. Phys. Commun. 247, 106949 (2020); polynomial basis, A. P. Bartók,
R. Kondor and G. Csányi, Phys. Rev. B 87, 184115 (2013); ChebExpCos, R. Drautz, Phys. Rev. B 99, 014104 (2019).
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial

import numpy as np

from aiida_mlip_autopipe.science.descriptors.compiled.vectors import LANES

__all__ = ['DECAY', 'gto_functions', 'harmonic_norms', 'polynomial_functions', 'tabulate']

#: Radial functions have decayed to this at their own radius, and so has a neighbour's Gaussian at the cutoff.
DECAY = 1e-3

#: Largest error of a table, of the function's largest value.
TOLERANCE = 5e-9

MIN_INTERVALS, MAX_INTERVALS = 128, 8192

#: Orthonormal Gaussian-type orbitals are sums of primitives of the order of 1, with weights up to this: above it the
#: rounding of double precision, 2e-16 of the largest weight, is larger than what is allowed as the table's error.
LARGEST_WEIGHT = 1e8

#: Of the quadrature for the polynomial basis.
QUADRATURE_POINTS = 128

#: Takes distances (R,) in Å, returns values (R, l_max + 1, n_max).
RadialFunctions = Callable[[np.ndarray], np.ndarray]


def _loewdin(inverse_overlap: np.ndarray, n_max: int, r_cut: float, degree: int) -> np.ndarray:
    """Return the square root of an inverse overlap, the weights that orthonormalise after Löwdin."""
    from scipy.linalg import sqrtm

    weights = sqrtm(inverse_overlap)
    if np.iscomplexobj(weights) or not np.isfinite(weights).all():
        raise _too_alike(n_max, r_cut, degree)
    return weights


def _too_alike(n_max: int, r_cut: float, degree: int) -> ValueError:
    return ValueError(
        f'n_max={n_max} radial functions inside r_cut={r_cut} Å are too alike to be orthonormalised '
        f'(at l={degree}); lower n_max or raise r_cut'
    )


def gto_functions(r_cut: float, n_max: int, l_max: int, sigma: float) -> RadialFunctions:
    """Return g_nl(r) / r^l of Gaussian-type orbitals, integrated with a Gaussian of width sigma at distance r.

    With ``a = linspace(1, r_cut, n_max)``, primitives r^l exp(-alpha_lk r²) decay to 1e-3 at a_k:
    ``alpha_lk = -ln(1e-3 / a_k^l) / a_k²``. Their overlap
    ``S_kk' = 1/2 Gamma(l + 3/2) (alpha_k + alpha_k')^(-l - 3/2)`` gives the Löwdin weights ``beta_l = S^(-1/2)``.
    The integral with the Gaussian is analytic; with ``eta = 1 / (2 sigma²)`` it is
    ``(pi / eta)^(3/2) sum_k beta_nk (1 + alpha_lk / eta)^(-l - 3/2) exp(-alpha_lk r² / (1 + alpha_lk / eta))``.

    Raises
    ------
    ValueError
        If the primitives are too alike to be orthonormalised.
    """
    from scipy.linalg import inv
    from scipy.special import gamma

    eta = 1 / (2 * sigma**2)
    radii = np.linspace(1, r_cut, n_max)
    exponents = np.empty((l_max + 1, n_max))
    transforms = np.empty((l_max + 1, n_max, n_max))
    for degree in range(l_max + 1):
        alpha = -np.log(DECAY / radii**degree) / radii**2
        overlap = 0.5 * gamma(degree + 1.5) * np.add.outer(alpha, alpha) ** (-degree - 1.5)
        widening = 1 + alpha / eta
        exponents[degree] = alpha / widening
        beta = _loewdin(inv(overlap), n_max, r_cut, degree)
        if np.abs(beta).max() > LARGEST_WEIGHT:
            raise _too_alike(n_max, r_cut, degree)
        transforms[degree] = beta * ((np.pi / eta) ** 1.5 * widening ** (-degree - 1.5))
    return lambda r: np.einsum('lnk,rlk->rln', transforms, np.exp(-exponents * r[:, None, None] ** 2), optimize=True)


def polynomial_functions(r_cut: float, n_max: int, l_max: int, sigma: float) -> RadialFunctions:
    """Return g_nl(r) / r^l of polynomials (r_cut - r)^(n + 2), integrated with a Gaussian of width sigma at distance r.

    The integral ``4 pi int_0^r_cut dx x² g_n(x) exp(-eta (x² + r²)) i_l(2 eta x r)``, i_l the modified spherical Bessel
    function, is done by Gauss-Legendre quadrature.

    Raises
    ------
    ValueError
        If the polynomials are too alike to be orthonormalised.
    """
    from scipy.special import roots_legendre

    eta = 1 / (2 * sigma**2)
    beta = _loewdin(np.linalg.inv(_polynomial_overlap(r_cut, n_max)), n_max, r_cut, 0)
    n = np.arange(1, n_max + 1)
    nodes, weights = roots_legendre(QUADRATURE_POINTS)
    x = 0.5 * r_cut * (nodes + 1)
    radial = beta @ (r_cut - x) ** (n[:, None] + 2.0) * (4 * np.pi * 0.5 * r_cut * weights * x**2)

    def values(r: np.ndarray) -> np.ndarray:
        gaussian = np.exp(-eta * np.subtract.outer(r, x) ** 2)
        bessel = _scaled_bessel_over_power(l_max, 2 * eta * np.multiply.outer(r, x))
        powers = (2 * eta * x) ** np.arange(l_max + 1)[:, None]
        return np.einsum('nx,rx,lrx,lx->rln', radial, gaussian, bessel, powers, optimize=True)

    return values


def _polynomial_overlap(r_cut: float, n_max: int) -> np.ndarray:
    """Return the overlap (n_max, n_max) of the polynomials.

    It is so close to singular that the last bit of an entry shows in the features: each is formed in plain Python, as
    dscribe does.
    """
    return np.array(
        [
            [2 * r_cut ** (7 + a + b) / ((5 + a + b) * (6 + a + b) * (7 + a + b)) for b in range(1, n_max + 1)]
            for a in range(1, n_max + 1)
        ]
    )


def _scaled_bessel_over_power(l_max: int, z: np.ndarray) -> np.ndarray:
    """Return exp(-z) i_l(z) / z^l for all l, (l_max + 1, ...): finite at 0.

    The two highest degrees from SciPy, the others by the recurrence i_l-1 = i_l+1 + (2 l + 1) i_l / z, stable
    downwards; near 0 the power series.
    """
    from scipy.special import factorial2, ive

    safe = np.maximum(z, 0.1)
    scaled = np.empty((l_max + 2, *z.shape))
    for degree in (l_max + 1, l_max):
        scaled[degree] = np.sqrt(np.pi / (2 * safe)) * ive(degree + 0.5, safe)
    for degree in range(l_max, 0, -1):
        scaled[degree - 1] = scaled[degree + 1] + (2 * degree + 1) / safe * scaled[degree]
    small = z < 0.1
    near, values = z[small], scaled[: l_max + 1]
    for degree in range(l_max + 1):
        values[degree] /= safe**degree
        terms = [near ** (2 * k) / (2**k * factorial(k) * factorial2(2 * degree + 2 * k + 1)) for k in range(5)]
        values[degree][small] = np.exp(-near) * sum(terms)
    return values


def tabulate(
    functions: RadialFunctions, cutoff: float, tolerance: float = TOLERANCE, nearest: float = 0.0
) -> tuple[np.ndarray, float]:
    """Return radial functions as cubics on equal intervals.

    Parameters
    ----------
    functions : callable
        From distances (R,), in Å, to values (R, degrees, functions) without the factor r^l.
    cutoff : float
        End of the table, in Å.
    tolerance : float
        Largest error, of the largest value of the functions of a degree (with the factor r^l).
    nearest : float
        The error is bounded from this distance on, in Å.

    Returns
    -------
    table : numpy.ndarray
        Flat, over (interval, degree, order, function), functions padded with zeros to whole vectors: coefficients of
        the powers of t, the fraction of the interval, counted from its middle.
    intervals_per_A : float
        Intervals per Å.

    Raises
    ------
    ValueError
        If ``MAX_INTERVALS`` intervals are not enough.
    """
    probes = np.linspace(nearest, cutoff, 1501)
    expected = functions(probes)
    scale = probes[:, None, None] ** np.arange(expected.shape[1])[:, None]
    bound = tolerance * np.abs(expected * scale).max(axis=(0, 2))
    n_intervals = MIN_INTERVALS
    while n_intervals <= MAX_INTERVALS:
        cubics = _fit_cubics(functions, cutoff, n_intervals)
        error = np.abs(_evaluate(cubics, probes * n_intervals / cutoff) - expected) * scale
        if (error.max(axis=(0, 2)) <= bound).all():
            return _padded(cubics), n_intervals / cutoff
        n_intervals *= 2
    raise ValueError(
        f'radial functions up to {cutoff} Å need more than {MAX_INTERVALS} intervals for an error of {tolerance}; '
        'raise sigma or lower r_cut'
    )


def _fit_cubics(functions: RadialFunctions, cutoff: float, n_intervals: int) -> np.ndarray:
    """Return coefficients (intervals, degrees, 4, functions) of cubics through the Chebyshev nodes of each interval."""
    nodes = 0.5 * np.cos(np.pi * (2 * np.arange(4) + 1) / 8)
    distances = (np.arange(n_intervals)[:, None] + 0.5 + nodes) * cutoff / n_intervals
    values = functions(distances.ravel()).reshape(n_intervals, 4, *functions(distances[0, :1]).shape[1:])
    to_coefficients = np.linalg.inv(np.vander(nodes, 4, increasing=True))
    return np.einsum('kp,ipln->ilkn', to_coefficients, values, optimize=True)


def _evaluate(cubics: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return the cubics' values (R, degrees, functions) at u, in intervals."""
    interval = np.minimum(u.astype(int), len(cubics) - 1)
    t = (u - interval - 0.5)[:, None, None]
    coefficients = cubics[interval]
    value = coefficients[:, :, 3]
    for order in (2, 1, 0):
        value = value * t + coefficients[:, :, order]
    return value


def harmonic_norms(l_max: int) -> np.ndarray:
    """Return what makes the kernels' solid harmonics orthonormal on the unit sphere, ((l_max + 1)²,).

    ``sqrt((2 l + 1) / (4 pi) / ((l - m)! (l + m)!))``, times sqrt(2) for m > 0.
    """
    from scipy.special import gammaln

    degrees = np.repeat(np.arange(l_max + 1), 2 * np.arange(l_max + 1) + 1)
    orders = np.abs(np.arange((l_max + 1) ** 2) - degrees * (degrees + 1))
    ratio = np.exp(-gammaln(degrees - orders + 1) - gammaln(degrees + orders + 1))
    return np.sqrt((2 * degrees + 1) / (4 * np.pi) * np.where(orders > 0, 2.0, 1.0) * ratio)


def _padded(cubics: np.ndarray) -> np.ndarray:
    """Return a flat copy, padded to whole vectors, that begins at a cache line."""
    n_max = cubics.shape[-1]
    shape = (*cubics.shape[:-1], -(-n_max // LANES) * LANES)
    memory = np.zeros(int(np.prod(shape)) + LANES)
    start = (64 - memory.ctypes.data % 64) // 8 % 8
    table = memory[start : start + int(np.prod(shape))]
    table.reshape(shape)[..., :n_max] = cubics
    return table
