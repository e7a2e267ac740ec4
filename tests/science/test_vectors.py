"""The explicit vector instructions against plain loops that say the same."""

import math

import numpy as np
import pytest
from numba import njit

from aiida_mlip_autopipe.science.descriptors.compiled import vectors
from aiida_mlip_autopipe.science.descriptors.compiled.vectors import LANES, sized

ALL, EVEN = sized(1), sized(2)


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13 * max(np.abs(expected).max(), 1.0))


def plain_harmonics(x, y, z, l_max):
    """Hobson's recursion for one displacement, (l_max + 1)² values."""
    values = np.zeros((l_max + 1) ** 2)
    r2 = x * x + y * y + z * z
    for m in range(l_max + 1):
        azimuthal = (x + 1j * y) ** m
        previous, current = 0.0, float(math.prod(range(1, 2 * m, 2)))
        for degree in range(m, l_max + 1):
            middle = degree * degree + degree
            values[middle + m] = current * azimuthal.real
            if m > 0:
                values[middle - m] = current * azimuthal.imag
            following = (2 * degree + 1) * z * current - (degree + m) * (degree - m) * r2 * previous
            previous, current = current, following
    return values


@njit
def harmonics(x, y, z, weights, out, distances, degrees, step):
    for first in range(0, len(x), 8):
        vectors.solid_harmonics(x, y, z, first, weights, first, out, distances, degrees, step)


@pytest.mark.parametrize('step', [ALL, EVEN], ids=['all', 'even'])
@pytest.mark.parametrize('l_max', [0, 1, 6])
def test_solid_harmonics(l_max, step):
    x, y, z, weights = np.random.default_rng(l_max).normal(size=(4, 16))
    out, distances = np.zeros(16 * (l_max + 1) ** 2), np.zeros(16)
    harmonics(x, y, z, weights, out, distances, sized(l_max + 1), step)
    expected = np.array([w * plain_harmonics(*each, l_max) for *each, w in zip(x, y, z, weights, strict=True)])
    odd = np.repeat(np.arange(l_max + 1), 2 * np.arange(l_max + 1) + 1) % 2 == 1
    expected[:, odd & (len(step) == 2)] = 0.0
    assert_same(out.reshape(2, -1, LANES).swapaxes(1, 2).reshape(16, -1), expected)
    assert_same(distances, np.sqrt(x * x + y * y + z * z))


@njit
def accumulate(harmonics, offsets, fractions, count, table, stride, density, place, degrees, blocks, step):
    vectors.accumulate(harmonics, offsets, fractions, count, table, stride, density, place, degrees, blocks, step)


@pytest.mark.parametrize('shared', [False, True], ids=['a radial function per degree', 'one for all'])
@pytest.mark.parametrize('step', [ALL, EVEN], ids=['all', 'even'])
@pytest.mark.parametrize(('l_max', 'n_blocks', 'count'), [(0, 1, 3), (6, 1, 19), (3, 2, 8), (2, 1, 0)])
def test_accumulate(l_max, n_blocks, count, step, shared):
    generator = np.random.default_rng(count)
    n_lm, width, intervals = (l_max + 1) ** 2, LANES * n_blocks, 5
    n_rows = 1 if shared else l_max + 1
    values = generator.normal(size=(24, n_lm))
    table = generator.normal(size=(intervals, n_rows, 4, width))
    which, t = generator.integers(0, intervals, 24), generator.uniform(-0.5, 0.5, 24)
    density = generator.normal(size=width + n_lm * width)
    expected = density.copy()
    for j in range(count):
        for degree in range(0, l_max + 1, len(step)):
            cubic = table[which[j], 0 if shared else degree]
            radial = sum(cubic[order] * t[j] ** order for order in range(4))
            for lm in range(degree**2, (degree + 1) ** 2):
                expected[width + lm * width : width + (lm + 1) * width] += values[j, lm] * radial
    by_lanes = values.reshape(3, LANES, n_lm).swapaxes(1, 2).ravel().copy()
    stride = 0 if shared else 4 * width
    accumulate(
        by_lanes, which * table[0].size, t, count, table.ravel(), stride, density, width, sized(l_max + 1),
        sized(n_blocks), step,
    )  # fmt: skip
    assert_same(density, expected)


@njit
def multiply_rows(values, one, two, count, out, functions, shape):
    vectors.multiply_rows(values, one, two, count, out, 0, functions, shape)


@pytest.mark.parametrize('like', [True, False], ids=['like', 'unlike'])
@pytest.mark.parametrize('n_max', [1, 5, 8, 11, 17])
def test_multiply_rows(n_max, like):
    width = -(-n_max // LANES) * LANES
    coefficients = np.zeros((2, 5, width))
    coefficients[..., :n_max] = np.random.default_rng(n_max).normal(size=(2, 5, n_max))
    flat = np.concatenate([coefficients.ravel(), np.zeros(LANES)])
    other = 0 if like else 1
    products = np.einsum('mn,mk->nk', coefficients[0], coefficients[other])[:n_max, :n_max]
    expected = np.concatenate([products[n, n if like else 0 :] for n in range(n_max)])
    out = np.full(len(expected) + LANES, np.nan)
    multiply_rows(flat, 0, other * 5 * width, 5, out, sized(n_max), sized(1 if like else 2))
    assert_same(out[: len(expected)], expected)


@njit
def collect(images, n_images, ranks, begin, end, site, limit, lowest, x, y, z, found_ranks, count):
    return vectors.collect_within(images, n_images, ranks, begin, end, site, limit, lowest, x, y, z, found_ranks, count)


@pytest.mark.parametrize(('begin', 'end'), [(0, 40), (3, 22), (7, 7), (38, 40)])
def test_collect_within(begin, end):
    generator = np.random.default_rng(end)
    images, ranks = generator.uniform(-2, 2, (3, 40)), generator.integers(0, 20, 40)
    site, limit, lowest = np.array([0.1, -0.2, 0.3]), 4.0, 6
    found, found_ranks = np.zeros((3, 64)), np.zeros(64, dtype=np.int64)
    flat = np.concatenate([images.ravel(), np.zeros(LANES)])
    padded = np.concatenate([ranks, np.zeros(LANES, dtype=np.int64)])
    count = collect(flat, 40, padded, begin, end, site, limit, lowest, *found, found_ranks, 5)
    displacements = images - site[:, None]
    wanted = ((displacements**2).sum(axis=0) <= limit) & (ranks >= lowest)
    chosen = [j for j in range(begin, end) if wanted[j]]
    assert count == 5 + len(chosen)
    np.testing.assert_array_equal(found[:, 5:count], displacements[:, chosen])
    np.testing.assert_array_equal(found_ranks[5:count], ranks[chosen])


@njit
def add_scaled(norms, count, share, values, start, target, place, blocks):
    vectors.add_scaled(norms, count, share, values, start, target, place, blocks)


def test_add_scaled():
    generator = np.random.default_rng(0)
    norms, values, target = generator.normal(size=4), generator.normal(size=80), generator.normal(size=80)
    expected = target.copy()
    expected[8 : 8 + 64] += (0.7 * norms[:, None] * values[16:80].reshape(4, 16)).ravel()
    add_scaled(norms, 4, 0.7, values, 16, target, 8, sized(2))
    assert_same(target, expected)


@njit
def multiply_lanes(values, out, first, second, weights):
    vectors.weighted_sum(values, first, second, weights, 2, 9, 32)
    vectors.weighted_sum(values, first, second, weights, 3, 0, 40)
    vectors.scalar_product(values, 8, 16, 3, -1.7, out, 8)


def test_products_of_lanes():
    generator = np.random.default_rng(0)
    values, out = generator.normal(size=8 * LANES), np.zeros(24)
    first, second = generator.integers(0, 4, (2, 12))
    weights = generator.normal(size=12)
    lanes = values.reshape(8, LANES).copy()
    multiply_lanes(values, out, first, second, weights)
    lanes[4] = sum(weights[t] * lanes[first[t]] * lanes[second[t]] for t in range(2, 11))
    lanes[5] = 0.0
    assert_same(values, lanes.ravel())
    assert_same(out[8:16], -1.7 * (lanes[1:4] * lanes[2:5]).sum(axis=0))
    assert not out[:8].any() and not out[16:].any()
