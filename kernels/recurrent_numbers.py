"""The formats that recurrent operators share: gates in Q3.12, curves in Q0.15, and their multipliers."""

from dataclasses import replace
from functools import cache

import numpy as np

from nnaq.errors import LoweringError
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Constant, Signature
from nnaq.ir.types import Quant, TensorType, bounds
from nnaq.kernels.accumulate import (
    accumulator,
    accumulator_bound,
    bias_constant,
    channel_multipliers,
    channel_scales,
    proved_reach,
    shift_bound,
)
from nnaq.kernels.lut import sigmoid_function, table_16

GATE_FRACTION = 12
GATE_SCALE = 2.0**-GATE_FRACTION
CURVE_SCALE = 2.0**-15
LOW, HIGH = bounds("i16")
CURVE_TO_CODES = 2.0**-7  # of a table's 23-bit value
PRODUCT_TO_CODES = 2.0**-15  # of a Q0.15 factor times a code

Pair = tuple[int, int]


def product_rounding(rounding: str) -> str:
    """How everything behind the accumulators rounds: double_m16 is a rule for accumulators only."""
    return "double" if rounding == "double_m16" else rounding


@cache
def curve_tables(entries: int) -> tuple[np.ndarray, np.ndarray]:
    """The entries of sigmoid and tanh, Q3.12 to Q0.15; every node has the same, so they are read-only."""
    x, y = (TensorType("i16", (), Quant((scale,))) for scale in (GATE_SCALE, CURVE_SCALE))
    curves = (sigmoid_function, lambda xp, v: xp.tanh(v))
    sigmoid, tanh = (table_16(curve, x, y, entries)[0] for curve in curves)
    for table in (sigmoid, tanh):
        table.setflags(write=False)
    return sigmoid, tanh


def gate_constants(
    who: str, name: str, x: TensorType, weight: TensorType, codes: np.ndarray, bias: np.ndarray | None,
    numerics: Numerics,
) -> tuple[Constant, np.ndarray, np.ndarray]:  # fmt: skip
    """Integer bias, multipliers (int32) and shifts (int8) of s_x * s_w[j] / 2^-12, one per row of a weight.

    name: what the bias is called. Proves the accumulator wrap-free, and that it still fits after the
    left shift.
    """
    whole = replace(bias_constant(who, x, weight, codes, bias, numerics), name=name)
    return whole, *row_multipliers(who, x, weight, codes, whole.value, GATE_SCALE, numerics)


def row_multipliers(
    who: str, x: TensorType, weight: TensorType, codes: np.ndarray, bias: np.ndarray, scale: float,
    numerics: Numerics,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Multipliers and shifts of s_x * s_w[j] / scale, their accumulator proved wrap-free."""
    dtype = accumulator(x)
    reach = proved_reach(who, accumulator_bound(codes, x, bias, weight.zero_point), dtype, numerics)
    scales = channel_scales(weight, len(codes))
    return channel_multipliers(x.scale, scales, scale, numerics.rounding, shift_bound(dtype, reach))


def constants_of(arrays: dict[str, np.ndarray]) -> tuple[Constant, ...]:
    """Constants by name: a `…table` or `…factor` is i16, a `…multiplier` i32, a `…shift` i8."""
    return tuple(Constant(name, _constant_type(name, array), array) for name, array in arrays.items())


def _constant_type(name: str, array: np.ndarray) -> TensorType:
    wide = {"table": "i16", "factor": "i16", "multiplier": "i32", "shift": "i8"}
    return TensorType(wide[name.split("_")[-1]], array.shape)


def constant_codes(who: str, names: dict[str, np.ndarray | None]) -> list[np.ndarray]:
    """The codes of weights. Raises LoweringError where they are computed."""
    if any(codes is None for codes in names.values()):
        raise LoweringError(f"{who}: {' and '.join(names)} must be constants; fold what makes them")
    return [codes for codes in names.values() if codes is not None]


def check_states(who: str, signature: Signature, states: dict[str, int]) -> None:
    """Raise LoweringError unless every result has the codes of its state; states: operand by result."""
    for (name, position), kind in zip(states.items(), signature.outputs, strict=True):
        state = signature.input(position)
        if (kind.dtype, kind.quant) != (state.dtype, state.quant):
            raise LoweringError(
                f"{who}: result {name} is {kind}, its state before it {state}; give both one code type"
            )
