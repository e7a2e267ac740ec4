"""The invariant products of the atomic cluster expansion: which there are, and how they are summed up.

The density of neighbours around an atom has components A_c,m, one vector of 2 l + 1 of them for each channel
c = (Z, n, l): neighbours' element, radial function, degree. The spherical harmonics in A are real and of norm
sqrt(4 pi), so that A = sum_j g_n(r_j) for l = 0. A function of correlation order nu multiplies the vectors of nu
channels into a number that no rotation and no inversion changes:

    nu = 1   B = A_c,                                                                 l = 0
    nu = 2   B = (-1)^l / sqrt(2 l + 1)  A_1 . A_2                                    l_1 = l_2 = l
    nu = 3   B = (-1)^l_3 phi_12  (A_1 x A_2)_l3 . A_3                                l_1 + l_2 + l_3 even
    nu = 4   B = (-1)^L sqrt(2 L + 1) phi_12 phi_34  (A_1 x A_2)_L . (A_3 x A_4)_L    l_1 + l_2 + l_3 + l_4 even

where (A_1 x A_2)_LM = sum_m1,m2 W_m1,m2,M A_1,m1 A_2,m2 with e3nn's real Wigner 3j symbols W, and phi is the phase
(1, -1, i or -i) that turns them into Clebsch-Gordan coefficients of Condon and Shortley's convention. B then is what
coupling complex spherical harmonics in the order ((1 2) L (3 4) L) 0 gives, which is python-ace's convention. Pairs are
coupled once and shared: no product of four is ever multiplied out.

Channels may be equal, and then not every L gives something new: (A x A)_L vanishes for odd L, and with three or four
equal channels there are linear relations. Of the functions of the same channels only those are kept, with ascending L,
that do not follow from the ones before. The functions of an order are complete and linearly independent as polynomials
of A.

Sources: R. Drautz, Phys. Rev. B 99, 014104 (2019); G. Dusson et al., J. Comput. Phys. 454, 110946 (2022);
Y. Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021). Phases: A. R. Edmonds, Angular Momentum in Quantum Mechanics
(1957).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from aiida_mlip_autopipe.science.potential.load import import_mace, quiet

__all__ = ['MAX_COUPLED_DEGREE', 'Channel', 'Function', 'Products', 'couple', 'list_functions', 'plan_products']

#: The largest degree for which e3nn has Wigner 3j symbols.
MAX_COUPLED_DEGREE = 11

#: More functions than this are a mistake: features of one frame would no longer fit into memory.
MAX_FUNCTIONS = 200_000

#: A function counts as new if so much of it, relative to its size, does not follow from those before.
NEW_PART = 1e-6


class Channel(NamedTuple):
    """One density of neighbours: their atomic number, the radial function (from 1), the degree."""

    number: int
    n: int
    l: int  # noqa: E741 - the field's name


class Function(NamedTuple):
    """A basis function: its channels, ascending, and for four of them the degree L to which pairs are coupled."""

    channels: tuple[Channel, ...]
    intermediate: int | None = None

    @property
    def order(self) -> int:
        """Correlation order: the number of channels."""
        return len(self.channels)


class Pair(NamedTuple):
    """Two channels, coupled to a degree."""

    one: Channel
    two: Channel
    degree: int


@dataclass(frozen=True)
class Products:
    """The functions as scalar products of vectors, and the vectors as sums of products.

    Values are numbered: 0 is the constant 1, then come the components of the densities that are needed, then those of
    coupled pairs. The s-th component of the pairs is ``sum_t weights[t] value[first[t]] value[second[t]]`` over
    starts[s] <= t < starts[s + 1]; function f is ``factors[f] sum_k value[left[f] + k] value[right[f] + k]`` over
    0 <= k < counts[f].

    Attributes
    ----------
    inputs : numpy.ndarray
        (I,), int64: where value 1 + i stands in the densities (species, l² + l + m, n) of one atom, raveled.
    starts : numpy.ndarray
        (components of pairs + 1,), int64.
    first, second : numpy.ndarray
        (terms,), int64: values.
    weights : numpy.ndarray
        (terms,), float64.
    left, right, counts : numpy.ndarray
        (functions,), int64: where the two vectors begin, and their length.
    factors : numpy.ndarray
        (functions,), float64.
    """

    inputs: np.ndarray
    starts: np.ndarray
    first: np.ndarray
    second: np.ndarray
    weights: np.ndarray
    left: np.ndarray
    right: np.ndarray
    counts: np.ndarray
    factors: np.ndarray


def list_functions(
    numbers: Sequence[int], n_max: Sequence[int], l_max: Sequence[int], max_degree: Sequence[int] | None = None
) -> list[Function]:
    """Return all functions within the bounds, by order, then by channels, then by L.

    Parameters
    ----------
    numbers : sequence of int
        Atomic numbers, ascending.
    n_max, l_max : sequence of int
        Number of radial functions and largest degree, by order, beginning with order 1.
    max_degree : sequence of int, optional
        Largest sum of n - 1 + l over the channels of a function, by order.

    Raises
    ------
    ValueError
        If a degree is beyond the known couplings, or there are too many functions.
    """
    functions: list[Function] = []
    for order, (n_bound, l_bound) in enumerate(zip(n_max, l_max, strict=True), start=1):
        bound = None if max_degree is None else max_degree[order - 1]
        channels = _list_channels(numbers, n_bound, l_bound if order > 1 else 0, bound)
        for chosen in _choose(channels, order, bound):
            functions += [Function(chosen, degree) for degree in _intermediates(chosen)]
            if len(functions) > MAX_FUNCTIONS:
                raise ValueError(
                    f'n_max={list(n_max)}, l_max={list(l_max)}, max_degree={max_degree} and {len(numbers)} species '
                    f'give more than {MAX_FUNCTIONS} functions up to order {order}; lower them for the high orders'
                )
    return functions


def _list_channels(numbers: Sequence[int], n_max: int, l_max: int, bound: int | None) -> list[Channel]:
    ranges = product(numbers, range(1, n_max + 1), range(l_max + 1))
    return [Channel(*each) for each in ranges if bound is None or each[1] - 1 + each[2] <= bound]


def _choose(
    channels: Sequence[Channel], count: int, bound: int | None, begin: int = 0, chosen: tuple[Channel, ...] = ()
) -> Iterator[tuple[Channel, ...]]:
    """Yield the multisets of channels whose sum of n - 1 + l keeps the bound, in lexicographic order."""
    if count == 0:
        yield chosen
        return
    for index in range(begin, len(channels)):
        channel = channels[index]
        rest = None if bound is None else bound - (channel.n - 1 + channel.l)
        if rest is None or rest >= 0:
            yield from _choose(channels, count - 1, rest, index, (*chosen, channel))


def _intermediates(channels: tuple[Channel, ...]) -> tuple[int | None, ...]:
    """Return L of each independent function of these channels; (None,) or () for less than four channels."""
    degrees = tuple(channel.l for channel in channels)
    if sum(degrees) % 2:
        return ()
    if len(degrees) == 4:
        return _independent_intermediates(degrees, tuple(channels.index(channel) for channel in channels))
    if len(degrees) == 3:
        low, high = abs(degrees[0] - degrees[1]), degrees[0] + degrees[1]
    else:
        low = high = degrees[0] if len(degrees) == 2 else 0
    return (None,) if low <= degrees[-1] <= high else ()


@cache
def _independent_intermediates(degrees: tuple[int, ...], alike: tuple[int, ...]) -> tuple[int, ...]:
    """Return the degrees L, ascending, that give linearly independent products of four vectors of these degrees.

    ``alike[i]`` is the first channel that equals channel i. A polynomial that vanishes at points drawn at random is
    zero, so that functions are compared by their values at some.
    """
    one, two, three, four = degrees
    candidates = range(max(abs(one - two), abs(three - four)), min(one + two, three + four) + 1)
    if len(set(alike)) == 4:
        return tuple(candidates)
    generator = np.random.default_rng(0)
    points = [generator.normal(size=(4 * len(candidates) + 4, 2 * degree + 1)) for degree in degrees]
    vectors = [points[first] for first in alike]
    kept: list[int] = []
    basis: list[np.ndarray] = []
    for degree in candidates:
        left = np.einsum('abc,pa,pb->pc', couple(one, two, degree)[0], vectors[0], vectors[1])
        right = np.einsum('abc,pa,pb->pc', couple(three, four, degree)[0], vectors[2], vectors[3])
        values = (left * right).sum(axis=1)
        size = np.sqrt((left**2).sum() * (right**2).sum() / len(left))
        for direction in (*basis, *basis):  # twice: rounding of the first pass is removed by the second
            values = values - (direction @ values) * direction
        if np.linalg.norm(values) > NEW_PART * size and size > NEW_PART:
            kept.append(degree)
            basis.append(values / np.linalg.norm(values))
    return tuple(kept)


@cache
def couple(one: int, two: int, three: int) -> tuple[np.ndarray, complex]:
    """Return how two vectors of real components are coupled to a third.

    Parameters
    ----------
    one, two, three : int
        Degrees, which satisfy the triangle inequality.

    Returns
    -------
    symbols : numpy.ndarray
        Real Wigner 3j symbols (2 l_1 + 1, 2 l_2 + 1, 2 l_3 + 1) of norm 1, for components in the order of m with sin
        (m φ) for negative and cos(m φ) for positive m.
    phase : complex
        1, -1, i or -i: sqrt(2 l_3 + 1) times this turns the symbols into the Clebsch-Gordan coefficients.

    Raises
    ------
    ValueError
        If a degree is above 11.
    """
    if max(one, two, three) > MAX_COUPLED_DEGREE:
        raise ValueError(
            f'degrees {one} and {two} couple to {three}, but couplings are known up to degree {MAX_COUPLED_DEGREE}; '
            f'lower l_max to {MAX_COUPLED_DEGREE} for order 3, to {MAX_COUPLED_DEGREE // 2} for order 4'
        )
    symbols = _wigner_3j()(one, two, three)
    # In complex components <l_1 l_1, l_2 l_3-l_1 | l_3 l_3> is positive (Condon and Shortley): e3nn's value gives phi.
    entry = np.einsum(
        'abc,a,b,c->',
        symbols,
        _complex_component(one, one).conj(),
        _complex_component(two, three - one).conj(),
        _complex_component(three, three),
    )
    phase = np.conj(entry) / abs(entry)
    return symbols, complex(np.round(phase.real), np.round(phase.imag))


@cache
def _wigner_3j() -> Callable[..., np.ndarray]:
    """Return e3nn's function, for NumPy and double precision. Its import brings torch, so it waits until needed."""
    import_mace()  # before e3nn: it lets e3nn's table of symbols be read by recent versions of torch
    with quiet():
        import torch
        from e3nn.o3 import wigner_3j

    def symbols(*degrees: int) -> np.ndarray:
        # e3nn's polar axis is y: its components in (y, z, x) are ours in (x, y, z), in the same order of m.
        return wigner_3j(*degrees, dtype=torch.float64, device='cpu').numpy()

    return symbols


def _complex_component(degree: int, m: int) -> np.ndarray:
    """Return the coefficients (2 l + 1,) of real spherical harmonics in Y_lm of Condon and Shortley's convention."""
    row = np.zeros(2 * degree + 1, dtype=complex)
    if m == 0:
        row[degree] = 1.0
    else:
        sign = (-1) ** m if m > 0 else 1
        row[degree + abs(m)] = sign / np.sqrt(2)
        row[degree - abs(m)] = sign * (1j if m > 0 else -1j) / np.sqrt(2)
    return row


def plan_products(functions: Sequence[Function], numbers: Sequence[int], n_lm: int, n_pad: int) -> Products:
    """Return how the functions are calculated from densities.

    Parameters
    ----------
    functions : sequence of Function
        What is to be calculated, in this order.
    numbers : sequence of int
        Atomic numbers in the order of the densities.
    n_lm, n_pad : int
        Extent of the densities (species, n_lm, n_pad) over l² + l + m and n.
    """
    channels = sorted({channel for function in functions for channel in function.channels})
    pairs = dict.fromkeys(pair for function in functions for pair in _pairs(function))
    inputs = [_components(channel, list(numbers).index(channel.number), n_lm, n_pad) for channel in channels]
    place_of: dict[Channel | Pair, int] = {}
    place = 1
    for channel in channels:
        place_of[channel] = place
        place += 2 * channel.l + 1
    for pair in pairs:
        place_of[pair] = place
        place += 2 * pair.degree + 1
    terms = [_pair_terms(pair.one.l, pair.two.l, pair.degree, pair.one == pair.two) for pair in pairs]
    lengths = [np.bincount(rows, minlength=2 * pair.degree + 1) for pair, (rows, *_) in zip(pairs, terms, strict=True)]
    first = [place_of[pair.one] + each[1] for pair, each in zip(pairs, terms, strict=True)]
    second = [place_of[pair.two] + each[2] for pair, each in zip(pairs, terms, strict=True)]
    vectors = [_vectors(function) for function in functions]
    return Products(
        inputs=_joined(inputs, np.int64),
        starts=np.concatenate([[0], np.cumsum(_joined(lengths, np.int64))]).astype(np.int64),
        first=_joined(first, np.int64),
        second=_joined(second, np.int64),
        weights=_joined([each[3] for each in terms], np.float64),
        left=np.array([0 if one is None else place_of[one] for one, _ in vectors], dtype=np.int64),
        right=np.array([place_of[two] for _, two in vectors], dtype=np.int64),
        counts=np.array([1 if one is None else 2 * one[2] + 1 for one, _ in vectors], dtype=np.int64),
        factors=np.array([_prefactor(function) for function in functions], dtype=np.float64),
    )


def _components(channel: Channel, species: int, n_lm: int, n_pad: int) -> np.ndarray:
    """Return where a channel's vector stands in the densities, raveled."""
    lm = np.arange(channel.l**2, (channel.l + 1) ** 2)
    return (species * n_lm + lm) * n_pad + channel.n - 1


def _joined(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype)


def _vectors(function: Function) -> tuple[Channel | Pair | None, Channel | Pair]:
    """Return the two vectors whose scalar product a function is; None for the constant 1."""
    channels, pairs = function.channels, _pairs(function)
    if function.order == 1:
        return None, channels[0]
    if function.order == 4:
        return pairs[0], pairs[1]
    return pairs[0] if pairs else channels[0], channels[-1]


def _pairs(function: Function) -> list[Pair]:
    """Return the pairs of channels that a function couples, and to which degree."""
    channels = function.channels
    if function.order == 3:
        return [Pair(channels[0], channels[1], channels[2].l)]
    if function.order == 4 and function.intermediate is not None:
        return [
            Pair(channels[0], channels[1], function.intermediate),
            Pair(channels[2], channels[3], function.intermediate),
        ]
    return []


def _prefactor(function: Function) -> float:
    """Return what multiplies the scalar product of a function's two vectors."""
    factor: complex = 1.0
    degrees = [channel.l for channel in function.channels]
    if function.order == 2:
        factor *= (-1) ** degrees[0] / np.sqrt(2 * degrees[0] + 1)
    elif function.order == 3:
        factor *= (-1) ** degrees[2] * couple(degrees[0], degrees[1], degrees[2])[1]
    elif function.intermediate is not None:
        degree = function.intermediate
        factor *= (-1) ** degree * np.sqrt(2 * degree + 1)
        factor *= couple(degrees[0], degrees[1], degree)[1] * couple(degrees[2], degrees[3], degree)[1]
    return float(factor.real)


@cache
def _pair_terms(one: int, two: int, degree: int, equal: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return row, first, second component and weight of each term, by row; those of equal vectors are merged."""
    symbols = couple(one, two, degree)[0]
    if equal:  # A_m1 A_m2 is A_m2 A_m1
        upper, diagonal = np.triu(np.ones((len(symbols), len(symbols))), 1), np.eye(len(symbols))
        symbols = upper[..., None] * (symbols + symbols.transpose(1, 0, 2)) + diagonal[..., None] * symbols
    rows, first, second = np.nonzero(np.abs(symbols.transpose(2, 0, 1)) > 1e-12)
    return rows, first, second, symbols[first, second, rows]
