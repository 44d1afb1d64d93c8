"""Requantisation of sums with a multiplier per place: the end of every layer.

    out[o] = saturate(R(sums[o] + bias[o], multiplier[o], shift[o]) + z_y)

with R the rounding `single` (kind WHOLE), `double` (TWICE) or `half_even` (REAL) of kernels/fixedpoint.py.
Sum and bias fit in 32 bits. Under a left shift s the sum is limited to 31 - s bits before: with a multiplier
of 2^17 or more (they have 2^30, or are 0 with s = 0) the result is then beyond 17 bits, and saturates to the
same code of at most 16 bits, but stays within the lanes.
"""

from dataclasses import replace
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from nnaq.kernels.machine.maps import buffered, flat_arrays, flat_types, kinds_of_loops
from nnaq.kernels.machine.rescaling import (
    FLOATS,
    LIMIT_ROWS,
    REAL,
    WHOLE,
    WIDE,
    WORDS,
    Stage,
    real,
    rounded,
    saturated,
    splat,
    whole,
    within,
)
from nnaq.kernels.machine.vectors import I32, I64, alone, broadcast, constant

NONE, ONE = splat(WORDS, 0), splat(WORDS, 1)


@intrinsic
def requantize_map(  # type: ignore[no-untyped-def]
    typing, sums, bias, multiplier, shift, out, low, high, zero, kind
):
    """The formula of the module. low, high: of the codes less zero; all arrays contiguous and flat."""
    signature = flat_types("requantize", (sums, bias, multiplier, shift, out), *[types.int64] * 4)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> ir.Value:
        arrays, count = flat_arrays(context, builder, signature.args[:5], given[:5], 4)
        called = _function(builder.module, [array.type.pointee for array in arrays])
        builder.call(called, [*arrays, *given[5:], count])
        return context.get_dummy_value()

    return signature, generate


def _function(module: ir.Module, entries: list[ir.IntType]) -> ir.Function:
    name = "nnaq_epilogue_" + "_".join(f"i{entry.width}" for entry in entries)
    if name in module.globals:
        return module.globals[name]
    made, builder = alone(module, name, [*(e.as_pointer() for e in entries), *[I64] * 5])
    *arrays, low, high, zero, kind, count = made.args
    limits = builder.alloca(ir.ArrayType(WORDS, LIMIT_ROWS))
    rows = builder.bitcast(limits, I64.as_pointer())
    for i, number in enumerate((low, high, zero)):
        value = broadcast(builder, builder.trunc(number, I32), WORDS.count)
        builder.store(value, builder.gep(limits, [constant(0), constant(i)]))
    with buffered(builder, list(arrays), count) as (places, size):
        kinds_of_loops(builder, kind, places, rows, size, _values)
    builder.ret_void()
    return made


def _values(builder: ir.IRBuilder, kind: int, rows: ir.Value, given: list[ir.Value]) -> ir.Value:
    sums, bias, multiplier, shift = given
    total = builder.add(sums, bias)
    if kind == REAL:
        y = real(builder, total, builder.bitcast(multiplier, FLOATS))
    elif kind == WHOLE:
        right = builder.sub(splat(WORDS, 31), shift)
        y = whole(builder, _room(builder, total, shift), _stage(builder, multiplier, right))
    else:
        left = builder.select(builder.icmp_signed(">", shift, NONE), shift, NONE)
        stage = _stage(builder, multiplier, builder.sub(splat(WORDS, 31), left))
        after = builder.sub(left, shift)
        mask = builder.sub(builder.shl(ONE, after), ONE)
        stage = replace(stage, after=after, mask=mask, half=builder.lshr(mask, ONE), away=ONE)
        y = rounded(builder, whole(builder, _room(builder, total, shift), stage), stage)
    return saturated(builder, y, rows, 0)


def _room(builder: ir.IRBuilder, x: ir.Value, shift: ir.Value) -> ir.Value:
    """x limited to 31 - shift bits, where shift is positive."""
    left = builder.select(builder.icmp_signed(">", shift, NONE), shift, NONE)
    high = builder.lshr(splat(WORDS, 2**31 - 1), left)
    return within(builder, x, builder.xor(high, splat(WORDS, -1)), high)


def _stage(builder: ir.IRBuilder, multiplier: ir.Value, right: ir.Value) -> Stage:
    """One rounding, half up: offset = 2^(right - 1), 1 <= right <= 62."""
    first = builder.select(builder.icmp_signed("<", right, splat(WORDS, 32)), right, splat(WORDS, 32))
    even, odd = _halves(builder, builder.sub(right, ONE))
    one, low = splat(WIDE, 1), _halves(builder, first)
    return Stage(
        _halves(builder, multiplier),
        (builder.shl(one, even), builder.shl(one, odd)),
        None,
        low[0],
        builder.sub(splat(WIDE, 32), low[1]),
        builder.sub(right, first),
    )


def _halves(builder: ir.IRBuilder, words: ir.Value) -> tuple[ir.Value, ir.Value]:
    """WIDE with the even and with the odd lanes of WORDS, in the low half of their own, without sign."""
    wide = builder.bitcast(words, WIDE)
    return builder.and_(wide, splat(WIDE, 2**32 - 1)), builder.lshr(wide, splat(WIDE, 32))
