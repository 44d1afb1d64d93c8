"""TFLite's own numbers, where its kernels make them in another way than the crossing does.

f32() rounds to float32; Q is `quantize_multiplier` of float64, R the requantisation `double`.

    layer without bias, one scale   Q(f32(s_x s_w) / s_y); BATCH_MATMUL likewise
    SUB                             Q(f32(s_a / t)), Q(f32(s_b / t)), Q(f32(t / (2^20 s_y))),
                                    t = 2 max(s_a, s_b)
    RELU                            Q(f32(s_x / s_y))
    LEAKY_RELU                      R(q - z, f32(s_x / s_y)) above zero,
                                    R(q - z, f32(f32(s_x alpha) / s_y)) below
    MEAN over n                     m, e = Q(s_x / s_y); k = floor(log2 n), at most 32 and 31 + e;
                                    multiplier floor(m 2^k / n), shift e - k
    HARD_SWISH                      16-bit fixed point, see `hard_swish_table`
    limits of an activation         z + round_half_away(f32(limit / s))

Source: the kernels of tflite-micro; the tests compare with that runtime, value by value.
"""

import numpy as np

from nnaq.ir.types import TensorType, bounds
from nnaq.kernels.fixedpoint import quantize_multiplier, requantize_reference

ROUNDING = "double"
Pair = tuple[np.ndarray, np.ndarray]


def f32(value: float) -> float:
    """The nearest float32."""
    return float(np.float32(value))


def pair(scale: float, sizes: tuple[int, ...] = (), bound: int = 2**31) -> Pair:
    """multiplier (int32) and shift (int8) of a scale, repeated over `sizes`; bound: of what it meets."""
    multiplier, shift = quantize_multiplier(scale, ROUNDING, bound)
    return np.full(sizes, multiplier, np.int32), np.full(sizes, shift, np.int8)


def product_scale(a: float, b: float, y: float) -> float:
    """The rescale of a product whose scale is rounded to float32."""
    return f32(a * b) / y


def difference_scales(a: float, b: float, y: float) -> tuple[float, float, float]:
    """The rescales of SUB: of both operands and of their difference."""
    twice = f32(2 * max(a, b))
    return f32(a / twice), f32(b / twice), f32(twice / f32(2.0**20 * y))


def mean(x: float, y: float, count: int) -> Pair:
    """multiplier and shift of MEAN over `count` entries."""
    multiplier, exponent = quantize_multiplier(x / y, ROUNDING, 255)
    shift = min(count.bit_length() - 1, 32, 31 + exponent)
    return np.array((multiplier << shift) // count, np.int32), np.array(exponent - shift, np.int8)


def limit(kind: TensorType, real: float) -> int:
    """The code of a limit that an activation names."""
    low, high = bounds(kind.dtype)
    steps = np.float32(real) / np.float32(kind.scale)
    away = float(np.sign(steps) * np.floor(np.abs(steps) + np.float32(0.5)))
    return int(min(max(kind.zero_point + away, low), high))


def _table(kind: TensorType, values: list[int]) -> np.ndarray:
    """Values plus the zero_point, saturated."""
    low, high = bounds(kind.dtype)
    return np.array([min(max(v + kind.zero_point, low), high) for v in values], np.int8)


def leaky_table(x: TensorType, y: TensorType, alpha: float) -> np.ndarray:
    """LEAKY_RELU at the 256 codes."""
    above = quantize_multiplier(f32(x.scale / y.scale), ROUNDING, 255)
    slope = f32(f32(x.scale * f32(alpha)) / y.scale)
    below = quantize_multiplier(abs(slope), ROUNDING, 255) if slope else (0, 0)
    sign = -1 if slope < 0 else 1
    values = [
        requantize_reference(d, *above, ROUNDING)
        if d >= 0
        else sign * requantize_reference(d, *below, ROUNDING)
        for d in (q - x.zero_point for q in range(-128, 128))
    ]
    return _table(y, values)


# --- HARD_SWISH


def _narrow(multiplier: int) -> int:
    """A 31-bit multiplier in 16 bits."""
    return 0x7FFF if multiplier >= 0x7FFF0000 else (multiplier + (1 << 15)) >> 16


def _saturated(value: int) -> int:
    return min(max(value, -(2**15)), 2**15 - 1)


def _high(a: int, b: int) -> int:
    """The rounded high half of a doubled product of 16-bit numbers; a negative half is rounded up."""
    product = a * b
    total = product + (1 << 14 if product >= 0 else 1 - (1 << 14))
    return _saturated(total // 2**15 if total >= 0 else -(-total // 2**15))


def _shifted(value: int, exponent: int) -> int:
    """value / 2^exponent, half away from zero."""
    half = (value & ((1 << exponent) - 1)) > (((1 << exponent) - 1) >> 1) + (value < 0)
    return (value >> exponent) + int(half)


def hard_swish_table(x: TensorType, y: TensorType) -> np.ndarray | None:
    """HARD_SWISH at the 256 codes; None where TFLite has no code for the scales.

    With h = 2^7 (q - z) at scale s_x / 128: r = h on the scale 3 / 2^15, saturated, brought to [0, 1];
    the result is the product of r and h on the result's scale, rounded to zero, then shifted.
    """
    fine = f32(x.scale / 128)
    multiplier, exponent = quantize_multiplier(f32(fine / y.scale), ROUNDING)
    gate, gate_exponent = quantize_multiplier(f32(fine / f32(3 / 32768)), ROUNDING, 1)
    if exponent > 0:
        return None
    numbers = _narrow(multiplier), exponent, _narrow(gate), gate_exponent
    return _table(y, [_hard_swish((q - x.zero_point) << 7, *numbers) for q in range(-128, 128)])


def _hard_swish(h: int, multiplier: int, exponent: int, gate: int, gate_exponent: int) -> int:
    r = h
    if gate_exponent > 0:
        r = _saturated(r << (gate_exponent - 1))
    r = _high(r, gate)
    if gate_exponent > 0:
        r = _saturated(r << 1)
    if gate_exponent < 0:
        r = _shifted(r, -gate_exponent)
    r = (r + 2**15) >> 1
    product = r * _high(h, multiplier)
    scaled = abs(product) >> 15
    return _shifted(scaled if product >= 0 else -scaled, -exponent)
