"""Weight and bias of a normalisation, signed and rounded once.

    acc[c] = w[c] * z + B[c]                                                48 bits, held in int64
    y      = sat(R(acc[c], multiplier[c], shift[c]) + z_y)

z is a whole number in steps of `unit` (2^-16 after a normalisation, s_x for batch_norm), so that
y_real = weight[c] * unit * z + bias[c]. Per channel one step of acc stands for

    floor[c] = max(|bias[c]| * 2^-46, s_y * 2^-31)
    bits[c]  = the largest g from 0 to 18 with |weight[c]| * unit * 2^-g >= floor[c]
    step[c]  = max(|weight[c]| * unit * 2^-bits[c], floor[c])
    w[c] = round(weight[c] * unit / step[c])        i32: ±2^bits, or 0 or ±1 for weights below floor
    B[c] = round(bias[c] / step[c])                 i48

and multiplier and shift stand for step[c] / s_y. The sign of the weight is the sign of w, so the
multipliers stay positive; the bias is joined before the one rounding, in steps so fine that its
own rounding is out of sight. Under `pot_shift` step[c] is s_y times the next power of two, and w
holds what the multiplier cannot: up to 18 bits of the weight.

|w| <= 2^18 and |B| <= 2^46 by choice of the step, so |acc| < 2^47 holds for every |z| < 2^28, which
the callers prove. For the z it is given y is within 1/2 + 2^-12 of the real result, in codes; where
a weight is below floor (one step of z is less than 2^-31 codes), within 1/2 + 2^-12 + |z| 2^-32.
"""

import numpy as np

from nnaq.errors import LoweringError
from nnaq.ir.dims import Shape, bind
from nnaq.ir.op import Constant
from nnaq.ir.types import TensorType, bounds
from nnaq.jit import jit
from nnaq.kernels.boundary import multiplier_constants
from nnaq.kernels.fixedpoint import (
    quantize_multipliers,
    requantize,
    requantize_reference,
    saturate,
    saturate_reference,
)

WEIGHT_BITS, BIAS_BITS, RESULT_BITS = 18, 46, 31
FORM = "i32 i48 i32 i8"  # of the four constants

Tail = tuple[list[int], list[int], list[int], list[int]]


def affine_constants(
    who: str,
    shape: Shape,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    unit: float,
    scale_y: float,
    rounding: str,
) -> tuple[Constant, ...]:
    """weight, bias, multiplier and shift of a real weight and bias (float64), which may be absent.

    shape: of the channels; the constants are single numbers where neither is there.
    Raises LoweringError for a weight or bias that is not finite.
    """
    sizes = () if weight is None and bias is None else bind(shape, {})
    weight = np.broadcast_to(np.array(1.0) if weight is None else weight, sizes)
    bias = np.broadcast_to(np.array(0.0) if bias is None else bias, sizes)
    for name, values in (("weight", weight), ("bias", bias)):
        if not np.isfinite(values).all():
            raise LoweringError(
                f"{who}: the {name} holds {values[~np.isfinite(values)][0]}, expected finite numbers; "
                "train or export the model again"
            )
    step = _steps(weight, bias, unit, scale_y)
    if rounding == "pot_shift":
        step = scale_y * np.exp2(np.ceil(np.log2(step / scale_y)))
    w = np.rint(weight * unit / step).astype(np.int32)
    b = np.rint(bias / step).astype(np.int64)
    rescale = multiplier_constants(*quantize_multipliers(step / scale_y, rounding, 2**47))
    return (
        Constant("weight", TensorType("i32", w.shape), w),
        Constant("bias", TensorType("i48", b.shape), b),
        *rescale,
    )


def _steps(weight: np.ndarray, bias: np.ndarray, unit: float, scale_y: float) -> np.ndarray:
    """What one step of acc stands for, per channel."""
    floor = np.maximum(np.abs(bias) * 2.0**-BIAS_BITS, scale_y * 2.0**-RESULT_BITS)
    size = np.abs(weight) * unit
    bits = np.minimum(np.floor(np.log2(np.maximum(size / floor, 1.0))), WEIGHT_BITS)
    return np.asarray(np.maximum(size * np.exp2(-bits), floor))


def tail_reference(*constants: np.ndarray) -> Tail:
    """The four constants as lists of Python integers, channel by channel."""
    w, b, q, s = ([int(value) for value in array.reshape(-1)] for array in constants)
    return w, b, q, s


def affine_reference(z: int, c: int, tail: Tail, y: TensorType, rounding: str) -> int:
    """The code of one z of channel c, in Python integers; constants of one entry serve all channels."""
    w, b, q, s = (part[c if len(part) > 1 else 0] for part in tail)
    low, high = bounds(y.dtype)
    return saturate_reference(requantize_reference(w * z + b, q, s, rounding), y.zero_point, low, high)


@jit
def channel_of_entries(groups, parts, span, size):  # type: ignore[no-untyped-def]
    """Where the constants of each entry stand: [groups, parts * span]; 0 for constants of one entry."""
    channel = np.zeros((groups, parts * span), np.uint32)
    if size > 1:
        for g, p in np.ndindex(groups, parts):
            channel[g, p * span : (p + 1) * span] = g * parts + p
    return channel


@jit
def affine(z, w, b, q, s, rounding, zero_y, low, high):  # type: ignore[no-untyped-def]
    """The code of one z."""
    return saturate(requantize(np.int64(w) * z + b, q, s, rounding), zero_y, low, high)
