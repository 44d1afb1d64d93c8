"""Rows by a weight, compiled: tiles of sums, then one requantisation per result.

    sums[p, o] = bias[o] + Σ_k x[p, k] * w[o, k]
    out[p, o]  = saturate(requantize(sums[p, o], multiplier[o], shift[o]) + z_y)

x and w are codes less their zero_points. An `Order` (kernels/narrow.py) tells how a sum is held; every way
gives the same whole number:

    fits      the whole sum, bias included, is proved within 32 bits: one tile over all of K, modulo 2^32,
              of bytes or of words (kernels/weight_panels.py)
    span > 1  tiles over stretches of K whose sums cannot leave 32 bits, added in int64
    else      products of 30 bits, and narrow accumulators block by block: one entry of K after the other,
              in int64 lanes

A chunk of panels small enough for the second-level cache meets all rows before the next chunk does. Of a
packed weight a chunk is what is expanded at once.
"""

import numpy as np

from nnaq.jit import jit
from nnaq.kernels.fixedpoint import requantize, saturate
from nnaq.kernels.machine.products import PANEL, ROWS, tiles
from nnaq.kernels.narrow import limited
from nnaq.kernels.packed_rows import sum_rows
from nnaq.kernels.requantize_lanes import requantize_lanes
from nnaq.kernels.weight_panels import (
    FOUR,
    HAS_BYTES,
    expand_panel,
    flipped,
    panel_size,
    panels_in,
    room_of,
)

TILE = ROWS  # of a pass over a chunk
CHUNK = 64 * 6 // TILE  # panels of a chunk, at most: their sums stay in the first-level cache
CACHED = 1 << 18  # entries of a chunk that meets more than one tile of rows


def scales_of(bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, ...]:
    """Bias, multiplier and shift per output as compiled loops take them: the bias in int64."""
    return bias.astype(np.int64), np.ascontiguousarray(multiplier), np.ascontiguousarray(shift)


@jit
def requantize_rows(x, weights, part, bias, multiplier, shift, order, rounding, zero_y, low, high, out):  # type: ignore[no-untyped-def]
    """out[p, o] of the module's formula, for one part of a weight; x: as `rows_of` makes it.

    bias: int64 for every way to hold a sum, so that one compilation serves them all.
    """
    count, outputs = out.shape
    room = room_of(weights, x, order)
    chunk = chunk_of(weights, room, count, outputs)
    sums, wide = rooms_for_sums(chunk, order)
    narrow = np.empty(chunk if order[5] else 0, np.int32)
    for first in range(0, outputs, chunk):
        last = min(first + chunk, outputs)
        at = ready_panels(weights, part, first // PANEL, room)
        own_bias, own_multiplier, own_shift = bias[first:last], multiplier[first:last], shift[first:last]
        for o in range(last - first if order[5] else 0):
            narrow[o] = own_bias[o]
        for p in range(0, count, TILE):
            rows = min(TILE, count - p)
            tile_sums(x, p, rows, weights, at, room, own_bias, order, sums, wide, chunk)
            for r in range(rows):
                codes, start = out[p + r, first:last], r * chunk
                if order[5]:
                    requantize_lanes(
                        sums[start : start + chunk], narrow, own_multiplier, own_shift, rounding, zero_y,
                        low, high, codes,
                    )  # fmt: skip
                else:
                    for o in range(codes.size):
                        y = requantize(wide[start + o], own_multiplier[o], own_shift[o], rounding)
                        codes[o] = saturate(y, zero_y, low, high)


@jit
def requantize_centred(  # type: ignore[no-untyped-def]
    x, zero_point, weights, part, bias, multiplier, shift, order, rounding, low, high, out
):
    """The same, z_y being 0, for rows of words less their zero_point, which a weight may want as bytes."""
    zero_y = np.int64(0)  # a variable: a constant would be compiled for its own sake
    if HAS_BYTES and weights[5] == FOUR:
        rows = flipped(x, weights[1], zero_point)
        requantize_rows(rows, weights, part, bias, multiplier, shift, order, rounding, zero_y, low, high, out)
    else:
        requantize_rows(x, weights, part, bias, multiplier, shift, order, rounding, zero_y, low, high, out)


@jit
def sum_products(x, weights, part, bias, order, out):  # type: ignore[no-untyped-def]
    """out[p, o] = bias[o] + Σ_k x[p, k] * w[o, k] for one part of a weight; int32 if sums fit, or int64."""
    count, outputs = out.shape
    room = room_of(weights, x, order)
    chunk = chunk_of(weights, room, count, outputs)
    sums, wide = rooms_for_sums(chunk, order)
    for first in range(0, outputs, chunk):
        last = min(first + chunk, outputs)
        at = ready_panels(weights, part, first // PANEL, room)
        for p in range(0, count, TILE):
            rows = min(TILE, count - p)
            tile_sums(x, p, rows, weights, at, room, bias[first:last], order, sums, wide, chunk)
            for r in range(rows):
                for o in range(first, last):
                    at_o = r * chunk + o - first
                    out[p + r, o] = sums[at_o] + np.int64(bias[o]) if order[5] else wide[at_o]


@jit
def chunk_of(weights, room, count, outputs):  # type: ignore[no-untyped-def]
    """Outputs of a chunk, whole panels: those that are expanded at once, or that fit the caches."""
    if len(room[0]) > 0:
        return panels_in(room, weights[4]) * PANEL
    panels = min(CHUNK, max((outputs + PANEL - 1) // PANEL, 1))
    if count > TILE:
        panels = max(1, min(panels, CACHED // max(panel_size(weights[1], weights[5]), 1)))
    return panels * PANEL


@jit
def rooms_for_sums(chunk, order):  # type: ignore[no-untyped-def]
    """Sums of a tile in 32 bits, and in 64 where the order asks for them."""
    return np.empty(TILE * chunk, np.int32), np.empty(0 if order[5] else TILE * chunk, np.int64)


@jit
def ready_panels(weights, part, panel, room):  # type: ignore[no-untyped-def]
    """Where a panel of a part begins in its array; a packed one is expanded, or left to rows."""
    if weights[4][2] > 0:
        return expand_panel(weights, part, panel, room)
    return (part * ((weights[0] + PANEL - 1) // PANEL) + panel) * panel_size(weights[1], weights[5])


@jit
def tile_sums(x, p, rows, weights, at, room, bias, order, sums, wide, width):  # type: ignore[no-untyped-def]
    """The sums of at most TILE rows by the panels of a chunk: in `sums`, without bias, where they fit; or in
    `wide`. Those of row r begin at entry r * width; bias: of the outputs of the chunk."""
    if len(room[2]) > 0:
        sum_rows(weights[4], at, room, bias, order, sums, wide, width)
    elif weights[3].size:
        _tile_sums(x, p, rows, weights[3], at, weights, bias, order, sums, wide, width)
    else:
        panels = room[0] if weights[4][2] > 0 else weights[2]
        _tile_sums(x, p, rows, panels, at, weights, bias, order, sums, wide, width)


@jit
def _tile_sums(x, p, rows, panels, at, weights, bias, order, sums, wide, width):  # type: ignore[no-untyped-def]
    span, block, depth, side = order[0], order[1], weights[1], weights[5]
    steps, count = (depth + side - 1) // side, (bias.size + PANEL - 1) // PANEL
    stride, size = x.shape[1], panel_size(weights[1], weights[5])
    if order[5]:
        tiles(x, p * stride, stride, rows, panels, at, size, steps, count, sums, width)
    elif block == 0 and span > 1:
        for r in range(rows):
            for o in range(bias.size):
                wide[r * width + o] = bias[o]
        for first in range(0, steps, span // 2):
            some, begin = min(span // 2, steps - first), at + first * 2 * PANEL
            place = p * stride + 2 * first
            tiles(x, place, stride, rows, panels, begin, size, some, count, sums, width)
            for i in range(rows * width):
                wide[i] += sums[i]
    else:
        for r in range(rows):
            for i in range(count):
                start, last = i * PANEL, min((i + 1) * PANEL, bias.size)
                total = wide[r * width + start : r * width + last]
                _sum_entries(x[p + r], panels, at + i * size, depth, bias[start:last], order, total)


@jit
def _sum_entries(x, panels, at, depth, bias, order, total):  # type: ignore[no-untyped-def]
    """Totals of one row in int64, entry by entry; a narrow accumulator is limited after every block."""
    _, block, low, high, wraps, _ = order
    part = np.empty(PANEL, np.int64)
    for o in range(bias.size):
        total[o] = limited(np.int64(bias[o]), low, high, wraps) if block else np.int64(bias[o])
    step = block if block else max(depth, 1)
    for start in range(0, depth, step):
        part[:] = 0
        for k in range(start, min(start + step, depth)):
            place, entry = at + (k >> 1) * 2 * PANEL + (k & 1), np.int32(x[k])
            for o in range(PANEL):
                part[o] += np.int64(np.int32(entry * np.int32(panels[place + 2 * o])))
        for o in range(bias.size):
            total[o] = limited(total[o] + part[o], low, high, wraps) if block else total[o] + part[o]
