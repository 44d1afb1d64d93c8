"""Which table each row of a weight rounds to, and the entries around any real.

In code units, u = w / scale. `nearest` is that of grid.py: of two equally near entries the lower one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnaq.codebooks.grid import BINS, FIRST_BIN, index_of_bin


@dataclass(frozen=True)
class RowTables:
    """Tables of int8 codes for the rows of a matrix.

    owner: the table of each row, [R]. entries: of each table, float64 [tables, E]; sizes: how many of them
    it has, [tables]. index_of_bin: the nearest entry's index for every bin of grid.py, [tables, 508].
    """

    owner: np.ndarray
    entries: np.ndarray
    sizes: np.ndarray
    index_of_bin: np.ndarray

    def part(self, rows: slice) -> "RowTables":
        """The tables of some of the rows."""
        return replace(self, owner=self.owner[rows])

    def nearest(self, units: np.ndarray) -> np.ndarray:
        """The nearest entry to each u of [R] or [R, n], float64."""
        owner, index = self._indices(units)
        return np.asarray(self.entries[owner, index])

    def neighbours(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The entries at or below and above each u of [R] or [R, n], float64; beyond the last both are it."""
        owner, index = self._indices(units)
        below = index - (self.entries[owner, index] > units)
        last = self.sizes[owner] - 1
        return self.entries[owner, np.maximum(below, 0)], self.entries[owner, np.minimum(below + 1, last)]

    def _indices(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The table of each u and the index of its nearest entry; limited as reals, so no u is too large."""
        bins = np.clip(np.ceil(2 * units) - FIRST_BIN, 0, BINS - 1).astype(np.intp)
        owner = self.owner.reshape(-1, *[1] * (units.ndim - 1))
        return owner, self.index_of_bin[owner, bins]


def row_tables(tables: Sequence[Sequence[int]], rows: int, count: int) -> RowTables:
    """The tables of `count` rows, as a Palette has them.

    tables: each ascending and distinct. rows: how many neighbouring rows share a table; 0: all of them.
    """
    own = [tuple(map(int, table)) for table in tables]
    sizes = np.array([len(table) for table in own])
    entries = np.array([np.resize(table, sizes.max()) for table in own], np.float64)
    owner = np.arange(count) // rows if rows else np.zeros(count, np.intp)
    return RowTables(owner, entries, sizes, np.array([index_of_bin(table) for table in own]))


def group_by_group(
    weight: np.ndarray,
    scale: np.ndarray,
    tables: RowTables,
    second: np.ndarray,
    rounded: Callable[[np.ndarray, RowTables, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Codes int8 [O, K] that `rounded` chooses for w / scale of each group's rows, by its second moments."""
    step = len(weight) // len(second)
    codes = np.empty(weight.shape, np.int8)
    for group, hessian in enumerate(second):
        part = slice(group * step, (group + 1) * step)
        units = np.asarray(weight[part], np.float64) / np.asarray(scale, np.float64)[part, None]
        codes[part] = rounded(units, tables.part(part), hessian)
    return codes
