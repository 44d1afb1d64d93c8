"""What is perturbed and updated: the kept entries of arrays, as reals or as integer codes.

A mask takes part in both. Entries outside of it are never moved, neither for a forward pass nor by an
update, and no number is drawn for them: a direction has one entry per kept parameter, in row-major order.

Codes move by k steps of their grid, exactly:

    up, down = centre + k r, centre - k r        r = -1 or +1
    centre   = clamp(q, low + k, high - k)

At an end of the range the pair stands around the nearest code from which both moves fit: for k = 1, code
127 is tried at 125 and 127, never at 126 and 128. Nothing saturates, so the pair is 2 k apart everywhere,
the estimate is that of the loss at the centre, and a parameter at the end is free to come back. (To leave
such a parameter out, the other way that keeps the pair symmetric, would freeze the largest weight of every
channel, which per-channel scales put at the end.)

An update moves a float32 shadow of the kept codes, which collects what is less than a step:

    shadow <- clamp(shadow - change, low, high)
    q      <- round_half_even(shadow)
"""

from typing import Protocol

import numpy as np

from nnaq.errors import DataError

WEIGHTS = (-127, 127)  # what nnaq's own quantiser makes of 8 bits


class Parameters(Protocol):
    """Some kept entries of an array. value: the whole array; mask, count: which are kept, how many."""

    @property
    def value(self) -> np.ndarray: ...

    @property
    def mask(self) -> "Mask": ...

    @property
    def nbytes(self) -> int:
        """What is held beside the array."""

    def moved(self, direction: np.ndarray, amplitude: float) -> np.ndarray:
        """A copy of the array, its kept entries moved by amplitude * direction."""

    def descend(self, change: np.ndarray) -> None:
        """Take a change [count] off the kept entries."""


class Mask:
    """Which entries of an array are kept; one bit each."""

    def __init__(self, keep: np.ndarray) -> None:
        self.size, self.count = keep.size, int(np.count_nonzero(keep))
        self.bits = np.packbits(keep.astype(bool, copy=False).reshape(-1))

    def __call__(self) -> np.ndarray:
        """The mask as flat truth values."""
        return np.unpackbits(self.bits, count=self.size).view(bool)


class Reals:
    """Kept entries of a float array, held between two bounds."""

    def __init__(
        self, value: np.ndarray, keep: np.ndarray | None = None, low: float = -np.inf, high: float = np.inf
    ) -> None:
        self.value, self.low, self.high = np.array(value, order="C"), low, high
        self.mask = Mask(_whole_mask(self.value, keep))

    @property
    def nbytes(self) -> int:
        """The mask."""
        return int(self.mask.bits.nbytes)

    def moved(self, direction: np.ndarray, amplitude: float) -> np.ndarray:
        made = self.value.copy()
        self._add(made, amplitude * direction)
        return made

    def descend(self, change: np.ndarray) -> None:
        self._add(self.value, -change)

    def _add(self, value: np.ndarray, change: np.ndarray) -> None:
        flat, kept = value.reshape(-1), self.mask()
        flat[kept] = np.clip(flat[kept] + change, self.low, self.high)


class Codes:
    """Kept entries of an array of int8 codes. Amplitudes are whole numbers of steps, directions -1 and +1.

    Codes beyond the bounds (an imported file may hold -128) widen them.
    """

    def __init__(
        self, value: np.ndarray, keep: np.ndarray | None = None, bounds: tuple[int, int] = WEIGHTS
    ) -> None:
        if value.dtype != np.int8:
            raise DataError(f"codes to tune are int8, found {value.dtype}; tune Reals instead")
        self.value = np.array(value, order="C")
        self.low = min(bounds[0], int(value.min(initial=0)))
        self.high = max(bounds[1], int(value.max(initial=0)))
        self.mask = Mask(_whole_mask(self.value, keep))
        self.shadow = self.value.reshape(-1)[self.mask()].astype(np.float32)

    @property
    def nbytes(self) -> int:
        """The mask and the shadow."""
        return int(self.mask.bits.nbytes + self.shadow.nbytes)

    def moved(self, direction: np.ndarray, amplitude: float) -> np.ndarray:
        """Raises DataError for a move that is no whole number of steps, or wider than the range."""
        reach = abs(int(amplitude))
        if reach != abs(amplitude) or direction.dtype != np.int8 or 2 * reach > self.high - self.low:
            raise DataError(
                f"codes move by whole steps along -1 and +1, at most {(self.high - self.low) // 2}; found an "
                f"amplitude of {amplitude} along {direction.dtype}; use rademacher directions"
            )
        made, kept = self.value.copy(), self.mask()
        centre = made.reshape(-1)[kept].astype(np.int16).clip(self.low + reach, self.high - reach)
        made.reshape(-1)[kept] = centre + np.int16(amplitude) * direction
        return made

    def descend(self, change: np.ndarray) -> None:
        self.shadow = np.clip(self.shadow - change.astype(np.float32), self.low, self.high)
        self.value.reshape(-1)[self.mask()] = np.rint(self.shadow)


def _whole_mask(value: np.ndarray, keep: np.ndarray | None) -> np.ndarray:
    """The mask of an array; all of it where none is given. Raises DataError for one of another shape."""
    if keep is None:
        return np.ones(value.shape, bool)
    if keep.shape != value.shape:
        raise DataError(
            f"a mask has shape {list(keep.shape)}, its array {list(value.shape)}; make them of one shape"
        )
    return keep
