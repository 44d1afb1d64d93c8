"""Evenly spaced entries, clipped where it pays.

Objective    D(table) = Σ v (u - nearest entry)², least over the tables that are looked at.
Method       Levels in [-1, 1] times the reach of the weights (127, if the scale is their largest over 127)
             times a clip factor, rounded to int8; factors 1.00, 0.95 … 0.05.
             Without `zero`: mirrored levels, none of them 0 (mid-rise), or, if that loses less, with 0.
             With `zero`: j / n for the whole j in [-n, n] if the number of entries is odd; if it is even, one
             level less on either side, whichever loses less.
Complexity   at most 60 distortions of O(508); the number of weights does not enter.
Memory       O(508).
Convergence  none; a search through a stated list.
Source       a reconstruction: trying eleven clip factors 1.0 … 0.5 is the practice of public code for 2- and
             4-bit speech models (praxis, with mean |error|); tables of 1 and 2 bits need smaller ones too.
"""

import numpy as np

from nnaq.codebooks.grid import Histogram, Table, best_table, without_unused

CLIP_FACTORS = tuple(round(1 - 0.05 * i, 2) for i in range(20))


def uniform(moments: Histogram, entries: int, zero: bool = False) -> Table:
    """The best evenly spaced table, ascending, without entries that no weight needs."""
    tables = [on_grid(moments, levels) for levels in even_levels(entries, zero)]
    return without_unused(moments, best_table(moments, np.concatenate(tables)), zero)


def even_levels(entries: int, zero: bool) -> list[np.ndarray]:
    """Evenly spaced levels in [-1, 1]: each array one way to place them."""
    mirrored = [np.linspace(-1, 1, entries)]
    if entries % 2:
        return mirrored
    half = entries // 2
    with_zero = [np.arange(-half, half) / half, np.arange(1 - half, half + 1) / half]
    return with_zero if zero else mirrored + with_zero


def on_grid(moments: Histogram, levels: np.ndarray) -> np.ndarray:
    """The levels times the reach of the weights, clipped by every factor, rounded: [factors, levels]."""
    sizes = moments.reach() * np.array(CLIP_FACTORS)
    return np.asarray(np.rint(sizes[:, None] * levels), np.int64)
