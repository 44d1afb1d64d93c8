"""What compiled recurrent kernels share: the product with every frame, rescales and curves of gates."""

from collections.abc import Mapping

import numpy as np

from nnaq.ir.op import Attr
from nnaq.ir.types import TensorType
from nnaq.jit import jit
from nnaq.kernels.accumulate import order_of, requantize_rows
from nnaq.kernels.fixedpoint import CODES, requantize
from nnaq.kernels.internals import fitted_16
from nnaq.kernels.lut import lookup
from nnaq.kernels.recurrent_numbers import HIGH, LOW, Pair
from nnaq.kernels.weight_rows import centred, weights_of


def pair_of(arrays: Mapping[str, np.ndarray], name: str) -> Pair:
    """Multiplier and shift of a rescale that is the same for every unit."""
    return int(arrays[f"{name}_multiplier"]), int(arrays[f"{name}_shift"])


def driven_gates(
    arrays: Mapping[str, np.ndarray], kind_x: TensorType, kind_w: TensorType, attrs: Mapping[str, Attr]
) -> np.ndarray:
    """What x adds to the pre-activations of every frame, [T, B, gates * H] in Q3.12."""
    x, w_input = arrays["x"], arrays["w_input"]
    frames, batch, width = x.shape
    gates = np.empty((frames * batch, len(w_input)), np.int16)
    requantize_rows(
        centred(x.reshape(frames * batch, width), kind_x.zero_point),
        weights_of(w_input, kind_w.zero_point), arrays["bias"], arrays["input_multiplier"],
        arrays["input_shift"], order_of(kind_x, kind_w, attrs), CODES[str(attrs["rounding"])], 0, LOW, HIGH,
        gates,
    )  # fmt: skip
    return gates.reshape(frames, batch, len(w_input))


@jit
def clamp_16(value):  # type: ignore[no-untyped-def]
    return min(max(value, np.int64(-32768)), np.int64(32767))


@jit
def scaled_16(value, multiplier, rounding):  # type: ignore[no-untyped-def]
    """sat16(requantize(value)); multiplier: (q, s)."""
    return clamp_16(requantize(value, multiplier[0], multiplier[1], rounding))


@jit
def level_16(a, table, multiplier, rounding, grid):  # type: ignore[no-untyped-def]
    """The Q0.15 value of a table at a, as coarse as the internals of the node."""
    return fitted_16(requantize(lookup(a, table), multiplier[0], multiplier[1], rounding), grid)
