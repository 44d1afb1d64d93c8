"""Square roots in integers: normalisation, a table, one Newton step, one rescale.

    x = max(q - z, 0)                                      at most 32 bits
    k = (32 - bit_length(x)) >> 1;  m = x << 2k            2^30 <= m < 2^32: f = m / 2^30 in [1, 4)
    i = m >> 23;  u = (m >> 7) & 0xFFFF
    a = (T[i] << 16) + (T[i+1] - T[i]) * u                 1 / sqrt(f) in Q1.30, from the table
    p = (m * ((a * a) >> 30)) >> 30                        f a^2, close to 1, in Q.30
    b = (a * (3 * 2^30 - p)) >> 31                         one Newton step: a (3 - f a^2) / 2
    r = (m * b + 2^29) >> 30                               sqrt(f) in Q1.30, 2^30 <= r < 2^31
    y = sat(R(r, multiplier, shift - k) + z_y)             sqrt(x) = r 2^(-15-k);  y = z_y where x = 0

`bit_length` is 32 less the leading zeros of a 32-bit word, so k comes from a CLZ. T has 513 entries
in Q1.14, T[j] = min(round(2^14 / sqrt(j / 128)), 2^15 - 1); the entries below 128 are never read.
multiplier and shift stand for sqrt(s_x) / (s_y 2^15). Where shift - k < -31 the result is below
1/2 and y = z_y; under half_even, whose shift is always 0, multiplier - k 2^23 is used instead
(k less in the exponent of the float32).

r is within 2^-27 of the root, relatively; y is within 0.5 + 2^-10 of the real root over s_y for
rounding `single`. Over the reals the root of what is not positive is 0, with a gradient of 0.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Bindable, Constant, Kernel, Op, Prepared, Signature, Work, at_once, register
from nnaq.ir.types import TensorType, bounds, storage
from nnaq.jit import jit
from nnaq.kernels.bound import bound
from nnaq.kernels.boundary import elementwise_work, multiplier_constants, same_shape, when_constant
from nnaq.kernels.fixedpoint import (
    CODES,
    HALF_EVEN,
    quantize_multipliers,
    requantize,
    requantize_reference,
    saturate,
    saturate_reference,
)

THREE = 3 << 30  # Q.30
LOWEST_SHIFT = -31
VECTOR_OPERATIONS = 6  # normalise, square, two products of Newton's step, the root, the rescale


def guarded(xp: Any, inside: Any, function: Callable[[Any], Any], x: Any, outside: float) -> Any:
    """function(x) where `inside` holds; elsewhere the number `outside`, whose gradient is 0.

    The function never meets what lies outside: the gradient of a chosen branch would be NaN there.
    """
    return xp.where(inside, function(xp.where(inside, x, xp.ones_like(x))), outside)


def reciprocal_root_table() -> np.ndarray:
    """T: 1 / sqrt(j / 128) in Q1.14 for j = 0 … 512, limited to i16."""
    with np.errstate(divide="ignore"):
        reals = 2.0**14 / np.sqrt(np.arange(513) / 128.0)
    return np.minimum(np.floor(reals + 0.5), 2.0**15 - 1).astype(np.int16)


def prepare(signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics) -> Prepared:
    """The table, and the rescale of sqrt(s_x) / (s_y 2^15)."""
    scale = math.sqrt(signature.input(0).scale) / signature.outputs[0].scale
    multiplier, shift = quantize_multipliers(np.array(scale * 2.0**-15), numerics.rounding)
    table = Constant("table", TensorType("i16", (513,)), reciprocal_root_table())
    rescale = multiplier_constants(multiplier, shift)
    return Prepared((0, table, *rescale), {"rounding": numerics.rounding})


def reciprocal_root_reference(m: int, table: list[int]) -> int:
    """b, 1 / sqrt(m / 2^30) in Q1.30 for 2^30 <= m < 2^32, in Python integers."""
    i, u = m >> 23, (m >> 7) & 0xFFFF
    a = (table[i] << 16) + (table[i + 1] - table[i]) * u
    p = (m * ((a * a) >> 30)) >> 30
    return (a * (THREE - p)) >> 31


def root_reference(x: int, table: list[int]) -> tuple[int, int]:
    """r and k of a positive x, in Python integers."""
    k = (32 - x.bit_length()) >> 1
    m = x << (2 * k)
    return (m * reciprocal_root_reference(m, table) + (1 << 29)) >> 30, k


def reference(
    signature: Signature, x: np.ndarray, table: np.ndarray, multiplier: np.ndarray, shift: np.ndarray
) -> Arrays:
    """One code at a time, in Python integers."""
    kind, entries = signature.outputs[0], [int(t) for t in table]
    low, high = bounds(kind.dtype)
    rounding, zero_x = str(signature.attrs["rounding"]), signature.input(0).zero_point
    codes = []
    for code in x.ravel():
        y = 0
        if int(code) > zero_x:
            root, k = root_reference(int(code) - zero_x, entries)
            y = rescale_reference(root, k, int(multiplier), int(shift), rounding)
        codes.append(saturate_reference(y, kind.zero_point, low, high))
    return (np.array(codes, storage(kind.dtype)).reshape(x.shape),)


def rescale_reference(root: int, k: int, q: int, s: int, rounding: str) -> int:
    """R(r, multiplier, shift - k), in Python integers."""
    if rounding == "half_even":
        return requantize_reference(root, q - (k << 23), 0, rounding)
    return requantize_reference(root, q, s - k, rounding) if s - k >= LOWEST_SHIFT else 0


def load(signature: Signature, operands: tuple[Any, ...]) -> Kernel:
    """The same codes from a compiled loop."""
    kind, (_, table, multiplier, shift) = signature.outputs[0], operands
    made, rescale = storage(kind.dtype), (int(multiplier), int(shift))
    zeros, rounding = (
        (signature.input(0).zero_point, kind.zero_point),
        CODES[str(signature.attrs["rounding"])],
    )
    numbers = (*rescale, rounding, *zeros, *bounds(kind.dtype))
    return Bindable(lambda x, *_: bound(_root_loop, ((x, x.dtype),), x.shape, (made, made), table, *numbers))


@jit
def reciprocal_root(m, table):  # type: ignore[no-untyped-def]
    """b, 1 / sqrt(m / 2^30) in Q1.30 for 2^30 <= m < 2^32; every product stays below 2^63."""
    i, u = m >> 23, (m >> 7) & 0xFFFF
    left = np.int64(table[i])
    a = (left << 16) + (np.int64(table[i + 1]) - left) * u
    p = (m * ((a * a) >> 30)) >> 30
    return (a * (THREE - p)) >> 31


@jit
def root(x, table):  # type: ignore[no-untyped-def]
    """r and k of a positive x; every product stays below 2^63."""
    m, k = np.int64(x), np.int64(0)
    for step in (8, 4, 2, 1):
        if m < np.int64(1) << (32 - 2 * step):
            m <<= 2 * step
            k += step
    return (m * reciprocal_root(m, table) + (np.int64(1) << 29)) >> 30, k


@jit
def _root_loop(x, out, table, q, s, rounding, zero_x, zero_y, low, high):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        y = np.int64(0)
        if x[i] > zero_x:
            r, k = root(np.int64(x[i]) - zero_x, table)
            if rounding == HALF_EVEN:
                y = requantize(r, q - (k << 23), s, rounding)
            elif s - k >= LOWEST_SHIFT:
                y = requantize(r, q, s - k, rounding)
        out[i] = saturate(y, zero_y, low, high)


def work(signature: Signature) -> Work:
    """One look-up and a handful of vector operations per result."""
    size = elementwise_work(signature).elementwise
    return Work(elementwise=VECTOR_OPERATIONS * size, lookups=size)


sqrt = register(
    Op(
        "sqrt",
        ("x",),
        tuple(f"{x} i16 i32 i8 -> {y}" for x in ("i8", "i16", "i32") for y in ("i8", "i16")),
        same_shape,
        lambda xp, attrs, x: (guarded(xp, x > 0, xp.sqrt, x, 0.0),),
        prepare,
        reference,
        at_once(load),
        work,
        "y = saturate(requantize(root, multiplier, shift - k) + z_y), root by table and one Newton step",
        load=when_constant(1, load),
    )
)
