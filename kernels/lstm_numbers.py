"""The numbers of an integer LSTM: formats, tables, and the powers of two in its formula.

The formula is that of `nnaq.kernels.recurrent`.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from nnaq.errors import LoweringError
from nnaq.ir.types import Quant, TensorType, bounds
from nnaq.kernels.accumulate import (
    accumulator,
    accumulator_bound,
    channel_multipliers,
    channel_scales,
    prove_wrap_free,
    shift_bound,
)
from nnaq.kernels.fixedpoint import quantize_multiplier
from nnaq.kernels.lut import sigmoid_function, table_16

X, H0, C0, W_INPUT, W_RECURRENT, BIAS = range(6)
OPERANDS = ("x", "h0", "c0", "w_input", "w_recurrent", "bias?")
CONSTANTS = (
    "input_multiplier", "input_shift", "recurrent_multiplier", "recurrent_shift",
    "sigmoid_table", "tanh_table", "hidden_multiplier", "hidden_shift", "cell_table",
)  # fmt: skip

GATE_FRACTION = 12
GATE_SCALE = 2.0**-GATE_FRACTION
CURVE_SCALE = 2.0**-15
LOW, HIGH = bounds("i16")

Pair = tuple[int, int]


def cell_fraction(cell: TensorType) -> int:
    """n of the cell's scale 2^-n. Raises LoweringError where there is none in 9..15."""
    mantissa, exponent = math.frexp(cell.scale)
    if cell.dtype != "i16" or cell.zero_point != 0 or mantissa != 0.5 or not 9 <= 1 - exponent <= 15:
        raise LoweringError(
            f"lstm: the cell must be i16 with zero_point 0 and a scale 2^-9 … 2^-15, found {cell}"
        )
    return 1 - exponent


def gate_multipliers(
    who: str, x: TensorType, weight: TensorType, codes: np.ndarray, bias: np.ndarray, rounding: str
) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers (int32) and shifts (int8) [4H] of s_x * s_w[j] / 2^-12.

    Proves the accumulator wrap-free, and that it still fits after the left shift.
    """
    dtype = accumulator(x)
    bound = accumulator_bound(codes, x, bias, weight.zero_point)
    prove_wrap_free(f"lstm w_{who}", bound, dtype)
    scales = channel_scales(weight, len(codes))
    return channel_multipliers(x.scale, scales, GATE_SCALE, rounding, shift_bound(dtype, bound))


@cache
def curve_tables() -> tuple[np.ndarray, np.ndarray]:
    """The 513 entries of sigmoid and tanh, Q3.12 to Q0.15; every lstm has the same, so they are read-only."""
    x, y = (TensorType("i16", (), Quant((scale,))) for scale in (GATE_SCALE, CURVE_SCALE))
    tables = table_16(sigmoid_function, x, y)[0], table_16(lambda xp, v: xp.tanh(v), x, y)[0]
    for table in tables:
        table.setflags(write=False)
    return tables


def product_rounding(rounding: str) -> str:
    """How everything behind the accumulators rounds: double_m16 is a rule for accumulators only."""
    return "double" if rounding == "double_m16" else rounding


class Powers(NamedTuple):
    """Multipliers and shifts (q, s) of the powers of two in the formula."""

    curve: Pair  # 2^-7, of a table's value
    keep: Pair  # 2^-15, of f*c
    new: Pair  # 2^(n-30), of i*g
    cell: Pair  # 2^(12-n), of c; 1 where n <= 12


@cache
def power_multipliers(fraction: int, rounding: str) -> Powers:
    """The multipliers of a cell with `fraction` fraction bits."""
    scales = (2.0**-7, 2.0**-15, 2.0 ** (fraction - 30), 2.0 ** min(GATE_FRACTION - fraction, 0))
    return Powers(*(quantize_multiplier(scale, rounding) for scale in scales))
