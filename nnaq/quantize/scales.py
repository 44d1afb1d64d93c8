"""From ranges to scales and zero_points.

    i8, asymmetric   scale = (high - low) / 255,  zero_point = clamp(round(-128 - low / scale))
    i16, symmetric   scale = headroom * max(|low|, |high|) / 32767, headroom 4: two of the sixteen bits
                     are kept for speech louder than the calibration's
    power_of_two     scale = 2^-n with the largest n in 9..15 that holds 1.25 * max|x|: a cell state
                     saturates by itself as gates close, and its saturations are counted
    whole, flag      scale 1: whole numbers in 32 bits, truth values in 8
    probability      scale 2^-8 and zero_point -128, or scale 2^-15: [0, 1) as softmax makes it
    weights          scale = max|w| / 127 per channel, codes in [-127, 127]

Scales of activations are float32 values held as float64: the float edges of a runtime and the
multipliers, which are made from float64, then mean the same number.
"""

import math

import numpy as np

from nnaq.ir.types import Quant, TensorType, bounds

HEADROOM = 4.0
CELL_HEADROOM = 1.25
CELL_EXPONENTS = range(9, 16)
WHOLE = TensorType("i32", (), Quant((1.0,)))
FLAG = TensorType("i8", (), Quant((1.0,)))
PROBABILITY = {"i8": Quant((2.0**-8,), -128), "i16": Quant((2.0**-15,))}


def as_float32(scale: float) -> float:
    """The nearest float32 as a float64, of which none is below the least normal one."""
    return float(max(np.float32(scale), np.finfo(np.float32).tiny))


def activation_quant(
    low: float, high: float, dtype: str, power_of_two: bool = False, exact: bool = False
) -> Quant:
    """The code map for an activation with reals in [low, high], which must hold 0.

    exact: the range was chosen, not observed; it is used without headroom.
    """
    size = max(-low, high)
    if power_of_two:
        return Quant((2.0 ** -_cell_exponent(size if exact else CELL_HEADROOM * size),))
    if dtype == "i16":
        return Quant((as_float32((1.0 if exact else HEADROOM) * size / 32767) if size > 0 else 2.0**-15,))
    if high - low <= 0:
        return Quant((2.0**-7,), 0)
    scale = as_float32((high - low) / 255)
    return Quant((scale,), int(min(max(round(-128 - low / scale), -128), 127)))


def _cell_exponent(size: float) -> int:
    exponent = math.floor(math.log2(32767 / size)) if size > 0 else CELL_EXPONENTS[-1]
    return min(max(exponent, CELL_EXPONENTS[0]), CELL_EXPONENTS[-1])


def real_range(kind: TensorType) -> tuple[float, float]:
    """The reals that the codes of a type reach: the range from which `activation_quant` makes it anew."""
    _, highest = bounds(kind.dtype)
    lowest = -highest if kind.dtype == "i16" else -highest - 1
    return (lowest - kind.zero_point) * kind.scale, (highest - kind.zero_point) * kind.scale


def weight_type(
    weight: np.ndarray, axis: int, floor: np.ndarray | None = None, highest: int = 127
) -> TensorType:
    """The type of per-channel symmetric weight codes.

    floor: a least scale per channel; it keeps a large bias next to tiny weights inside 32 bits.
    A channel of zeros takes the largest scale of the others.
    """
    others = tuple(a for a in range(weight.ndim) if a != axis)
    size = np.maximum(weight.max(axis=others, initial=0), -weight.min(axis=others, initial=0))
    scales = size.astype(np.float64) / highest
    scales = np.where(scales > 0, scales, scales.max(initial=0) or 1.0)
    if floor is not None:
        scales = np.maximum(scales, floor)
    dtype = "i8" if highest > 7 else "i4"
    held = np.maximum(scales.astype(np.float32), np.finfo(np.float32).tiny).astype(np.float64)
    return TensorType(dtype, weight.shape, Quant(tuple(held.tolist()), 0, axis))
