"""Loops over values of equal place: vectors in, the same computation in every lane, vectors out.

A map is one LLVM function of its own per type of its arrays, never inlined, so that the kernels around it
stay small to compile. It has a loop per kind of rounding (`rescaling`); the last vector overlaps the one
before it, and fewer values than lanes pass through a buffer of one vector. Results therefore stand in an
array of their own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from nnaq.kernels.machine.products import PAIRS, loop
from nnaq.kernels.machine.rescaling import (
    LANES,
    REAL,
    TWICE,
    WHOLE,
    WORDS,
    Values,
    requantized,
    row,
    saturated,
    splat,
    stage,
    within,
)
from nnaq.kernels.machine.rescaling import STAGE_ROWS as STAGE
from nnaq.kernels.machine.vectors import I32, I64, alone, constant, data_of, load, pair_products, store

INPUT_SHIFT = 20  # headroom of an i8 sum, as in TFLite


def make_map(name: str, operands: int, values: Values) -> Any:
    """The intrinsic name(*arrays, out, rows, kind): out[i] = values of arrays[i], contiguous and flat.

    rows: constants lane by lane (int64); kind: WHOLE, TWICE or REAL. Arrays have as many entries as `out`.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> ir.Value:
        arrays, count = flat_arrays(context, builder, signature.args[:-1], given[:-1])
        entries = [array.type.pointee for array in arrays[:-1]]
        called = map_function(builder.module, name, entries, values)
        builder.call(called, [*arrays, given[-1], count])
        return context.get_dummy_value()

    if operands == 1:

        @intrinsic
        def one(typing, x, out, rows, kind):  # type: ignore[no-untyped-def]
            return flat_types(name, (x, out, rows), types.int64), generate

        return one

    @intrinsic
    def two(typing, a, b, out, rows, kind):  # type: ignore[no-untyped-def]
        return flat_types(name, (a, b, out, rows), types.int64), generate

    return two


def flat_types(name: str, arrays: tuple[Any, ...], *others: Any) -> Any:
    """The Numba signature of contiguous arrays and what follows them."""
    if any(array.layout != "C" for array in arrays):
        raise TypingError(f"{name} takes contiguous arrays, found {arrays}")
    return types.void(*arrays, *others)


def flat_arrays(
    context: Any, builder: ir.IRBuilder, kinds: Any, given: Any, result: int = -2
) -> tuple[list[ir.Value], ir.Value]:
    """Pointers to the first entries of arrays, and how many entries the result has."""
    pointers = [data_of(context, builder, kind, value) for kind, value in zip(kinds, given, strict=True)]
    return pointers, context.make_array(kinds[result])(context, builder, given[result]).nitems


def map_function(module: ir.Module, name: str, entries: list[ir.IntType], values: Values) -> ir.Function:
    """The loops of a map for the given types of its operands and, last, of its result."""
    full = f"nnaq_{name}_" + "_".join(f"i{entry.width}" for entry in entries)
    if full in module.globals:
        return module.globals[full]
    parts = [*(entry.as_pointer() for entry in entries), I64.as_pointer(), I64, I64]
    made, builder = alone(module, full, parts)
    *arrays, rows, kind, count = made.args
    with buffered(builder, arrays, count) as (places, size):
        kinds_of_loops(builder, kind, places, rows, size, values)
    builder.ret_void()
    return made


@contextmanager
def buffered(
    builder: ir.IRBuilder, arrays: list[ir.Value], count: ir.Value
) -> Iterator[tuple[list[ir.Value], ir.Value]]:
    """The arrays, the result last, with at least LANES entries: fewer pass through buffers.

    Nothing happens where there are none.
    """
    buffers = [builder.alloca(ir.VectorType(array.type.pointee, LANES)) for array in arrays]
    with builder.if_then(builder.icmp_signed("<=", count, constant(0))):
        builder.ret_void()
    few = builder.icmp_signed("<", count, constant(LANES))
    flat = [builder.bitcast(b, a.type) for a, b in zip(arrays, buffers, strict=True)]
    places = [builder.select(few, b, a) for a, b in zip(arrays, flat, strict=True)]
    with builder.if_then(few):
        for array, buffer, own in zip(arrays[:-1], buffers, flat, strict=False):
            builder.store(ir.Constant(buffer.type.pointee, None), buffer)
            _copy(builder, array, own, count)
    yield places, builder.select(few, constant(LANES), count)
    with builder.if_then(few):
        _copy(builder, flat[-1], arrays[-1], count)


def kinds_of_loops(
    builder: ir.IRBuilder, kind: ir.Value, places: list[ir.Value], rows: Any, size: ir.Value, values: Values
) -> None:
    """One loop per kind of rounding."""
    behind = builder.append_basic_block("behind_all")
    choice = builder.switch(kind, behind)
    for number in (WHOLE, TWICE, REAL):
        block = builder.append_basic_block(f"kind_{number}")
        choice.add_case(constant(number), block)
        builder.position_at_end(block)
        _loop(builder, number, places, rows, size, values)
        builder.branch(behind)
    builder.position_at_end(behind)


def _copy(builder: ir.IRBuilder, source: ir.Value, target: ir.Value, count: ir.Value) -> None:
    """Fewer entries than lanes from one place to another."""

    def one(at: ir.Value, held: list[ir.Value]) -> list[ir.Value]:
        store(builder, load(builder, source, at, source.type.pointee), target, at)
        return []

    loop(builder, constant(0), count, 1, [], one)


def _loop(
    builder: ir.IRBuilder, kind: int, places: list[ir.Value], rows: ir.Value, size: ir.Value, values: Values
) -> None:
    last = builder.sub(size, constant(LANES))

    def vector(at: ir.Value, held: list[ir.Value]) -> list[ir.Value]:
        at = builder.select(builder.icmp_signed("<", at, last), at, last)
        given = [words_at(builder, place, at) for place in places[:-1]]
        put_words(builder, values(builder, kind, rows, given), places[-1], at)
        return []

    loop(builder, constant(0), size, LANES, [], vector)


def words_at(builder: ir.IRBuilder, pointer: ir.Value, at: ir.Value) -> ir.Value:
    """A vector of entries of at most 32 bits, as WORDS; of wider ones the low 32 bits."""
    entry = pointer.type.pointee
    found = load(builder, pointer, at, ir.VectorType(entry, LANES))
    if entry.width > 32:
        return builder.trunc(found, WORDS)
    return found if entry.width == 32 else builder.sext(found, WORDS)


def put_words(builder: ir.IRBuilder, words: ir.Value, pointer: ir.Value, at: ir.Value) -> None:
    """Write WORDS whose values the entries hold."""
    kind = ir.VectorType(pointer.type.pointee, LANES)
    if kind.element.width > 32:
        words = builder.sext(words, kind)
    store(builder, words if kind == WORDS else builder.trunc(words, kind), pointer, at)


# --- what lanes compute; the numbers are rows


def rescaled(builder: ir.IRBuilder, kind: int, rows: ir.Value, given: list[ir.Value]) -> ir.Value:
    """sat(R(x - z_x) + z_y); rows: z_x, stage, limits."""
    centred = builder.sub(given[0], row(builder, rows, 0))
    y = requantized(builder, kind, centred, stage(builder, rows, 1))
    return saturated(builder, y, rows, 1 + STAGE)


def product(builder: ir.IRBuilder, kind: int, rows: ir.Value, given: list[ir.Value]) -> ir.Value:
    """sat(R((a - z_a)(b - z_b)) + z_y); rows: z_a, z_b, stage, limits."""
    a, b = (builder.sub(given[i], row(builder, rows, i)) for i in (0, 1))
    y = requantized(builder, kind, builder.mul(a, b), stage(builder, rows, 2))
    return saturated(builder, y, rows, 2 + STAGE)


def _signed(builder: ir.IRBuilder, value: ir.Value, sign: ir.Value) -> ir.Value:
    """value where sign is 0, -value where it is -1."""
    return builder.sub(builder.xor(value, sign), sign)


def sum_16(builder: ir.IRBuilder, kind: int, rows: ir.Value, given: list[ir.Value]) -> ir.Value:
    """sat(sat16(R(a - z_a)) ± sat16(R(b - z_b)) + z_y); rows: z_a, z_b, sign, two stages, limits."""
    parts = []
    for i in (0, 1):
        centred = builder.sub(given[i], row(builder, rows, i))
        made = requantized(builder, kind, centred, stage(builder, rows, 3 + i * STAGE))
        parts.append(within(builder, made, splat(WORDS, -(2**15)), splat(WORDS, 2**15 - 1)))
    total = builder.add(parts[0], _signed(builder, parts[1], row(builder, rows, 2)))
    return saturated(builder, total, rows, 3 + 2 * STAGE)


def sum_8(builder: ir.IRBuilder, kind: int, rows: ir.Value, given: list[ir.Value]) -> ir.Value:
    """sat(R(R((a - z_a) << 20) ± R((b - z_b) << 20)) + z_y); rows: z_a, z_b, sign, three stages, limits."""
    parts = []
    for i in (0, 1):
        centred = builder.sub(given[i], row(builder, rows, i))
        raised = builder.shl(centred, splat(WORDS, INPUT_SHIFT))
        parts.append(requantized(builder, kind, raised, stage(builder, rows, 3 + i * STAGE)))
    total = builder.add(parts[0], _signed(builder, parts[1], row(builder, rows, 2)))
    y = requantized(builder, kind, total, stage(builder, rows, 3 + 2 * STAGE))
    return saturated(builder, y, rows, 3 + 3 * STAGE)


rescale_map = make_map("rescale", 1, rescaled)
product_map = make_map("product", 2, product)
sum_16_map = make_map("sum_16", 2, sum_16)
sum_8_map = make_map("sum_8", 2, sum_8)


# --- interpolation in a table


def make_table_map(name: str, values: Callable[..., ir.Value]) -> Any:
    """The intrinsic name(x, table, out, rows, kind): out[i] = values of x[i] and of 513 i16 entries."""

    @intrinsic
    def table_map(typing, x, table, out, rows, kind):  # type: ignore[no-untyped-def]
        signature = flat_types(name, (x, table, out, rows), types.int64)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> ir.Value:
            arrays, count = flat_arrays(context, builder, signature.args[:-1], given[:-1])
            x, table, out, rows = arrays
            full = f"nnaq_{name}_i{x.type.pointee.width}_i{out.type.pointee.width}"
            called = _table_function(builder.module, full, [a.type for a in (x, out, table, rows)], values)
            builder.call(called, [x, out, table, rows, given[-1], count])
            return context.get_dummy_value()

        return signature, generate

    return table_map


def _table_function(
    module: ir.Module, name: str, parts: list[ir.Type], values: Callable[..., ir.Value]
) -> ir.Function:
    if name in module.globals:
        return module.globals[name]
    made, builder = alone(module, name, [*parts, I64, I64])
    x, out, table, rows, kind, count = made.args
    with buffered(builder, [x, out], count) as (places, size):
        kinds_of_loops(builder, kind, places, rows, size, partial(values, table))
    builder.ret_void()
    return made


def interpolation(
    table: ir.Value, builder: ir.IRBuilder, kind: int, rows: ir.Value, given: list[ir.Value]
) -> ir.Value:
    """sat(R((T[j] << 7) + (T[j+1] - T[j])*(x & 127)) + z_y), j = (x >> 7) + 256; rows: stage, limits."""
    u = interpolated(builder, table, given[0])
    return saturated(builder, requantized(builder, kind, u, stage(builder, rows, 0)), rows, STAGE)


def exponential(
    table: ir.Value, builder: ir.IRBuilder, kind: int, rows: ir.Value, given: list[ir.Value]
) -> ir.Value:
    """e of softmax of i16 codes; rows: the maximum, -(2^31 >> left), left, stage."""
    d = builder.sub(given[0], row(builder, rows, 0))
    lowest = row(builder, rows, 1)
    d = builder.select(builder.icmp_signed(">", d, lowest), d, lowest)
    a = requantized(builder, kind, builder.shl(d, row(builder, rows, 2)), stage(builder, rows, 3))
    at = within(builder, builder.add(a, splat(WORDS, 32767)), splat(WORDS, -(2**15)), splat(WORDS, 32767))
    u = builder.add(interpolated(builder, table, at), splat(WORDS, 64))
    return builder.ashr(u, splat(WORDS, 7))


def interpolated(builder: ir.IRBuilder, table: ir.Value, x: ir.Value) -> ir.Value:
    """(T[j] << 7) + (T[j+1] - T[j])*(x & 127) = T[j]*(128 - f) + T[j+1]*f, one pair of products per lane."""
    place = builder.add(builder.ashr(x, splat(WORDS, 7)), splat(WORDS, 256))
    both: ir.Value = ir.Constant(WORDS, ir.Undefined)
    for i in range(LANES):
        lane = ir.Constant(I32, i)
        at = builder.sext(builder.extract_element(place, lane), I64)
        both = builder.insert_element(both, load(builder, table, at, I32), lane)
    right = builder.and_(x, splat(WORDS, 127))
    left = builder.sub(splat(WORDS, 128), right)
    shares = builder.or_(left, builder.shl(right, splat(WORDS, 16)))
    return pair_products(builder, builder.bitcast(both, PAIRS), builder.bitcast(shares, PAIRS))


interpolation_map = make_table_map("interpolation", interpolation)
exponential_map = make_table_map("exponential", exponential)
