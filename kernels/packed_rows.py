"""Rows of a weight that rests as packed indices, expanded to codes when their turn comes.

No other copy of the codes exists. Many rows of x meet a panel of the weight (kernels/weight_panels.py), which
is expanded into a room of its own. For fewer than FEW rows of x no panel is worth its making: a few outputs
at a time are expanded, and their sums of products are taken from the rows as they stand, K along the lanes.
Either is a sum of the same whole products.

Blocks of BLOCK codes are expanded whole. What stands behind the last code of a row meets zeros of x.
"""

import math

import numpy as np

from nnaq.jit import jit
from nnaq.kernels.codebook import PackedCodes
from nnaq.kernels.machine.palettes import BLOCK, GROUP, TOGETHER, dot_4, expand, interleave
from nnaq.kernels.machine.products import PANEL

NEAR = 1 << 14  # bytes of expanded rows that stay in the first-level cache beside what they meet
EXPANDED = 1 << 17  # entries of panels that are expanded for one pass over the rows of x
FEW = 6  # rows of x, for which tiles are no faster than rows as they stand

# Packed codes [O, K] as compiled loops take them; a plain tuple, which costs the least to hand over:
# blocks and tables of PackedCodes seen as one row of int8, its bits and rows, and blocks per output
PackedRows = tuple[np.ndarray, np.ndarray, int, int, int]

NOT_PACKED: PackedRows = np.empty(0, np.int8), np.empty(0, np.int8), 0, 0, 0


def packed_rows(weight: PackedCodes) -> PackedRows:
    """Packed codes seen as a matrix [O, K]."""
    count = -(-math.prod(weight.shape[1:]) // BLOCK)
    blocks = weight.blocks.reshape(-1).view(np.int8)
    return blocks, weight.tables.reshape(-1), weight.bits, weight.rows, count


@jit
def room_for(x, packed, order):  # type: ignore[no-untyped-def]
    """What is written while rows of x meet packed rows, laid out at once:

    panels, expanded rows, x in whole blocks and the sums of one step. x is empty where panels are made.
    """
    width, count = packed[4] * BLOCK, len(x)
    few = packed[2] > 0 and 0 < count < FEW and (order[5] or (order[1] == 0 and order[0] >= BLOCK))
    whole = np.zeros((count if few else 0, width), np.int16)
    for p in range(len(whole)):  # not whole[p, :n] = x[p]: Numba compiles a text about shapes, for seconds
        for k in range(x.shape[1]):
            whole[p, k] = x[p, k]
    panels = np.empty(0 if few else width * PANEL * max(1, EXPANDED // max(width * PANEL, 1)), np.int8)
    return panels, np.empty(width * GROUP, np.int8), whole, np.empty(TOGETHER, np.int32)


@jit
def expand_rows(packed, first, count, codes):  # type: ignore[no-untyped-def]
    """Rows first … first + count - 1, one behind the other, whole blocks each: at once with one table."""
    blocks, tables, bits, shared, length = packed
    r = 0
    while r < count:
        row, number, some = first + r, 0, count - r
        if shared > 0:
            number = row // shared
            some = min(some, (number + 1) * shared - row)
        expand(
            blocks, row * length * 4 * bits, tables, number << bits, bits, some * length,
            codes, r * length * BLOCK,
        )  # fmt: skip
        r += some


@jit
def expand_columns(packed, first, count, room, place):  # type: ignore[no-untyped-def]
    """Rows first … first + count - 1 as the columns of a panel, at most PANEL, which begins at entry `place`.

    The last block may end behind the panel: panels are expanded in their order.
    """
    panels, codes, length = room[0], room[1], packed[4]
    for o in range(0, count, GROUP):
        expand_rows(packed, first + o, min(GROUP, count - o), codes)
        interleave(codes, length * BLOCK, length, panels, place + 2 * o, PANEL)


@jit
def sum_rows(packed, first, room, bias, order, sums, wide, width):  # type: ignore[no-untyped-def]
    """Sums of all rows of x by as many rows from `first` on as there are biases, as tiles leave them:

    sums[p * width + o] without bias where they fit, else wide[p * width + o] with it.
    """
    depth, count, whole = packed[4] * BLOCK, bias.size, packed[2] == 8
    step = TOGETHER if depth * GROUP > NEAR else GROUP
    for start in range(0, count, step):
        some = min(step, count - start)
        if whole and some % TOGETHER == 0:  # blocks are codes; rows that lack are not read
            codes, begin = packed[0], (first + start) * depth
        else:
            codes, begin = room[1], 0
            expand_rows(packed, first + start, some, codes)
        for o in range(0, some, TOGETHER):
            for p in range(len(room[2])):
                place, at = p * width + start + o, begin + o * depth
                if order[5]:
                    dot_4(room[2], p * depth, codes, at, depth, packed[4], sums, place)
                else:
                    own = bias[start + o : start + some]
                    _sum_stretches(room, p, codes, at, order[0] // BLOCK, own, wide[place:])


@jit
def _sum_stretches(room, p, codes, at, stretch, bias, wide):  # type: ignore[no-untyped-def]
    """One row of x by TOGETHER rows, of which those count that have a bias; a stretch fits 32 bits."""
    x, four = room[2], room[3]
    depth, some = x.shape[1], min(TOGETHER, bias.size)
    for n in range(some):
        wide[n] = bias[n]
    for k in range(0, depth, stretch * BLOCK):
        count = min(stretch, (depth - k) // BLOCK)
        dot_4(x, p * depth + k, codes, at + k, depth, count, four, 0)
        for n in range(some):
            wide[n] += four[n]
