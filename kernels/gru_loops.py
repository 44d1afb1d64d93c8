"""The recurrence of the GRU, compiled: the formula of `nnaq.kernels.gru`, frame by frame."""

import numpy as np

from nnaq.jit import jit
from nnaq.kernels.accumulate import requantize_rows
from nnaq.kernels.fixedpoint import requantize, saturate
from nnaq.kernels.internals import fitted_16
from nnaq.kernels.recurrent_loops import level_16, scaled_16
from nnaq.kernels.weight_rows import part


@jit
def recur(  # type: ignore[no-untyped-def]
    driven, h, y, zero_h, low, high, recurrent_rows, order, rounding, resets_first, sigmoid, tanh,
    factor, rescales, after, grid,
):  # fmt: skip
    """Advance h in place, frame by frame; h and y are int16 whatever their codes are.

    recurrent_rows: weight, bias, multiplier and shift of the gates r, z, n. grid: of the internals.
    """
    frames, batch, units = y.shape
    weight, bias, q, s = recurrent_rows
    first = 2 * units  # row of n
    w_gates, w_new = part(weight, 0, first), part(weight, first, first + units)
    curve, product, state, hidden = rescales
    centred = np.empty((batch, units), np.int16)
    kept = np.empty((batch, units), np.int16)
    carried = np.empty((batch, 2 * units), np.int16)
    proposed = np.empty((batch, units), np.int16)
    for t in range(frames):
        for b in range(batch):
            for j in range(units):
                centred[b, j] = np.int64(h[b, j]) - zero_h
        requantize_rows(centred, w_gates, bias, q, s, order, rounding, 0, -32768, 32767, carried)
        for b in range(batch):
            for j in range(2 * units):
                a = fitted_16(np.int64(driven[t, b, j]) + carried[b, j], grid)
                carried[b, j] = level_16(a, sigmoid, curve, after, grid)
                if j < units:  # r; read by both forms below
                    level = np.int64(carried[b, j]) * centred[b, j]
                    codes = requantize(level, product[0], product[1], after)
                    kept[b, j] = (
                        saturate(codes, zero_h, low, high) - zero_h if resets_first else centred[b, j]
                    )
        requantize_rows(
            kept, w_new, bias[first:], q[first:], s[first:], order, rounding, 0, -32768, 32767, proposed
        )
        for b in range(batch):
            for j in range(units):
                added = np.int64(proposed[b, j])
                if not resets_first:
                    added = scaled_16(carried[b, j] * added, product, after)
                a = fitted_16(driven[t, b, 2 * units + j] + added, grid)
                n = level_16(a, tanh, curve, after, grid)
                z = np.int64(carried[b, units + j])
                before = scaled_16(np.int64(centred[b, j]) * factor, state, after)
                total = fitted_16(32768 - z, grid) * n + z * before
                h[b, j] = saturate(requantize(total, hidden[0], hidden[1], after), zero_h, low, high)
        y[t] = h
