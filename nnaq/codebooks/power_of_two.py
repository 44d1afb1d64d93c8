"""Entries 0 and ±2^e: a product with one of them is a shift.

Objective    D(table) = Σ v (u - nearest entry)², least over the tables that are looked at.
Method       Each sign takes neighbouring exponents up to a common highest one, which is chosen from 0 … 6,
             the powers int8 holds. The entries besides 0 are shared evenly; where one is left over, the sign
             that gains more takes it. Without `zero` the tables without 0 are looked at too.
             There are 15 such codes, so five bits or more find no more than four.
Complexity   at most 21 distortions of O(508); the number of weights does not enter.
Memory       O(508).
Convergence  none; a search through a stated list.
Source       a reconstruction of common practice (logarithmic weights, Miyashita et al. 2016, are the model).
"""

from nnaq.codebooks.grid import Histogram, Table, without_unused

EXPONENTS = range(7)


def power_of_two(moments: Histogram, entries: int, zero: bool = False) -> Table:
    """The best table of signed powers of two, ascending, without entries that no weight needs.

    entries: at least 2.
    """
    shapes = {(n, entries - 1 - n) for n in ((entries - 1) // 2, entries // 2)}
    tables = [(*_powers(-1, n, top), 0, *_powers(1, p, top)) for top in EXPONENTS for n, p in sorted(shapes)]
    if not zero:
        half = entries // 2
        tables += [(*_powers(-1, half, top), *_powers(1, half, top)) for top in EXPONENTS]
    return without_unused(moments, min(tables, key=moments.distortion), zero)


def _powers(sign: int, number: int, top: int) -> Table:
    """`number` signed powers of two below and up to 2^top, ascending; fewer where there are no more."""
    return tuple(sorted(sign * 2**e for e in range(max(top - number + 1, 0), top + 1)))
