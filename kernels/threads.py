"""Threads for single large products: Python's own, over kernels that let go of the interpreter's lock.

One thread, unless `NNAQ_THREADS` asks for more. Blocks of rows of one product are shared out, so that every
sum is made by one thread and the integers are the same. Threads wait asleep, next to the pools of torch and
ONNX Runtime, and OpenMP has no part in it.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

from nnaq.errors import NnaqError
from nnaq.kernels.bound import Run

VARIABLE = "NNAQ_THREADS"
LEAST = 1 << 25  # products; before fewer are half done, a second thread may not have woken up


@dataclass(frozen=True)
class SideBySide:
    """Runs that fill different places, in threads."""

    runs: tuple[Run, ...]

    def __call__(self) -> None:
        waiting = [pool().submit(run) for run in self.runs[1:]]
        self.runs[0]()
        for one in waiting:
            one.result()


@cache
def thread_count() -> int:
    """How many threads a large product may take. Raises NnaqError where `NNAQ_THREADS` is no such number."""
    said = os.environ.get(VARIABLE) or "1"
    if not said.isdecimal() or int(said) < 1:
        raise NnaqError(f"{VARIABLE}={said}: it takes a whole number of threads, 1 or more")
    return int(said)


@cache
def pool() -> ThreadPoolExecutor:
    """The threads beside the one that asks."""
    return ThreadPoolExecutor(max(thread_count() - 1, 1), "nnaq")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)  # a child process has no threads but its own


def blocks(rows: int, products: int, unit: int) -> Iterator[slice]:
    """Blocks of rows for the threads, whole units each, where a row has so many products.

    One block where that is little.
    """
    parts = thread_count() if rows * products >= LEAST else 1
    size = max(-(-rows // (parts * unit)) * unit, 1)
    for first in range(0, max(rows, 1), size):
        yield slice(first, first + size)


def shared(runs: list[Run]) -> Run:
    """Runs of blocks, side by side."""
    return runs[0] if len(runs) == 1 else SideBySide(tuple(runs))
