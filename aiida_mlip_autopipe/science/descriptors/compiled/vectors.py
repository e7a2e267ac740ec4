"""Explicit vectors of eight doubles, for the inner loops that the compiler would not vectorise by itself.

Each function emits LLVM instructions when Numba compiles a kernel, so that loops over degrees and radial functions are
unrolled and sums stay in registers. Sizes have to be known by then: they travel as the *lengths* of tuples (see
:func:`sized`), Numba compiles one version per length, and its cache on disk keeps them apart by signature. Nothing here
allocates or checks bounds; arrays are one-dimensional, contiguous and padded to whole vectors.

On processors without 512-bit registers a vector becomes several; results differ by rounding at most.

Plain loops do not reach this. With ``fastmath`` and the same fixed sizes, `solid_harmonics`, `accumulate` and
`multiply_rows` give the same SOAP within 5e-15, but an atom of Si64 (n_max 8, l_max 6, no average) takes 3.8 to 8.5
times as long, with four ways to arrange the loops of `accumulate` (Numba 0.68, AVX2; medians of CPU times measured in
turns). Of the other two, harmonics in plain loops cost a factor of 1.3 and products 1.2.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import types
from numba.core.base import BaseContext
from numba.core.typing import Signature
from numba.extending import intrinsic

from aiida_mlip_autopipe.science.descriptors.compiled.emitter import INDEX, INDICES, LANES, VECTOR, Emitter, Values

__all__ = [
    'LANES',
    'accumulate',
    'add_scaled',
    'collect_within',
    'find_intervals',
    'multiply_rows',
    'scalar_product',
    'sized',
    'solid_harmonics',
    'weighted_sum',
]

#: Sums that are kept in registers at once: what the processor has, less what the loop itself needs.
MAX_SUMS = 25 if get_host_cpu_features().get('avx512f') else 6


def sized(length: int) -> tuple[int, ...]:
    """Return a tuple whose length, and so whose type, carries a size to the compiler."""
    return (0,) * length


def _degrees(degrees: Sized, step: Sized) -> list[int]:
    """Return the degrees l that are meant: all up to the largest, or the even ones."""
    return list(range(0, len(degrees), len(step)))


@intrinsic
def collect_within(
    typingctx: Any,
    images: Any,
    n_images: Any,
    ranks: Any,
    begin: Any,
    end: Any,
    site: Any,
    limit: Any,
    lowest: Any,
    x: Any,
    y: Any,
    z: Any,
    found_ranks: Any,
    count: Any,
) -> Any:
    """Append images begin to end to x, y, z and ranks, from count on, as displacements from a site; return the count.

    Only those with r² <= limit and a rank of at least ``lowest``. ``images`` holds n_images of x, then of y, then z;
    eight of them are looked at together, and whole vectors are stored.
    """
    signature = types.int64(images, n_images, ranks, begin, end, site, limit, lowest, x, y, z, found_ranks, count)

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        emitter = Emitter(context, builder, signature, arguments)
        all_images, stride, all_ranks, first, last, centre, bound, low = emitter.arguments[:8]
        targets, start = emitter.arguments[8:12], emitter.arguments[12]
        origin = [emitter.spread(emitter.scalar(centre, emitter.index(axis))) for axis in range(3)]
        bounds, lows = emitter.spread(bound), emitter.spread(low)
        lanes = ir.Constant(INDICES, list(range(LANES)))

        def look(step: ir.Value, counts: Values) -> Values:
            j = emitter.add(first, emitter.times(step, LANES))
            displacements = [
                builder.fsub(emitter.load(all_images, emitter.add(j, emitter.times(stride, axis))), origin[axis])
                for axis in range(3)
            ]
            dx, dy, dz = displacements
            r2 = emitter.fused(dz, dz, emitter.fused(dy, dy, emitter.product(dx, dx)))
            numbers = emitter.load_indices(all_ranks, j)
            inside = builder.icmp_signed('<', lanes, emitter.spread(builder.sub(last, j)))
            wanted = builder.and_(inside, builder.icmp_signed('>=', numbers, lows))
            mask = builder.and_(wanted, builder.fcmp_ordered('<=', r2, bounds))
            for values, target in zip((*displacements, numbers), targets, strict=True):
                emitter.compress_store(values, mask, target, counts[0])
            bits = builder.zext(builder.bitcast(mask, ir.IntType(LANES)), INDEX)
            return [builder.add(counts[0], emitter.call('llvm.ctpop.i64', INDEX, bits))]

        steps = builder.sdiv(emitter.add(builder.sub(last, first), LANES - 1), emitter.index(LANES))
        return emitter.sum_over(steps, [start], look)[0]

    return signature, emit


@intrinsic
def add_scaled(
    typingctx: Any, norms: Any, count: Any, share: Any, values: Any, start: Any, target: Any, place: Any, blocks: Any
) -> Any:
    """Add share norms[lm] values[start + lm n_pad + n] to target[place + lm n_pad + n], for lm < count and all n."""
    signature = types.void(norms, count, share, values, start, target, place, blocks)

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        emitter = Emitter(context, builder, signature, arguments)
        factors, number, portion, source, first, out, base = emitter.arguments[:7]

        def scale(lm: ir.Value, _: Values) -> Values:
            factor = emitter.spread(builder.fmul(emitter.scalar(factors, lm), portion))
            for block in range(len(blocks)):
                offset = emitter.add(emitter.times(lm, LANES * len(blocks)), LANES * block)
                index = emitter.add(base, offset)
                scaled = emitter.fused(
                    factor, emitter.load(source, emitter.add(first, offset)), emitter.load(out, index)
                )
                emitter.store(scaled, out, index)
            return []

        emitter.sum_over(number, [], scale)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def solid_harmonics(
    typingctx: Any,
    x: Any,
    y: Any,
    z: Any,
    start: Any,
    weights: Any,
    first: Any,
    harmonics: Any,
    distances: Any,
    degrees: Any,
    step: Any,
) -> Any:
    """Write solid harmonics of eight displacements, w r^l Y_lm / norm_lm, lm = l² + l + m, and their lengths r.

    Displacements stand at start in x, y, z, weights at first, a multiple of 8; harmonics go to 8 lm + lane beyond
    first n_lm, lengths to distances[first].

    With P_mm = (2m - 1)!! and P_l+1,m = (2l + 1) z P_lm - (l + m)(l - m) r² P_l-1,m (E. W. Hobson, The theory of
    spherical and ellipsoidal harmonics (1931)), times the real or imaginary part of (x + iy)^m: no division, no root.
    ``step`` of length 2 leaves out odd degrees.
    """
    signature = types.void(x, y, z, start, weights, first, harmonics, distances, degrees, step)

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        emitter = Emitter(context, builder, signature, arguments)
        px, py, pz, begin, pw, lane, out, lengths = emitter.arguments[:8]
        vx, vy, vz = (emitter.load(pointer, begin) for pointer in (px, py, pz))
        vw, base = emitter.load(pw, lane), emitter.times(lane, len(degrees) ** 2)
        r2 = emitter.fused(vz, vz, emitter.fused(vy, vy, emitter.product(vx, vx)))
        emitter.store(emitter.call(f'llvm.sqrt.v{LANES}f64', VECTOR, r2), lengths, lane)
        l_max, wanted = len(degrees) - 1, _degrees(degrees, step)
        odd_z = [emitter.product(emitter.constant(2 * l + 1), vz) for l in range(l_max)]  # noqa: E741
        cosine, sine, diagonal = vw, None, 1
        for m in range(l_max + 1):
            previous, current = None, emitter.constant(diagonal)
            for l in range(m, l_max + 1):  # noqa: E741
                if l in wanted:
                    for sign, part in ((1, cosine), (-1, sine)):
                        if part is not None:
                            place = emitter.add(base, LANES * (l * l + l + sign * m))
                            emitter.store(emitter.product(current, part), out, place)
                if l < l_max:
                    following = emitter.product(odd_z[l], current)
                    if previous is not None:
                        scaled = emitter.product(emitter.constant(-(l + m) * (l - m)), r2)
                        following = emitter.fused(scaled, previous, following)
                    previous, current = current, following
            diagonal *= 2 * m + 1
            if sine is None:
                cosine, sine = emitter.product(vx, cosine), emitter.product(vy, cosine)
            else:
                minus_sine = emitter.product(emitter.constant(-1.0), sine)
                cosine, sine = (
                    emitter.fused(vx, cosine, emitter.product(vy, minus_sine)),
                    emitter.fused(vx, sine, emitter.product(vy, cosine)),
                )
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def find_intervals(
    typingctx: Any,
    distances: Any,
    first: Any,
    count: Any,
    intervals_per_A: Any,
    n_intervals: Any,
    row: Any,
    offsets: Any,
    fractions: Any,
    shortest: Any,
) -> Any:
    """Find eight distances in a table: offsets[first] = row times the interval, fractions[first] that from its middle.

    Returns how many of the first ``count`` of them are below ``shortest``; what the others say means nothing.
    """
    signature = types.int64(distances, first, count, intervals_per_A, n_intervals, row, offsets, fractions, shortest)

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        emitter = Emitter(context, builder, signature, arguments)
        lengths, lane, number, density, total, stride, places, parts, bound = emitter.arguments
        r = emitter.load(lengths, lane)
        u = emitter.product(r, emitter.spread(density))
        last = emitter.spread(emitter.add(total, -1))
        interval = builder.fptosi(u, INDICES)
        interval = builder.select(builder.icmp_signed('<', interval, last), interval, last)
        address = builder.bitcast(builder.gep(places, [lane]), INDICES.as_pointer())
        builder.store(builder.mul(interval, emitter.spread(stride)), address, align=8)
        middle = builder.fadd(builder.sitofp(interval, VECTOR), emitter.constant(0.5))
        emitter.store(builder.fsub(u, middle), parts, lane)
        counted = builder.icmp_signed('<', ir.Constant(INDICES, list(range(LANES))), emitter.spread(number))
        near = builder.and_(counted, builder.fcmp_ordered('<', r, emitter.spread(bound)))
        bits = builder.zext(builder.bitcast(near, ir.IntType(LANES)), INDEX)
        return emitter.call('llvm.ctpop.i64', INDEX, bits)

    return signature, emit


def _orders(degree: int) -> range:
    """Return the places lm of the harmonics of a degree."""
    return range(degree**2, (degree + 1) ** 2)


def _groups(degrees: list[int]) -> list[list[int]]:
    """Split degrees so that the sums of a group fit into registers; a degree that alone is too large stands alone."""
    groups: list[list[int]] = []
    size = 0
    for l in degrees:  # noqa: E741
        if not groups or size + 2 * l + 1 > MAX_SUMS:
            groups.append([])
            size = 0
        groups[-1].append(l)
        size += 2 * l + 1
    return groups


@intrinsic
def accumulate(
    typingctx: Any,
    harmonics: Any,
    offsets: Any,
    fractions: Any,
    count: Any,
    table: Any,
    degree_stride: Any,
    density: Any,
    place: Any,
    degrees: Any,
    blocks: Any,
    step: Any,
) -> Any:
    """Add neighbours to a density: density[place + lm n_pad + n] += harmonics[lm] g_nl(r), for all n.

    The radial functions are cubics in t, the fraction of a table's interval: coefficients of order k stand at
    table[offset + l degree_stride + k n_pad + n]. ``blocks`` has the length n_pad / 8; a degree_stride of 0 means the
    same radial functions for all degrees. Neighbour j has its harmonics at 8 ((j // 8) n_lm + lm) + j % 8.
    """
    signature = types.void(
        harmonics, offsets, fractions, count, table, degree_stride, density, place, degrees, blocks, step
    )

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        emitter = Emitter(context, builder, signature, arguments)
        values, starts, parts, number, cubics, stride, out, base = emitter.arguments[:8]
        width = LANES * len(blocks)

        def add_group(group: list[int], block: int) -> None:
            places = [emitter.add(base, lm * width + block * LANES) for degree in group for lm in _orders(degree)]

            def terms(j: ir.Value, sums: Values) -> Values:
                lane = emitter.builder.and_(j, emitter.index(LANES - 1))
                neighbour = emitter.add(emitter.times(emitter.builder.sub(j, lane), len(degrees) ** 2), lane)
                t = emitter.spread(emitter.scalar(parts, j))
                row = emitter.add(emitter.scalar(starts, j), block * LANES)
                following: Values = []
                for l in group:  # noqa: E741
                    cubic = emitter.add(row, emitter.times(stride, l))
                    radial = emitter.load(cubics, emitter.add(cubic, 3 * width))
                    for order in (2, 1, 0):
                        radial = emitter.fused(radial, t, emitter.load(cubics, emitter.add(cubic, order * width)))
                    for lm in _orders(l):
                        value = emitter.spread(emitter.scalar(values, emitter.add(neighbour, LANES * lm)))
                        following.append(emitter.fused(value, radial, sums[len(following)]))
                return following

            sums = emitter.sum_over(number, [emitter.load(out, index) for index in places], terms)
            for value, index in zip(sums, places, strict=True):
                emitter.store(value, out, index)

        for block in range(len(blocks)):
            for group in _groups(_degrees(degrees, step)):
                add_group(group, block)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def multiply_rows(
    typingctx: Any, values: Any, one: Any, two: Any, count: Any, out: Any, place: Any, functions: Any, shape: Any
) -> Any:
    """Write sum_m c_nm c'_n'm for one degree and two channels, rows n one after the other from out[place].

    Row n of a like pair (``shape`` of length 1) begins at n' = n, that of an unlike pair (length 2) at 0. Coefficients
    stand at values[one + m n_pad + n] and values[two + m n_pad + n']. Whole vectors are stored: each row overwrites the
    excess of the one before, and the last one reaches up to 7 beyond its end.
    """
    signature = types.void(values, one, two, count, out, place, functions, shape)

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        emitter = Emitter(context, builder, signature, arguments)
        coefficients, first, second, number, rows, target = emitter.arguments[:6]
        n_max, like = len(functions), len(shape) == 1
        width = -(-n_max // LANES) * LANES
        tiles = [(n, start) for n in range(n_max) for start in range(n if like else 0, n_max, LANES)]
        place = 0
        for tile_group in [tiles[i : i + MAX_SUMS - 1] for i in range(0, len(tiles), MAX_SUMS - 1)]:

            def terms(m: ir.Value, sums: Values, tile_group: list[tuple[int, int]] = tile_group) -> Values:
                left = emitter.add(first, emitter.times(m, width))
                right = emitter.add(second, emitter.times(m, width))
                return [
                    emitter.fused(
                        emitter.spread(emitter.scalar(coefficients, emitter.add(left, n))),
                        emitter.load(coefficients, emitter.add(right, start)),
                        running,
                    )
                    for (n, start), running in zip(tile_group, sums, strict=True)
                ]

            sums = emitter.sum_over(number, [emitter.constant(0.0)] * len(tile_group), terms)
            for (_, start), value in zip(tile_group, sums, strict=True):
                emitter.store(value, rows, emitter.add(target, place))
                place += min(LANES, n_max - start)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def weighted_sum(
    typingctx: Any, values: Any, first: Any, second: Any, weights: Any, start: Any, count: Any, place: Any
) -> Any:
    """values[place] = sum of weights[t] values[8 first[t]] values[8 second[t]] over start <= t < start + count."""
    signature = types.void(values, first, second, weights, start, count, place)

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        emitter = Emitter(context, builder, signature, arguments)
        data, left, right, factors, begin, number, target = emitter.arguments

        def terms(step: ir.Value, sums: Values) -> Values:
            t = emitter.add(begin, step)
            one = emitter.load(data, emitter.times(emitter.scalar(left, t), LANES))
            two = emitter.load(data, emitter.times(emitter.scalar(right, t), LANES))
            return [emitter.fused(emitter.product(emitter.spread(emitter.scalar(factors, t)), one), two, sums[0])]

        emitter.store(emitter.sum_over(number, [emitter.constant(0.0)], terms)[0], data, target)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def scalar_product(
    typingctx: Any, values: Any, left: Any, right: Any, count: Any, factor: Any, out: Any, place: Any
) -> Any:
    """out[place] = factor times the sum of values[left + 8 k] values[right + 8 k] over 0 <= k < count."""
    signature = types.void(values, left, right, count, factor, out, place)

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        emitter = Emitter(context, builder, signature, arguments)
        data, one, two, number, scale, results, target = emitter.arguments

        def terms(step: ir.Value, sums: Values) -> Values:
            offset = emitter.times(step, LANES)
            return [
                emitter.fused(
                    emitter.load(data, emitter.add(one, offset)), emitter.load(data, emitter.add(two, offset)), sums[0]
                )
            ]

        total = emitter.sum_over(number, [emitter.constant(0.0)], terms)[0]
        emitter.store(emitter.product(emitter.spread(scale), total), results, target)
        return context.get_dummy_value()

    return signature, emit
