"""Bodies of softmax: the formulas of `nnaq.kernels.softmax` in INT64."""

import numpy as np

from nnaq.export.bodies_fixedpoint import rescaler
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.ir.types import bounds
from nnaq.kernels.softmax_numbers import (
    EIGHTH,
    EXP_OF_MINUS_EIGHTH,
    FACTORS,
    FIRST_BIT,
    NEWTON_32_17,
    NEWTON_48_17,
    NEWTON_ONE,
    NEWTON_STEPS,
    ONE,
    QUARTER,
    REACH,
    SHARES,
    THIRD,
)

LEAST = -(2**31)
LOWEST_REAL = np.finfo(np.float32).min
# One kept entry alone sums to 2^19 (i8 operand) or 32,762 (i16); a row without any counts as 2^14.
LEAST_TOTAL = 1 << 14
# The leading zeros of 2^14 <= total < 2^31 in 32 bits are one more than the bounds that it stays below.
BOUNDS = np.array([1 << n for n in range(30, 14, -1)], np.int64)


def softmax(
    body: Body, signature: Signature, x: str, mask: str, multiplier: str, shift: str, *tables: str
) -> tuple[str, ...]:
    """Exponentials e of differences, 0 where the mask keeps nothing, and their shares of the sum."""
    kind = signature.outputs[0]
    bits, zero = SHARES[kind.dtype][0], body.constant(0)
    size = body.apply("Abs", body.centred(mask, signature.input(1).zero_point))
    wide = body.wide(x)
    kept = body.apply("Expand", body.apply("Greater", size, zero), body.apply("Shape", wide))
    low = bounds(signature.input(0).dtype)[0]
    highest = _largest(body, body.apply("Where", kept, wide, body.constant(low)), low)
    d = body.apply("Where", kept, body.sub(wide, highest), zero)
    exponents = (
        _exponentials_16(body, d, multiplier, shift, tables[0])
        if tables
        else _exponentials_8(body, d, multiplier, shift)
    )
    e = body.apply("Where", kept, exponents, zero)
    shares = _shares_16(body, e, bits, tables[1]) if tables else _shares_8(body, e, bits)
    top = body.apply("Min", shares, body.constant(bounds(kind.dtype)[1] - kind.zero_point))
    return (body.codes(body.add(top, body.constant(kind.zero_point)), kind.dtype),)


def _largest(body: Body, x: str, low: int) -> str:
    """The largest entry of every row; `low` in a row of no entries, of which runtimes have no maximum."""
    padded = body.apply("Pad", x, body.constant([0, 1]), body.constant(low), body.constant([-1]))
    return body.apply("ReduceMax", padded, body.constant([-1]), keepdims=1)


def _high(body: Body, a: str, b: str) -> str:
    """(a*b + 2^30) >> 31"""
    return body.shift_right_by(body.add(body.mul(a, b), body.constant(1 << 30)), 31)


def _rounded(body: Body, x: str, n: int) -> str:
    """(x + 2^(n-1)) >> n for a number of bits known now."""
    return body.shift_right_by(body.add(x, body.constant(1 << (n - 1))), n)


def _rounded_by(body: Body, x: str, n: str) -> str:
    """(x + 2^(n-1)) >> n for bits that vary by row."""
    half = body.power(body.sub(n, body.constant(1)))
    return body.shift_right(body.add(x, half), body.power(n))


def _exponentials_8(body: Body, d: str, multiplier: str, shift: str) -> str:
    """e of every d, looked up among the 256 that there are."""
    all_d, power = body.constant(-np.arange(256, dtype=np.int64)), body.power(body.wide(shift))
    lowest = body.apply("Neg", body.apply("Div", body.constant(REACH), power))
    counted = body.apply("GreaterOrEqual", all_d, lowest)
    a = _high(body, body.mul(body.apply("Max", all_d, lowest), power), body.wide(multiplier))
    entries = body.apply("Where", counted, _exponential(body, a), body.constant(0))
    return body.take(entries, body.apply("Neg", d), 0)


def _exponential(body: Body, a: str) -> str:
    """exp of Q5.26 values <= 0, in Q0.31."""
    part = body.sub(body.apply("BitwiseAnd", a, body.constant(QUARTER - 1)), body.constant(QUARTER))
    whole = body.sub(part, a)
    v = body.add(body.mul(part, body.constant(1 << 5)), body.constant(EIGHTH))
    square = _high(body, v, v)
    cube, fourth = _high(body, square, v), _high(body, square, square)
    third = _high(body, body.add(_rounded(body, fourth, 2), cube), body.constant(THIRD))
    tail = _rounded(body, body.add(third, square), 1)
    centre = body.constant(EXP_OF_MINUS_EIGHTH)
    e = body.add(centre, _high(body, centre, body.add(v, tail)))
    for k, factor in enumerate(FACTORS, FIRST_BIT):
        bit = body.apply("BitwiseAnd", whole, body.constant(1 << k))
        is_set = body.apply("Greater", bit, body.constant(0))
        e = body.apply("Where", is_set, _high(body, e, body.constant(factor)), e)
    return body.apply("Where", body.apply("Equal", a, body.constant(0)), body.constant(ONE), e)


def _total(body: Body, terms: str) -> tuple[str, str]:
    """Leading zeros of the sum of every row, and the sum moved left up to bit 30."""
    total = body.apply("ReduceSum", terms, body.constant([-1]), keepdims=1)
    total = body.clip(total, LEAST_TOTAL, ONE)
    below = body.flag("Less", body.apply("Unsqueeze", total, body.constant([-1])), body.constant(BOUNDS))
    less = body.apply("ReduceSum", below, body.constant([-1]), keepdims=0)
    return body.add(less, body.constant(1)), body.mul(total, body.power(less))


def _shares_8(body: Body, e: str, bits: int) -> str:
    zeros, half = _total(body, _rounded(body, e, 12))
    r = body.add(body.constant(NEWTON_48_17), _high(body, half, body.constant(NEWTON_32_17)))
    for _ in range(NEWTON_STEPS):
        error = body.sub(body.constant(NEWTON_ONE), _high(body, half, r))
        r = body.add(r, body.mul(_high(body, r, error), body.constant(4)))
    r = body.apply("Min", body.mul(r, body.constant(2)), body.constant(ONE))
    return _rounded_by(body, _high(body, r, e), body.sub(body.constant(43 - bits), zeros))


def _look(body: Body, table: str, i: str) -> str:
    """Interpolation in 513 entries, rounded to the entries' own unit."""
    j = body.add(body.shift_right_by(i, 7), body.constant(256))
    entries, offset = body.wide(table), body.apply("BitwiseAnd", i, body.constant(127))
    left, right = body.take(entries, j, 0), body.take(entries, body.add(j, body.constant(1)), 0)
    return body.add(left, _rounded(body, body.mul(body.sub(right, left), offset), 7))


def _exponentials_16(body: Body, d: str, multiplier: str, shift: str, table: str) -> str:
    zero, wide = body.constant(0), body.wide(shift)
    moved = body.mul(d, body.power(body.apply("Max", wide, zero)))
    scaling = rescaler(body, multiplier, body.apply("Min", wide, zero), "double")
    a = scaling.requantize(body, body.apply("Max", moved, body.constant(LEAST)))
    return _look(body, table, body.apply("Max", body.add(a, body.constant(32767)), body.constant(-(2**15))))


def _shares_16(body: Body, e: str, bits: int, table: str) -> str:
    zeros, moved = _total(body, e)
    i = body.sub(_rounded(body, moved, 14), body.constant(98304))
    r = _look(body, table, body.apply("Min", i, body.constant(2**15 - 1)))
    return _rounded_by(body, body.mul(e, r), body.sub(body.constant(46 - bits), zeros))


def real_softmax(body: Body, signature: Signature, x: str, mask: str = "") -> tuple[str, ...]:
    """Softmax in float32 on the host; the lowest number for what the mask leaves out, and 0 after it."""
    if not signature.has(1):
        return (body.apply("Softmax", x, axis=-1),)
    lowest, one, zero = (body.constant(np.array(v, np.float32)) for v in (LOWEST_REAL, 1, 0))
    kept = body.apply("Not", body.apply("Equal", mask, zero))
    shares = body.apply("Softmax", body.apply("Where", kept, x, lowest), axis=-1)
    return (body.mul(shares, body.apply("Where", kept, one, zero)),)


def real_log_softmax(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """LogSoftmax in float32 on the host."""
    return (body.apply("LogSoftmax", x, axis=int(signature.attrs.get("axis", -1))),)  # type: ignore[arg-type]
