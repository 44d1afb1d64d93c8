"""The best real centroids there are: exact one-dimensional k-means, on no grid.

A yardstick, not a table for hardware: no int8 table at any one scale loses less, and what `optimal` loses
more is the price of the int8 grid.

Objective    Σ v (x - nearest centroid)², least over all sets of at most `entries` real numbers.
Method       Of sorted values an optimal cluster is a run, and a run saves (Σ v x)² / Σ v against Σ v x². With
             values of mean 0 and prefix sums, over the first i distinct values,

                 saved(1, i) = run(0, i),    saved(j, i) = max over a < i of saved(j - 1, a) + run(a, i).

             run(a, i) obeys the quadrangle inequality, so the best a never falls as i or j grows: the middle
             i of an interval, found by a scan, halves the scans of both sides, and that of j - 1 cuts them.
Complexity   O(n log n) for sorting, O(entries * n log n) for n distinct values.
Memory       O(n) for sums, entries * n int32 for the paths.
Convergence  none to speak of: the global optimum, up to the rounding of float64 prefix sums, a few 1e-16 of
             the whole Σ v. Hence the importance may spread over twelve orders of magnitude, no more: a run
             of less than about 1e-15 of Σ v has no mass left, and its centroid is no number.
Source       dynamic programming with divide and conquer for k-means on a line, as in the literature around
             Ckmeans.1d.dp (Wang and Song 2011) and Grønlund et al. 2017.
"""

import numpy as np

from nnaq.jit import jit


def optimal_real(values: np.ndarray, entries: int, importance: np.ndarray | None = None) -> np.ndarray:
    """The centroids, float64, ascending; as many as distinct values if these are fewer than `entries`.

    values: finite; importance: of the shape of the values, each 0 or at least 1e-12 of their sum; None:
    the same everywhere.
    """
    flat = np.asarray(values, np.float64).ravel()
    weights = np.ones(flat.size) if importance is None else np.asarray(importance, np.float64).ravel()
    order = np.argsort(flat[weights > 0])
    flat, weights = flat[weights > 0][order], weights[weights > 0][order]
    if flat.size == 0:
        return np.zeros(0)
    first = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    points: np.ndarray = flat[first]
    mass = np.add.reduceat(weights, first)
    if points.size <= entries:
        return points
    middle = np.average(points, weights=mass)
    masses = np.concatenate([[0.0], np.cumsum(mass)])
    sums = np.concatenate([[0.0], np.cumsum(mass * (points - middle))])
    borders = np.empty(entries + 1, np.int64)
    _best_runs(masses, sums, borders)
    centroids: np.ndarray = np.diff(sums[borders]) / np.diff(masses[borders]) + middle
    return centroids


# Compiled code here calls nothing compiled elsewhere; see grid.py.
@jit
def _best_runs(masses: np.ndarray, sums: np.ndarray, borders: np.ndarray) -> None:
    """Write where the runs of the best partition begin, and the end of the last one."""
    runs, size = borders.size - 1, masses.size - 1
    before = np.zeros((runs, size + 1), np.int32)
    saved = np.zeros(size + 1)
    saved[1:] = sums[1:] * sums[1:] / masses[1:]
    for j in range(1, runs):
        last = j == runs - 1
        saved = _one_more_run(masses, sums, saved, before[j - 1], before[j], j, size if last else j + 1)
    borders[runs] = size
    for j in range(runs - 1, -1, -1):
        borders[j] = before[j, borders[j + 1]]


@jit
def _one_more_run(
    masses: np.ndarray,
    sums: np.ndarray,
    saved: np.ndarray,
    fewer: np.ndarray,
    before: np.ndarray,
    runs: int,
    start: int,
) -> np.ndarray:
    """From saved(runs, a), a >= runs, what one run more saves for i >= start; and the best a of each i.

    fewer: the best a of each i with `runs` runs; before: written, with one more.
    """
    more = np.zeros(saved.size)
    todo = np.empty((64, 4), np.int64)  # intervals of i with the bounds of their a; depth is log2 of the size
    todo[0] = start, saved.size - 1, runs, saved.size - 2
    waiting = 1
    while waiting:
        waiting -= 1
        low, high, least, most = todo[waiting]
        i = (low + high) // 2
        from_here = min(max(least, np.int64(fewer[i])), most)
        best, chosen = -1.0, from_here
        for a in range(from_here, min(most, i - 1) + 1):
            run = sums[i] - sums[a]
            total = saved[a] + run * run / (masses[i] - masses[a])
            if total > best:
                best, chosen = total, a
        more[i], before[i] = best, chosen
        if low < i:
            todo[waiting] = low, i - 1, least, chosen
            waiting += 1
        if i < high:
            todo[waiting] = i + 1, high, chosen, most
            waiting += 1
    return more
