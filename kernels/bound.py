"""Compiled loops over flat arrays, bound to operands that keep their places.

What is bound is best made of calls of compiled loops with all their arguments (`partial`), of copies (`Copy`)
and of such in turn (`InTurn`): a plan can then make all of them without Python (kernels/machine/calls.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nnaq.ir.op import Arrays

Run = Callable[[], object]
Bound = tuple[Arrays, Run]


@dataclass(frozen=True)
class InTurn:
    """Several runs as one."""

    runs: tuple[Run, ...]

    def __call__(self) -> None:
        for run in self.runs:
            run()


class Copy:
    """Copies codes of `source`, broadcast, to `place`, which holds them; both keep their places."""

    def __init__(self, place: np.ndarray, source: np.ndarray) -> None:
        self.place, self.source = place, source
        alike = place.shape == source.shape and place.dtype == source.dtype
        if alike and place.flags.c_contiguous and source.flags.c_contiguous:
            whole = slice(None)
            self._run: Run = partial(place.reshape(-1).data.__setitem__, whole, source.reshape(-1).data)
        else:
            self._run = partial(np.copyto, place, source, casting="unsafe")

    def __call__(self) -> None:
        self._run()


def single(run: Run) -> Iterator[Run]:
    """The runs that are made by another."""
    if isinstance(run, InTurn):
        for one in run.runs:
            yield from single(one)
    else:
        yield run


def flat(x: np.ndarray, shape: tuple[int, ...], dtype: Any, runs: list[Run]) -> np.ndarray:
    """x as one row of a shape and a dtype: itself, or a place that a run before the loop fills."""
    if x.shape == shape and x.dtype == dtype and x.flags.c_contiguous:
        return x.reshape(-1)
    place = np.empty(shape, dtype)
    runs.append(Copy(place, np.broadcast_to(x, shape)))
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
        runs.append(Copy(result, out))
    return (result,), together(runs)


def truths(flags: np.ndarray, zero_point: int, runs: list[Run]) -> np.ndarray:
    """What is true where codes are not zero_point: themselves, or a place that a run fills."""
    if zero_point == 0:
        return flags
    place = np.empty(flags.shape, np.bool_)
    runs.append(partial(np.not_equal, flags, zero_point, place))
    return place


def together(runs: Sequence[Run]) -> Run:
    """All of them, in turn."""
    return runs[0] if len(runs) == 1 else InTurn(tuple(runs))
