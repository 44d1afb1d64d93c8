"""Products over arrays that keep their places: rows, panels and results are made once."""

from functools import partial
from typing import Any

import numpy as np

from nnaq.jit import jit
from nnaq.kernels.bound import Copy, Run
from nnaq.kernels.multiply import TILE, requantize_rows
from nnaq.kernels.threads import blocks, shared
from nnaq.kernels.weight_panels import (
    FOUR,
    Weights,
    are_rows,
    fill_byte_columns,
    fill_columns,
    fill_rows,
    room_for_columns,
    room_for_rows,
    seen_as_rows,
    taken_off,
)


def bind_rows(x: np.ndarray, zero_point: int, side: int) -> tuple[np.ndarray, list[Run]]:
    """What `rows_of` makes of codes [P, K], and what fills it: nothing where codes are such rows."""
    codes = np.ascontiguousarray(x)
    if are_rows(codes, zero_point, side):
        return seen_as_rows(codes, side), []
    rows = room_for_rows(len(codes), codes.shape[1], side)
    return rows, [partial(fill_rows, codes, taken_off(zero_point, side), rows)]


def bind_columns(b: np.ndarray, zero_point: int, zero_x: int | None) -> tuple[Weights, Run]:
    """The columns of matrices [S, K, N], contiguous, as a weight of S parts, and what fills its panels.

    zero_x: of rows that may stay bytes, as `weights_of` takes it.
    """
    weights, panels = room_for_columns(b, zero_point, zero_x)
    if weights[-1] == FOUR:
        return weights, partial(fill_byte_columns, b, zero_x, panels, panels.view(np.int32))
    return weights, partial(fill_columns, b, zero_point, panels)


def bind_stack(a: np.ndarray, batch: tuple[int, ...]) -> tuple[np.ndarray, list[Run]]:
    """Matrices [..., M, K] as [*batch, M, K], and what fills them where they are copies of fewer."""
    shape = (*batch, *a.shape[-2:])
    if a.size == np.prod(shape):
        return a.reshape(shape), []
    place = np.empty(shape, a.dtype)
    return place, [Copy(place, a)]


def bind_requantized(rows: np.ndarray, weights: Weights, given: tuple[Any, ...], out: np.ndarray) -> Run:
    """requantize_rows(rows, weights, 0, *given, out), shared by threads where it is large."""
    runs: list[Run] = []
    for own in blocks(len(rows), weights[0] * weights[1], TILE):
        call: tuple[Any, ...] = rows[own], weights, 0, *given, out[own]
        runs.append(partial(requantize_rows, *call))
    return shared(runs)


def bind_stack_of_products(
    rows: np.ndarray, weights: Weights, parts: np.ndarray, given: tuple[Any, ...], out: np.ndarray
) -> Run:
    """requantize_stack(rows, weights, parts, *given, out), shared by threads where it is large."""
    height = len(rows) // max(len(parts), 1)
    runs: list[Run] = []
    for some in blocks(len(parts), height * weights[0] * weights[1], 1):
        own = slice(some.start * height, some.stop * height)
        call: tuple[Any, ...] = rows[own], weights, parts[some], *given, out[own]
        runs.append(partial(requantize_stack, *call))
    return shared(runs)


@jit
def requantize_stack(x, weights, parts, bias, multiplier, shift, order, rounding, zero_y, low, high, out):  # type: ignore[no-untyped-def]
    """`requantize_rows` for matrices of equal height, one behind the other, each by a part of a weight."""
    height = len(out) // max(parts.size, 1)
    for i in range(parts.size):
        own = slice(i * height, (i + 1) * height)
        requantize_rows(
            x[own], weights, parts[i], bias, multiplier, shift, order, rounding, zero_y, low, high, out[own]
        )
