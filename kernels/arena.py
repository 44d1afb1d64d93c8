"""Weights side by side in memory, on huge pages where there are any (Linux).

Products of one row read each weight once per step, so that a step over many megabytes asks for the place of a
page of 4 KB more often than the processor remembers. On pages of 2 MB it does not. NumPy has them for arrays
of 4 MB and more; the weights of layers are smaller, but lie in one arena together.

An arena lasts as long as any array in it.
"""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import local

import numpy as np

PAGE = 1 << 21
LINE = 64  # bytes; where an array begins
LEAST = 1 << 22  # bytes of weights: fewer pages of 4 KB are remembered anyway

_open = local()


class Arena:
    """Room for arrays, one behind the other."""

    def __init__(self, size: int) -> None:
        memory = mmap.mmap(-1, size + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):  # a system without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
        whole = np.frombuffer(memory, np.int8)
        begin = -whole.ctypes.data % PAGE
        self._free = whole[begin : begin + size]

    def place(self, array: np.ndarray) -> np.ndarray:
        """A copy of a contiguous array here; itself where there is no room left."""
        size = -(-array.nbytes // LINE) * LINE
        if size > len(self._free):
            return array
        room, self._free = self._free[: array.nbytes], self._free[size:]
        placed = room.view(array.dtype).reshape(array.shape)
        placed[...] = array
        return placed


@contextmanager
def arena(weights: int) -> Iterator[None]:
    """Place what is loaded meanwhile, in this thread, in one arena, if it is for many bytes of weights.

    Twice as much is mapped: codes may be held in 16 bits. Memory is taken only where it is written.
    """
    before = getattr(_open, "arena", None)
    _open.arena = Arena(2 * weights) if weights >= LEAST and hasattr(mmap, "MADV_HUGEPAGE") else None
    try:
        yield
    finally:
        _open.arena = before


def at_rest(array: np.ndarray) -> np.ndarray:
    """An array that kernels read again and again: in the arena, if one is open."""
    found: Arena | None = getattr(_open, "arena", None)
    return array if found is None else found.place(array)
