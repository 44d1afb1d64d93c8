"""The layer norm of an LSTM's gates: group_norm of `nnaq.kernels.norm`, Q3.12 to Q3.12, a group per gate."""

import numpy as np

from nnaq.errors import LoweringError
from nnaq.ir.op import Constant, Signature
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels.fixedpoint import CODES
from nnaq.kernels.lstm_numbers import C0, NORM_BIAS, NORM_WEIGHT, OPERANDS, gate_count, norm_epsilon
from nnaq.kernels.norm import GROUP
from nnaq.kernels.norm_affine import affine_constants, affine_reference, tail_reference
from nnaq.kernels.norm_rows import check_count, row_constants, row_numbers, row_reference
from nnaq.kernels.recurrent_numbers import GATE_SCALE, product_rounding

GATES = TensorType("i16", (), Quant((GATE_SCALE,)))
TAIL = ("norm_weight", "norm_bias", "norm_multiplier", "norm_shift")
NUMBERS = ("norm_epsilon", "norm_epsilon_shift", "norm_room")

Norm = tuple[bool, tuple[np.ndarray, ...], tuple[int, int, int], int]


def prepare_norm(
    signature: Signature, constants: tuple[np.ndarray | None, ...], rounding: str
) -> tuple[tuple[Constant, ...], tuple[Constant, ...]]:
    """norm_weight and norm_bias, and what stands behind the other constants.

    Raises LoweringError for computed parameters and for rows too long for 64 bits.
    """
    units, given = int(signature.input(C0).shape[1]), []
    for position in (NORM_WEIGHT, NORM_BIAS):
        given.append(constants[position] if signature.has(position) else None)
        if signature.has(position) and given[-1] is None:
            raise LoweringError(
                f"lstm: {OPERANDS[position].rstrip('?')} must be a constant; fold what makes it"
            )
    rows, after = gate_count(signature.attrs) * units, product_rounding(rounding)
    unit = 2.0**-GROUP.fraction
    weight, bias, *rescale = affine_constants(
        "lstm norm", (rows,), given[0], given[1], unit, GATE_SCALE, after
    )
    fixed = row_constants(GROUP, GATES, norm_epsilon(signature.attrs))
    check_count(GROUP, units, int(fixed[-1].value))
    named = [
        Constant(f"norm_{part.name}", part.type, part.value) for part in (weight, bias, *rescale, *fixed)
    ]
    return tuple(named[:2]), tuple(named[2:])


def no_norm() -> Norm:
    """The arguments of the compiled recurrence for a node without a norm, of the same types."""
    tables = [np.empty(0, dtype) for dtype in (np.int16, np.int32, np.int64, np.int32, np.int8)]
    return False, tuple(tables), (0, 0, 0), 0


def norm_arguments(signature: Signature, arrays: dict[str, np.ndarray]) -> Norm:
    """The arguments of the compiled recurrence: the table, the tail, the numbers of a row, the rounding."""
    tail, after = (arrays[name] for name in TAIL), product_rounding(str(signature.attrs["rounding"]))
    return True, (arrays["norm_table"], *tail), _numbers(signature, arrays), CODES[after]


def _numbers(signature: Signature, arrays: dict[str, np.ndarray]) -> tuple[int, int, int]:
    units = int(signature.input(C0).shape[1])
    return row_numbers(GROUP, units, *(int(arrays[name]) for name in NUMBERS))


class ReferenceNorm:
    """The norm of all gates of one row of the batch, in Python integers."""

    def __init__(self, signature: Signature, arrays: dict[str, np.ndarray]) -> None:
        self.gates, self.numbers = gate_count(signature.attrs), _numbers(signature, arrays)
        self.tail = tail_reference(*(arrays[name] for name in TAIL))
        self.table = arrays["norm_table"].tolist()
        self.rounding = product_rounding(str(signature.attrs["rounding"]))

    def codes(self, a: list[int]) -> list[int]:
        units, made = len(a) // self.gates, []
        for start in range(0, len(a), units):
            row = row_reference(GROUP, a[start : start + units], self.table, *self.numbers)
            made += [
                affine_reference(z, start + j, self.tail, GATES, self.rounding) for j, z in enumerate(row)
            ]
        return made
