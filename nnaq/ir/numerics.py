"""The numerics contract of a target: the choices that decide every bit.

A contract is data of the target file; passes hand it to `Op.prepare`, which writes it into the
attributes of the lowered node, so that a lowered graph carries its own contract.
"""

from dataclasses import dataclass
from typing import Literal

Rounding = Literal[
    "single", "double", "half_even", "half_up_shift", "pot_shift", "floor", "truncate", "double_m16"
]
TieRule = Literal["half_even", "half_away"]
ROUNDINGS: tuple[str, ...] = Rounding.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Numerics:
    """rounding: of every requantisation; input_rounding: ties of the input quantiser."""

    rounding: Rounding = "single"
    input_rounding: TieRule = "half_even"
