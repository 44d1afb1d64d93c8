"""Compiled loops over flat arrays, bound to operands that keep their places."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from nnaq.ir.op import Arrays

Run = Callable[[], object]
Bound = tuple[Arrays, Run]


def flat(x: np.ndarray, shape: tuple[int, ...], dtype: Any, runs: list[Run]) -> np.ndarray:
    """x as one row of a shape and a dtype: itself, or a place that a run before the loop fills."""
    if x.shape == shape and x.dtype == dtype and x.flags.c_contiguous:
        return x.reshape(-1)
    place = np.empty(shape, dtype)
    runs.append(partial(np.copyto, place, np.broadcast_to(x, shape)))
    return place.reshape(-1)


def bound(
    loop: Callable[..., None],
    operands: Sequence[tuple[np.ndarray, Any]],
    shape: tuple[int, ...],
    dtypes: tuple[Any, Any],
    *numbers: Any,
    grid: tuple[int, ...] = (-1,),
) -> Bound:
    """loop(*operands, out, *numbers) over flat arrays, or arrays of the shape `grid`, ready to run.

    operands: each with the dtype that the loop takes. dtypes: of `out`, and of the result with its codes.
    """
    runs: list[Run] = []
    given = [flat(x, shape, dtype, runs).reshape(grid) for x, dtype in operands]
    out = np.empty(shape, dtypes[0])
    runs.append(partial(loop, *given, out.reshape(grid), *numbers))
    result = out
    if dtypes[0] != dtypes[1]:
        result = np.empty(shape, dtypes[1])
        runs.append(partial(np.copyto, result, out, casting="unsafe"))
    return (result,), together(runs)


def together(runs: list[Run]) -> Run:
    """All of them, in turn."""
    if len(runs) == 1:
        return runs[0]

    def run() -> None:
        for one in runs:
            one()

    return run
