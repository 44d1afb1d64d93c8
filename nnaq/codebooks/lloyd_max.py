"""Lloyd-Max on the int8 grid: the centroids round inside the loop.

Objective    D(table) = Σ v (u - nearest entry)², a local minimum over tables of at most `entries` codes.
Method       Borders to the middle between neighbours, every entry to the rounded mean of its weights, again
             and again. Among whole numbers the one nearest to the mean is best for a cell, as D is a parabola
             around the mean; the new borders are best for the new entries. So D never rises, and the loop
             ends when it stops falling: after finitely many rounds, as there are finitely many tables.
             Entries that round to the same code leave room, which goes to the bin that loses most.
             With `zero` the entry 0 stays where it is while the others move.
Start        entries at equal shares of the cube root of the density, the asymptotically best spacing.
Complexity   O(508) a round, some ten rounds; the number of weights does not enter.
Memory       O(508).
Source       Lloyd 1982, Max 1960; the start is Panter and Dite 1951. Rounding inside the loop is a
             reconstruction of how sub-8-bit quantisation-aware training for 8-bit accelerators meets int8.
"""

from collections.abc import Iterator

import numpy as np

from nnaq.codebooks.grid import BIN_NUMBERS, HIGHEST, Histogram, Table, without_unused


def lloyd_max(moments: Histogram, entries: int, zero: bool = False) -> Table:
    """The table at which the iteration rests, ascending, without entries that no weight needs."""
    *_, table = iterate(moments, entries, zero)
    return without_unused(moments, table, zero)


def iterate(moments: Histogram, entries: int, zero: bool = False) -> Iterator[Table]:
    """The tables of the iteration, the start first; the distortion falls from each to the next."""
    table, reached = _start(moments, entries, zero), np.inf
    while (distortion := moments.distortion(table)) < reached:
        yield table
        reached = distortion
        rounded = np.clip(np.rint(moments.means(table)), -HIGHEST, HIGHEST).astype(int)
        moved = [0 if zero and old == 0 else int(new) for old, new in zip(table, rounded, strict=True)]
        table = _filled(moments, moved, entries)


def _start(moments: Histogram, entries: int, zero: bool) -> Table:
    """Entries in the middle of equal shares of the cube root of the density."""
    shares = np.cumsum(np.cbrt(moments.mass))
    if shares[-1] == 0:
        return (0,)
    wanted = (np.arange(entries) + 0.5) / entries * shares[-1]
    codes = np.clip(np.rint(BIN_NUMBERS[np.searchsorted(shares, wanted)] / 2 - 0.25), -HIGHEST, HIGHEST)
    if zero:
        codes[np.abs(codes).argmin()] = 0
    return _filled(moments, codes.astype(int).tolist(), entries)


def _filled(moments: Histogram, codes: list[int], entries: int) -> Table:
    """The distinct codes in order; room that is left goes to the bins that lose most."""
    table = tuple(sorted(set(codes)))
    while len(table) < entries:
        worst = int(moments.losses(table).argmax())
        mean = BIN_NUMBERS[worst] / 2 + moments.first[worst] / (moments.mass[worst] or 1)
        code = int(np.clip(np.rint(mean), -HIGHEST, HIGHEST))
        if code in table:
            break
        table = tuple(sorted((*table, code)))
    return table
