"""The best int8 table there is, by dynamic programming over neighbouring entries.

Objective    D(table) = Σ v (u - nearest entry)², least over ALL tables of at most `entries` distinct whole
             numbers in [-127, 127]; with `zero`, over all such tables that have the entry 0.
Method       Weights between neighbours a < b cost c(a, b), whatever the other entries are: up to (a + b) / 2
             their distance to a counts, above it that to b. A table is a path through the 255 codes, and

                 best(1, b) = cost of all up to b, if b is the lowest entry
                 best(j, b) = min over a < b of best(j - 1, a) + c(a, b)
                 D = min over b of best(entries, b) + cost of all above b.

             A weight between b and c is nearer to b than to any a < b, and nearer to c than to any d > c,
             hence c(a, c) + c(b, d) <= c(a, d) + c(b, c) for a <= b <= c <= d: the best predecessor of (j, b)
             lies between that of (j - 1, b) and that of (j, b + 1), and few pairs are ever looked at. `zero`
             forbids pairs that skip 0 and keeps the inequality.
Complexity   O(255 * (255 + entries)), plus O(255²) for the costs; the number of weights does not enter.
Memory       two arrays [255, 255] of costs, two [entries, 255] for the paths.
Convergence  none to speak of: the result is the global optimum, up to the rounding of float64 sums.
Source       one-dimensional k-means by dynamic programming is classical (Bellman 1973; Wu 1991 with the
             inequality). That entries stay on the grid of int8, by way of half-step moments, is ours.
"""

import numpy as np

from nnaq.codebooks.grid import BINS, FIRST_BIN, HIGHEST, Histogram, Table, without_unused
from nnaq.jit import jit

CODES = 2 * HIGHEST + 1


def optimal(moments: Histogram, entries: int, zero: bool = False) -> Table:
    """The table of least distortion, ascending, without entries that no weight needs."""
    costs, lowest, highest = np.zeros((CODES, CODES)), np.zeros(CODES), np.zeros(CODES)
    _costs(moments.mass, moments.first, moments.second, costs)
    _outer_costs(moments.mass, moments.first, moments.second, lowest, highest)
    if zero:
        costs[:HIGHEST, HIGHEST + 1 :] = np.inf
        lowest[HIGHEST + 1 :] = highest[:HIGHEST] = np.inf
    path = np.empty(min(entries, CODES), np.int64)
    _best_path(costs, lowest, highest, path)
    return without_unused(moments, tuple(int(node) - HIGHEST for node in path), zero)


# Compiled code here calls nothing compiled elsewhere; see grid.py.
@jit
def _costs(mass: np.ndarray, first: np.ndarray, second: np.ndarray, costs: np.ndarray) -> None:
    """Costs of pairs a < b; each half grows outwards from its entry: near bins lose no digit to far ones."""
    for node in range(CODES):
        own = 2 * (node - HIGHEST) - FIRST_BIN  # the bin that ends at the entry
        total = 0.0
        for steps in range(1, CODES - node):  # own + steps ends at the border to a right neighbour
            i, gap = own + steps, steps / 2
            total += second[i] + 2 * gap * first[i] + gap * gap * mass[i]
            costs[node, node + steps] += total
        total = 0.0
        for steps in range(node):  # own - steps begins at the border to a left neighbour
            i, gap = own - steps, -steps / 2
            total += second[i] + 2 * gap * first[i] + gap * gap * mass[i]
            costs[node - steps - 1, node] += total


@jit
def _outer_costs(
    mass: np.ndarray, first: np.ndarray, second: np.ndarray, lowest: np.ndarray, highest: np.ndarray
) -> None:
    """Cost of all weights up to a lowest entry, and of all above a highest one.

    Moments about an entry move on to the next one: Σ v (x ± 1)² = Σ v x² ± 2 Σ v x + Σ v, where every term
    adds, as all weights lie on one side.
    """
    zeroth = along = square = 0.0
    for node in range(CODES - 1, -1, -1):
        square += 2 * along + zeroth
        along += zeroth
        own = 2 * (node - HIGHEST) - FIRST_BIN
        for steps in range(1, 3):
            if own + steps < BINS:
                i, gap = own + steps, steps / 2
                square += second[i] + 2 * gap * first[i] + gap * gap * mass[i]
                along += first[i] + gap * mass[i]
                zeroth += mass[i]
        highest[node] = square
    zeroth = along = square = 0.0
    for node in range(CODES):
        square += zeroth - 2 * along
        along -= zeroth
        own = 2 * (node - HIGHEST) - FIRST_BIN
        for steps in range(2):
            if own - steps >= 0:
                i, gap = own - steps, -steps / 2
                square += second[i] + 2 * gap * first[i] + gap * gap * mass[i]
                along += first[i] + gap * mass[i]
                zeroth += mass[i]
        lowest[node] = square


@jit
def _best_path(costs: np.ndarray, lowest: np.ndarray, highest: np.ndarray, path: np.ndarray) -> None:
    """Write the nodes of the best path with path.size nodes."""
    steps = path.size
    best, before = np.full((steps, CODES), np.inf), np.zeros((steps, CODES), np.int64)
    best[0] = lowest
    for j in range(1, steps):
        limit = CODES - 2
        for node in range(CODES - 1, j - 1, -1):
            low, high = max(before[j - 1, node], j - 1), min(limit, node - 1)
            chosen = low
            for a in range(low, high + 1):
                total = best[j - 1, a] + costs[a, node]
                if total < best[j, node]:
                    best[j, node], chosen = total, a
            before[j, node] = limit = chosen
    path[steps - 1] = np.argmin(best[steps - 1] + highest)
    for j in range(steps - 1, 0, -1):
        path[j - 1] = before[j, path[j]]
