"""The recurrence of the GRU, compiled: the formula of `nnaq.kernels.gru`, frame by frame.

What follows a frame's products are passes over rows of units (kernels/machine/curves.py), with numbers of
their own (kernels/cell_numbers.py). h is kept as h - z_h, which is what the next frame's products read.
"""

import numpy as np

from nnaq.jit import jit
from nnaq.kernels.machine.curves import interpolate, multiply, multiply_both
from nnaq.kernels.multiply import requantize_centred
from nnaq.kernels.recurrent_loops import centred_rows, complement, write_codes

SIGMOID, TANH, PRODUCT, STATE, HIDDEN = range(5)  # rows of the numbers of a cell


@jit
def recur(driven, h, y_8, y_16, recurrent, cell):  # type: ignore[no-untyped-def]
    """Fill the y that holds codes, frame by frame; the other one is empty.

    h: the codes before the first frame, i16. recurrent: weight, bias, multiplier, shift, order and rounding
    of the gates r, z, n.
    """
    frames, (batch, units) = len(driven), h.shape
    zero_h, resets_first = cell[0], cell[1]
    centred, kept = centred_rows(h, zero_h), centred_rows(h, zero_h)
    carried = np.empty((3, batch, units), np.int16)
    room = np.empty(units, np.int16), np.empty(units, np.int16), np.full(units, cell[2], np.int16)
    for t in range(frames):
        for gate in range(3):
            if gate == 2 and resets_first:
                for b in range(batch):
                    _reset(driven[t, b], carried[0, b], centred[b, :units], kept[b, :units], cell)
            columns = kept if gate == 2 and resets_first else centred
            _product(columns, zero_h, gate, recurrent, carried[gate])
        for b in range(batch):
            if not resets_first:
                _reset(driven[t, b], carried[0, b], carried[2, b], carried[2, b], cell)
            _mix(driven[t, b], carried[1, b], carried[2, b], centred[b, :units], cell, room)
        write_codes(centred, zero_h, t, y_8, y_16)


@jit
def _product(columns, zero_h, gate, recurrent, out):  # type: ignore[no-untyped-def]
    """What the rows of one gate make of h, or of what is kept of it, in Q3.12."""
    weight, bias, q, s, order, rounding = recurrent
    own = slice(gate * out.shape[1], (gate + 1) * out.shape[1])
    low, high = np.int64(-32768), np.int64(32767)  # variables: see lstm_loops
    requantize_centred(
        columns, zero_h, weight, gate, bias[own], q[own], s[own], order, rounding, low, high, out
    )


@jit
def _reset(driven, carried, values, out, cell):  # type: ignore[no-untyped-def]
    """r * values, for one row of the batch; r takes the place of what is carried to it."""
    _, _, _, tables, numbers = cell
    interpolate(driven[: out.size], carried, tables, numbers[SIGMOID], carried)
    multiply(carried, values, numbers[PRODUCT], out)


@jit
def _mix(driven, update, added, centred, cell, room):  # type: ignore[no-untyped-def]
    """The next h - z_h of one row of the batch, from what z and n are made of."""
    _, _, _, tables, numbers = cell
    rest, before, factors = room
    units = centred.size
    interpolate(driven[units : 2 * units], update, tables, numbers[SIGMOID], update)
    interpolate(driven[2 * units :], added, tables, numbers[TANH], added)
    complement(32768, update, numbers[SIGMOID], rest)
    multiply(centred, factors, numbers[STATE], before)
    multiply_both(rest, added, update, before, numbers[HIDDEN], centred)
