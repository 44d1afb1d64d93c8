"""Entries that are even after mu-law companding: dense around 0, sparse outside.

    M(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu),    M^-1(y) = sign(y) ((1 + mu)^|y| - 1) / mu,    |x|, |y| <= 1

Objective    D(table) = Σ v (u - nearest entry)², least over the tables that are looked at.
Method       The even levels of `uniform`, through M^-1, times reach and clip factor, rounded to int8; mu in
             1, 3, 7, 15, 31, 63, 127, 255. 0 is an entry where `uniform` has it.
Complexity   at most 480 distortions of O(508); the number of weights does not enter.
Memory       O(508).
Convergence  none; a search through a stated list.
Source       M is that of the telephone (G.711, mu = 255). A table of companded levels on the int8 grid is a
             reconstruction of where the general quantizer for speech models starts; there the levels are
             trained on.
"""

import numpy as np

from nnaq.codebooks.grid import Histogram, Table, best_table, without_unused
from nnaq.codebooks.uniform import even_levels, on_grid

COMPANDINGS = (1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 127.0, 255.0)


def mu_law(
    moments: Histogram, entries: int, zero: bool = False, compandings: tuple[float, ...] = COMPANDINGS
) -> Table:
    """The best companded table over the values of mu, ascending, without entries that no weight needs."""
    tables = [
        on_grid(moments, expand(levels, mu)) for mu in compandings for levels in even_levels(entries, zero)
    ]
    return without_unused(moments, best_table(moments, np.concatenate(tables)), zero)


def expand(y: np.ndarray, mu: float) -> np.ndarray:
    """M^-1(y)."""
    return np.asarray(np.sign(y) * np.expm1(np.abs(y) * np.log1p(mu)) / mu)
