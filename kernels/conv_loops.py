"""Convolutions, compiled: positions as lanes, on an image in which neighbouring positions are neighbours.

    sums[o, p] = bias[o] + Σ_k (weight[o, k] - z_w) * image[at(p) + offsets[k]]
    out[o, p]  = saturate(requantize(sums[o, p], multiplier[o], shift[o]) + z_y)

`spread` writes the image: x - z_x as i16 with zeros around it, every channel sorted by the phase of its rows
and columns modulo the stride. Entry (c, y, x) of the padded input stands at

    c * plane + ((y mod s_h) * s_w + x mod s_w) * rows * pitch + (y div s_h) * pitch + x div s_w

so that position (i, j) of the result sees entry k of its window at i * pitch + j + offsets[k], whatever the
stride and the dilation. Positions are counted along the pitch: the few between two rows of results are summed
in vain. The weights rest as they are; TILE outputs by a stretch of K are widened at a time.

Sums that are proved within 32 bits begin with the bias; all others are those of stretches of K whose sums
cannot leave 32 bits, added in int64. Where the tier multiplies bytes, the first of these are made of an image
of bytes x + FLIP, z_x + FLIP around them, and begin with bias + start (kernels/weight_panels.py). Short loops
read whole arrays: a slice costs more than a few entries.
"""

from typing import NamedTuple

import numpy as np

from nnaq.jit import jit
from nnaq.kernels.conv_runs import COUNT, requantize_run, requantize_wide
from nnaq.kernels.machine.palettes import BLOCK as EXPANDED
from nnaq.kernels.machine.products import PANEL
from nnaq.kernels.machine.windows import strip_1, strip_2, strip_6, strip_alone, weave
from nnaq.kernels.packed_rows import expand_rows

TILE = 6  # outputs at once
STRIP = 256  # positions at once
BLOCK = 256  # pairs or fours of k: the panels of a strip stay in the second-level cache, one in the first
ALONE = 2  # outputs of a group for which weaving is not worth while
LINE = 32  # entries of a line of a cache


class Frame(NamedTuple):
    """How `spread` lays out a channel: entries of a plane and of a row; rows and columns of a phase.

    top, left: zeros before the first row and column; a negative number leaves entries out.
    """

    plane: int
    pitch: int
    rows: int
    stride_rows: int
    stride_columns: int
    top: int
    left: int

    @property
    def phase(self) -> int:
        """Entries of one phase."""
        return self.rows * self.pitch


class Grid(NamedTuple):
    """Where positions are read and results go, whole numbers only.

    height, width, pitch: rows of positions, positions of a row, and entries of the image from row to row.
    start, step_image, step_group: entry of the image of the first position; from image to image; from group
    to group. first, row, column, channel: entry of the result of the first position of an image; from row to
    row, position to position, output to output.
    """

    height: int
    width: int
    pitch: int
    start: int
    step_image: int
    step_group: int
    first: int
    row: int
    column: int
    channel: int


def frame_of(sizes: tuple[int, int], strides: tuple[int, int], corner: tuple[int, int]) -> Frame:
    """The frame of a padded input of so many rows and columns.

    Planes are an odd number of cache lines apart: at a power of two all channels would share a few lines.
    """
    phase_rows, pitch = -(-sizes[0] // strides[0]), -(-sizes[1] // strides[1])
    size = phase_rows * pitch * strides[0] * strides[1]
    plane = (size // LINE + 2 | 1) * LINE  # at least LINE entries more, which the last strip may read
    return Frame(plane, pitch, phase_rows, *strides, *corner)


@jit
def spread(x, less, nothing, frame, image):  # type: ignore[no-untyped-def]
    """The image of x [N,C,H,W], x - less with `nothing` around it; what lies behind a plane's rows is never
    part of a result."""
    images, channels, height, width = x.shape
    plane, pitch, rows, stride_rows, stride_columns, top, left = frame
    flat = x.reshape(-1)
    for c in range(images * channels):
        for a in range(stride_rows):
            for i in range(rows):
                y = i * stride_rows + a - top
                for b in range(stride_columns):
                    to = c * plane + ((a * stride_columns + b) * rows + i) * pitch
                    # Columns first … stop - 1 have an entry of x.
                    offset = b - left
                    first = min(max(0, (stride_columns - 1 - offset) // stride_columns), pitch)
                    stop = max(first, min(pitch, (width - 1 - offset) // stride_columns + 1))
                    if y < 0 or y >= height:
                        first = stop = pitch
                    for j in range(to, to + first):
                        image[j] = nothing
                    at = (c * height + y) * width + first * stride_columns + offset
                    _centre(flat, at, stride_columns, less, image, to + first, stop - first)
                    for j in range(to + stop, to + pitch):
                        image[j] = nothing


@jit
def _centre(x, at, stride, less, image, to, count):  # type: ignore[no-untyped-def]
    """image[to + j] = x[at + j*stride] - less for `count` entries."""
    zero = np.int16(less)
    if stride == 1 and count >= LINE:
        # Slices from 0 tell the compiler that no index is negative, so that it vectorises.
        part, given = image[to : to + count], x[at : at + count]
        for j in range(part.size):
            part[j] = np.int16(given[j]) - zero
    else:
        for j in range(count):
            image[to + j] = np.int16(x[at + j * stride]) - zero


@jit
def gather(x, less, nothing, frame, offsets, places, rows):  # type: ignore[no-untyped-def]
    """rows[g, n * positions + p, k] = what the window at places[p] of image n holds as entry k of group g.

    What a row has beyond its window is left as it is.
    """
    images, channels = x.shape[:2]
    image = np.empty(channels * frame[0], rows.dtype)  # of one image: it stays in the core's cache
    step = channels // len(rows) * frame[0]
    for n in range(images):
        spread(x[n : n + 1], less, nothing, frame, image)
        for g in range(len(rows)):
            for p in range(places.size):
                at, row = g * step + places[p], rows[g, n * places.size + p]
                for k in range(offsets.size):
                    row[k] = image[at + offsets[k]]


@jit
def convolve(  # type: ignore[no-untyped-def]
    image,
    images,
    offsets,
    weights,
    bias,
    multiplier,
    shift,
    order,
    rounding,
    zero_y,
    low,
    high,
    grid,
    out,
):
    """out of the module's formula, flat [N, O, ...], one output of one image behind the other.

    weights: codes [O, K], packed rows in their place, z_w, outputs of a group, and K; offsets: [K], up to a
    multiple of what a lane sums at once, pairs of words or fours of bytes: what is too much weighs 0.
    """
    resting, packed, zero_w, per_group, depth = weights
    height, width, pitch, start, step_image, step_group, first_out, _, column, channel = grid
    side = 4 // image.itemsize
    count, steps = (height - 1) * pitch + width, offsets.size // side
    fits, step = order[5], max(1, min(BLOCK, steps))
    if not fits:
        step = min(step, order[0] // 2)
    length = min(STRIP, (count + PANEL - 1) // PANEL * PANEL)
    rows, numbers = np.empty(TILE * side * step, image.dtype), np.empty(COUNT, np.int64)
    sums, wide = np.empty(per_group * length, np.int32), np.empty(0 if fits else per_group * length, np.int64)
    panels = np.empty(0 if per_group <= ALONE else side * step * length, image.dtype)
    kept = np.empty(0 if column == 1 else length, out.dtype)
    codes = np.empty((per_group, packed[4] * EXPANDED), np.int8) if packed[2] > 0 else resting
    for group in range(bias.size // per_group):
        behind = group * per_group
        if packed[2] > 0:
            expand_rows(packed, behind, per_group, codes.reshape(-1))
        weights_at = 0 if packed[2] > 0 else behind
        for n in range(images):
            base = start + n * step_image + group * step_group
            for at in range(0, count, length):
                size = min(length, count - at)
                filled = (size + PANEL - 1) // PANEL
                _begin(bias, behind, per_group, length, sums, wide)
                for first in range(0, steps, step):
                    some = min(step, steps - first)
                    if per_group > ALONE:
                        weave(image, base + at, offsets, side * first, some, filled, panels)
                    for o in range(0, per_group, TILE):
                        tall = min(TILE, per_group - o)
                        _widen(codes, depth, weights_at + o, tall, side * first, side * some, zero_w, rows)
                        if per_group > ALONE:
                            _strips(rows, tall, side * some, panels, some, filled, sums, o * length, length)
                        else:
                            for r in range(tall):
                                strip_alone(
                                    rows, side * some * r, image, base + at, offsets, side * first, some,
                                    filled, sums, (o + r) * length,
                                )  # fmt: skip
                    if not fits:
                        _move(sums, wide)
                for o in range(per_group):
                    c = behind + o
                    scale = multiplier[c], shift[c], rounding, zero_y, low, high
                    place = first_out + (n * bias.size + c) * channel
                    _store(sums, wide, o * length, at, size, scale, numbers, grid, place, kept, out)


@jit
def _widen(codes, depth, first, tall, begin, count, zero_w, rows):  # type: ignore[no-untyped-def]
    """rows[r * count + k] = the weight begin + k of output first + r, less z_w; 0 behind the last."""
    zero = np.int16(zero_w)
    there = min(count, depth - begin)
    for r in range(tall):
        if there >= LINE:
            # Slices from 0 tell the compiler that no index is negative, so that it vectorises.
            row, given = rows[r * count : r * count + there], codes[first + r, begin : begin + there]
            for k in range(row.size):
                row[k] = np.int16(given[k]) - zero
        else:
            for k in range(there):
                rows[r * count + k] = np.int16(codes[first + r, begin + k]) - zero
        for k in range(there, count):
            rows[r * count + k] = 0


@jit
def _begin(bias, first, outputs, length, sums, wide):  # type: ignore[no-untyped-def]
    """Sums of a strip as they begin: with the bias, those of 32 bits only where they hold all."""
    for o in range(outputs):
        if wide.size:
            wide[o * length : (o + 1) * length] = bias[first + o]
            sums[o * length : (o + 1) * length] = 0
        else:
            sums[o * length : (o + 1) * length] = np.int32(bias[first + o])


@jit
def _strips(rows, tall, stride, panels, steps, count, sums, to, pitch):  # type: ignore[no-untyped-def]
    """The products of a tile of weights by woven panels added to the sums of a strip."""
    r = 0
    if tall == 6:
        strip_6(rows, 0, stride, panels, steps, count, sums, to, pitch)
        r = 6
    while tall - r >= 2:
        strip_2(rows, r * stride, stride, panels, steps, count, sums, to + r * pitch, pitch)
        r += 2
    if r < tall:
        strip_1(rows, r * stride, stride, panels, steps, count, sums, to + r * pitch, pitch)


@jit
def _move(sums, wide):  # type: ignore[no-untyped-def]
    """Sums of 32 bits added to those of 64, and begun anew."""
    for p in range(wide.size):
        wide[p] += np.int64(sums[p])
        sums[p] = 0


@jit
def _store(sums, wide, begin, at, count, scale, numbers, grid, place, kept, out):  # type: ignore[no-untyped-def]
    """The codes of the positions at … at + count - 1, row by row, to where they belong.

    begin: where their sums begin, in `wide` where there is any; place: entry of the result of the image's
    first position; kept: room for codes that do not stand side by side.
    """
    width, pitch, row, column = grid[1], grid[2], grid[7], grid[8]
    done = 0
    while done < count:
        i, j = divmod(at + done, pitch)
        size = min(width - j, count - done)
        if size > 0:
            target = place + i * row + j * column
            found, to = (out, target) if column == 1 else (kept, 0)
            if wide.size:
                requantize_wide(wide, begin + done, size, scale, found, to)
            else:
                requantize_run(sums, begin + done, size, scale, numbers, found, to)
            if column != 1:
                for p in range(size):
                    out[target + p * column] = kept[p]
        done += pitch - j
