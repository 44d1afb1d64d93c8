"""Steps in plain Python integers that references of recurrent operators share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnaq.kernels.fixedpoint import requantize_reference, saturate_reference
from nnaq.kernels.lut import lookup_reference
from nnaq.kernels.narrow import Narrow, sum_reference
from nnaq.kernels.recurrent_numbers import HIGH, LOW, Pair


def sat16(value: int) -> int:
    return min(max(value, LOW), HIGH)


def scaled(value: int, pair: Pair, rounding: str) -> int:
    """sat16(requantize(value))."""
    return sat16(requantize_reference(value, pair[0], pair[1], rounding))


def curve(a: int, table: list[int], pair: Pair, rounding: str) -> int:
    """The Q0.15 value of a table at a."""
    return scaled(lookup_reference(a, table), pair, rounding)


@dataclass(frozen=True)
class Rows:
    """The rows of a weight with bias, multiplier and shift each, as Python integers."""

    weights: list[list[int]]
    bias: list[int]
    multipliers: list[Pair]
    rounding: str
    narrow: Narrow | None = None

    @classmethod
    def of(
        cls, weight: np.ndarray, zero_point: int, bias: np.ndarray | None, q: np.ndarray, s: np.ndarray,
        rounding: str, narrow: Narrow | None = None,
    ) -> "Rows":  # fmt: skip
        rows = [[w - zero_point for w in row] for row in weight.tolist()]
        whole = [0] * len(rows) if bias is None else bias.tolist()
        return cls(rows, whole, list(zip(q.tolist(), s.tolist(), strict=True)), rounding, narrow)

    def codes(
        self, j: int, column: Sequence[int], zero_point: int = 0, low: int = LOW, high: int = HIGH
    ) -> int:
        """saturate(requantize(bias[j] + Σ w[j] * column) + zero_point)."""
        total = sum_reference(self.narrow, self.bias[j], self.weights[j], column)
        q, s = self.multipliers[j]
        return saturate_reference(requantize_reference(total, q, s, self.rounding), zero_point, low, high)
