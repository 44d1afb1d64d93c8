"""The numerics contract of a target: the choices that decide every bit.

A contract is data of the target file; passes hand it to `Op.prepare`, which writes it into the
attributes of the lowered node, so that a lowered graph carries its own contract.
"""

from dataclasses import dataclass
from typing import Literal

from nnaq.errors import TargetError

Rounding = Literal[
    "single", "double", "half_even", "half_up_shift", "pot_shift", "floor", "truncate", "double_m16"
]
TieRule = Literal["half_even", "half_away"]
Overflow = Literal["saturate", "wrap"]
Curves = Literal["rounded", "tflite"]
ROUNDINGS: tuple[str, ...] = Rounding.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Numerics:
    """The choices of one machine.

    rounding          of every requantisation
    input_rounding    ties of the input quantiser
    accumulator_bits  width of the sums of products of 8-bit codes, 16 to 32; sums of products with
                      16-bit activations have 16 bits more. Below 32 they may overflow
    overflow          what a narrow accumulator does: `saturate` after every block, or `wrap`
    array_depth       products that a block adds exactly, K ascending, before it saturates
    lut_entries       of the table of a 16-bit operand: 513 (interpolated) or 65536 (direct)
    internal_bits     of what lstm and gru hold between their sums of products and their results, 6 to 16
    curves            sigmoid and tanh: entries `rounded` from the reals, codes from calibration; or `tflite`,
                      with what its kernels insist on (nnaq.quantize.tflite_codes): their codes of a result,
                      one scale a gate of an lstm, their table of 16 bits in an lstm (65536 entries)

    Accumulators are those of fully_connected, matmul, the convolutions, lstm and gru
    (kernels/narrow.py); sums of normalisations and reductions are exact. lut_entries holds for functions
    of one variable and the curves of lstm and gru; softmax, log, roots, division and normalisations have
    tables of their own formats, which no contract changes. internal_bits holds for pre-activations, levels
    of gates and cells (kernels/internals.py).
    """

    rounding: Rounding = "single"
    input_rounding: TieRule = "half_even"
    accumulator_bits: int = 32
    overflow: Overflow = "saturate"
    array_depth: int = 32
    lut_entries: int = 513
    internal_bits: int = 16
    curves: Curves = "rounded"

    def __post_init__(self) -> None:
        if self.curves == "tflite" and self.lut_entries != 65536:
            raise TargetError('numerics: curves = "tflite" are tables of lut_entries = 65536; write both')

    @property
    def is_narrow(self) -> bool:
        """Whether accumulators may overflow."""
        return self.accumulator_bits < 32
