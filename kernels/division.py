"""Division: codes by codes with one rounding, and whole numbers by whole numbers, rounded down.

div: operands of 8, 16 or 32 bits, result i8 or i16, with d_a = a - z_a and d_b = b - z_b:

    M = s_a / (s_b s_y) ≈ q 2^(s - 31),  left = max(s - 30, 0),  right = max(30 - s, 0)
    t = floor(|d_a| q 2^left / |d_b|) >> right               twice the quotient, rounded down
    y = sat(sign(d_a) sign(d_b) ((t + 1) >> 1) + z_y)        half away from zero
    d_b = 0: y = the highest code where d_a > 0, the lowest where d_a < 0, z_y where d_a = 0

Floors nest, so the exact quotient of integers is rounded once, half away from zero, whatever the
contract rounds elsewhere: y is within 0.5 + 2^-30 |y - z_y| of the reals. |d_a| q 2^left stays below
2^63; the crossing refuses scales that would take it further. M < 2^-32 makes q = 0 and y = z_y.
Over the reals a / 0 is infinite or NaN, with a gradient of 0.

floor_divide: whole numbers, i32 with scale 1 and zero_point 0, exact:

    y = sat32(floor(a / b))       towards minus infinity, as Python's //;  b = 0: y = 0

Saturation meets -2^31 / -1 alone. Over the reals floor(a / b) in float32 is the same number as long as
|a| < 2^24: a quotient that is not whole stays 1 / b away from the next number above, more than half
a step of float32. The remainder that goes with it is a - b y.
"""

import math
from typing import Any

import numpy as np

from nnaq.errors import LoweringError
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Op, Prepared, Signature, as_is, register
from nnaq.ir.types import bounds, storage
from nnaq.jit import jit
from nnaq.kernels.boundary import elementwise_work, largest_distance, multiplier_constants
from nnaq.kernels.elementwise import PAIRS, infer_binary
from nnaq.kernels.fixedpoint import saturate, saturate_reference

LOWEST_SHIFT = -31


def real_quotient(xp: Any, attrs: Any, a: Any, b: Any) -> tuple[Any, ...]:
    """a / b; by 0 infinite by the sign of a, and NaN for 0 / 0, without a slope."""
    ends = xp.where(a > 0, xp.full_like(a, math.inf), xp.full_like(a, -math.inf))
    ends = xp.where(a == 0, math.nan, ends)
    return (xp.where(b == 0, ends, a / xp.where(b == 0, xp.ones_like(b), b)),)


def ratio_multiplier(ratio: float, bound: int) -> tuple[int, int]:
    """q and s of a positive ratio, for dividends of at most `bound` in size."""
    mantissa, s = math.frexp(ratio)
    q = math.floor(mantissa * 2**31 + 0.5)
    if q == 2**31:
        q, s = q // 2, s + 1
    if s < LOWEST_SHIFT:
        return 0, 0
    if (bound * q) << max(s - 30, 0) >= 2**63:
        raise LoweringError(
            f"a division by codes of the ratio {ratio} takes dividends up to {bound} out of 64 bits; "
            "use finer codes for the dividend or coarser ones for the divisor or the result"
        )
    return q, s


def prepare(signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics) -> Prepared:
    """multiplier and shift of s_a / (s_b s_y)."""
    a, b, y = signature.input(0), signature.input(1), signature.outputs[0]
    q, s = ratio_multiplier(a.scale / (b.scale * y.scale), largest_distance(a))
    return Prepared((0, 1, *multiplier_constants(np.array(q, np.int32), np.array(s, np.int8))), {})


def quotient_reference(a: int, b: int, q: int, s: int) -> int:
    """The quotient of centred codes, b not 0, rounded half away from zero, in Python integers."""
    twice = ((abs(a) * q) << max(s - 30, 0)) // abs(b) >> max(30 - s, 0)
    size = (twice + 1) >> 1
    return size if (a < 0) == (b < 0) else -size


def reference(
    signature: Signature, a: np.ndarray, b: np.ndarray, multiplier: np.ndarray, shift: np.ndarray
) -> Arrays:
    """One pair at a time, in Python integers."""
    y = signature.outputs[0]
    low, high = bounds(y.dtype)
    zero_a, zero_b = signature.input(0).zero_point, signature.input(1).zero_point
    pairs, codes = np.broadcast(a, b), []
    for p, d in pairs:
        dividend, divisor = int(p) - zero_a, int(d) - zero_b
        if divisor == 0:
            codes.append(y.zero_point if dividend == 0 else high if dividend > 0 else low)
            continue
        value = quotient_reference(dividend, divisor, int(multiplier), int(shift))
        codes.append(saturate_reference(value, y.zero_point, low, high))
    return (np.array(codes, storage(y.dtype)).reshape(pairs.shape),)


def fast(
    signature: Signature, a: np.ndarray, b: np.ndarray, multiplier: np.ndarray, shift: np.ndarray
) -> Arrays:
    """The same codes from a compiled loop."""
    y = signature.outputs[0]
    out = np.empty(np.broadcast_shapes(a.shape, b.shape), storage(y.dtype))
    # int64 throughout: one compiled form for all pairs of widths
    flat = [np.broadcast_to(v, out.shape).astype(np.int64).reshape(-1) for v in (a, b)]
    zeros = (signature.input(0).zero_point, signature.input(1).zero_point, y.zero_point)
    numbers = [int(multiplier), int(shift), *zeros, *bounds(y.dtype)]
    _quotient_loop(flat[0], flat[1], out.reshape(-1), *numbers)
    return (out,)


@jit
def _quotient_loop(a, b, out, q, s, zero_a, zero_b, zero_y, low, high):  # type: ignore[no-untyped-def]
    left, right = max(s - 30, 0), max(30 - s, 0)
    for i in range(out.size):
        dividend, divisor = a[i] - zero_a, b[i] - zero_b
        if divisor == 0:
            out[i] = zero_y if dividend == 0 else high if dividend > 0 else low
            continue
        twice = ((abs(dividend) * q) << left) // abs(divisor) >> right
        size = (twice + 1) >> 1
        value = size if (dividend < 0) == (divisor < 0) else -size
        out[i] = saturate(value, zero_y, low, high)


div = register(
    Op(
        "div",
        ("a", "b"),
        tuple(f"{a} {b} i32 i8 -> {y}" for a, b in PAIRS for y in ("i8", "i16")),
        infer_binary("div"),
        real_quotient,
        prepare,
        reference,
        fast,
        elementwise_work,
        "y = saturate(round_half_away((a - z_a) M / (b - z_b)) + z_y); b = z_b saturates by the sign of a",
    )
)


# --- whole numbers

WHOLE = {0: "whole", 1: "whole", ~0: "whole"}


def real_floor_divide(xp: Any, attrs: Any, a: Any, b: Any) -> tuple[Any, ...]:
    """floor(a / b), and 0 where b = 0."""
    return (xp.where(b == 0, 0.0, xp.floor(a / xp.where(b == 0, xp.ones_like(b), b))),)


def reference_floor_divide(signature: Signature, a: np.ndarray, b: np.ndarray) -> Arrays:
    """One pair at a time, in Python integers."""
    pairs, (low, high) = np.broadcast(a, b), bounds("i32")
    codes = [saturate_reference(int(p) // int(q), 0, low, high) if q else 0 for p, q in pairs]
    return (np.array(codes, np.int32).reshape(pairs.shape),)


def fast_floor_divide(signature: Signature, a: np.ndarray, b: np.ndarray) -> Arrays:
    """The same numbers, by NumPy in 64 bits."""
    dividend, divisor = a.astype(np.int64), np.where(b == 0, 1, b).astype(np.int64)
    quotient = np.where(b == 0, 0, dividend // divisor)
    return (np.clip(quotient, *bounds("i32")).astype(np.int32),)


floor_divide = register(
    Op(
        "floor_divide",
        ("a", "b"),
        ("i32 i32 -> i32",),
        infer_binary("floor_divide"),
        real_floor_divide,
        as_is,
        reference_floor_divide,
        fast_floor_divide,
        elementwise_work,
        "y = floor(a / b) of whole numbers, 0 where b = 0",
        demands=WHOLE,
    )
)
