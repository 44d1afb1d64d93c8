"""The body of sqrt: normalisation, table, one Newton step and a rescale whose shift varies by value."""

import numpy as np

from nnaq.export.bodies_fixedpoint import rescaler, saturate
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels.roots import LOWEST_SHIFT, THREE

# k = (32 - bit_length(x)) >> 1 is the number of these bounds that x stays below.
BOUNDS = np.array([1 << (32 - 2 * j) for j in range(1, 16)], np.int64)


def sqrt(
    body: Body, signature: Signature, x: str, table: str, multiplier: str, shift: str
) -> tuple[str, ...]:
    """y = saturate(requantize(root, multiplier, shift - k) + z_y), and z_y where x <= z_x."""
    kind = signature.outputs[0]
    centred = body.centred(x, signature.input(0).zero_point)
    positive = body.flag("Greater", centred, body.constant(0))
    root, k = _root(body, body.apply("Max", centred, body.constant(1)), table)
    y = _rescaled(body, signature, root, k, multiplier, shift)
    return (body.codes(saturate(body, body.mul(y, positive), kind), kind.dtype),)


def _root(body: Body, x: str, table: str) -> tuple[str, str]:
    """r and k of a positive x."""
    below = body.flag("Less", body.apply("Unsqueeze", x, body.constant([-1])), body.constant(BOUNDS))
    k = body.apply("ReduceSum", below, body.constant([-1]), keepdims=0)
    m = body.mul(x, body.power(body.add(k, k)))
    b = reciprocal_root(body, m, table)
    return body.shift_right_by(body.add(body.mul(m, b), body.constant(1 << 29)), 30), k


def reciprocal_root(body: Body, m: str, table: str) -> str:
    """b, 1 / sqrt(m / 2^30) in Q1.30 for 2^30 <= m < 2^32."""
    i = body.shift_right_by(m, 23)
    u = body.apply("BitwiseAnd", body.shift_right_by(m, 7), body.constant(0xFFFF))
    entries = body.wide(table)
    left, right = body.take(entries, i, 0), body.take(entries, body.add(i, body.constant(1)), 0)
    a = body.add(body.mul(left, body.constant(1 << 16)), body.mul(body.sub(right, left), u))
    p = body.shift_right_by(body.mul(m, body.shift_right_by(body.mul(a, a), 30)), 30)
    return body.shift_right_by(body.mul(a, body.sub(body.constant(THREE), p)), 31)


def _rescaled(body: Body, signature: Signature, root: str, k: str, multiplier: str, shift: str) -> str:
    """R(r, multiplier, shift - k); 0 where shift - k has no code."""
    rounding = signature.attrs["rounding"]
    if rounding == "half_even":
        bits = body.sub(body.wide(multiplier), body.mul(k, body.constant(1 << 23)))
        return rescaler(body, bits, shift, rounding).requantize(body, root)
    wanted = body.sub(body.wide(shift), k)
    lowest = body.constant(LOWEST_SHIFT)
    scaling = rescaler(body, multiplier, body.apply("Max", wanted, lowest), rounding)
    there = body.flag("GreaterOrEqual", wanted, lowest)
    return body.mul(scaling.requantize(body, root), there)
