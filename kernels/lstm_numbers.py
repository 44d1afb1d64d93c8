"""The numbers of an integer LSTM: its operands, the cell's format, the powers of two in its formula.

The formula is that of `nnaq.kernels.recurrent`.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np

from nnaq.errors import LoweringError
from nnaq.ir.op import Attr
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels.fixedpoint import quantize_multiplier
from nnaq.kernels.recurrent_numbers import CURVE_TO_CODES, GATE_FRACTION, PRODUCT_TO_CODES, Pair

X, H0, C0, W_INPUT, W_RECURRENT, BIAS, W_PROJECTION, NORM_WEIGHT, NORM_BIAS = range(9)
OPERANDS = (
    "x", "h0", "c0", "w_input", "w_recurrent", "bias?", "w_projection?", "norm_weight?", "norm_bias?",
)  # fmt: skip
CONSTANTS = (
    "input_multiplier", "input_shift", "recurrent_multiplier", "recurrent_shift",
    "sigmoid_table", "tanh_table", "hidden_multiplier", "hidden_shift",
)  # fmt: skip
PROJECTION_CONSTANTS = ("projection_multiplier", "projection_shift")
NORM_CONSTANTS = (
    "norm_multiplier", "norm_shift", "norm_table", "norm_epsilon", "norm_epsilon_shift", "norm_room",
)  # fmt: skip
UNPROJECTED_SCALES = {"i8": 2.0**-7, "i16": 2.0**-15}  # |tanh(c) * o| < 1

Value = TypeVar("Value")


def operand_names(attrs: Mapping[str, Attr]) -> tuple[str, ...]:
    """The operands of the integer form, in order; cell_table may be left out.

    With a normalisation w_projection has its place but may be absent.
    """
    projected, normed = is_projected(attrs), is_normed(attrs)
    count = len(OPERANDS) if normed else W_PROJECTION + projected
    own = [name.rstrip("?") for name in OPERANDS[:count]]
    more = (*(PROJECTION_CONSTANTS if projected else ()), *(NORM_CONSTANTS if normed else ()))
    return (*own, *CONSTANTS, *more, "cell_table")


def by_name(attrs: Mapping[str, Attr], operands: Sequence[Value | None]) -> dict[str, Value]:
    """The operands of an integer node under their names, absent ones left out."""
    there = {name: v for name, v in zip(operand_names(attrs), operands, strict=False) if v is not None}
    if not is_projected(attrs):
        there.pop("w_projection", None)
    return there


def is_projected(attrs: Mapping[str, Attr]) -> bool:
    """Whether an integer node has a projection."""
    return bool(attrs.get("projected", False))


def is_normed(attrs: Mapping[str, Attr]) -> bool:
    """Whether an integer node normalises its gates."""
    return bool(attrs.get("normed", False))


def is_coupled(attrs: Mapping[str, Attr]) -> bool:
    """Whether the input gate is 1 - f (CIFG): three gates f, g, o instead of four."""
    return bool(attrs.get("cifg", False))


def gate_count(attrs: Mapping[str, Attr]) -> int:
    return 3 if is_coupled(attrs) else 4


def norm_epsilon(attrs: Mapping[str, Attr]) -> float:
    """What joins the variance of a gate; 1e-5 where the node does not say."""
    return float(attrs.get("epsilon", 1e-5))  # type: ignore[arg-type]


def unprojected(hidden: TensorType) -> TensorType:
    """The codes of tanh(c) * o before a projection: they need no calibration."""
    return TensorType(hidden.dtype, (), Quant((UNPROJECTED_SCALES[hidden.dtype],)))


def cell_fraction(cell: TensorType) -> int:
    """n of the cell's scale 2^-n. Raises LoweringError where there is none in 9..15."""
    mantissa, exponent = math.frexp(cell.scale)
    if cell.dtype != "i16" or cell.zero_point != 0 or mantissa != 0.5 or not 9 <= 1 - exponent <= 15:
        raise LoweringError(
            f"lstm: the cell must be i16 with zero_point 0 and a scale 2^-9 … 2^-15, found {cell}"
        )
    return 1 - exponent


class Sums(NamedTuple):
    """What x and h add to the pre-activations of every frame, [T, B, gates * H] in Q3.12: A and R."""

    driven: np.ndarray
    carried: np.ndarray


class Powers(NamedTuple):
    """Multipliers and shifts (q, s) of the powers of two in the formula."""

    curve: Pair  # 2^-7, of a table's value
    keep: Pair  # 2^-15, of f*c
    new: Pair  # 2^(n-30), of i*g
    cell: Pair  # 2^(12-n), of c; 1 where n <= 12


@cache
def power_multipliers(fraction: int, rounding: str) -> Powers:
    """The multipliers of a cell with `fraction` fraction bits."""
    scales = (
        CURVE_TO_CODES, PRODUCT_TO_CODES, 2.0 ** (fraction - 30), 2.0 ** min(GATE_FRACTION - fraction, 0)
    )  # fmt: skip
    return Powers(*(quantize_multiplier(scale, rounding) for scale in scales))
