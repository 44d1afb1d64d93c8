"""The recurrence of the LSTM, compiled: the formula of `nnaq.kernels.recurrent`, frame by frame."""

import numpy as np

from nnaq.jit import jit
from nnaq.kernels.accumulate import requantize_rows
from nnaq.kernels.fixedpoint import requantize, saturate
from nnaq.kernels.internals import fitted_16, passes_16
from nnaq.kernels.norm_affine import affine
from nnaq.kernels.recurrent_loops import clamp_16, level_16, scaled_16
from nnaq.kernels.roots import reciprocal_root

NORM_FRACTION = 16  # of z


@jit
def recur(  # type: ignore[no-untyped-def]
    gates, h, c, y, zero_h, w, q, s, order, rounding, coupled, sigmoid, tanh, cell_table, fraction, powers,
    after, grid, low, high, projected, zero_m, w_p, q_p, s_p, order_p, normed, norm_tables, norm_numbers,
):  # fmt: skip
    """Advance h and c in place, frame by frame; returns how many values of c were clamped.

    h and y are int16 whatever their codes are, so that one compilation serves both. grid: of the internals.
    """
    frames, batch, rows = gates.shape
    width, units = h.shape[1], c.shape[1]
    centred = np.empty((batch, width), np.int16)
    groups = 3 if coupled else 4
    carried, a = np.empty((batch, rows), np.int16), np.empty((batch, rows), np.int16)
    made = np.empty((batch, units), np.int16)
    no_bias = np.zeros(max(rows, width), np.int64)
    saturations = 0
    for t in range(frames):
        for b in range(batch):
            for j in range(width):
                centred[b, j] = np.int64(h[b, j]) - zero_h
        requantize_rows(centred, w, no_bias, q, s, order, rounding, 0, -32768, 32767, carried)
        for b in range(batch):
            for j in range(rows):
                a[b, j] = clamp_16(np.int64(gates[t, b, j]) + carried[b, j])
        if normed:
            for b in range(batch):
                for k in range(groups):
                    _normalise(a[b], k * units, units, norm_tables, norm_numbers, after)
        for b in range(batch):
            saturations += _update(
                a[b], made[b], c[b], zero_m, coupled, sigmoid, tanh, cell_table, fraction, powers, after,
                grid, low, high,
            )  # fmt: skip
        if projected:  # zero_m is 0
            requantize_rows(made, w_p, no_bias, q_p, s_p, order_p, rounding, zero_h, low, high, h)
        else:
            h[:] = made
        y[t] = h
    return saturations


@jit
def _update(  # type: ignore[no-untyped-def]
    a, made, c, zero_m, coupled, sigmoid, tanh, cell_table, fraction, powers, rounding, grid, low, high
):
    """The next h, before a projection, and c of one row of the batch; returns how many c were clamped."""
    curve, keep, new, cell, hidden = powers
    units = c.size
    first = 0 if coupled else units  # where the rows of f begin
    saturations = 0
    for j in range(units):
        f = level_16(fitted_16(a[first + j], grid), sigmoid, curve, rounding, grid)
        g = level_16(fitted_16(a[first + units + j], grid), tanh, curve, rounding, grid)
        o = level_16(fitted_16(a[first + 2 * units + j], grid), sigmoid, curve, rounding, grid)
        if coupled:
            i = fitted_16(32767 - f, grid)
        else:
            i = level_16(fitted_16(a[j], grid), sigmoid, curve, rounding, grid)
        total = scaled_16(f * np.int64(c[j]), keep, rounding) + scaled_16(i * g, new, rounding)
        state = fitted_16(total, grid)
        saturations += passes_16(total, grid)
        c[j] = state
        lifted = scaled_16(state, cell, rounding) if fraction > 12 else clamp_16(state << (12 - fraction))
        squashed = level_16(lifted, cell_table, curve, rounding, grid) * o
        made[j] = saturate(requantize(squashed, hidden[0], hidden[1], rounding), zero_m, low, high)
    return saturations


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
