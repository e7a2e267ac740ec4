"""The atomic cluster expansion written out: complex spherical harmonics, Racah's formula, sums over all m.

Slow and plain NumPy, with nothing of the package in it: what the kernel and its couplings are compared with.
"""

from functools import cache
from itertools import product
from math import factorial, sqrt

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from scipy.special import eval_chebyt, lpmv

LAMBDA = 5.25


def radial(r, r_cut, n):
    """g_n(r), n from 1: Chebyshev polynomials of an exponentially scaled distance under a cosine."""
    envelope = 1 + np.cos(np.pi * r / r_cut)
    if n == 1:
        return 0.5 * envelope
    x = 1 - 2 * (np.exp(-LAMBDA * (r / r_cut - 1)) - 1) / (np.exp(LAMBDA) - 1)
    return 0.25 * (1 - eval_chebyt(n - 1, x)) * envelope


def harmonic(degree, m, vectors):
    """Y_lm of vectors (J, 3), complex, orthonormal, with Condon and Shortley's phase."""
    r = np.linalg.norm(vectors, axis=1)
    norm = sqrt((2 * degree + 1) / (4 * np.pi) * factorial(degree - abs(m)) / factorial(degree + abs(m)))
    values = norm * lpmv(abs(m), degree, vectors[:, 2] / r)
    values = values * np.exp(1j * abs(m) * np.arctan2(vectors[:, 1], vectors[:, 0]))
    return values if m >= 0 else (-1) ** m * values.conj()


@cache
def clebsch_gordan(j1, m1, j2, m2, j, m):
    """<j1 m1 j2 m2 | j m> by Racah's formula."""
    if m1 + m2 != m or not abs(j1 - j2) <= j <= j1 + j2 or abs(m1) > j1 or abs(m2) > j2 or abs(m) > j:
        return 0.0
    f = factorial
    prefactor = (2 * j + 1) * f(j + j1 - j2) * f(j - j1 + j2) * f(j1 + j2 - j) / f(j1 + j2 + j + 1)
    prefactor *= f(j + m) * f(j - m) * f(j1 - m1) * f(j1 + m1) * f(j2 - m2) * f(j2 + m2)
    total = 0.0
    for k in range(j1 + j2 - j + 1):
        arguments = (j1 + j2 - j - k, j1 - m1 - k, j2 + m2 - k, j - j2 + m1 + k, j - j1 - m2 + k)
        if min(arguments) >= 0:
            denominator = f(k)
            for argument in arguments:
                denominator *= f(argument)
            total += (-1) ** k / denominator
    return sqrt(prefactor) * total


def coupling(degrees, ms, intermediate=None):
    """Coefficient of prod_i A_{l_i m_i} when the vectors are coupled to zero as ((1 2) L (3 4) L) 0."""
    if sum(ms) != 0:
        return 0.0
    if len(degrees) == 1:
        return 1.0 if degrees[0] == 0 else 0.0
    if len(degrees) == 2:
        return clebsch_gordan(degrees[0], ms[0], degrees[1], ms[1], 0, 0)
    pair = degrees[2] if len(degrees) == 3 else intermediate
    m = ms[0] + ms[1]
    value = clebsch_gordan(degrees[0], ms[0], degrees[1], ms[1], pair, m) * clebsch_gordan(pair, m, pair, -m, 0, 0)
    if len(degrees) == 4:
        value *= clebsch_gordan(degrees[2], ms[2], degrees[3], ms[3], pair, -m)
    return value


def environments(atoms: Atoms, r_cut):
    """For each atom the atomic numbers (J,) and displacements (J, 3) of its neighbours."""
    i, j, vectors = neighbor_list('ijD', atoms, r_cut)
    return [(atoms.numbers[j[i == k]], vectors[i == k]) for k in range(len(atoms))]


def density(numbers, vectors, r_cut, channel, m):
    """A_{Z n l m}, times sqrt(4 pi)."""
    number, n, degree = channel
    vectors = vectors[numbers == number]
    values = radial(np.linalg.norm(vectors, axis=1), r_cut, n) * harmonic(degree, m, vectors)
    return sqrt(4 * np.pi) * values.sum()


def value_of(channels, intermediate, densities):
    """B of densities[channel][l + m]: the sum over all m of coefficients times products."""
    degrees = [channel[2] for channel in channels]
    total = 0.0
    for ms in product(*(range(-degree, degree + 1) for degree in degrees)):
        coefficient = coupling(tuple(degrees), ms, intermediate)
        if coefficient != 0.0:
            factors = [densities[tuple(c)][c[2] + m] for c, m in zip(channels, ms, strict=True)]
            total += coefficient * np.prod(factors)
    assert abs(np.imag(total)) <= 1e-9 * max(1.0, abs(total))
    return np.real(total)


def features(atoms: Atoms, functions, r_cut):
    """B (N, F) of functions (channels, intermediate)."""
    rows = []
    needed = {tuple(channel) for channels, _ in functions for channel in channels}
    for numbers, vectors in environments(atoms, r_cut):
        densities = {
            channel: [density(numbers, vectors, r_cut, channel, m) for m in range(-channel[2], channel[2] + 1)]
            for channel in needed
        }
        rows.append([value_of(channels, intermediate, densities) for channels, intermediate in functions])
    return np.array(rows)


def triple_sum(atoms: Atoms, channels, r_cut):
    """B (N,) of order 3 as an explicit sum over three neighbours, without any density."""
    rows = []
    degrees = tuple(channel[2] for channel in channels)
    spans = [range(-degree, degree + 1) for degree in degrees]
    for numbers, vectors in environments(atoms, r_cut):
        r = np.linalg.norm(vectors, axis=1)
        total = 0.0
        for trio in product(range(len(numbers)), repeat=3):
            if any(numbers[j] != channel[0] for j, channel in zip(trio, channels, strict=True)):
                continue
            g = np.prod([radial(r[j], r_cut, channel[1]) for j, channel in zip(trio, channels, strict=True)])
            for ms in product(*spans):
                coefficient = coupling(degrees, ms)
                if coefficient != 0.0:
                    y = [harmonic(d, m, vectors[[j]])[0] for d, m, j in zip(degrees, ms, trio, strict=True)]
                    total += coefficient * g * np.prod(y)
        rows.append((4 * np.pi) ** 1.5 * np.real(total))
    return np.array(rows)
