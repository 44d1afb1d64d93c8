"""The numbers of an integer GRU: its operands, and how its state is read in Q0.15.

The formula is that of `nnaq.kernels.gru`.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeVar

import numpy as np

from nnaq.errors import LoweringError
from nnaq.ir.op import Attr
from nnaq.ir.types import TensorType
from nnaq.kernels.fixedpoint import LARGEST_LEFT_SHIFT, quantize_multiplier, quantize_multipliers
from nnaq.kernels.recurrent_numbers import CURVE_SCALE, CURVE_TO_CODES, PRODUCT_TO_CODES, Pair

X, H0, W_INPUT, W_RECURRENT, BIAS, RECURRENT_BIAS = range(6)
OPERANDS = ("x", "h0", "w_input", "w_recurrent", "bias?", "recurrent_bias?")
CONSTANTS = (
    "input_multiplier", "input_shift", "recurrent_multiplier", "recurrent_shift",
    "sigmoid_table", "tanh_table", "state_factor", "state_multiplier", "state_shift",
    "hidden_multiplier", "hidden_shift",
)  # fmt: skip
NAMES = (*(name.rstrip("?") for name in OPERANDS), *CONSTANTS)

Value = TypeVar("Value")


def by_name(operands: Sequence[Value]) -> dict[str, Value]:
    """The operands of an integer node under their names."""
    return dict(zip(NAMES, operands, strict=True))


def resets_first(attrs: Mapping[str, Attr]) -> bool:
    """Whether the reset gate meets h before the recurrent product (ONNX's default) instead of after it."""
    return not attrs.get("linear_before_reset", False)


@cache
def level_multipliers(rounding: str) -> tuple[Pair, Pair]:
    """Multiplier and shift of a table's value, 2^-7, and of a product with a level, 2^-15."""
    curve, product = (quantize_multiplier(scale, rounding) for scale in (CURVE_TO_CODES, PRODUCT_TO_CODES))
    return curve, product


def state_constants(hidden: TensorType, rounding: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """factor (i16), multiplier and shift that read h in Q0.15: 2^L, and M <= 1 with 2^L * M = s_h * 2^15.

    The factor takes the place of a left shift, which some roundings do not have.
    Raises LoweringError where L > 14.
    """
    ratio = hidden.scale / CURVE_SCALE
    mantissa, exponent = math.frexp(ratio)
    left = max(0, exponent - (mantissa == 0.5))
    if left > LARGEST_LEFT_SHIFT:
        raise LoweringError(
            f"gru: the state has the scale {hidden.scale}, the largest that can be read in Q0.15 is 0.5; "
            "a GRU's state lies in -1 … 1, so give it finer codes"
        )
    multiplier, shift = quantize_multipliers(np.array(ratio * 2.0**-left), rounding)
    return np.array(2**left, np.int16), multiplier, shift
