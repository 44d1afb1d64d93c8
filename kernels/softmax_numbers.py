"""The numbers of an integer softmax: fixed-point constants, the input's multiplier, the tables.

The formulas are those of `nnaq.kernels.softmax`.
"""

import math
from collections.abc import Callable

import numpy as np

from nnaq.errors import LoweringError
from nnaq.ir.op import Constant
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels.boundary import round_real
from nnaq.kernels.fixedpoint import quantize_multiplier

ONE = 2**31 - 1  # the largest Q0.31
QUARTER = 1 << 24  # in Q5.26
EIGHTH = 1 << 28  # in Q0.31
EXP_OF_MINUS_EIGHTH, THIRD = 1895147668, 715827883  # Q0.31
# exp(-2^(k-26)) in Q0.31 for the bits k = 24 … 30
FACTORS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
FIRST_BIT = 24
NEWTON_48_17, NEWTON_32_17, NEWTON_ONE = 1515870810, -1010580540, 1 << 29  # Q2.29
NEWTON_STEPS = 3
REACH = 31 << 26  # the largest -d in Q5.26 that exp does not take for 0
# dtype of the result -> bits of a probability, its codes
SHARES = {"i8": (8, Quant((2.0**-8,), -128)), "i16": (15, Quant((2.0**-15,)))}


def input_multiplier(x: TensorType) -> tuple[int, int]:
    """multiplier and shift that bring differences of codes of type `x` to the argument of exp."""
    if x.dtype == "i8":
        scale = min(max(x.scale * 2.0**26, 1.0), float(ONE))
    elif x.dtype == "i16":
        scale = min(max(x.scale / (10.0 / 65535.0), 2.0**-31), 2.0**16)
    else:
        raise LoweringError(f"softmax: x must be i8 or i16, found {x.dtype}")
    mantissa, exponent = math.frexp(scale)
    multiplier, carry = quantize_multiplier(mantissa)
    return multiplier, exponent + carry


def table_constants() -> tuple[Constant, Constant]:
    """The tables of exp on [-10, 0] and of 1 / (1 + x) on [0, 1]."""
    kind = TensorType("i16", (513,))
    exponential = corrected_table(np.exp, -10.0, 0.0)
    reciprocal = corrected_table(lambda x: 1.0 / (1.0 + x), 0.0, 1.0)
    return Constant("exp_table", kind, exponential), Constant("reciprocal_table", kind, reciprocal)


def corrected_table(function: Callable[[np.ndarray], np.ndarray], first: float, last: float) -> np.ndarray:
    """513 entries in Q0.15 of `function` on [first, last], by the rule of `nnaq.kernels.softmax`."""
    step = (last - first) / 512
    x = first + step * np.arange(513)
    exact, middle = 2.0**15 * function(x), 2.0**15 * function(x[:-1] + step / 2)
    entries = round_real(np, exact, "half_away")
    between = round_real(np, (exact[1:] + entries[:-1]) / 2, "half_away")
    error = between - round_real(np, middle, "half_away")
    entries[:-1] -= round_real(np, error / 2, "half_away")
    return np.asarray(np.clip(entries, -(2**15), 2**15 - 1), np.int16)
