"""Which weights are kept: the same number in every row of every matrix.

A mask comes from a score per weight: of the K entries of a row [O, K] (an output channel with all that it
reads) the max(1, round(kept K)) with the largest scores are kept, of equal ones the first. Arms differ by
their score:

    random            random numbers
    small_magnitude   -|w|       Sparse MeZO's choice
    large_magnitude    |w|
    dense             anything, with kept = 1
    merged            Σ over tasks of the task's scores, each row of which sums to 1 (MaZO)
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from nnaq.errors import DataError
from nnaq.train.zeroth_order.directions import Place, words

Arm = Literal["random", "small_magnitude", "large_magnitude", "dense"]


def top_of_rows(scores: np.ndarray, kept: float) -> np.ndarray:
    """The mask of the largest scores of every row, in the shape [O, ...] of the scores.

    Raises DataError for a fraction outside of (0, 1].
    """
    if not 0 < kept <= 1:
        raise DataError(f"a mask keeps a fraction above 0 and at most 1 of the weights, found {kept}")
    rows = as_rows(scores)
    number = max(1, round(kept * rows.shape[1]))
    first = np.argsort(-rows, axis=1, kind="stable")[:, :number]
    mask = np.zeros(rows.shape, bool)
    np.put_along_axis(mask, first, True, axis=1)
    return mask.reshape(scores.shape)


def arm(name: Arm, weight: np.ndarray, kept: float, seed: int = 0, parameter: int = 0) -> np.ndarray:
    """The mask of a weight [O, ...] by an arm that asks no loss. seed and parameter: of `random`."""
    size = np.abs(weight.astype(np.float64))
    if name == "random":
        drawn = words(Place(seed, parameter=parameter), weight.size, "masks") >> np.uint64(
            11
        )  # 53 bits: exact
        return top_of_rows(drawn.astype(np.float64).reshape(weight.shape), kept)
    if name == "dense":
        return np.ones(weight.shape, bool)
    return top_of_rows(-size if name == "small_magnitude" else size, kept)


def merged(scores: Mapping[str, np.ndarray], kept: float) -> np.ndarray:
    """The mask of the sum of the tasks' scores, normalised by row so that no task drowns the others."""
    return top_of_rows(np.sum([normalised(score) for score in scores.values()], axis=0), kept)


def normalised(scores: np.ndarray) -> np.ndarray:
    """Scores of which every row sums to 1; negative ones count as 0, a row without any is uniform."""
    rows = np.maximum(as_rows(scores.astype(np.float64)), 0)
    total = rows.sum(axis=1, keepdims=True)
    made: np.ndarray = np.divide(rows, total, out=np.full(rows.shape, 1 / rows.shape[1]), where=total > 0)
    return made.reshape(scores.shape)


def as_rows(array: np.ndarray) -> np.ndarray:
    """An array [O, ...] as [O, K]."""
    rows: np.ndarray = array.reshape(len(array), -1)
    return rows
