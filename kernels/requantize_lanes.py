"""Requantisation of many values of 32 bits: the formulas of kernels/fixedpoint.py in vector lanes.

x*q + 2^(30-s) stays in 63 bits for |x| < 2^31, q < 2^31 and s >= -31, so that one product and one shift do
what `scaled` needs two of each for (`machine.rescaling`). Each rounding becomes one of three kinds:

    single         WHOLE   factor q, offset 2^(30-s), right 31-s
    floor          WHOLE   factor q, offset 0, right 31-s
    double_m16     WHOLE   factor Q, offset 2^(14-s), right 15-s
    pot_shift      WHOLE   factor 1, offset 2^(n-1) (0 where n is 0), right n = 1-s
    truncate       TWICE   factor q, offset 0, below 2^n - 1, right n = 31-s: a ceiling below 0
    double         TWICE   factor q, offset 2^(30-l), right 31-l, l = max(s, 0), after max(-s, 0), away 1
    half_up_shift  TWICE   the same with away 0
    half_even      REAL    scale the float32 whose bits are q
"""

from collections.abc import Sequence

import numpy as np

from nnaq.jit import jit
from nnaq.kernels.fixedpoint import HALF_EVEN, requantize, saturate
from nnaq.kernels.machine.epilogue import requantize_map
from nnaq.kernels.machine.rescaling import HALF, LARGEST_REAL, REAL, TWICE, WHOLE

KINDS = {"truncate": TWICE, "double": TWICE, "half_up_shift": TWICE, "half_even": REAL}


@jit
def requantize_lanes(sums, bias, multiplier, shift, rounding, zero_y, low, high, out):  # type: ignore[no-untyped-def]
    """out[o] = saturate(requantize(sums[o] + bias[o]) + z_y); sum and bias are proved within 32 bits.

    Codes of at most 16 bits; contiguous arrays. SINGLE, DOUBLE and HALF_EVEN are numbered like their kinds.
    """
    if rounding <= HALF_EVEN:
        requantize_map(sums, bias, multiplier, shift, out, low - zero_y, high - zero_y, zero_y, rounding)
    else:
        for o in range(out.size):
            y = requantize(np.int64(np.int32(sums[o] + bias[o])), multiplier[o], shift[o], rounding)
            out[o] = saturate(y, zero_y, low, high)


def kind_of(rounding: str) -> int:
    """The kind of loop that makes a rounding."""
    return KINDS.get(rounding, WHOLE)


def stage_rows(q: int, s: int, rounding: str, reach: int) -> list[int] | None:
    """The numbers of a stage for values of at most `reach` in size; None where a result can leave 32 bits."""
    factor, offset, below, right, after, away = _stage_numbers(q, s, rounding)
    if rounding == "half_even":
        fits = reach <= 2**31 and reach * float(np.array(q, np.int32).view(np.float32)) < LARGEST_REAL
    else:
        fits = reach <= 2**31 and (reach * factor + offset) >> right < 2**31
    if not fits:
        return None
    first, mask = min(right, 32), (1 << after) - 1
    words = (right - first, after, mask, mask >> 1, away)
    return [twice(factor), offset, below, first, 32 - first, *map(twice, words)]


def _stage_numbers(q: int, s: int, rounding: str) -> tuple[int, int, int, int, int, int]:
    """factor, offset, below, right, after and away of the module's table."""
    n, left = 31 - s, max(s, 0)
    if rounding == "single":
        return q, 1 << (n - 1), 0, n, 0, 0
    if rounding == "floor":
        return q, 0, 0, n, 0, 0
    if rounding == "truncate":
        return q, 0, (1 << n) - 1, n, 0, 0
    if rounding == "double_m16":
        narrow = 0x7FFF if q >= 0x7FFF0000 else (q + (1 << 15)) >> 16
        return narrow, 1 << (14 - s), 0, 15 - s, 0, 0
    if rounding == "pot_shift":
        return 1, (1 << -s) if s < 1 else 0, 0, 1 - s, 0, 0
    if rounding == "half_even":
        return q, 0, 0, 0, 0, 0
    return q, 1 << (30 - left), 0, 31 - left, max(-s, 0), int(rounding == "double")


def twice(number: int) -> int:
    """A number of 32 bits in both halves of 64."""
    both = (number & 0xFFFFFFFF) * (2**32 + 1)
    return both - 2**64 if both >= 2**63 else both


def limit_rows(zero: int, low: int, high: int) -> list[int]:
    """The limits of codes, and their zero_point."""
    return [twice(low - zero), twice(high - zero), twice(zero)]


def rescaling_rows(
    zeros: Sequence[int], stages: Sequence[list[int] | None], limits: list[int]
) -> np.ndarray | None:
    """The rows of a map: numbers of 32 bits, stages, limits; None where a stage does not fit."""
    rows = list(map(twice, zeros))
    for stage in stages:
        if stage is None:
            return None
        rows += stage
    return lanes_of(rows + limits)


def lanes_of(rows: Sequence[int]) -> np.ndarray:
    """Numbers of 64 bits, each in every lane of a row."""
    return np.repeat(np.array(rows, np.int64), HALF)
