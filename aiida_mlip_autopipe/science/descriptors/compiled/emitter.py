"""LLVM instructions on vectors of eight doubles, as an intrinsic of Numba writes them.

Nothing here allocates or checks bounds; arrays are one-dimensional, contiguous and padded to whole vectors.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba.core import types
from numba.core.base import BaseContext
from numba.core.typing import Signature

__all__ = ['INDEX', 'INDICES', 'LANES', 'VECTOR', 'Emitter', 'Values']

LANES = 8

DOUBLE, INDEX = ir.DoubleType(), ir.IntType(64)
VECTOR = ir.VectorType(DOUBLE, LANES)
INDICES = ir.VectorType(INDEX, LANES)
FUSED = ('contract',)
Values = list[ir.Value]


class Emitter:
    """Writes vector instructions over the pointers of the arrays that an intrinsic was given."""

    def __init__(self, context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> None:
        self.builder = builder
        self.arguments = [
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, arguments, strict=True)
        ]

    def index(self, value: int) -> ir.Value:
        """Return a constant index."""
        return ir.Constant(INDEX, value)

    def add(self, one: ir.Value, two: ir.Value | int) -> ir.Value:
        """Return the sum of two indices."""
        return self.builder.add(one, two if isinstance(two, ir.Value) else self.index(two))

    def times(self, one: ir.Value, two: ir.Value | int) -> ir.Value:
        """Return the product of two indices."""
        return self.builder.mul(one, two if isinstance(two, ir.Value) else self.index(two))

    def constant(self, value: float) -> ir.Value:
        """Return a vector of one constant."""
        return ir.Constant(VECTOR, [float(value)] * LANES)

    def product(self, one: ir.Value, two: ir.Value) -> ir.Value:
        """Return one * two."""
        return self.builder.fmul(one, two, flags=FUSED)

    def fused(self, one: ir.Value, two: ir.Value, three: ir.Value) -> ir.Value:
        """Return one * two + three."""
        return self.builder.fadd(self.product(one, two), three, flags=FUSED)

    def scalar(self, pointer: ir.Value, index: ir.Value) -> ir.Value:
        """Return the number at an index."""
        return self.builder.load(self.builder.gep(pointer, [index]), align=8)

    def load(self, pointer: ir.Value, index: ir.Value) -> ir.Value:
        """Return the vector that begins at an index."""
        address = self.builder.bitcast(self.builder.gep(pointer, [index]), VECTOR.as_pointer())
        return self.builder.load(address, align=8)

    def store(self, vector: ir.Value, pointer: ir.Value, index: ir.Value) -> None:
        """Write a vector from an index on."""
        address = self.builder.bitcast(self.builder.gep(pointer, [index]), VECTOR.as_pointer())
        self.builder.store(vector, address, align=8)

    def load_indices(self, pointer: ir.Value, index: ir.Value) -> ir.Value:
        """Return the vector of integers that begins at an index."""
        address = self.builder.bitcast(self.builder.gep(pointer, [index]), INDICES.as_pointer())
        return self.builder.load(address, align=8)

    def call(self, name: str, kind: ir.Type, *arguments: ir.Value) -> ir.Value:
        """Call an LLVM intrinsic on vectors."""
        signature = ir.FunctionType(kind, [argument.type for argument in arguments])
        return self.builder.call(self.builder.module.declare_intrinsic(name, fnty=signature), arguments)

    def compress_store(self, vector: ir.Value, mask: ir.Value, pointer: ir.Value, index: ir.Value) -> None:
        """Store the lanes in the mask one after the other; what follows them is overwritten with anything."""
        name = f'llvm.experimental.vector.compress.v{LANES}{"f64" if vector.type is VECTOR else "i64"}'
        packed = self.call(name, vector.type, vector, mask, ir.Constant(vector.type, ir.Undefined))
        address = self.builder.bitcast(self.builder.gep(pointer, [index]), vector.type.as_pointer())
        self.builder.store(packed, address, align=8)

    def spread(self, value: ir.Value) -> ir.Value:
        """Return a vector of one value."""
        undefined = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
        single = self.builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(single, undefined, zeros)

    def sum_over(self, count: ir.Value, sums: Values, terms: Callable[[ir.Value, Values], Values]) -> Values:
        """Emit a loop over range(count); ``terms(step, sums)`` returns the sums after a step. Return the last sums."""
        builder = self.builder
        before = builder.block
        loop, after = builder.append_basic_block('sum'), builder.append_basic_block('summed')
        builder.cbranch(builder.icmp_signed('>', count, self.index(0)), loop, after)
        builder.position_at_end(loop)
        step = builder.phi(INDEX)
        running = [builder.phi(value.type) for value in sums]
        following = terms(step, running)
        next_step = self.add(step, 1)
        body_end = builder.block
        builder.cbranch(builder.icmp_signed('<', next_step, count), loop, after)
        step.add_incoming(self.index(0), before)
        step.add_incoming(next_step, body_end)
        for phi, start, value in zip(running, sums, following, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(value, body_end)
        builder.position_at_end(after)
        results = [builder.phi(value.type) for value in sums]
        for phi, start, value in zip(results, sums, following, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(value, body_end)
        return results
