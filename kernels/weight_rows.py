"""Rows of a weight for compiled loops, whether it is an array of codes or rests as packed indices.

A kernel reads rows from a source: the array itself, or a scratch of FOUR rows into which packed rows are
expanded when their turn comes, and which every position of a block then meets; no other copy of their codes
exists. Both are one type to the compiler, so that a kernel is compiled once for both.

Eight codes at a time: two words of the stream give 64 bits from any bit on, the indices of 8 codes. A
`group` of 1, 2, 4 or 8 of them is looked up at once in a table of groups,

    wide[i] = Σ_n table[(i >> n*b) mod 2^b] * 2^(8n)        n < group, entries seen as bytes

which is made anew whenever rows of another table begin; the more codes share a table, the larger the group
that pays. The 8 codes are written as one word: the machine is little-endian.
"""

import math

import numpy as np

from nnaq.jit import jit
from nnaq.kernels.codebook import PackedCodes

FOUR = 4  # rows of a weight that meet a position together
WIDE_BITS = 10  # of the largest table of groups, which is to stay in the first-level cache
WORTH = 16  # codes that are looked up per entry of a table of groups, at least

# A weight [O, K] as compiled loops take it; a plain tuple, which costs the least to hand over:
#   codes   the array, int8 or int16; [0, K] where the weight is packed
#   words, tables, bits, rows   those of PackedCodes; bits is 0 where the weight is an array
#   group   indices per look-up: 1, 2, 4 or 8
#   first   the row of the packed weight that is row 0 here
Weights = tuple[np.ndarray, np.ndarray, np.ndarray, int, int, int, int]

NOT_PACKED = np.empty(0, np.uint64), np.empty((0, 0), np.int8), 0, 0, 1, 0


def weights_of(weight: np.ndarray | PackedCodes, zero_point: int, parts: int = 1) -> Weights:
    """weight - zero_point seen as matrix [O, K]; packed codes stay packed where the zero_point is 0.

    parts: how many equal parts of the rows are read in calls of their own (groups of a convolution).
    """
    if isinstance(weight, np.ndarray):
        return centred(_matrix(weight), zero_point), *NOT_PACKED
    if zero_point != 0:
        return centred(_matrix(weight.codes()), zero_point), *NOT_PACKED
    count, depth = len(weight), math.prod(weight.shape[1:])
    group = _group(weight.bits, min(weight.rows or count, count // parts) * depth)
    return np.empty((0, depth), np.int8), weight.words, weight.tables, weight.bits, weight.rows, group, 0


def _matrix(codes: np.ndarray) -> np.ndarray:
    return codes if codes.ndim == 2 else codes.reshape(len(codes), math.prod(codes.shape[1:]))


def centred(codes: np.ndarray, zero_point: int) -> np.ndarray:
    """codes - zero_point, contiguous int16; codes with zero_point 0 fit as they are."""
    if zero_point == 0:
        return np.ascontiguousarray(codes)
    less: np.ndarray = np.subtract(codes, zero_point, dtype=np.int16)
    return less


def _group(bits: int, shared: int) -> int:
    """Indices per look-up where `shared` codes use one table in a row."""
    fits = (g for g in (8, 4, 2) if bits * g <= WIDE_BITS and WORTH << (bits * g) <= shared)
    return next(fits, 1)


@jit
def part(weights, first, stop):  # type: ignore[no-untyped-def]
    """Rows first … stop - 1 as a weight of their own."""
    codes, words, tables, bits, rows, group, start = weights
    return codes[first:stop], words, tables, bits, rows, group, start + first


@jit
def is_packed(weights):  # type: ignore[no-untyped-def]
    return weights[3] > 0


@jit
def source_of(weights):  # type: ignore[no-untyped-def]
    """Where a loop finds rows of a weight, int8 or int16 [rows, K or more], and what `expand_rows` needs.

    An array is its own source. Of a packed weight the source is room for FOUR rows.
    """
    codes, _, _, bits, _, group, _ = weights
    if bits == 0:
        return codes, (np.empty((0, 0), np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))
    rows = np.empty((FOUR, (codes.shape[1] + 7) // 8), np.uint64)
    return rows.view(codes.dtype), (rows, np.empty(1 << (bits * group), np.uint64), np.full(1, -1, np.int64))


@jit
def expand_rows(weights, first, count, scratch):  # type: ignore[no-untyped-def]
    """Rows first … first + count - 1 (at most FOUR) of a packed weight become rows 0 … of its source."""
    codes, words, tables, bits, shared, group, start = weights
    rows, wide, held = scratch
    for r in range(count):
        row = start + first + r
        number = row // shared if shared > 0 else 0
        if held[0] != number:
            _widen(tables[number], bits, group, wide)
            held[0] = number
        _expand(words, row * codes.shape[1] * bits, bits, group, wide, rows[r])


@jit
def _widen(table, bits, group, wide):  # type: ignore[no-untyped-def]
    """The table of groups."""
    mask = (1 << bits) - 1
    for i in range(wide.size):
        entry = np.uint64(0)
        for n in range(group):
            entry |= np.uint64(np.uint8(table[(i >> (n * bits)) & mask])) << np.uint64(8 * n)
        wide[i] = entry


@jit
def _expand(words, first_bit, bits, group, wide, out):  # type: ignore[no-untyped-def]
    """out = the codes whose indices begin at a bit, 8 in a word."""
    bit, step = np.uint64(first_bit), np.uint64(8 * bits)
    b, mask = np.uint64(bits * group), np.uint64((1 << (bits * group)) - 1)
    for j in range(out.size):
        at, low = bit >> np.uint64(6), bit & np.uint64(63)
        above = words[at + np.uint64(1)] << np.uint64(1)  # two shifts: none by 64
        indices = (words[at] >> low) | (above << (np.uint64(63) - low))
        eight = wide[indices & mask]
        if group == 4:
            eight |= wide[(indices >> b) & mask] << np.uint64(32)
        elif group == 2:
            for n in range(1, 4):
                eight |= wide[(indices >> np.uint64(n) * b) & mask] << np.uint64(16 * n)
        elif group == 1:
            for n in range(1, 8):
                eight |= wide[(indices >> np.uint64(n) * b) & mask] << np.uint64(8 * n)
        out[j] = eight
        bit += step
