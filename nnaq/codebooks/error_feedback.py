"""Rounding a weight column by column, the error of each carried by the columns that are still free.

    minimise   tr((W - Q) H (W - Q)^T),   H = E[x x^T],   Q[o, k] = scale[o] * an entry of the table of row o

the mean squared error of a layer's sums over the activations x it met. After Frantar, Ashkboos, Hoefler
and Alistarh, GPTQ (2022), with the entries of a palette for its even grid: with A = H + d I, d = damping *
mean of H's diagonal, and U the upper Cholesky factor of A^-1 = U^T U, the columns k are rounded in the
order of descending H[k,k], each to the entry nearest to what it has become:

    q_k = nearest(w_k);   w_j <- w_j - (w_k - q_k) * U[k,j] / U[k,k]   for every j that comes later

which is the best that the later columns can do about the error of column k, were they free to.

A row keeps nearest rounding where feedback loses more, so no row loses more than by nearest rounding; with
a diagonal H both are the same codes. Columns with H[k,k] = 0, as no activation was ever there, take the
nearest entry. That is a promise on the activations that H was measured on: the damping, and no further
descent behind the feedback, which would win there and lose elsewhere, keep it near the truth.

Complexity   K^3 for the factor and O K^2 products, in blocks of 128 columns.
Memory       three float64 copies of the weight and of H.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from nnaq.codebooks.row_tables import RowTables, group_by_group, row_tables

BLOCK = 128
DAMPING = 0.01


def error_feedback(
    weight: np.ndarray,
    scale: np.ndarray,
    tables: Sequence[Sequence[int]],
    rows: int,
    second: np.ndarray,
    damping: float = DAMPING,
) -> np.ndarray:
    """Codes int8 [O, K] of a weight [O, K] whose rows have a scale [O] each.

    tables, rows: as in a Palette; where there is none, the codes of the grid as the one table. second:
    [G, K, K], outputs g*O/G … meet group g. damping: positive.
    """
    shared = row_tables(tables, rows, len(weight))
    return group_by_group(weight, scale, shared, second, partial(_rounded, damping=damping))


def row_losses(units: np.ndarray, codes: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """(u - q) H (u - q)^T of each row, float64 [O]."""
    error = units - codes
    return np.asarray(np.einsum("ok,ok->o", error @ hessian, error))


def better(units: np.ndarray, hessian: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Row by row those of two codes that lose less; the first where they lose the same."""
    wins = row_losses(units, second, hessian) < row_losses(units, first, hessian)
    return np.where(wins[:, None], second, first)


def damped(hessian: np.ndarray, damping: float) -> np.ndarray:
    """A = H + d I, positive definite."""
    return np.asarray(hessian + damping * np.diagonal(hessian).mean() * np.eye(len(hessian)))


def _rounded(units: np.ndarray, tables: RowTables, hessian: np.ndarray, damping: float) -> np.ndarray:
    """The codes of one group, in code units: the scale of a row is a factor of its loss and no more."""
    nearest, importance = tables.nearest(units), np.diagonal(hessian)
    order = np.argsort(-importance, kind="stable")[: np.count_nonzero(importance > 0)]
    if not len(order):
        return nearest
    codes = nearest.copy()
    codes[:, order] = _fed_back(units[:, order], tables, damped(hessian[np.ix_(order, order)], damping))
    return better(units, hessian, nearest, codes)


def _fed_back(units: np.ndarray, tables: RowTables, hessian: np.ndarray) -> np.ndarray:
    """The formula above over columns in their order; arrays are [K, O] inside, so that columns are whole."""
    factor, left = _factor(hessian), units.T.copy()
    codes, count = np.empty_like(left), len(left)
    for first in range(0, count, BLOCK):
        last = min(first + BLOCK, count)
        errors = np.empty((last - first, left.shape[1]))
        for k in range(first, last):
            codes[k] = tables.nearest(left[k])
            errors[k - first] = (left[k] - codes[k]) / factor[k, k]
            left[k + 1 : last] -= factor[k, k + 1 : last, None] * errors[k - first]
        left[last:] -= factor[first:last, last:].T @ errors
    return codes.T


def _factor(hessian: np.ndarray) -> np.ndarray:
    """U, upper, of A^-1 = U^T U: the inverse of V of A = V V^T, which is a Cholesky factor read backwards."""
    return np.linalg.inv(np.linalg.cholesky(hessian[::-1, ::-1])[::-1, ::-1])
