"""Codes, table and scales of one weight.

    minimise   Σ importance (w - scale[row] * code)²     over codes, their table and, if wanted, the scales

With scales kept, the table is what the chosen method finds on the int8 grid of w / scale, and every code
is the entry nearest to its weight: for the method `optimal` a global optimum.

With scales fitted, two starts times six clip factors are tried: the scales given, and one scale for all
rows, the largest weight over 127; a smaller scale clips the outer weights and draws the grid finer. From
the best of them two steps alternate:

    scale[row] <- Σ importance w code / Σ importance code²       the least squares for the codes of a row at
                                                                 0.8 … 1.2 of its scale, the best of nine
    table, codes <- found anew at these scales

and a round counts only if the distortion falls, so the result is at least as good as every start. With
`optimal` it is therefore at least as good as the best table under one scale for the tensor that is the
largest weight over 127 times one of the clip factors; under another common scale a table may lose less. It
is a local optimum. A scale never falls below half of the one given, so that a bias in units of it stays
within its 32 bits, nor below the least normal float32, under which none is stored, and has 24 bits, as all
scales do. A row of zeros keeps its scale; a row with a table of its own takes the best of three clip
factors, as a table follows any scale.

Importance is measured on some recordings, and what was silent there may speak elsewhere. Hence no weight
counts less than LEAST_IMPORTANCE of the mean of those that share its table, and all count alike where none
of them has any. A thousandth, 30 dB below the mean, costs the others next to nothing; with 0 a weight would
go wherever the table happens to be, and a table without any importance would be one arbitrary entry.

Complexity   12 starts and at most 30 rounds, each O(n) for n weights plus the method's own.
Memory       two or three float64 copies of the weight, whatever the bits.
Source       scales per channel and a shared table in alternation are a reconstruction of published practice.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from nnaq.codebooks.choice import Method, PaletteChoice
from nnaq.codebooks.grid import HIGHEST, Table, encode, histogram
from nnaq.codebooks.lloyd_max import lloyd_max
from nnaq.codebooks.mu_law import mu_law
from nnaq.codebooks.optimal import optimal
from nnaq.codebooks.power_of_two import power_of_two
from nnaq.codebooks.uniform import uniform
from nnaq.errors import LoweringError
from nnaq.ir.types import Palette

Finder = Callable[..., Table]
FINDERS: dict[Method, Finder] = {
    "optimal": optimal,
    "lloyd_max": lloyd_max,
    "mu_law": mu_law,
    "uniform": uniform,
    "power_of_two": power_of_two,
}
CLIP_FACTORS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
LONE_FACTORS = (1.0, 0.8, 0.6)
ROW_FACTORS = (1.0, 0.95, 1.05, 0.9, 1.1, 0.85, 1.15, 0.8, 1.2)
ROUNDS = 30
LEAST_IMPORTANCE = 1e-3
LEAST_SCALE = float(np.finfo(np.float32).tiny)
WORTHWHILE = 1e-4  # a round that gains less, relatively, is the last


@dataclass(frozen=True)
class Fitted:
    """A weight on its palette: real = codes * scale, row by row.

    codes: int8 of the weight's shape; scale: float64 [rows]; distortion: Σ importance (w - code * scale)²,
    with the importance that `counted` makes of the one given.
    """

    palette: Palette
    codes: np.ndarray
    scale: np.ndarray
    distortion: float


@dataclass(frozen=True)
class _Rows:
    """Rows that share a table: float64 [R, K], their importance [R or 1, K or 1], the scales given [R].

    least, most: the bounds of fitted scales [R]; they leave a row of zeros no choice.
    """

    matrix: np.ndarray
    importance: np.ndarray
    given: np.ndarray
    least: np.ndarray
    most: np.ndarray

    def part(self, rows: slice) -> "_Rows":
        importance = self.importance if len(self.importance) == 1 else self.importance[rows]
        return _Rows(self.matrix[rows], importance, self.given[rows], self.least[rows], self.most[rows])


@dataclass(frozen=True)
class _State:
    """A table with 0 in it unless it is free, the scales it was found at, and what both lose."""

    table: Table
    scale: np.ndarray
    distortion: float


def fit_palette(
    weight: np.ndarray,
    scale: np.ndarray,
    choice: PaletteChoice,
    rows: int = 0,
    importance: np.ndarray | None = None,
) -> Fitted:
    """The palette of a weight of shape [R, …], its codes and scales.

    scale: positive, one per row; 127 scales cover what is to be kept of a row. rows: how many neighbouring
    rows share a table (0: all). importance: of a squared error, not negative, broadcastable to [R, rest];
    None or nothing but zeros: the same everywhere.

    Raises LoweringError for a weight or an importance that is not finite, or an importance below 0.
    """
    _check(weight, importance)
    counts = counted(np.ones(1) if importance is None else importance, rows)
    whole, unit = _normalised(weight, scale, counts)
    step = rows or max(len(weight), 1)
    parts = [whole.part(slice(first, first + step)) for first in range(0, max(len(weight), 1), step)]
    states = [_fit(part, choice) for part in parts]
    codes = np.concatenate([_codes(part, state) for part, state in zip(parts, states, strict=True)])
    fitted = np.ldexp(np.concatenate([state.scale for state in states]), unit)
    mapped = choice.zero == "mapped"
    tables = tuple(_stored(state.table, mapped) for state in states)
    zeros = int((codes == 0).sum()) if mapped else None
    palette = Palette(choice.bits, tables, rows if len(weight) else 0, zeros)  # no rows: one table for none
    errors = np.square(_matrix(weight) - codes * fitted[:, None]) * counts
    return Fitted(palette, codes.reshape(weight.shape), fitted, float(errors.sum()))


def counted(importance: np.ndarray, rows: int = 0) -> np.ndarray:
    """The importance that a fit counts with, float64 [R or 1, K or 1]; see the module.

    importance: finite, not negative, of at most two axes. rows: how many neighbouring rows share a table.
    """
    two = np.ascontiguousarray(np.atleast_2d(np.asarray(importance, np.float64)))
    largest = two.max(initial=0)
    if not largest:
        return np.ones((1, 1))
    step = rows if rows and len(two) > 1 else len(two)
    means = [(two[first : first + step] / largest).mean() * largest for first in range(0, len(two), step)]
    shared = np.repeat(means, step)[: len(two), None]
    return np.maximum(two, np.where(shared > 0, shared, largest) * LEAST_IMPORTANCE)


def _check(weight: np.ndarray, importance: np.ndarray | None) -> None:
    """Raise LoweringError for numbers that no table can be found for."""
    if wrong := np.size(weight) - np.count_nonzero(np.isfinite(weight)):
        raise LoweringError(
            f"a weight of shape {list(np.shape(weight))} has {wrong} values that are NaN or infinite, which "
            "have no codes; repair the model's weights before giving them a palette"
        )
    if importance is not None and not np.all(np.isfinite(importance) & (np.asarray(importance) >= 0)):
        raise LoweringError(
            f"the importance of a weight of shape {list(np.shape(weight))} is NaN, infinite or below 0 in "
            "places; look for such values in the recordings"
        )


def _normalised(weight: np.ndarray, scale: np.ndarray, importance: np.ndarray) -> tuple[_Rows, int]:
    """All rows in units of 2^unit, about the largest scale: nothing is rounded, and no square underflows."""
    unit = int(np.frexp(np.max(scale, initial=0))[1])
    matrix, given = np.ldexp(_matrix(weight), -unit), np.ldexp(np.asarray(scale, np.float64), -unit)
    zeros = ~matrix.any(axis=1)
    lowest = np.maximum(given / 2, np.minimum(given, np.ldexp(LEAST_SCALE, -unit)))
    least, most = np.where(zeros, given, lowest), np.where(zeros, given, np.inf)
    return _Rows(matrix, importance / importance.max(), given, least, most), unit


def _matrix(weight: np.ndarray) -> np.ndarray:
    """float64 [R, rest]."""
    return np.ascontiguousarray(weight, np.float64).reshape(len(weight), math.prod(weight.shape[1:]))


def _codes(part: _Rows, state: _State) -> np.ndarray:
    codes, _, _ = encode(part.matrix, state.scale, part.importance, state.table)
    return codes


def _stored(table: Table, mapped: bool) -> Table:
    """The entries that indices point to; a zero map needs none for 0, but a table is never empty."""
    return (tuple(entry for entry in table if entry) or (1,)) if mapped else table


def _fit(part: _Rows, choice: PaletteChoice) -> _State:
    """The best table and scales that are found for rows that share a table."""
    entries = 2**choice.bits + (choice.zero == "mapped")
    find = partial(FINDERS[choice.method], entries=entries, zero=choice.zero != "free")
    if choice.scale == "kept":
        return _at(part, part.given, find)
    state = min((_at(part, start, find) for start in _starts(part)), key=lambda state: state.distortion)
    for _ in range(ROUNDS if len(part.matrix) > 1 else 0):
        better = _next(part, state, find)
        if better.distortion >= state.distortion:
            break
        gain, state = state.distortion - better.distortion, better
        if gain < WORTHWHILE * better.distortion:
            break
    return state


def _at(part: _Rows, scale: np.ndarray, find: Finder, before: tuple[Table, ...] = ()) -> _State:
    """The better of the table found at these scales and of tables known before."""
    moments = histogram(part.matrix, scale, part.importance)
    table = min((find(moments), *before), key=moments.distortion)
    return _State(table, scale, moments.distortion(table))


def _next(part: _Rows, state: _State, find: Finder) -> _State:
    """Better scales for the table of a state, then the table anew; the old table may stay."""
    best, most = state.scale, np.full(state.scale.shape, -np.inf)
    for factor in ROW_FACTORS:
        tried = _admitted(part, factor * state.scale)
        _, along, square = encode(part.matrix, tried, part.importance, state.table)
        tried = _admitted(part, np.where(square > 0, along / np.where(square > 0, square, 1), tried))
        saved = tried * (2 * along - tried * square)  # what a row loses less than with codes of 0
        best, most = np.where(saved > most, tried, best), np.maximum(saved, most)
    return _at(part, best, find, (state.table,))


def _starts(part: _Rows) -> list[np.ndarray]:
    """Scales to start from, distinct ones only."""
    if len(part.matrix) == 1:  # a table follows any scale: what is left to gain is the grid's fineness
        return [_admitted(part, factor * part.given) for factor in LONE_FACTORS]
    common = np.full(part.given.shape, np.abs(part.matrix).max(initial=0) / HIGHEST)
    starts = [_admitted(part, factor * base) for base in (part.given, common) for factor in CLIP_FACTORS]
    return list({start.tobytes(): start for start in starts}.values())


def _admitted(part: _Rows, scale: np.ndarray) -> np.ndarray:
    """Scales of 24 bits, none below half of the one given; a row of zeros keeps its own."""
    mantissa, exponent = np.frexp(scale)
    rounded = np.ldexp(np.rint(mantissa * 2**24), exponent - 24)
    return np.asarray(np.clip(rounded, part.least, part.most))
