"""Compiled passes over codes that the gradients of training ask for.

    at_ends        the places i where codes[i] is low or high; blocks without one are passed over in vectors
    by_code        out[i] = gradient[i] * slopes[codes[i] + 128]
    slope_times    out[p, g, j] = slopes[codes[p, g, j] + 32768] * (others[p, j] * scale)

The last one is for one gate g; codes of 8 bits, then of 16.
"""

import numpy as np

from nnaq.jit import jit

BLOCK = 512


@jit
def at_ends(codes, low, high, places):  # type: ignore[no-untyped-def]
    """Write the places, in order; how many there are, or one more than there is room for."""
    count = 0
    for start in range(0, codes.size, BLOCK):
        some = codes[start : start + BLOCK]
        met = False
        for i in range(some.size):
            met |= (some[i] == low) | (some[i] == high)
        if met:
            for i in range(some.size):
                if some[i] == low or some[i] == high:
                    if count == places.size:
                        return count + 1
                    places[count] = start + i
                    count += 1
    return count


@jit
def by_code(gradient, codes, slopes, out):  # type: ignore[no-untyped-def]
    """i8 codes."""
    for i in range(out.size):
        out[i] = gradient[i] * slopes[np.int64(codes[i]) + 128]


@jit
def slope_times(codes, slopes, others, scale, gate, out):  # type: ignore[no-untyped-def]
    """i16 codes."""
    rows, _, units = out.shape
    for p in range(rows):
        for j in range(units):
            out[p, gate, j] = slopes[np.int64(codes[p, gate, j]) + 32768] * (others[p, j] * scale)
