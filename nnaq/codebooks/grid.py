"""What int8 tables need to know of a weight: three moments per half step of the grid.

Seen in code units, u = w / scale, the entries of a table are whole numbers, so the border between two
neighbours a < b, (a + b) / 2, is a multiple of 1/2. Whatever the table, the weights of one bin

    bin t:  (t - 1) / 2 < u <= t / 2        t = -253 … 254, the two outer bins without an outer border

go to the same entry (of two equally near the lower one, as the upper border belongs to the bin). With an
importance v per weight and the offset d = u - t / 2 the sums

    mass = Σ v,   first = Σ v d,   second = Σ v d²          over the weights of a bin

are therefore a sufficient statistic: the distortion of any int8 table is exactly

    D(table) = Σ_u v (u - nearest(u))² = Σ_t second + 2 (t/2 - e) first + (t/2 - e)² mass,  e = nearest(t/2)

and every search below costs the same for a thousand weights as for a billion. Offsets are taken from
the bin, not from 0, so weights that lie on the grid have a distortion of exactly 0.

Rows may have scales of their own: v = importance * scale² then makes D a sum in real units.
"""

from dataclasses import dataclass

import numpy as np

from nnaq.jit import jit

HIGHEST = 127  # entries lie in [-127, 127], as the codes of weights do
FIRST_BIN = 1 - 2 * HIGHEST  # -253: everything at or below -126.5, the lowest border there can be
BINS = 4 * HIGHEST
BIN_NUMBERS = np.arange(FIRST_BIN, FIRST_BIN + BINS)
Table = tuple[int, ...]


@dataclass(frozen=True)
class Histogram:
    """Moments of weights in code units, float64[508] each: bin i is t = i - 253."""

    mass: np.ndarray
    first: np.ndarray
    second: np.ndarray

    def losses(self, table: Table) -> np.ndarray:
        """Σ v (u - nearest entry)² of each bin, float64[508]; table: ascending int8 codes."""
        gap = BIN_NUMBERS / 2 - entry_of_bin(table)
        return np.asarray(np.maximum(self.second + 2 * gap * self.first + gap * gap * self.mass, 0))

    def distortion(self, table: Table) -> float:
        """Σ v (u - nearest entry)² over all weights."""
        return float(self.losses(table).sum())

    def masses(self, table: Table) -> np.ndarray:
        """Σ v of the weights nearest to each entry."""
        return np.bincount(index_of_bin(table), self.mass, len(table))

    def means(self, table: Table) -> np.ndarray:
        """The mean u of the weights nearest to each entry; the entry itself where there are none."""
        nearest, mass = index_of_bin(table), self.masses(table)
        moments = np.bincount(nearest, self.first + BIN_NUMBERS / 2 * self.mass, len(table))
        return np.where(mass > 0, moments / np.where(mass > 0, mass, 1), table)

    def reach(self) -> int:
        """The least n for which [-n, n] holds the mean of every bin, at least 1 and at most 127."""
        held = self.mass > 0
        size = np.abs(self.first[held] / self.mass[held] + BIN_NUMBERS[held] / 2)
        return int(np.clip(np.ceil(size.max(initial=0)), 1, HIGHEST))


def histogram(matrix: np.ndarray, scale: np.ndarray, importance: np.ndarray) -> Histogram:
    """The moments of matrix / scale[:, None], with masses in real units.

    matrix: float64 [R, K]; scale: float64 [R], positive; importance: float64, not negative, of shape
    [R or 1, K or 1]. Time O(R K), memory O(1) besides.
    """
    moments = np.zeros((3, BINS))
    _fill(matrix, scale, importance, moments)
    return Histogram(*moments)


def index_of_bin(table: Table) -> np.ndarray:
    """For each bin the index of the nearest entry, of two equally near the lower."""
    entries = np.array(table)
    return np.asarray(np.searchsorted(entries[1:] + entries[:-1], BIN_NUMBERS, side="left"))


def entry_of_bin(table: Table) -> np.ndarray:
    """For each bin the nearest entry, of two equally near the lower."""
    return np.asarray(np.array(table)[index_of_bin(table)])


def without_unused(moments: Histogram, table: Table, zero: bool) -> Table:
    """The table without entries that no weight goes to; 0 stays if `zero`, and one entry always."""
    used = moments.masses(table) > 0
    kept = tuple(e for e, has in zip(table, used, strict=True) if has or (zero and e == 0))
    return kept or (min(table, key=abs),)


def best_table(moments: Histogram, tables: np.ndarray) -> Table:
    """The table of least distortion, of equal ones the first, without repetitions.

    tables: int64 [number, entries], each ascending; an entry may be repeated.
    """
    distortions = np.empty(len(tables))
    _distortions(moments.mass, moments.first, moments.second, tables, distortions)
    return tuple(np.unique(tables[distortions.argmin()]).tolist())


def encode(
    matrix: np.ndarray, scale: np.ndarray, importance: np.ndarray, table: Table
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest codes int8 [R, K], and per row Σ importance w code and Σ importance code²."""
    codes = np.empty(matrix.shape, np.int8)
    sums = np.zeros((2, matrix.shape[0]))
    _encode(matrix, scale, importance, entry_of_bin(table), codes, sums)
    return codes, sums[0], sums[1]


# Compiled code here calls nothing compiled elsewhere: of other files Numba's cache notices kernels/ only.
@jit
def _bin_of(u: float) -> int:
    """Index of the bin of u; the limits are compared as reals, so no u is too large."""
    return int(min(max(np.ceil(2 * u) - FIRST_BIN, 0.0), BINS - 1.0))


@jit
def _fill(matrix: np.ndarray, scale: np.ndarray, importance: np.ndarray, moments: np.ndarray) -> None:
    """Add every weight to its bin."""
    row_step, column_step = int(importance.shape[0] > 1), int(importance.shape[1] > 1)
    for r in range(matrix.shape[0]):
        square = scale[r] * scale[r]
        for c in range(matrix.shape[1]):
            u = matrix[r, c] / scale[r]
            i = _bin_of(u)
            offset = u - (i + FIRST_BIN) / 2
            mass = importance[r * row_step, c * column_step] * square
            moments[0, i] += mass
            moments[1, i] += mass * offset
            moments[2, i] += mass * offset * offset


@jit
def _encode(
    matrix: np.ndarray,
    scale: np.ndarray,
    importance: np.ndarray,
    entries: np.ndarray,
    codes: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Round every weight to the entry of its bin, and sum what the best scale of a row needs."""
    row_step, column_step = int(importance.shape[0] > 1), int(importance.shape[1] > 1)
    for r in range(matrix.shape[0]):
        for c in range(matrix.shape[1]):
            code = entries[_bin_of(matrix[r, c] / scale[r])]
            mass = importance[r * row_step, c * column_step]
            codes[r, c] = code
            sums[0, r] += mass * matrix[r, c] * code
            sums[1, r] += mass * code * code


@jit
def _distortions(
    mass: np.ndarray, first: np.ndarray, second: np.ndarray, tables: np.ndarray, distortions: np.ndarray
) -> None:
    """Histogram.distortion of every table."""
    for n in range(tables.shape[0]):
        total, entry = 0.0, 0
        for i in range(BINS):
            number = i + FIRST_BIN
            while entry + 1 < tables.shape[1] and number > tables[n, entry] + tables[n, entry + 1]:
                entry += 1
            gap = number / 2 - tables[n, entry]
            total += max(second[i] + 2 * gap * first[i] + gap * gap * mass[i], 0.0)
        distortions[n] = total
