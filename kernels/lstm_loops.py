"""The recurrence of the LSTM, compiled: the formula of `nnaq.kernels.recurrent`, frame by frame.

What follows a frame's product are passes over rows of units (kernels/machine/curves.py), with numbers of
their own (kernels/cell_numbers.py). h is kept as h - z_h, which is what the next frame's product reads.
"""

import numpy as np
from numpy import int64

from nnaq.jit import jit
from nnaq.kernels.machine.curves import blend, interpolate, multiply
from nnaq.kernels.multiply import requantize_centred
from nnaq.kernels.norm_affine import affine
from nnaq.kernels.recurrent_loops import centred_rows, clamp_16, complement, write_codes
from nnaq.kernels.roots import reciprocal_root
from nnaq.kernels.weight_panels import even

NORM_FRACTION = 16  # of z
SIGMOID, TANH, LIFT, SQUASH, BLEND, HIDDEN = range(6)  # rows of the numbers of a cell


@jit
def recur(gates, carried, h, c, y_8, y_16, recurrent, cell, projection, norm):  # type: ignore[no-untyped-def]
    """Advance c in place, frame by frame, and fill the y that holds codes; how many values of c were clamped.

    carried: room for what h adds to the pre-activations, of one frame or of all of them. h: the codes before
    the first frame, i16. y_8 or y_16 is empty: one compilation serves both code types. recurrent, projection:
    weights, multiplier, shift and order of a product, the latter's code limits behind.
    """
    frames, batch, rows = gates.shape
    width, units = h.shape[1], c.shape[1]
    w, q, s, order, rounding = recurrent
    projected, w_p, q_p, s_p, order_p, low, high = projection
    zero_h = cell[0]
    centred = centred_rows(h, zero_h)
    projections = np.empty((batch, width), np.int16)
    made = np.zeros((batch, even(units)), np.int16) if projected else centred
    no_bias, nothing = np.zeros(max(rows, width), np.int64), np.zeros(rows, np.int16)
    room = _room(rows, units, cell[2]), nothing[:units]
    # As variables, or Numba compiles a product of its own for every constant it is called with.
    saturations, first, zero, lowest, highest = int64(0), int64(0), int64(0), int64(-32768), int64(32767)
    for t in range(frames):
        own = carried[t % len(carried)]
        requantize_centred(centred, zero_h, w, first, no_bias, q, s, order, rounding, lowest, highest, own)
        for b in range(batch):
            driven = gates[t, b]
            if norm[0]:
                _normalise_gates(driven, own[b], units, norm)
                driven = nothing
            saturations += _update(driven, own[b], c[b], made[b, :units], cell, room)
        if projected:
            requantize_centred(
                made, zero, w_p, first, no_bias, q_p, s_p, order_p, rounding, low, high, projections
            )
            for b in range(batch):  # not centred[:, :width] = projections, see room_for
                for j in range(width):
                    centred[b, j] = projections[b, j]
        write_codes(centred, zero_h, t, y_8, y_16)
    return saturations


@jit
def _room(rows, units, factor):  # type: ignore[no-untyped-def]
    """Levels of the gates, of a coupled input gate and of the cell; the cell in Q3.12, made by `factor`."""
    levels, coupled = np.empty(rows, np.int16), np.empty(units, np.int16)
    squashed, lifted = np.empty(units, np.int16), np.empty(units, np.int16)
    return levels, coupled, squashed, lifted, np.full(units, factor, np.int16)


@jit
def _update(driven, carried, c, made, cell, room):  # type: ignore[no-untyped-def]
    """The next h - z_h, before a projection, and c of one row of the batch; how many c were clamped."""
    _, coupled, factor, tables, numbers = cell
    (levels, i, squashed, lifted, factors), nothing = room
    units = c.size
    first = np.int64(0) if coupled else units  # where the rows of f begin
    g, o = first + units, first + 2 * units
    interpolate(driven[:g], carried[:g], tables, numbers[SIGMOID], levels[:g])
    interpolate(driven[g:o], carried[g:o], tables, numbers[TANH], levels[g:o])
    interpolate(driven[o:], carried[o:], tables, numbers[SIGMOID], levels[o:])
    f = levels[first:g]
    if coupled:
        complement(32767, f, numbers[SIGMOID], i)
    else:
        i = levels[:units]
    saturations = blend(f, i, levels[g:o], numbers[BLEND], c)
    if factor:
        multiply(c, factors, numbers[LIFT], lifted)
        interpolate(lifted, nothing, tables, numbers[SQUASH], squashed)
    else:
        interpolate(c, nothing, tables, numbers[SQUASH], squashed)
    multiply(squashed, levels[o:], numbers[HIDDEN], made)
    return saturations


@jit
def _normalise_gates(driven, carried, units, norm):  # type: ignore[no-untyped-def]
    """Normalised pre-activations of one row of the batch, in the place of `carried`."""
    _, tables, numbers, rounding = norm
    for j in range(carried.size):
        carried[j] = clamp_16(np.int64(driven[j]) + carried[j])
    for first in range(0, carried.size, units):
        _normalise(carried, first, units, tables, numbers, rounding)


@jit
def _normalise(a, first, units, tables, numbers, rounding):  # type: ignore[no-untyped-def]
    """One gate of one row of the batch, in place: the formula of `nnaq.kernels.norm_rows`."""
    table, weight, bias, q, s = tables
    divisor, headroom, epsilon = numbers
    each = np.int64(weight.size > 1)
    total, squares = np.int64(0), np.int64(0)
    for j in range(first, first + units):
        v = np.int64(a[j])
        total += v
        squares += v * v
    joined = ((divisor * squares - total * total) << (2 * headroom)) + epsilon
    joined = max(joined, np.int64(1) << (2 * headroom))
    k = (32 - _bit_length(joined)) >> 1
    root = reciprocal_root(joined << (2 * k) if k >= 0 else joined >> (-2 * k), table)
    right = 45 - NORM_FRACTION - k - headroom
    for j in range(first, first + units):
        z = ((divisor * np.int64(a[j]) - total) * root + (np.int64(1) << (right - 1))) >> right
        c = j * each
        a[j] = affine(z, weight[c], bias[c], q[c], s[c], rounding, 0, -32768, 32767)


@jit
def _bit_length(v):  # type: ignore[no-untyped-def]
    """Bits of a positive int64."""
    length = np.int64(0)
    for step in (32, 16, 8, 4, 2, 1):
        if v >> step:
            v >>= step
            length += step
    return length + 1
