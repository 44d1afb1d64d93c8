"""The numbers that a frame of a recurrent layer is computed with: rescales as two shifts, tables as places.

All roundings of whole numbers are one formula, `Lanes.shifted` and `Lanes.rescaled` of
`nnaq.kernels.machine.lanes`, with numbers of their own; half_even is another, in floats. With
M = q * 2^(s-31), n = 31 - s for a product by q and n = 1 - s for a power of two, which needs none,

    single, pot_shift    (x*q + 2^(n-1)) >> n
    floor                (x*q) >> n
    truncate             (x*q + (2^n - 1 if x < 0 else 0)) >> n
    half_up_shift        h = (x*2^max(s,0)*q + 2^30) >> 31, r = max(-s, 0);  r = 0: h, else (h + 2^(r-1)) >> r
    double               the same h;  r = 0: h, else (h + 2^(r-1) - (1 if h < 0 else 0)) >> r

which are those of `nnaq.kernels.fixedpoint`: a tie of double goes away from zero, so that below zero it is
the lower neighbour. Products stay within 62 bits, |x| <= 2^31 and s <= 1; the upper 32 bits of such a sum,
moved left until they are those that count, are what the second shift reads.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from nnaq.kernels.recurrent_numbers import HIGH, LOW, Pair

Grid = tuple[int, int] | None
HALF_UP = ("single", "pot_shift")
TWO_ROUNDINGS = ("double", "half_up_shift")  # a half up at 31 bits, then another


def shift_numbers(pair: Pair, rounding: str) -> list[int]:
    """The five numbers of `Lanes.shifted` for a power of two below 1."""
    multiplier, shift = pair
    if rounding == "half_even":
        return [multiplier, 0, 0, 0, 0]
    n = 1 - shift
    if rounding in TWO_ROUNDINGS:
        return [1, 1, *_second(n - 1, rounding)]
    half = 1 << (n - 1) if rounding in HALF_UP else 0
    return [0, 0, half, (1 << n) - 1 if rounding == "truncate" else 0, n]


def rescale_numbers(pair: Pair, rounding: str, low: int = LOW, high: int = HIGH) -> list[int]:
    """The nine numbers of `Lanes.rescaled`; low and high: of the codes less their zero_point."""
    multiplier, shift = pair
    limits = low, high
    if rounding == "half_even":
        return [multiplier, 0, 0, 0, 0, 0, 0, *limits]
    if rounding in TWO_ROUNDINGS:
        return [multiplier, 1 + max(shift, 0), 1 << 31, 0, *_second(max(-shift, 0), rounding), *limits]
    n = 31 - shift
    left = max(32 - n, 0)
    half = 1 << (n - 1) if rounding in HALF_UP else 0
    below = (1 << n) - 1 if rounding == "truncate" else 0
    return [multiplier, left, half << left, below << left, 0, 0, max(n - 32, 0), *limits]


def _second(r: int, rounding: str) -> list[int]:
    """The second shift, by r, of the roundings that have two."""
    return [1 << (r - 1), -int(rounding == "double"), r] if r else [0, 0, 0]


def product_numbers(pair: Pair, rounding: str, low: int = LOW, high: int = HIGH) -> list[int]:
    """What `multiply` and `multiply_both` read."""
    return [_floats(rounding), *rescale_numbers(pair, rounding, low, high)]


def blend_numbers(keep: Pair, new: Pair, rounding: str, grid: Grid) -> list[int]:
    """What `blend` reads; grid: of the blended value."""
    second = shift_numbers(new, rounding)
    return [_floats(rounding), *shift_numbers(keep, rounding), *_step(grid), *second]


def curve_numbers(
    pair: Pair, rounding: str, grid: Grid, entries: int, begin: int = 0, code_grid: Grid = None
) -> list[int]:
    """What `interpolate` reads, for a table of 513 or 65,536 entries that begins at `begin`.

    grid: of the result; code_grid: of the code that is looked up.
    """
    places = (0, begin + 32768, 0) if entries == 65536 else (7, begin + 256, 127)
    return [_floats(rounding), *shift_numbers(pair, rounding), *_step(grid), *_step(code_grid), *places]


def _floats(rounding: str) -> int:
    return int(rounding == "half_even")


def _step(grid: Grid) -> tuple[int, int]:
    """Half a step and the mask; None is the grid of all codes."""
    return (0, -1) if grid is None else grid


def joined(tables: Sequence[np.ndarray]) -> tuple[np.ndarray, list[int]]:
    """Tables one behind the other, and where each begins; the last entries stand twice."""
    ends = np.cumsum([0, *(table.size + 1 for table in tables)])
    return np.concatenate([np.append(table, table[-1:]) for table in tables]), ends[:-1].tolist()


def matrix_of(rows: Mapping[int, list[int]]) -> np.ndarray:
    """Numbers of several passes as rows of one i64 array, by their places."""
    made = np.zeros((len(rows), max(map(len, rows.values()))), np.int64)
    for place, numbers in rows.items():
        made[place, : len(numbers)] = numbers
    return made
