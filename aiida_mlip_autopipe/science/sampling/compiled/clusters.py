"""What Numba compiles for clustering: farthest-point traversal, the nearest centre of each point, sums over members.

The triangle inequality saves most distances; the results are those of a full search. Farthest-point traversal
(T. F. Gonzalez, Theor. Comput. Sci. 38, 293 (1985)): a point that is less than half as far from its centre as the new
centre is cannot change. Nearest centre: centres lie in leaves of sixteen neighbours, which are compared at once; a leaf
is looked at only where its ball may hold a centre that is nearer than the best so far, a guess to begin with.

Three functions write LLVM instructions on vectors of sixteen. Plain loops with ``fastmath`` give the same labels, but
need 8 times as long for 20,000 points of 12 components and 1000 centres (Numba 0.68, AVX2; with vectorisation of
straight-line code, too).

Points and centres are in single precision, C-contiguous; distances are squared unless said otherwise.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.core.base import BaseContext
from numba.core.typing import Signature
from numba.extending import intrinsic

from aiida_mlip_autopipe.science.descriptors.compiled.emitter import Values

__all__ = ['LANES', 'UNROLLED', 'assign', 'distances_to_own', 'farthest_first', 'nearest_members', 'sum_members']

LANES, UNROLLED = 16, 4

#: Bounds are stretched by this much, so that rounding never hides the nearest centre.
_SLACK = np.float32(1e-5)
_FAST = {'reassoc', 'contract', 'nsz'}
_VECTOR, _INDEX = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64)


def _data(context: BaseContext, builder: ir.IRBuilder, kind: types.Type, value: ir.Value) -> ir.Value:
    return context.make_array(kind)(context, builder, value).data


def _lanes(builder: ir.IRBuilder, pointer: ir.Value, place: ir.Value) -> ir.Value:
    """Return the address of sixteen numbers."""
    return builder.bitcast(builder.gep(pointer, [place]), _VECTOR.as_pointer())


def _spread(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Return a vector of one value."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


@intrinsic
def _distances_to_leaf(typing_context: Any, point: Any, leaves: Any, place: Any, size: Any, out: Any) -> Any:
    """Write the distances of a point from a leaf's sixteen centres to ``out``, and return the smallest.

    ``size``, a multiple of four, is the number of coordinates of the point and of the leaf, which begins at
    ``leaves[place]``. Four sums run side by side, since one addition need not wait for the other.
    """

    def generate(context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        coordinates, centres, result = (_data(context, builder, signature.args[i], arguments[i]) for i in (0, 1, 4))
        before, loop, after = builder.block, builder.append_basic_block('sum'), builder.append_basic_block('summed')
        builder.branch(loop)
        builder.position_at_end(loop)
        step, *totals = builder.phi(_INDEX), *(builder.phi(_VECTOR) for _ in range(UNROLLED))
        grown = []
        for ahead, total in enumerate(totals):
            here = builder.add(step, ir.Constant(_INDEX, ahead))
            row = builder.add(arguments[2], builder.mul(here, ir.Constant(_INDEX, LANES)))
            value = _spread(builder, builder.load(builder.gep(coordinates, [here])))
            difference = builder.fsub(builder.load(_lanes(builder, centres, row), align=4), value)
            square = builder.fmul(difference, difference, flags=('contract',))
            grown.append(builder.fadd(square, total, flags=('contract',)))
        following = builder.add(step, ir.Constant(_INDEX, UNROLLED))
        builder.cbranch(builder.icmp_signed('<', following, arguments[3]), loop, after)
        step.add_incoming(ir.Constant(_INDEX, 0), before)
        step.add_incoming(following, loop)
        for total, end in zip(totals, grown, strict=True):
            total.add_incoming(ir.Constant(_VECTOR, [0.0] * LANES), before)
            total.add_incoming(end, loop)
        builder.position_at_end(after)
        one, two, three, four = grown
        squared = builder.fadd(builder.fadd(one, two), builder.fadd(three, four))
        builder.store(squared, _lanes(builder, result, ir.Constant(_INDEX, 0)), align=4)
        kind = ir.FunctionType(ir.FloatType(), [_VECTOR])
        smallest = builder.module.declare_intrinsic(f'llvm.vector.reduce.fmin.v{LANES}f32', fnty=kind)
        return builder.call(smallest, [squared], fastmath=('nnan',))

    return types.float32(point, leaves, types.int64, types.int64, out), generate


@intrinsic
def _within(typing_context: Any, squared: Any, radii: Any, place: Any, bound: Any) -> Any:
    """Return, as bits, which of sixteen distances are within (radius + bound) squared, radii from ``place`` on."""

    def generate(context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        distances, sizes = (_data(context, builder, signature.args[i], arguments[i]) for i in (0, 1))
        radius = builder.load(_lanes(builder, sizes, arguments[2]), align=4)
        reach = builder.fadd(radius, _spread(builder, arguments[3]))
        distance = builder.load(_lanes(builder, distances, ir.Constant(_INDEX, 0)), align=4)
        mask = builder.fcmp_ordered('<=', distance, builder.fmul(reach, reach))
        return builder.zext(builder.bitcast(mask, ir.IntType(LANES)), _INDEX)

    return types.int64(squared, radii, types.int64, types.float32), generate


@intrinsic
def _lowest_bit(typing_context: Any, bits: Any) -> Any:
    """Return the place of the lowest bit that is set."""

    def generate(context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@njit(cache=True, nogil=True, fastmath=_FAST, inline='always')
def _squared(points: np.ndarray, i: int, centres: np.ndarray, c: int) -> np.float32:
    total = np.float32(0)
    for j in range(points.shape[1]):
        difference = points[i, j] - centres[c, j]
        total += difference * difference
    return total


@no_type_check  # intrinsics are given one argument less than they are written with
@njit(cache=True, nogil=True)
def assign(
    points: np.ndarray,
    centres: np.ndarray,
    leaves: np.ndarray,
    members: np.ndarray,
    middles: np.ndarray,
    radii: np.ndarray,
    follow: bool,
    labels: np.ndarray,
    squared: np.ndarray,
) -> None:
    """Find the nearest centre of each point; of two at the same distance, the first.

    Parameters
    ----------
    points, centres : numpy.ndarray
        (n, m) and (k, m).
    leaves : numpy.ndarray
        (p, size, 16): the centres, sixteen neighbours side by side, infinity where there is none; ``size`` is m, filled
        up with zeros to a multiple of four.
    members : numpy.ndarray
        (p, 16), int32: which centres these are.
    middles : numpy.ndarray
        (p / 16, size, 16): the middles of the leaves, sixteen side by side.
    radii : numpy.ndarray
        (p,), padded to whole vectors: the largest distance of a centre from the middle of its leaf, not squared.
    follow : bool
        The first guess is the centre of the point before (of frames in time), else the label that a point has.
    labels, squared : numpy.ndarray
        (n,), int32 and float32: filled with the nearest centre and the distance from it.
    """
    size, guess = leaves.shape[1], labels[0]
    flat_leaves, flat_middles, point = leaves.ravel(), middles.ravel(), np.zeros(size, np.float32)
    near, inside = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for i in range(len(points)):
        best = guess if follow else labels[i]
        # Packs are summed in another order. They decide, so that the guess does not win a tie by its rounding.
        smallest = _squared(points, i, centres, best) * (np.float32(1) + _SLACK)
        for j in range(points.shape[1]):
            point[j] = points[i, j]
        bound = np.sqrt(smallest) * (1 + _SLACK)
        for group in range(len(middles)):
            _distances_to_leaf(point, flat_middles, group * size * LANES, size, near)
            bits = _within(near, radii, group * LANES, bound)
            while bits:
                lane = _lowest_bit(bits)
                bits &= bits - 1
                leaf = group * LANES + lane
                reach = radii[leaf] + bound
                if near[lane] > reach * reach:
                    continue
                least = _distances_to_leaf(point, flat_leaves, leaf * size * LANES, size, inside)
                if least > smallest:
                    continue
                for place in range(LANES):
                    other = members[leaf, place]
                    if inside[place] < smallest or (inside[place] == smallest and 0 <= other < best):
                        smallest, best = inside[place], other
                bound = np.sqrt(smallest) * (1 + _SLACK)
        labels[i], squared[i], guess = best, smallest, best


@njit(cache=True, nogil=True)
def _linked(labels: np.ndarray, squared: np.ndarray, n_centres: int) -> tuple[np.ndarray, ...]:
    """Return the members of each centre as linked lists (first of each centre, next of each point), and the farthest.

    That is its squared distance, -1 where a centre has no member, and which point it is, the first among equals.
    """
    head, following = np.full(n_centres, -1, np.int32), np.empty(len(labels), np.int32)
    radius, farthest = np.full(n_centres, np.float32(-1)), np.full(n_centres, -1, np.int32)
    for i in range(len(labels) - 1, -1, -1):
        c = labels[i]
        following[i] = head[c]
        head[c] = i
        if squared[i] >= radius[c]:
            radius[c], farthest[c] = squared[i], i
    return head, following, radius, farthest


@njit(cache=True, nogil=True)
def _farthest(radius: np.ndarray, farthest: np.ndarray) -> int:
    """Return the point farthest from its centre, the first among equals; -1 where all points are centres."""
    pick, largest = -1, np.float32(0)
    for c in range(len(radius)):
        if radius[c] > largest or (radius[c] == largest and largest > 0 and farthest[c] < pick):
            largest, pick = radius[c], farthest[c]
    return pick


@njit(cache=True, nogil=True)
def farthest_first(
    points: np.ndarray, centres: np.ndarray, n_given: int, labels: np.ndarray, squared: np.ndarray, picks: np.ndarray
) -> int:
    """Add the point that is farthest from all centres to the centres, again and again.

    Parameters
    ----------
    points : numpy.ndarray
        (n, m).
    centres : numpy.ndarray
        (k, m): the first ``n_given``, at least one, are given, the others are filled in.
    n_given : int
        How many are given.
    labels, squared : numpy.ndarray
        The nearest centre of each point (n,), int32, and the distance from it (n,), float32: of the given centres
        before, of all afterwards.
    picks : numpy.ndarray
        (k - n_given,), int64: which points became centres; among equals the first point.

    Returns
    -------
    int
        How many were added: fewer than wanted where all points are centres.
    """
    n_centres = len(centres)
    head, following, radius, farthest = _linked(labels, squared, n_centres)
    for new in range(n_given, n_centres):
        pick = _farthest(radius[:new], farthest)
        if pick < 0:
            return new - n_given
        picks[new - n_given] = pick
        centres[new] = points[pick]
        for c in range(new):
            if radius[c] <= 0:
                continue
            quarter = _squared(centres, c, centres, new) * (np.float32(0.25) * (1 - _SLACK))
            if quarter >= radius[c]:
                continue
            before, i = -1, head[c]
            radius[c], farthest[c] = np.float32(-1), -1
            while i >= 0:
                after, owner = following[i], c
                if squared[i] > quarter:
                    distance = _squared(points, i, centres, new)
                    if distance < squared[i]:
                        owner = new
                if owner == new:
                    if before < 0:
                        head[c] = after
                    else:
                        following[before] = after
                    following[i] = head[new]
                    head[new] = i
                    labels[i], squared[i] = new, distance
                else:
                    before = i
                if squared[i] > radius[owner] or (squared[i] == radius[owner] and i < farthest[owner]):
                    radius[owner], farthest[owner] = squared[i], i
                i = after
    return n_centres - n_given


@njit(cache=True, nogil=True)
def sum_members(points: np.ndarray, labels: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> None:
    """Add the points (n, m) of each cluster to ``sums`` (k, m), float64, and their number to ``counts`` (k,), int64.

    Points in no cluster (label -1) are passed over, here and below.
    """
    for i in range(len(points)):
        if labels[i] < 0:
            continue
        counts[labels[i]] += 1
        for j in range(points.shape[1]):
            sums[labels[i], j] += points[i, j]


@njit(cache=True, nogil=True)
def nearest_members(
    points: np.ndarray, labels: np.ndarray, centroids: np.ndarray, nearest: np.ndarray, squared: np.ndarray
) -> None:
    """Find the member nearest to each centroid (k, m), float64; among equals the first.

    ``nearest`` (k,), int64, is filled with points, -1 where a cluster has none; ``squared`` (k,), float64, with their
    distances.
    """
    nearest[:] = -1
    squared[:] = np.inf
    for i in range(len(points)):
        if labels[i] < 0:
            continue
        distance = 0.0
        for j in range(points.shape[1]):
            difference = points[i, j] - centroids[labels[i], j]
            distance += difference * difference
        if distance < squared[labels[i]]:
            nearest[labels[i]], squared[labels[i]] = i, distance


@njit(cache=True, nogil=True)
def distances_to_own(
    points: np.ndarray, labels: np.ndarray, targets: np.ndarray, weights: np.ndarray, squared: np.ndarray
) -> None:
    """Fill ``squared`` (n,), float32, with the distance of each point from the target (k, m) of its cluster.

    Each coordinate is multiplied by its weight (m,). Infinity for points that are in no cluster (label -1).
    """
    for i in range(len(points)):
        total = np.float32(np.inf if labels[i] < 0 else 0)
        for j in range(points.shape[1] if labels[i] >= 0 else 0):
            difference = (points[i, j] - targets[labels[i], j]) * weights[j]
            total += difference * difference
        squared[i] = total
