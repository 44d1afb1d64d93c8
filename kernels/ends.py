"""Compiled ends of an integer graph: reals to codes of up to 32 bits and back, one scale per tensor.

    quantize     q = min(int(round(clamp(f32(x) / f32(scale), low - z, high - z))) + z, high)
    dequantize   y = f32(q - z) * f32(scale)

the formulas of kernels/boundary.py: limits that are whole numbers may be met before rounding as well as
behind it. float32 has no 2^31 - 1; its neighbour 2^31 passes the first limit and is met by the last. Halves
go to even by adding and taking away 2^23, at which floats have no fractions left, or away from zero. A NaN,
which only a real node within a graph can bring, becomes the zero_point.
"""

from functools import partial

import numpy as np

from nnaq.ir.op import Bindable
from nnaq.ir.types import TensorType, storage
from nnaq.jit import jit
from nnaq.kernels.bound import Bound

WHOLE = np.float32(2**23)  # from here on every float32 is a whole number
HALF = np.float32(0.5)


def quantizer(kind: TensorType, limits: tuple[int, int], rounding: str) -> Bindable:
    """Reals to codes of a type with one scale; limits: the lowest and the highest code."""
    low, high = limits
    zero = kind.zero_point
    numbers = np.float32(kind.scale), np.float32(low - zero), np.float32(high - zero), zero, high
    dtype, is_away = storage(kind.dtype), rounding == "half_away"

    def bind(x: np.ndarray) -> Bound:
        place = np.empty(x.shape, dtype)
        return (place,), partial(_quantize, x.reshape(-1), *numbers, is_away, place.reshape(-1))

    return Bindable(bind)


def dequantizer(kind: TensorType) -> Bindable:
    """Codes of a type with one scale to reals."""
    zero, scale = kind.zero_point, np.float32(kind.scale)

    def bind(codes: np.ndarray) -> Bound:
        place = np.empty(codes.shape, np.float32)
        return (place,), partial(_dequantize, codes.reshape(-1), zero, scale, place.reshape(-1))

    return Bindable(bind)


@jit
def is_finite(x):  # type: ignore[no-untyped-def]
    """Whether a row of float32 holds neither NaN nor infinity: those have all bits of the exponent."""
    bits = x.view(np.int32)
    largest = np.int32(0)
    for i in range(bits.size):
        largest = max(largest, np.int32(bits[i] & np.int32(0x7FFFFFFF)))
    return largest < np.int32(0x7F800000)


@jit
def _quantize(x, scale, lowest, highest, zero, high, is_away, out):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        ratio = np.float32(x[i]) / scale
        v = min(max(ratio, lowest), highest)
        if is_away:
            whole = np.float32(np.trunc(v))
            if abs(v - whole) >= HALF:
                whole += np.float32(1.0) if v > 0 else np.float32(-1.0)
        elif abs(v) >= WHOLE:
            whole = v
        else:
            whole = (v + WHOLE) - WHOLE if v > 0 else (v - WHOLE) + WHOLE
        code = np.int64(whole) if ratio == ratio else np.int64(0)  # a NaN is not itself
        out[i] = min(code + zero, high)


@jit
def _dequantize(codes, zero, scale, out):  # type: ignore[no-untyped-def]
    for i in range(codes.size):
        out[i] = np.float32(np.int64(codes[i]) - zero) * scale
