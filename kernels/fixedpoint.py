"""Requantisation: multiplying an accumulator by a real scale in fixed point.

A scale M is stored as a multiplier q (int32, 2^30 <= q < 2^31) and a shift s (left positive):

    (m, e) = frexp(M);  q = floor(m * 2^31 + 1/2);  if q == 2^31: q /= 2, e += 1
    if e < -31: q = 0, e = 0;  s = e;  M ≈ q * 2^(s - 31);  r = max(-s, 0)

`rounding` decides y ≈ x * M, for x of at most 48 bits (numerics contract, section 3):

    single        y = (x*q + 2^(30-s)) >> (31-s)                         half up, one rounding
    double        h = (x*2^max(s,0)*q + 2^30) >> 31;  mask = 2^r - 1
                  y = (h >> r) + ((h & mask) > ((mask >> 1) + (h < 0)))  half away from zero
    half_even     y = rint_even(f32(x) * f32(M)); q holds the bits of f32(M), s = 0
    half_up_shift h as in double;  y = h if r == 0 else (h + 2^(r-1)) >> r
    pot_shift     q = 2^30, n = 1 - s;  y = x if n == 0 else (x + 2^(n-1)) >> n
    floor         y = (x*q) >> (31-s)
    truncate      y = sign(x) * ((abs(x)*q) >> (31-s))
    double_m16    Q = (q + 2^15) >> 16 (0x7FFF if q >= 0x7FFF0000)
                  y = (x*Q + 2^(14-s)) >> (15-s)

A 48-bit x times a 31-bit q overflows 64 bits, so the fast form splits x = hi*2^16 + lo and uses
floor((x*q + round) / 2^n) = (hi*q + ((lo*q + round) >> 16)) >> (n - 16), exact because n >= 16.
Every rescale saturates last: y is clamped to [low - zero_point, high - zero_point] and only then
moved by zero_point, so that the addition cannot wrap.
"""

import struct

import numpy as np

from nnaq.errors import LoweringError
from nnaq.ir.numerics import ROUNDINGS
from nnaq.jit import jit

# Numba dispatches on a number; the reference on the word.
CODES = {word: code for code, word in enumerate(ROUNDINGS)}
LARGEST_LEFT_SHIFT = 14
SINGLE, DOUBLE, HALF_EVEN, HALF_UP_SHIFT, POT_SHIFT, FLOOR, TRUNCATE, DOUBLE_M16 = range(8)


def largest_left_shift(bound: int) -> int:
    """Bits that |x| <= bound may move left: 1, or more while |x| * 2^s <= 2^30 is proved; 14 at most.

    The first is TOSA's precondition of RESCALE; a 48-bit x has its 16 spare bits less two.
    """
    return (
        LARGEST_LEFT_SHIFT
        if bound > 2**31
        else min(max(30 - (bound - 1).bit_length(), 1), LARGEST_LEFT_SHIFT)
    )


def quantize_multiplier(scale: float, rounding: str = "single", bound: int = 2**31) -> tuple[int, int]:
    """The multiplier and shift that stand for one positive `scale` (float64); see quantize_multipliers."""
    multiplier, shift = quantize_multipliers(np.array(scale, np.float64), rounding, bound)
    return int(multiplier), int(shift)


def quantize_multipliers(
    scales: np.ndarray, rounding: str, bound: int = 2**31
) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers (int32) and shifts (int8) of positive scales (float64), in their shape.

    bound: the largest |x| they will meet. Raises LoweringError where the contract has no code for one: a
    left shift that x has no room for, or, under pot_shift, a scale that is no power of two.
    """
    if rounding == "half_even":
        _refuse(
            scales, scales >= 2**15, "a rescale by {} takes 48-bit values out of 64 bits; use coarser codes"
        )
        return np.asarray(scales, np.float32).view(np.int32), np.zeros(scales.shape, np.int8)
    mantissa, exponent = np.frexp(scales.astype(np.float64))
    multiplier = np.floor(mantissa * 2.0**31 + 0.5)
    full = multiplier == 2.0**31  # a mantissa that rounds up to 1
    multiplier, exponent = np.where(full, 2.0**30, multiplier), exponent + full
    gone = exponent < -31
    multiplier, exponent = np.where(gone, 0, multiplier), np.where(gone, 0, exponent)
    largest = 1 if rounding == "pot_shift" else largest_left_shift(bound)
    _refuse(
        scales, exponent > largest,
        f"a rescale by {{}} needs a left shift of {exponent.max(initial=0)}, at most {largest} is exact for "
        f"values up to {bound}; use finer codes for the operands or coarser ones for the result",
    )  # fmt: skip
    if rounding == "pot_shift":
        wrong = ~gone & (multiplier != 2.0**30)
        _refuse(scales, wrong, "rounding pot_shift needs powers of two, found the scale {}")
    return multiplier.astype(np.int32), exponent.astype(np.int8)


def _refuse(scales: np.ndarray, wrong: np.ndarray, sentence: str) -> None:
    """Raise LoweringError about the largest of the wrong scales."""
    if np.any(wrong):
        raise LoweringError(sentence.format(float(np.max(scales[wrong]))))


def requantize_reference(x: int, q: int, s: int, rounding: str) -> int:
    """x * M in Python integers, by the words of the module's table."""
    r = max(-s, 0)
    if rounding == "single":
        return (x * q + (1 << (30 - s))) >> (31 - s)
    if rounding == "half_even":
        scale = np.frombuffer(struct.pack("<i", q), np.float32)[0]
        return int(np.rint(np.float32(x) * scale))
    if rounding == "pot_shift":
        return x if s == 1 else (x + (1 << -s)) >> (1 - s)
    if rounding == "floor":
        return (x * q) >> (31 - s)
    if rounding == "truncate":
        size = (abs(x) * q) >> (31 - s)
        return size if x >= 0 else -size
    if rounding == "double_m16":
        narrow = 0x7FFF if q >= 0x7FFF0000 else (q + (1 << 15)) >> 16
        return (x * narrow + (1 << (14 - s))) >> (15 - s)
    high = ((x << max(s, 0)) * q + (1 << 30)) >> 31
    if rounding == "double":
        mask = (1 << r) - 1
        return (high >> r) + int((high & mask) > (mask >> 1) + (high < 0))
    if rounding == "half_up_shift":
        return high if r == 0 else (high + (1 << (r - 1))) >> r
    raise LoweringError(f"no rounding {rounding!r}; there are {', '.join(ROUNDINGS)}")


def saturate_reference(y: int, zero_point: int, low: int, high: int) -> int:
    """Clamp to [low - zero_point, high - zero_point], then add zero_point."""
    return min(max(y, low - zero_point), high - zero_point) + zero_point


@jit
def scaled(x, q, offset, n):  # type: ignore[no-untyped-def]
    """floor((x*q + offset) / 2^n) for a 48-bit x and n >= 16, without leaving 64 bits."""
    hi = np.int64(x) >> 16
    lo = np.int64(x) & 0xFFFF
    return (hi * np.int64(q) + ((lo * np.int64(q) + offset) >> 16)) >> (n - 16)


@jit
def requantize(x, q, s, rounding):  # type: ignore[no-untyped-def]
    """x * M, int64 in and out; `rounding` is a code of this module."""
    one = np.int64(1)
    if rounding == SINGLE:
        return scaled(x, q, one << (30 - s), 31 - s)
    if rounding == HALF_EVEN:
        return np.int64(np.rint(np.float32(x) * np.int32(q).view(np.float32)))
    if rounding == POT_SHIFT:
        return np.int64(x) if s == 1 else (np.int64(x) + (one << -s)) >> (1 - s)
    if rounding == FLOOR:
        return scaled(x, q, np.int64(0), 31 - s)
    if rounding == TRUNCATE:
        size = scaled(abs(np.int64(x)), q, np.int64(0), 31 - s)
        return size if x >= 0 else -size
    if rounding == DOUBLE_M16:
        narrow = np.int64(0x7FFF) if q >= 0x7FFF0000 else (np.int64(q) + (one << 15)) >> 16
        return (np.int64(x) * narrow + (one << (14 - s))) >> (15 - s)
    left = max(s, 0)
    high = scaled(x, q, one << (30 - left), 31 - left)
    r = max(-s, 0)
    if rounding == HALF_UP_SHIFT:
        return high if r == 0 else (high + (one << (r - 1))) >> r
    mask = (one << r) - 1
    return (high >> r) + np.int64((high & mask) > (mask >> 1) + np.int64(high < 0))


@jit
def saturate(y, zero_point, low, high):  # type: ignore[no-untyped-def]
    """Clamp to [low - zero_point, high - zero_point], then add zero_point."""
    return min(max(y, low - zero_point), high - zero_point) + zero_point


@jit
def shift_right_round(x, n):  # type: ignore[no-untyped-def]
    """(x + 2^(n-1)) >> n, half up; x itself where n == 0."""
    return np.int64(x) if n == 0 else (np.int64(x) + (np.int64(1) << (n - 1))) >> n


def shift_right_round_reference(x: int, n: int) -> int:
    """(x + 2^(n-1)) >> n in Python integers; x itself where n == 0."""
    return x if n == 0 else (x + (1 << (n - 1))) >> n
