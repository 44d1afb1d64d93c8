"""Rounding that is learnt: every weight goes to the table entry below it or to the one above.

    minimise   e A e^T  per row,   e = u - q,   u = w / scale,   A = E[x x^T] + d I  as in error_feedback.py

over q = low + (high - low) * h with h in {0, 1}, low <= u <= high neighbouring entries of the row's table.
After Nagel, Amjad, van Baalen, Louizos and Blankevoort, AdaRound (2020), with the matrix of second moments
for their batches of activations, and entries of a palette for their even grid: h is relaxed to

    h = clamp(1.2 * sigmoid(v) - 0.1, 0, 1),   started at q = u

and v found by `steps` steps of Adam on

    e A e^T / (mean loss per weight of nearest rounding in its row) + strength * Σ 1 - |2h - 1|^β

where the second sum drives h to 0 or 1, first those near it and then the rest, as β falls from 20 to 2.
There is no randomness. A row keeps nearest rounding where the learnt one loses more against E[x x^T] itself.

Complexity   2 steps O K^2 operations in float32; steps is 400.
Memory       eight float32 copies of the weight, one of A.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from nnaq.codebooks.error_feedback import DAMPING, better, damped, row_losses
from nnaq.codebooks.row_tables import RowTables, group_by_group, row_tables

STEPS = 400
RATE = 0.05
STRENGTH = 10.0
FIRST_DECAY, SECOND_DECAY = 0.9, 0.999  # of Adam
STEEPEST, FLATTEST = 20.0, 2.0
STRETCH, MARGIN = 1.2, 0.1


def ada_round(
    weight: np.ndarray,
    scale: np.ndarray,
    tables: Sequence[Sequence[int]],
    rows: int,
    second: np.ndarray,
    steps: int = STEPS,
) -> np.ndarray:
    """Codes int8 [O, K] of a weight [O, K] whose rows have a scale [O] each.

    tables, rows: as in a Palette; where there is none, the codes of the grid as the one table. second:
    [G, K, K], outputs g*O/G … meet group g.
    """
    shared = row_tables(tables, rows, len(weight))
    return group_by_group(weight, scale, shared, second, partial(_rounded, steps=steps))


def _rounded(units: np.ndarray, tables: RowTables, hessian: np.ndarray, steps: int) -> np.ndarray:
    """The codes of one group, in code units."""
    nearest = tables.nearest(units)
    low, high = tables.neighbours(units)
    hessian = _normalised(hessian)
    matrix = damped(hessian, DAMPING)
    norm = row_losses(units, nearest, matrix)[:, None] / units.shape[1]
    free = (high > low) & (norm > 0)
    gap = np.where(free, high - low, 1)
    share = np.where(free, (units - low) / gap, 0)
    normed = np.where(free, gap / np.sqrt(np.where(norm > 0, norm, 1)), 0)
    up = _learnt(share, normed, matrix, steps)
    return better(units, hessian, nearest, np.where(free, np.where(up, high, low), nearest))


def _normalised(hessian: np.ndarray) -> np.ndarray:
    """Its largest diagonal entry in 1 … 4, so that float32 holds it: a power of 4 has an exact root, so no
    other bit of the result depends on the size of the activations."""
    exponent = int(np.frexp(np.diagonal(hessian).max(initial=0))[1])
    return np.asarray(np.ldexp(hessian, -2 * ((exponent - 1) // 2)))


def _learnt(share: np.ndarray, gap: np.ndarray, matrix: np.ndarray, steps: int) -> np.ndarray:
    """Which weights go up: share is where u stands between its neighbours, gap their normed distance."""
    share, gap, matrix = (a.astype(np.float32) for a in (share, gap, matrix))
    start = (share + MARGIN) / STRETCH
    v = np.log(start / (1 - start))
    momentum, square = np.zeros_like(v), np.zeros_like(v)
    for step in range(1, steps + 1):
        s = 0.5 * np.tanh(0.5 * v) + 0.5
        h = np.clip(STRETCH * s - MARGIN, 0, 1)
        off, beta = 2 * h - 1, _steepness(step / steps)
        slope = -2 * gap * (((share - h) * gap) @ matrix)
        slope -= STRENGTH * 2 * beta * np.sign(off) * np.abs(off) ** (beta - 1)
        slope *= STRETCH * s * (1 - s) * ((h > 0) & (h < 1))
        momentum += (1 - FIRST_DECAY) * (slope - momentum)
        square += (1 - SECOND_DECAY) * (slope * slope - square)
        size = np.sqrt(square / (1 - SECOND_DECAY**step)) + 1e-8
        v -= RATE * momentum / (1 - FIRST_DECAY**step) / size
    return np.asarray(v >= 0)


def _steepness(done: float) -> float:
    """beta, from STEEPEST to FLATTEST along half a cosine."""
    return FLATTEST + (STEEPEST - FLATTEST) * 0.5 * (1 + math.cos(math.pi * done))
