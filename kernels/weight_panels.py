"""Weights in the order in which tiles read them (kernels/machine/products.py).

A weight [O, K] is cut into panels of PANEL outputs; a panel holds its codes as [K/2][PANEL][2], padded by
zeros where O or K ends within it, one behind the other:

    panels[((p * pairs + k div 2) * PANEL + o mod PANEL) * 2 + k mod 2] = w[o, k]     p = o div PANEL

i8 codes stay i8. What leaves 8 bits, codes less a zero_point that is not 0 or 16-bit codes, is held as i16.
A weight that rests as packed indices stays packed: a panel is expanded when its turn comes.
"""

import math

import numpy as np

from nnaq.jit import jit
from nnaq.kernels.arena import at_rest
from nnaq.kernels.codebook import PackedCodes
from nnaq.kernels.machine.palettes import BLOCK
from nnaq.kernels.machine.products import PANEL
from nnaq.kernels.packed_rows import NOT_PACKED, PackedRows, expand_columns, packed_rows, room_for

# A weight of equal parts as compiled loops take it: outputs and K of a part, its panels as i8 or as i16 or
# packed; what does not hold the codes is empty.
Weights = tuple[int, int, np.ndarray, np.ndarray, PackedRows]

NO_BYTES, NO_WORDS = np.empty(0, np.int8), np.empty(0, np.int16)


def weights_of(weight: np.ndarray | PackedCodes, zero_point: int, parts: int = 1) -> Weights:
    """weight - zero_point as a matrix [O, K] in panels; packed codes stay packed where the zero_point is 0.

    parts: equal parts of the rows that are multiplied in calls of their own (gates, groups of a convolution);
    each begins a panel.
    """
    outputs, depth = len(weight) // parts, math.prod(weight.shape[1:])
    if isinstance(weight, PackedCodes):
        if zero_point == 0:
            return outputs, depth, NO_BYTES, NO_WORDS, packed_rows(weight)
        weight = weight.codes()
    matrix = weight.reshape(parts, outputs, depth)
    if zero_point == 0 and weight.dtype == np.int8:
        return outputs, depth, at_rest(panels_of(matrix)), NO_WORDS, NOT_PACKED
    words = panels_of(np.subtract(matrix, zero_point, dtype=np.int16))
    return outputs, depth, NO_BYTES, at_rest(words), NOT_PACKED


def panels_of(codes: np.ndarray) -> np.ndarray:
    """Codes [parts, O, K] as panels, one behind the other."""
    parts, outputs, depth = codes.shape
    panels, pairs = -(-outputs // PANEL), -(-depth // 2)
    padded = np.ascontiguousarray(codes)
    if (outputs, depth) != (panels * PANEL, pairs * 2):
        padded = np.zeros((parts, panels * PANEL, pairs * 2), codes.dtype)
        padded[:, :outputs, :depth] = codes
    pair = np.uint16 if codes.itemsize == 1 else np.uint32  # moved as one: twice as quick
    cut = padded.reshape(-1).view(pair).reshape(parts, panels, PANEL, pairs)
    return np.ascontiguousarray(cut.transpose(0, 1, 3, 2)).reshape(-1).view(codes.dtype)


def room_for_columns(b: np.ndarray, zero_point: int) -> tuple[Weights, np.ndarray]:
    """A weight whose parts are the columns of matrices [S, K, N], its panels to be filled; and those."""
    count, depth, outputs = b.shape
    is_narrow = zero_point == 0 and b.dtype == np.int8
    size = count * -(-outputs // PANEL) * PANEL * even(depth)
    panels = np.zeros(size, np.int8 if is_narrow else np.int16)
    held = (panels, NO_WORDS) if is_narrow else (NO_BYTES, panels)
    return (outputs, depth, *held, NOT_PACKED), panels


@jit
def fill_columns(b, zero_point, panels):  # type: ignore[no-untyped-def]
    """Write b - zero_point [S, K, N] as panels of weights [S, N, K]; what pads them is not written."""
    count, depth, outputs = b.shape
    panel = 0
    for s in range(count):
        for first in range(0, outputs, PANEL):
            for k in range(depth):
                at = panel + (k >> 1) * 2 * PANEL + (k & 1)
                for o in range(min(PANEL, outputs - first)):
                    panels[at + 2 * o] = np.int32(np.int32(b[s, k, first + o]) - np.int32(zero_point))
            panel += even(depth) * PANEL


def rows_of(x: np.ndarray, zero_point: int) -> np.ndarray:
    """x - zero_point as rows [P, K] of i16, contiguous, K padded to an even number by a zero."""
    if are_rows(x, zero_point):
        return np.ascontiguousarray(x)
    rows = room_for_rows(*x.shape)
    fill_rows(np.ascontiguousarray(x), zero_point, rows)
    return rows


def are_rows(x: np.ndarray, zero_point: int) -> bool:
    """Whether codes are such rows as they are, but for their order of memory."""
    return zero_point == 0 and x.dtype == np.int16 and x.shape[1] % 2 == 0


def room_for_rows(count: int, depth: int) -> np.ndarray:
    """Rows to be filled."""
    return np.zeros((count, even(depth)), np.int16)


@jit
def fill_rows(x, zero_point, rows):  # type: ignore[no-untyped-def]
    """Write x - zero_point; what pads rows is not written."""
    for p in range(x.shape[0]):
        for k in range(x.shape[1]):
            rows[p, k] = np.int32(np.int32(x[p, k]) - np.int32(zero_point))


@jit
def even(depth):  # type: ignore[no-untyped-def]
    """Entries of a row that tiles read."""
    return depth + (depth & 1)


@jit
def room_of(weights, x, order):  # type: ignore[no-untyped-def]
    """What is written while rows x meet a packed weight."""
    return room_for(x, weights[4], order)


@jit
def expand_panel(weights, part, panel, room):  # type: ignore[no-untyped-def]
    """Panels of a packed weight from one on, as many as their room holds; or the row that it begins with."""
    outputs, packed = weights[0], weights[4]
    first = panel * PANEL
    row = part * outputs + first
    if len(room[2]) > 0:
        return row
    size, last = even(weights[1]) * PANEL, min(outputs, first + panels_in(room, packed) * PANEL)
    for n in range(0, (last - first + PANEL - 1) // PANEL):
        own = n * PANEL
        expand_columns(packed, row + own, min(PANEL, last - first - own), room, n * size)
    return 0


@jit
def panels_in(room, packed):  # type: ignore[no-untyped-def]
    """How many panels of a packed weight its room holds."""
    return max(len(room[0]) // max(packed[4] * BLOCK * PANEL, 1), 1)
