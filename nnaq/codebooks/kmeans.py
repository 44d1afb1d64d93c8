"""Optimal one-dimensional k-means of int8 codes, exactly, by dynamic programming.

Codes have at most 256 distinct values, so the partition that minimises

    D = Σ_v count(v) (v - table[assign(v)])²

over contiguous groups of values is found in O(2^bits * 256²), whatever the number of weights; the
optimal partition of points on a line is contiguous. The table entry of a group is its mean rounded
to the int8 grid (half to even), so D is optimal for real entries and rounded afterwards.
"""

import numpy as np

from nnaq.ir.types import Palette


def optimal_palette(codes: np.ndarray, bits: int) -> Palette:
    """The palette of at most 2^bits int8 entries that loses least; entries are sorted and distinct.

    Fewer distinct codes than entries give a shorter table and no error.
    """
    values, counts = np.unique(codes, return_counts=True)
    if values.size <= 2**bits:
        return Palette(bits, tuple(int(v) for v in values))
    starts = _partition(values.astype(np.float64), counts.astype(np.float64), 2**bits)
    ends = [*starts[1:], values.size]
    means = [np.average(values[a:b], weights=counts[a:b]) for a, b in zip(starts, ends, strict=True)]
    return Palette(bits, tuple(sorted({int(np.rint(mean)) for mean in means})))


def _partition(values: np.ndarray, counts: np.ndarray, groups: int) -> list[int]:
    """First positions of the groups of the best contiguous partition."""
    total, first, second = (np.concatenate([[0.0], np.cumsum(counts * values**p)]) for p in range(3))
    size = values.size
    mass = total[None, :] - total[:, None]
    linear = first[None, :] - first[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = second[None, :] - second[:, None] - linear**2 / mass
    cost[np.tril_indices(size + 1)] = np.inf  # cost[a, b]: values a..b-1 in one group
    best = cost[0]
    choices = []
    for _ in range(groups - 1):
        totals = best[:, None] + cost
        choices.append(totals.argmin(axis=0))
        best = totals.min(axis=0)
    starts, end = [], size
    for choice in reversed(choices):
        end = int(choice[end])
        starts.append(end)
    return [0, *reversed(starts)]


def nearest(codes: np.ndarray, palette: Palette) -> np.ndarray:
    """Each code moved to the nearest entry of the palette; of two equally near, the lower."""
    return np.asarray(np.array(palette.table, np.int8)[indices(codes, palette)])


def indices(codes: np.ndarray, palette: Palette) -> np.ndarray:
    """The index of the nearest entry for each code, as uint8."""
    table = np.array(palette.table, np.int64)
    middles = (table[1:] + table[:-1]) / 2
    return np.asarray(np.searchsorted(middles, codes, side="left"), np.uint8)
