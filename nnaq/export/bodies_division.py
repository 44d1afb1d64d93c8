"""Bodies of div, floor_divide, reciprocal and rsqrt: the formulas of `nnaq.kernels.division`, `inverses`."""

import numpy as np

from nnaq.export import bodies_lut
from nnaq.export.bodies_fixedpoint import rescaler, saturate
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.ir.types import bounds
from nnaq.kernels.inverses import WIDEST
from nnaq.kernels.roots import LOWEST_SHIFT, THREE

# 32 - bit_length(x) is the number of these bounds that x stays below.
BOUNDS = np.array([1 << (32 - j) for j in range(1, 32)], np.int64)


def div(body: Body, signature: Signature, a: str, b: str, multiplier: str, shift: str) -> tuple[str, ...]:
    """The exact quotient rounded half away from zero; the end of the range where b = z_b."""
    kind, zero, one = signature.outputs[0], body.constant(0), body.constant(1)
    dividend, divisor = (body.centred(v, signature.input(i).zero_point) for i, v in enumerate((a, b)))
    past = body.sub(body.wide(shift), body.constant(30))
    left, right = (body.power(body.apply("Max", v, zero)) for v in (past, body.apply("Neg", past)))
    product = body.mul(body.mul(body.apply("Abs", dividend), body.wide(multiplier)), left)
    # Both are 0 or more, and a divisor of 0 is replaced below: Div means the same everywhere.
    floor = body.apply("Div", product, body.apply("Max", body.apply("Abs", divisor), one))
    size = body.shift_right_by(body.add(body.shift_right(floor, right), one), 1)
    signs = [body.apply("Sign", v) for v in (dividend, divisor)]
    quotient = saturate(body, body.mul(body.mul(*signs), size), kind)
    low, high = bounds(kind.dtype)
    ends = body.take(body.constant([low, kind.zero_point, high]), body.add(signs[0], one), 0)
    chosen = body.apply("Where", body.apply("Equal", divisor, zero), ends, quotient)
    return (body.codes(chosen, kind.dtype),)


def floor_divide(body: Body, signature: Signature, a: str, b: str) -> tuple[str, ...]:
    """floor(a / b), and 0 where b = 0.

    What Mod leaves has the sign of the divisor in every runtime; without it Div is exact.
    """
    dividend, divisor, one = body.wide(a), body.wide(b), body.constant(1)
    there = body.apply("Abs", body.apply("Sign", divisor))
    safe = body.add(divisor, body.sub(one, there))  # 1 in the place of 0
    whole = body.apply("Div", body.sub(dividend, body.apply("Mod", dividend, safe)), safe)
    limited = body.clip(body.mul(whole, there), *bounds("i32"))
    return (body.codes(limited, "i32"),)


def reciprocal(body: Body, signature: Signature, x: str, table: str, *scaling: str) -> tuple[str, ...]:
    """y = saturate(requantize(sign(d) b) + z_y), with d = 1 in the place of 0."""
    if not scaling:
        return bodies_lut.table(body, signature, x, table)
    d = body.centred(x, signature.input(0).zero_point)
    d = body.add(d, body.flag("Equal", d, body.constant(0)))
    k, size = spare_bits(body, body.apply("Abs", d)), body.apply("Abs", d)
    m = body.mul(size, body.power(k))
    j = body.sub(body.shift_right_by(m, 22), body.constant(512))
    a = _interpolated(body, table, j, body.shift_right_by(m, 6))
    rest = body.sub(body.constant(1 << 31), body.shift_right_by(body.mul(m, a), 31))
    b = body.mul(body.apply("Sign", d), body.shift_right_by(body.mul(a, rest), 30))
    return _rescaled(body, signature, b, body.sub(k, body.constant(WIDEST["reciprocal"])), *scaling)


def rsqrt(body: Body, signature: Signature, x: str, table: str, *scaling: str) -> tuple[str, ...]:
    """y = saturate(requantize(b) + z_y), with d = 1 in the place of what is less."""
    if not scaling:
        return bodies_lut.table(body, signature, x, table)
    d = body.apply("Max", body.centred(x, signature.input(0).zero_point), body.constant(1))
    k = body.shift_right_by(spare_bits(body, d), 1)
    m = body.mul(d, body.power(body.add(k, k)))
    a = _interpolated(body, table, body.shift_right_by(m, 23), body.shift_right_by(m, 7))
    p = body.shift_right_by(body.mul(m, body.shift_right_by(body.mul(a, a), 30)), 30)
    b = body.shift_right_by(body.mul(a, body.sub(body.constant(THREE), p)), 31)
    return _rescaled(body, signature, b, body.sub(k, body.constant(WIDEST["rsqrt"])), *scaling)


def spare_bits(body: Body, d: str) -> str:
    """32 - bit_length of a positive d."""
    below = body.flag("Less", body.apply("Unsqueeze", d, body.constant([-1])), body.constant(BOUNDS))
    return body.apply("ReduceSum", below, body.constant([-1]), keepdims=0)


def _interpolated(body: Body, table: str, cell: str, fraction: str) -> str:
    """a in Q1.30: the table at a cell and the low 16 bits of `fraction`."""
    u, entries = body.apply("BitwiseAnd", fraction, body.constant(0xFFFF)), body.wide(table)
    left, right = body.take(entries, cell, 0), body.take(entries, body.add(cell, body.constant(1)), 0)
    return body.add(body.mul(left, body.constant(1 << 16)), body.mul(body.sub(right, left), u))


def _rescaled(
    body: Body, signature: Signature, b: str, n: str, multiplier: str, shift: str
) -> tuple[str, ...]:
    """R(b, multiplier, shift + n), saturated; z_y where shift + n has no code."""
    kind, rounding = signature.outputs[0], signature.attrs["rounding"]
    if rounding == "half_even":
        bits = body.add(body.wide(multiplier), body.mul(n, body.constant(1 << 23)))
        y = rescaler(body, bits, shift, rounding).requantize(body, b)
    else:
        wanted, lowest = body.add(body.wide(shift), n), body.constant(LOWEST_SHIFT)
        scaling = rescaler(body, multiplier, body.apply("Max", wanted, lowest), rounding)
        y = body.mul(scaling.requantize(body, b), body.flag("GreaterOrEqual", wanted, lowest))
    return (body.codes(saturate(body, y, kind), kind.dtype),)
