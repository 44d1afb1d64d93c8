"""Weights in the order in which tiles read them (kernels/machine/products.py).

A weight [O, K] is cut into panels of PANEL outputs; a panel holds its codes as [K/2][PANEL][2], padded by
zeros where O or K ends within it, one behind the other:

    panels[((p * pairs + k div 2) * PANEL + o mod PANEL) * 2 + k mod 2] = w[o, k]     p = o div PANEL

i8 codes stay i8. What leaves 8 bits, codes less a zero_point that is not 0 or 16-bit codes, is held as i16.
A weight that rests as packed indices stays packed: a panel is expanded when its turn comes.

Where the tier multiplies bytes, codes x of i8 meet weights of i8 as they are, four of k at a time. The
instruction of x86 takes unsigned bytes on one side: those are the rows, u = x xor 0x80 = x + 128, and the
weights stay signed. Whatever the rows hold, what is too much is the same for all of them,

    Σ_k (x[p, k] - z_x) * w[o, k] = Σ_k u[p, k] * w[o, k] + start[o]      u = x + FLIP
    start[o] = -(z_x + FLIP) * Σ_k w[o, k]                                FLIP = 128, or 0 for signed rows

and stands as i32, modulo 2^32, in front of the codes of its panel, [1 + K/4][PANEL][4]: sums begin with it.
All is exact modulo 2^32, so sums are right which are proved within 32 bits; others are made of words. Bytes
of a row behind K may be anything, the weights there are 0.
"""

import math
from typing import Any

import numpy as np

from nnaq.ir.types import TensorType
from nnaq.jit import jit
from nnaq.kernels.arena import at_rest
from nnaq.kernels.codebook import PackedCodes
from nnaq.kernels.machine.palettes import BLOCK
from nnaq.kernels.machine.products import PANEL
from nnaq.kernels.machine.tiers import tier
from nnaq.kernels.narrow import Order
from nnaq.kernels.packed_rows import NOT_PACKED, PackedRows, expand_columns, packed_rows, room_for

# A weight of equal parts as compiled loops take it: outputs and K of a part, its panels as i8 or as i16 or
# packed; what does not hold the codes is empty. Last: how many of k stand side by side, PAIR for rows of
# words, FOUR for rows of bytes.
Weights = tuple[int, int, np.ndarray, np.ndarray, PackedRows, int]

PAIR, FOUR = 2, 4
DOT = tier().dot
HAS_BYTES, FLIP = DOT is not None, 128 if DOT is not None and DOT.unsigned else 0
NO_BYTES, NO_WORDS = np.empty(0, np.int8), np.empty(0, np.int16)


def byte_zero(x: TensorType, order: Order) -> int | None:
    """The zero_point of rows that may stay bytes: of i8 codes whose sums are proved within 32 bits.

    None for all others, and where the tier does not multiply bytes.
    """
    return x.zero_point if HAS_BYTES and x.dtype == "i8" and order.fits else None


def weights_of(
    weight: np.ndarray | PackedCodes, zero_point: int, parts: int = 1, zero_x: int | None = None
) -> Weights:
    """weight - zero_point as a matrix [O, K] in panels; packed codes stay packed where the zero_point is 0.

    parts: equal parts of the rows that are multiplied in calls of their own (gates, groups of a convolution);
    each begins a panel. zero_x: of rows that may stay bytes (`byte_zero`); they do so if the weight can, too.
    """
    outputs, depth = len(weight) // parts, math.prod(weight.shape[1:])
    if isinstance(weight, PackedCodes):
        if zero_point == 0:
            return outputs, depth, NO_BYTES, NO_WORDS, packed_rows(weight), PAIR
        weight = weight.codes()
    matrix = weight.reshape(parts, outputs, depth)
    if zero_point == 0 and weight.dtype == np.int8:
        if zero_x is not None:
            return outputs, depth, at_rest(byte_panels_of(matrix, zero_x)), NO_WORDS, NOT_PACKED, FOUR
        return outputs, depth, at_rest(panels_of(matrix)), NO_WORDS, NOT_PACKED, PAIR
    words = panels_of(np.subtract(matrix, zero_point, dtype=np.int16))
    return outputs, depth, NO_BYTES, at_rest(words), NOT_PACKED, PAIR


def panels_of(codes: np.ndarray) -> np.ndarray:
    """Codes [parts, O, K] as panels, one behind the other."""
    pair = np.uint16 if codes.itemsize == 1 else np.uint32  # moved as one: twice as quick
    return np.ascontiguousarray(_cut(codes, pair)).reshape(-1).view(codes.dtype)


def byte_panels_of(codes: np.ndarray, zero_x: int) -> np.ndarray:
    """i8 codes [parts, O, K] as panels for rows of bytes, each behind the i32 that its sums begin with."""
    cut = _cut(codes, np.uint32)
    made = np.empty((*cut.shape[:2], 1 + cut.shape[2], PANEL), np.uint32)
    made[:, :, 1:] = cut
    starts = np.zeros((codes.shape[0], cut.shape[1] * PANEL), np.int64)
    starts[:, : codes.shape[1]] = starts_of(codes, zero_x)
    made[:, :, 0] = starts.astype(np.uint32).reshape(cut.shape[0], -1, PANEL)
    return made.reshape(-1).view(np.int8)


def starts_of(codes: np.ndarray, zero_x: int) -> np.ndarray:
    """The start of every output of i8 codes [parts, O, K], int64: those of 32 bits are right modulo 2^32."""
    parts, outputs, depth = codes.shape
    totals = np.empty((parts, outputs), np.int64)
    sum_entries(np.ascontiguousarray(codes).reshape(parts * outputs, depth), totals)
    return totals * -(zero_x + FLIP)


def _cut(codes: np.ndarray, unit: type[np.unsignedinteger[Any]]) -> np.ndarray:
    """Codes [parts, O, K] as [parts, O/PANEL, K/side, PANEL], padded by zeros; side: codes in a unit."""
    parts, outputs, depth = codes.shape
    side = np.dtype(unit).itemsize // codes.itemsize
    panels, steps = -(-outputs // PANEL), -(-depth // side)
    padded = np.ascontiguousarray(codes)
    if (outputs, depth) != (panels * PANEL, steps * side):
        padded = np.zeros((parts, panels * PANEL, steps * side), codes.dtype)
        padded[:, :outputs, :depth] = codes
    return padded.reshape(-1).view(unit).reshape(parts, panels, PANEL, steps).transpose(0, 1, 3, 2)


@jit
def sum_entries(rows, out):  # type: ignore[no-untyped-def]
    """out, of any shape [P, Q], with the sum of every row p * Q + q."""
    for p in range(len(out)):
        for q in range(out.shape[1]):
            total, row = np.int64(0), rows[p * out.shape[1] + q]
            for k in range(row.size):
                total += row[k]
            out[p, q] = total


def room_for_columns(b: np.ndarray, zero_point: int, zero_x: int | None = None) -> tuple[Weights, np.ndarray]:
    """A weight whose parts are the columns of matrices [S, K, N], its panels to be filled; and those.

    zero_x: as `weights_of` takes it; the panels of bytes are for `fill_byte_columns`.
    """
    count, depth, outputs = b.shape
    is_narrow = zero_point == 0 and b.dtype == np.int8
    side = FOUR if is_narrow and zero_x is not None else PAIR
    size = count * -(-outputs // PANEL) * panel_size(depth, side)
    panels = np.zeros(size, np.int8 if is_narrow else np.int16)
    held = (panels, NO_WORDS) if is_narrow else (NO_BYTES, panels)
    return (outputs, depth, *held, NOT_PACKED, side), panels


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


@jit
def fill_byte_columns(b, zero_x, panels, starts):  # type: ignore[no-untyped-def]
    """The same for panels of bytes; starts: the panels seen as i32."""
    count, depth, outputs = b.shape
    panel, totals = 0, np.empty(PANEL, np.int64)
    for s in range(count):
        for first in range(0, outputs, PANEL):
            own = min(PANEL, outputs - first)
            totals[:] = 0
            for k in range(depth):
                at = panel + ((k >> 2) + 1) * 4 * PANEL + (k & 3)
                for o in range(own):
                    code = b[s, k, first + o]
                    panels[at + 4 * o] = code
                    totals[o] += code
            for o in range(own):
                starts[(panel >> 2) + o] = np.int32(-(zero_x + FLIP) * totals[o])
            panel += panel_size(depth, FOUR)


def rows_of(x: np.ndarray, zero_point: int, side: int = PAIR) -> np.ndarray:
    """Rows [P, K] as tiles take them, contiguous, K padded to a multiple of `side`, the last of `Weights`:

    x - zero_point as i16, padded by a zero; or for FOUR the bytes of x, flipped where they are unsigned.
    """
    codes = np.ascontiguousarray(x)
    if are_rows(codes, zero_point, side):
        return seen_as_rows(codes, side)
    rows = room_for_rows(len(codes), codes.shape[1], side)
    fill_rows(codes, taken_off(zero_point, side), rows)
    return rows


def are_rows(x: np.ndarray, zero_point: int, side: int = PAIR) -> bool:
    """Whether codes hold such rows as they are, but for their order of memory."""
    if x.shape[1] % side:
        return False
    return FLIP == 0 if side == FOUR else zero_point == 0 and x.dtype == np.int16


def seen_as_rows(codes: np.ndarray, side: int) -> np.ndarray:
    """Contiguous codes that are rows, with the type that rows have."""
    return codes.view(np.uint8) if side == FOUR else codes


def room_for_rows(count: int, depth: int, side: int = PAIR) -> np.ndarray:
    """Rows to be filled."""
    return np.zeros((count, -(-depth // side) * side), np.uint8 if side == FOUR else np.int16)


def taken_off(zero_point: int, side: int) -> int:
    """What rows are less than their codes."""
    return -FLIP if side == FOUR else zero_point


@jit
def fill_rows(x, less, rows):  # type: ignore[no-untyped-def]
    """Write x - less; what pads rows is not written."""
    for p in range(x.shape[0]):
        for k in range(x.shape[1]):
            rows[p, k] = np.int32(np.int32(x[p, k]) - np.int32(less))


@jit
def flipped(x, depth, zero_point):  # type: ignore[no-untyped-def]
    """What `rows_of` makes for FOUR of rows [P, depth] of codes x + zero_point."""
    rows = np.empty((len(x), (depth + 3) // 4 * 4), np.uint8)
    fill_rows(x[:, :depth], -(zero_point + FLIP), rows)
    return rows


@jit
def panel_size(depth, side):  # type: ignore[no-untyped-def]
    """Entries of a panel."""
    return ((depth + 7) // 4 * 4 if side == FOUR else even(depth)) * PANEL


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
