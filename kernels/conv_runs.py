"""Requantisation of neighbouring positions of one output, which share bias, multiplier and shift.

    out[p] = saturate(requantize(sums[p], multiplier, shift) + z_y)       kernels/fixedpoint.py

Sums of 32 bits under `single` and `double` need no signed shift of 64 bits, which most machines lack: with
n = 31 - s under `single` and n = 31 - max(s, 0) under `double`, |x*q| <= 2^62 and n <= 62,

    h = (x*q + 2^(n-1)) >> n  =  ((x*q + 2^(n-1) + 2^62) >> n) - 2^(62-n)

where the sum in brackets is never negative, and the low 32 bits of the right side are h wherever that fits
32 bits. A left shift s > 0 might leave them: x is first clamped to -2^(30-s) … 2^(30-s) - 1. What lies beyond
is scaled to at least 2^29 - 1 in size, and saturates either way. `double` then rounds h once more by 2^-r.
"""

import numpy as np

from nnaq.jit import jit
from nnaq.kernels.fixedpoint import DOUBLE, HALF_EVEN, SINGLE, requantize, saturate
from nnaq.kernels.machine.runs import NUMBERS, run_double, run_single

COUNT = len(NUMBERS)


@jit
def requantize_run(sums, begin, count, scale, numbers, out, to):  # type: ignore[no-untyped-def]
    """out[to + p] of the sum begin + p, for `count` positions; sums: i32, bias included.

    scale: multiplier, shift, rounding, z_y, lowest and highest code; numbers: room for COUNT of them, i64.
    """
    multiplier, shift, rounding, zero_y, low, high = scale
    if rounding == SINGLE:
        _numbers_of(scale, np.int64(shift), numbers)
        run_single(sums, begin, count, numbers, out, to)
    elif rounding == DOUBLE:
        _numbers_of(scale, max(np.int64(shift), np.int64(0)), numbers)
        run_double(sums, begin, count, numbers, out, to)
    elif rounding == HALF_EVEN:
        factor = np.int32(multiplier).view(np.float32)
        lowest, highest = np.float32(low - zero_y), np.float32(high - zero_y)
        given, codes = sums[begin : begin + count], out[to : to + count]
        for p in range(codes.size):
            y = np.rint(np.float32(given[p]) * factor)
            codes[p] = np.int32(min(max(y, lowest), highest)) + np.int32(zero_y)
    else:
        requantize_wide(sums, begin, count, scale, out, to)


@jit
def requantize_wide(sums, begin, count, scale, out, to):  # type: ignore[no-untyped-def]
    """The same of sums of at most 48 bits, bias included."""
    multiplier, shift, rounding, zero_y, low, high = scale
    for p in range(count):
        y = requantize(np.int64(sums[begin + p]), multiplier, shift, rounding)
        out[to + p] = saturate(y, zero_y, low, high)


@jit
def _numbers_of(scale, left, numbers):  # type: ignore[no-untyped-def]
    """What the machine's run takes, for n = 31 - left."""
    multiplier, shift, _, zero_y, low, high = scale
    one = np.int64(1)
    reach = one << (30 - left) if left > 0 else one << 31
    numbers[0], numbers[1], numbers[2] = multiplier, (one << (30 - left)) + (one << 62), 31 - left
    numbers[3], numbers[4], numbers[5] = one << (31 + left), -reach, reach - 1
    numbers[6], numbers[7], numbers[8] = low - zero_y, high - zero_y, zero_y
    numbers[9] = max(-np.int64(shift), 0)
