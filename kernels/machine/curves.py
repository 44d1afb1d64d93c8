"""Passes over rows of 16-bit codes: curves through tables, and products that are rescaled.

    interpolate    out = curve(a + b), a table with interpolation between its entries
    multiply       out = rescaled(a * b);  multiply_both: out = rescaled(a * b + c * d)
    blend          d = shifted(a * d) + shifted(b * c), and how many sums had to be clamped

Every pass is one function that is never inlined: a loop over vectors of codes, then what is left at the end
of a row one by one. What is the same for every code stands in an i64 array, `numbers`; its first entry tells
whether the pass rounds in floats. The places of the others are those of the slices below.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from nnaq.kernels.machine.lanes import Lanes
from nnaq.kernels.machine.products import LANES, loop
from nnaq.kernels.machine.vectors import I64, alone, constant, data_of

# Places in `numbers`, the same for all passes where they have them.
FLOATS = 0  # whether to round in floats
RESCALE = 1  # Lanes.rescaled, 9 entries: all of a product
SHIFT = 1  # Lanes.shifted, 5 entries
GRID = 6  # of the result: half a step, and the mask of the bits that stay
SECOND = 8  # Lanes.shifted of the second product of a blend
CODE = 8  # the grid of a curve's code
TABLE = 10  # how a code becomes a place: shift, first place, mask of the part between two entries

Pass = Callable[[Lanes, ir.Value, Sequence[ir.Value], bool], ir.Value | None]


def call_of(name: str, body: Pass, arrays: Sequence[Any]) -> tuple[Any, Callable[..., ir.Value]]:
    """Signature and code of an intrinsic that walks its last array, the others beside it.

    The result is the sum of what `body` gives for every code, 0 where it gives nothing.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Sequence[ir.Value]) -> ir.Value:
        pointers = [data_of(context, builder, *pair) for pair in zip(signature.args, given, strict=True)]
        last = context.make_array(signature.args[-1])(context, builder, given[-1])
        return builder.call(function_of(builder.module, name, body, pointers), [*pointers, last.nitems])

    return types.int64(*arrays), generate


def function_of(module: ir.Module, name: str, body: Pass, pointers: Sequence[ir.Value]) -> ir.Function:
    name = f"nnaq_{name}"
    if name in module.globals:
        return module.globals[name]
    made, builder = alone(module, name, [*(p.type for p in pointers), I64], I64)
    *rows, count = made.args
    for row in rows:
        if row.type.pointee == I64:  # numbers: no row overlaps them, they are read before the loop
            row.add_attribute("noalias")
    numbers = next(row for row in rows if row.type.pointee == I64)
    in_floats, in_integers = (made.append_basic_block(word) for word in ("floats", "integers"))
    builder.cbranch(builder.trunc(builder.load(numbers), ir.IntType(1)), in_floats, in_integers)
    for block, floats in ((in_floats, True), (in_integers, False)):
        builder.position_at_end(block)
        builder.ret(_walk(builder, body, rows, count, floats))
    return made


def _walk(
    builder: ir.IRBuilder, body: Pass, rows: Sequence[ir.Value], count: ir.Value, floats: bool
) -> ir.Value:
    """The sum of `body` over `count` codes: LANES at a time, then one by one."""
    whole, total = builder.and_(count, constant(-LANES)), constant(0)
    for start, stop, lanes in ((constant(0), whole, LANES), (whole, count, 1)):
        words = Lanes(builder, lanes)

        def step(at: ir.Value, held: list[ir.Value], words: Lanes = words) -> list[ir.Value]:
            found = body(words, at, rows, floats)
            return held if found is None else [builder.add(held[0], found)]

        (sums,) = loop(builder, start, stop, lanes, [words.all(0)], step)
        for lane in range(lanes):
            one = builder.extract_element(sums, ir.Constant(ir.IntType(32), lane))
            total = builder.add(total, builder.sext(one, I64))
    return total


def fitted(lanes: Lanes, value: ir.Value, numbers: ir.Value, grid: int) -> ir.Value:
    """Clamped to 16 bits and rounded to a grid: half a step, and the mask of the bits that stay."""
    half, mask = (lanes.number(numbers, grid + n) for n in range(2))
    return lanes.builder.and_(lanes.clamp_16(lanes.builder.add(value, half)), mask)


def _interpolate(lanes: Lanes, at: ir.Value, rows: Sequence[ir.Value], floats: bool) -> None:
    a, b, table, numbers, out = rows
    builder = lanes.builder
    code = fitted(lanes, builder.add(lanes.read(a, at), lanes.read(b, at)), numbers, CODE)
    shift, first, mask = (lanes.number(numbers, TABLE + n) for n in range(3))
    entries = lanes.neighbours(table, builder.add(builder.ashr(code, shift), first))
    part = builder.and_(code, mask)
    parts = builder.or_(builder.sub(lanes.all(128), part), builder.shl(part, lanes.all(16)))
    level = lanes.shifted(lanes.pair_sums(entries, parts), numbers, SHIFT, floats)
    lanes.write(fitted(lanes, level, numbers, GRID), out, at)


def _multiply(lanes: Lanes, at: ir.Value, rows: Sequence[ir.Value], floats: bool) -> None:
    *factors, numbers, out = rows
    builder, codes = lanes.builder, [lanes.read(row, at) for row in factors]
    products = [builder.mul(*codes[n : n + 2]) for n in range(0, len(codes), 2)]
    total = products[0] if len(products) == 1 else builder.add(*products)
    lanes.write(lanes.rescaled(total, numbers, RESCALE, floats), out, at)


def _blend(lanes: Lanes, at: ir.Value, rows: Sequence[ir.Value], floats: bool) -> ir.Value:
    a, b, c, numbers, d = rows
    builder = lanes.builder
    products = (builder.mul(lanes.read(x, at), lanes.read(y, at)) for x, y in ((a, d), (b, c)))
    kept, fresh = (
        lanes.clamp_16(lanes.shifted(product, numbers, place, floats))
        for product, place in zip(products, (SHIFT, SECOND), strict=True)
    )
    total = builder.add(kept, fresh)
    raised = builder.add(total, lanes.number(numbers, GRID))
    lanes.write(fitted(lanes, total, numbers, GRID), d, at)
    below = builder.icmp_signed("<", total, lanes.all(-(2**15)))
    above = builder.icmp_signed(">", raised, lanes.all(2**15 - 1))
    return builder.zext(builder.or_(below, above), lanes.kind)


@intrinsic
def interpolate(typing, a, b, table, numbers, out):  # type: ignore[no-untyped-def]
    """out = curve(fitted(a + b)), fitted; for a table of i16 with 2^7 steps from entry to entry.

    code  = fitted(a + b);  p = (code >> shift) + first;  k = code & mask
    out   = fitted(shifted(table[p] * (128 - k) + table[p + 1] * k))
    """
    return call_of("interpolate", _interpolate, (a, b, table, numbers, out))


@intrinsic
def multiply(typing, a, b, numbers, out):  # type: ignore[no-untyped-def]
    """out = rescaled(a * b)."""
    return call_of("multiply", _multiply, (a, b, numbers, out))


@intrinsic
def multiply_both(typing, a, b, c, d, numbers, out):  # type: ignore[no-untyped-def]
    """out = rescaled(a * b + c * d); the sum lies within 32 bits."""
    return call_of("multiply_both", _multiply, (a, b, c, d, numbers, out))


@intrinsic
def blend(typing, a, b, c, numbers, d):  # type: ignore[no-untyped-def]
    """d = fitted(clamp_16(shifted(a * d)) + clamp_16(second shifted(b * c))); how many sums were clamped."""
    return call_of("blend", _blend, (a, b, c, numbers, d))
