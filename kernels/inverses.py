"""1 / x and 1 / sqrt(x) in integers: normalisation, a table, one Newton step, one rescale.

i8 operand: 256 entries, as in `nnaq.kernels.lut`. i16 and i32 operands, with d = q - z_x, R the
requantisation of `fixedpoint` and sat its saturation, T of 513 entries in Q1.14, w the widest shift:

    reciprocal  k = 32 - bit_length(|d|);  m = |d| << k           f = m / 2^31 in [1, 2);  w = 31
                T[j] = round_half_away(2^14 / (1 + j / 512))
                j = (m >> 22) - 512;  u = (m >> 6) & 0xFFFF
                a = (T[j] << 16) + (T[j+1] - T[j]) * u            1 / f in Q1.30
                b = (a * (2^31 - ((m * a) >> 31))) >> 30          one Newton step: a (2 - f a)
                y = sat(R(sign(d) b, multiplier, shift + k - w) + z_y)
    rsqrt       k = (32 - bit_length(d)) >> 1;  m = d << 2k       f = m / 2^30 in [1, 4);  w = 15
                T and a as in `nnaq.kernels.roots`                1 / sqrt(f) in Q1.30
                b = (a * (3 * 2^30 - ((m * ((a * a) >> 30)) >> 30))) >> 31
                y = sat(R(b, multiplier, shift + k - w) + z_y)

multiplier and shift stand for 2^-30 / (s_x s_y) and 2^-30 / (sqrt(s_x) s_y). d = 0 counts as d = 1,
and for rsqrt so does d < 0: the value at the nearest code that has one. Where shift + k - w < -31 the
result is below 1/2 and y = z_y; under half_even, whose shift is always 0, multiplier + (k - w) 2^23
is used instead. Every product stays below 2^63.

b is within 2^-27 of the real, relatively; y is within 0.5 + 2^-10 of the reals, in units of the
result, with rounding `single`, wherever it does not saturate. Over the reals what has no value is
infinite, with a gradient of 0.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Constant, Op, Prepared, Signature, Work, register
from nnaq.ir.types import TensorType, bounds, storage
from nnaq.jit import jit
from nnaq.kernels import lut
from nnaq.kernels.boundary import elementwise_work, multiplier_constants, same_shape
from nnaq.kernels.fixedpoint import (
    CODES,
    HALF_EVEN,
    quantize_multipliers,
    requantize,
    requantize_reference,
    saturate,
    saturate_reference,
)
from nnaq.kernels.roots import LOWEST_SHIFT, THREE, guarded, reciprocal_root_table

WIDEST = {"reciprocal": 31, "rsqrt": 15}
VECTOR_OPERATIONS = 5  # normalise, two or three products of Newton's step, the rescale


def reciprocal_table() -> np.ndarray:
    """T: 1 / (1 + j / 512) in Q1.14 for j = 0 … 512."""
    return np.floor(2.0**14 / (1.0 + np.arange(513) / 512.0) + 0.5).astype(np.int16)


def prepare_inverse(name: str, function: lut.Function) -> Callable[..., Prepared]:
    """The crossing: a table for i8 operands; a table and the rescale of b for wider ones."""
    narrow = lut.prepare_table(function)

    def prepare(
        signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
    ) -> Prepared:
        x, y = signature.input(0), signature.outputs[0]
        if x.dtype == "i8":
            return narrow(signature, constants, numerics)
        scale = math.sqrt(x.scale) if name == "rsqrt" else x.scale
        entries = reciprocal_root_table() if name == "rsqrt" else reciprocal_table()
        rescale = quantize_multipliers(np.array(2.0**-30 / (scale * y.scale)), numerics.rounding)
        table = Constant("table", TensorType("i16", (513,)), entries)
        return Prepared((0, table, *multiplier_constants(*rescale)), {"rounding": numerics.rounding})

    return prepare


def reciprocal_reference(d: int, table: list[int]) -> tuple[int, int]:
    """sign(d) b and k - w of a d that is not 0, in Python integers."""
    k = 32 - abs(d).bit_length()
    m = abs(d) << k
    j, u = (m >> 22) - 512, (m >> 6) & 0xFFFF
    a = (table[j] << 16) + (table[j + 1] - table[j]) * u
    b = (a * (2**31 - ((m * a) >> 31))) >> 30
    return (b if d > 0 else -b), k - WIDEST["reciprocal"]


def rsqrt_reference(d: int, table: list[int]) -> tuple[int, int]:
    """b and k - w of a positive d, in Python integers."""
    k = (32 - d.bit_length()) >> 1
    m = d << (2 * k)
    i, u = m >> 23, (m >> 7) & 0xFFFF
    a = (table[i] << 16) + (table[i + 1] - table[i]) * u
    b = (a * (THREE - ((m * ((a * a) >> 30)) >> 30))) >> 31
    return b, k - WIDEST["rsqrt"]


def inverse_reference(name: str) -> Callable[..., Arrays]:
    """The reference of reciprocal or rsqrt."""

    def reference(signature: Signature, x: np.ndarray, table: np.ndarray, *rescale: np.ndarray) -> Arrays:
        if not rescale:
            return lut.reference(signature, x, table)
        y, entries, zero_x = signature.outputs[0], [int(t) for t in table], signature.input(0).zero_point
        q, s, rounding = int(rescale[0]), int(rescale[1]), str(signature.attrs["rounding"])

        def code(d: int) -> int:
            if name == "rsqrt":
                b, n = rsqrt_reference(max(d, 1), entries)
            else:
                b, n = reciprocal_reference(d or 1, entries)
            if rounding == "half_even":
                return requantize_reference(b, q + (n << 23), s, rounding)
            return requantize_reference(b, q, s + n, rounding) if s + n >= LOWEST_SHIFT else 0

        values = (code(int(c) - zero_x) for c in x.ravel())
        codes = [saturate_reference(v, y.zero_point, *bounds(y.dtype)) for v in values]
        return (np.array(codes, storage(y.dtype)).reshape(x.shape),)

    return reference


def inverse_fast(name: str) -> Callable[..., Arrays]:
    """The fast kernel of reciprocal or rsqrt."""

    def fast(signature: Signature, x: np.ndarray, table: np.ndarray, *rescale: np.ndarray) -> Arrays:
        if not rescale:
            return lut.fast(signature, x, table)
        y, zero_x = signature.outputs[0], signature.input(0).zero_point
        out = np.empty(x.shape, storage(y.dtype))
        flat, rounding = np.ascontiguousarray(x).reshape(-1), CODES[str(signature.attrs["rounding"])]
        scaling = (int(rescale[0]), int(rescale[1]), rounding)
        limits = (zero_x, y.zero_point, *bounds(y.dtype))
        _inverse_loop(flat, out.reshape(-1), table, name == "rsqrt", *scaling, *limits)
        return (out,)

    return fast


@jit
def spare_bits(m):  # type: ignore[no-untyped-def]
    """32 - bit_length(m) of a positive m of at most 32 bits: a CLZ."""
    k = np.int64(0)
    for step in (16, 8, 4, 2, 1):
        if m < np.int64(1) << (32 - step):
            m <<= step
            k += step
    return k


@jit
def reciprocal_of(d, table):  # type: ignore[no-untyped-def]
    """sign(d) b and k - w of a d that is not 0."""
    k = spare_bits(abs(d))
    m = abs(d) << k
    j, u = (m >> 22) - 512, (m >> 6) & 0xFFFF
    left = np.int64(table[j])
    a = (left << 16) + (np.int64(table[j + 1]) - left) * u
    b = (a * ((np.int64(1) << 31) - ((m * a) >> 31))) >> 30
    return (b if d > 0 else -b), k - 31


@jit
def rsqrt_of(d, table):  # type: ignore[no-untyped-def]
    """b and k - w of a positive d."""
    k = spare_bits(d) >> 1
    m = d << (2 * k)
    i, u = m >> 23, (m >> 7) & 0xFFFF
    left = np.int64(table[i])
    a = (left << 16) + (np.int64(table[i + 1]) - left) * u
    b = (a * (THREE - ((m * ((a * a) >> 30)) >> 30))) >> 31
    return b, k - 15


@jit
def _inverse_loop(  # type: ignore[no-untyped-def]
    x, out, table, square_root, q, s, rounding, zero_x, zero_y, low, high
):
    for i in range(x.size):
        d = np.int64(x[i]) - zero_x
        if square_root:
            b, n = rsqrt_of(max(d, np.int64(1)), table)
        else:
            b, n = reciprocal_of(np.int64(1) if d == 0 else d, table)
        y = np.int64(0)
        if rounding == HALF_EVEN:
            y = requantize(b, q + (n << 23), s, rounding)
        elif s + n >= LOWEST_SHIFT:
            y = requantize(b, q, s + n, rounding)
        out[i] = saturate(y, zero_y, low, high)


def work(signature: Signature) -> Work:
    """One look-up, and a handful of vector operations per result of a wide operand."""
    size = elementwise_work(signature).elementwise
    narrow = signature.input(0).dtype == "i8"
    return Work(elementwise=0 if narrow else VECTOR_OPERATIONS * size, lookups=size)


def inverse_op(name: str, function: lut.Function) -> Op:
    """Register reciprocal or rsqrt."""
    wide = tuple(f"{x} i16 i32 i8 -> {y}" for x in ("i16", "i32") for y in ("i8", "i16"))
    return register(
        Op(
            name,
            ("x",),
            (*lut.FORMS_8, *wide),
            same_shape,
            lut.real_function(function),
            prepare_inverse(name, function),
            inverse_reference(name),
            inverse_fast(name),
            work,
            f"y = {name}(x): 256-entry table for i8; CLZ, table and Newton step for wider codes",
        )
    )


def reciprocal_function(xp: Any, x: Any) -> Any:
    """1 / x, infinite at 0."""
    return guarded(xp, x != 0, lambda inside: 1.0 / inside, x, math.inf)


def rsqrt_function(xp: Any, x: Any) -> Any:
    """1 / sqrt(x), infinite where x is not positive."""
    return guarded(xp, x > 0, lambda inside: 1.0 / xp.sqrt(inside), x, math.inf)


reciprocal = inverse_op("reciprocal", reciprocal_function)
rsqrt = inverse_op("rsqrt", rsqrt_function)
