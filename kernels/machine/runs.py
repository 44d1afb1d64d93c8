"""Requantisation of a run of 32-bit sums that share multiplier and shift, in vectors.

    h = ((clamp(x, least, most) * q + offset) >> n) - back        64 bits, then the low 32
    y = h                                                         `single`
      = (h >> r) + ((h & mask) > (mask >> 1) + (h < 0))           `double`, mask = 2^r - 1
    out = clamp(y, lowest, highest) + zero

The caller (kernels/conv_runs.py) chooses numbers for which the 64-bit sum is never negative, so that the
shift needs no sign, and h fits 32 bits. Products are those of the even and of the odd lanes, of 64 bits each.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from nnaq.kernels.machine.products import LANES, loop
from nnaq.kernels.machine.vectors import I32, I64, alone, broadcast, constant, data_of, load, store

TOGETHER = 2  # vectors of LANES, so that narrowing fills a register
NUMBERS = "q offset n back least most lowest highest zero right".split()
WORDS = {"back", "least", "most", "lowest", "highest", "zero", "right"}  # i32; the others are i64
Spread = Callable[[int], dict[str, ir.Value]]


def make_run(doubles: bool) -> Any:
    """The intrinsic run(sums, begin, count, numbers, out, to).

    sums    i32 array, read from entry `begin` on
    numbers i64 array of NUMBERS
    out     array of codes, filled from entry `to` on
    doubles whether the second rounding of `double` follows
    """

    @intrinsic
    def run(typing, sums, begin, count, numbers, out, to):  # type: ignore[no-untyped-def]
        offset = types.int64
        signature = types.void(sums, offset, offset, numbers, out, offset)

        def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
            pointers = {i: data_of(context, builder, signature.args[i], given[i]) for i in (0, 3, 4)}
            arguments = [pointers.get(i, value) for i, value in enumerate(given)]
            builder.call(function_of(builder.module, doubles, pointers[4].type.pointee), arguments)
            return context.get_dummy_value()

        return signature, generate

    return run


def function_of(module: ir.Module, doubles: bool, entry: ir.IntType) -> ir.Function:
    """The run as a function of its own: whole vectors, then one by one."""
    name = f"nnaq_run_{'double' if doubles else 'single'}_i{entry.width}"
    if name in module.globals:
        return module.globals[name]
    parts = [I32.as_pointer(), I64, I64, I64.as_pointer(), entry.as_pointer(), I64]
    made, builder = alone(module, name, parts)
    sums, begin, count, numbers, out, to = made.args
    sums, out = builder.gep(sums, [begin]), builder.gep(out, [to])
    found = {word: load(builder, numbers, constant(i), I64) for i, word in enumerate(NUMBERS)}
    given = {word: builder.trunc(v, I32) if word in WORDS else v for word, v in found.items()}
    step = TOGETHER * LANES

    def of_lanes(lanes: int) -> dict[str, ir.Value]:
        made = {w: broadcast(builder, v, lanes if w in WORDS else lanes // 2) for w, v in given.items()}
        # That q has 32 bits makes products of 64 bits one instruction.
        return {**made, "q": builder.sext(builder.trunc(made["q"], half_of(lanes)), made["q"].type)}

    def several(at: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
        vectors = []
        for v in range(TOGETHER):
            x = load(builder, sums, builder.add(at, constant(v * LANES)), ir.VectorType(I32, LANES))
            vectors.append(codes_of(builder, x, wide, doubles))
        joined = builder.shuffle_vector(
            *vectors, ir.Constant(ir.VectorType(I32, step), [ir.Constant(I32, i) for i in range(step)])
        )
        store(builder, builder.trunc(joined, ir.VectorType(entry, step)), out, at)
        return []

    def single(at: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
        x = load(builder, sums, at, I32)
        pair = broadcast(builder, x, 2)
        y = builder.extract_element(codes_of(builder, pair, narrow, doubles), constant(0))
        store(builder, builder.trunc(y, entry), out, at)
        return []

    wide, narrow = of_lanes(LANES), of_lanes(2)
    short = builder.icmp_signed("<", count, constant(step))
    with builder.if_else(short, likely=False) as (few, many):
        with few:
            loop(builder, constant(0), count, 1, [], single)
        with many:
            # The last vectors end with the run; what lies before that is made twice.
            last = builder.sub(count, constant(step))
            loop(builder, constant(0), last, step, [], several)
            several(last, [])
    builder.ret_void()
    return made


def half_of(lanes: int) -> ir.Type:
    """i32 for every other lane."""
    return ir.VectorType(I32, lanes // 2)


def codes_of(builder: ir.IRBuilder, x: ir.Value, numbers: dict[str, ir.Value], doubles: bool) -> ir.Value:
    """The codes of a vector of sums, still as i32."""
    words = x.type
    x = clamp(builder, x, numbers["least"], numbers["most"])
    pairs = builder.bitcast(x, ir.VectorType(I64, words.count // 2))
    half = ir.Constant(pairs.type, [ir.Constant(I64, 32)] * pairs.type.count)
    lanes = builder.ashr(builder.shl(pairs, half), half), builder.ashr(pairs, half)
    low, high = (
        builder.bitcast(
            builder.lshr(builder.add(builder.mul(part, numbers["q"]), numbers["offset"]), numbers["n"]), words
        )
        for part in lanes
    )
    order = [i - i % 2 + (i % 2) * words.count for i in range(words.count)]
    joined = builder.shuffle_vector(
        low, high, ir.Constant(ir.VectorType(I32, words.count), [ir.Constant(I32, i) for i in order])
    )
    y = builder.sub(joined, numbers["back"])
    if doubles:
        y = round_again(builder, y, numbers["right"])
    return builder.add(clamp(builder, y, numbers["lowest"], numbers["highest"]), numbers["zero"])


def round_again(builder: ir.IRBuilder, h: ir.Value, right: ir.Value) -> ir.Value:
    """(h >> r) + ((h & mask) > (mask >> 1) + (h < 0)): half away from zero."""
    one = ir.Constant(h.type, [ir.Constant(I32, 1)] * h.type.count)
    mask = builder.sub(builder.shl(one, right), one)
    negative = builder.lshr(h, ir.Constant(h.type, [ir.Constant(I32, 31)] * h.type.count))
    limit = builder.add(builder.lshr(mask, one), negative)
    above = builder.icmp_signed(">", builder.and_(h, mask), limit)
    return builder.add(builder.ashr(h, right), builder.zext(above, h.type))


def clamp(builder: ir.IRBuilder, x: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
    x = builder.select(builder.icmp_signed("<", x, low), low, x)
    return builder.select(builder.icmp_signed(">", x, high), high, x)


run_single, run_double = make_run(False), make_run(True)
