"""Narrow internals: gates and cells of recurrent layers in fewer than 16 bits, a target's choice.

A node whose contract asks for them carries the attribute internal_bits, 6 to 15; all others hold 16 bits.
With k = 16 - internal_bits and v of 16 bits,

    coarse_k(v) = 2^k * min(floor((v + 2^(k-1)) / 2^k), 2^(15-k) - 1),    coarse_0(v) = v

that is v rounded to a multiple of 2^k, half up under every `rounding`, and saturated to the largest multiple
that 16 bits hold; the lowest, -2^15, is one. |coarse_k(v) - v| <= 2^(k-1) except above that largest
multiple, 2^15 - 2^k, from where on it is below 2^k. Codes stay 16 bits wide and keep their scale, so that no
type, table or state changes: Q3.12 with k low bits of zero is Q3.(12-k), Q0.15 is Q0.(15-k). In the formulas
of `nnaq.kernels.recurrent` and `nnaq.kernels.gru` coarse_k comes behind the sat16 of

    lstm    a (behind the normalisation where there is one); i, f, g, o; c; gate_tanh(d)
    gru     a_r, a_z, a_n; r, z, n; 2^15 - z

and of nothing else: the two sums of a, the two products of c and a gru's r * C are held by the adder that
they enter; d is the cell, whose bits are few already, in another format; m, h, y and the reset state of a gru
have code types of their own, and p is h. The first frame reads c0 as it is given.

1 - f of coupled gates and 1 - z are exact unless f or z is 0: then 1 saturates like every level.
"""

from collections.abc import Mapping

import numpy as np

from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Attr
from nnaq.jit import jit

ATTRIBUTE = "internal_bits"
WIDEST = 16


def internals(numerics: Numerics) -> dict[str, Attr]:
    """The attribute that narrow internals add to a node; none for 16 bits."""
    return {} if numerics.internal_bits == WIDEST else {ATTRIBUTE: numerics.internal_bits}


def zero_bits(attrs: Mapping[str, Attr]) -> int:
    """k: how many low bits of a node's internals are 0."""
    return WIDEST - int(attrs.get(ATTRIBUTE, WIDEST))  # type: ignore[arg-type]


def coarse_reference(value: int, k: int) -> int:
    """coarse_k in Python integers."""
    step = 1 << k
    return step * min((value + step // 2) // step, (1 << (15 - k)) - 1)


def grid_of(attrs: Mapping[str, Attr]) -> tuple[int, int] | None:
    """coarse_k as two numbers: half a step, and a mask of the bits that stay. None for 16 bits.

    None is a type of its own to the compiler, so that nodes of 16 bits pay nothing for the others.
    """
    step = 1 << zero_bits(attrs)
    return None if step == 1 else (step >> 1, -step)


@jit
def fitted_16(value, grid):  # type: ignore[no-untyped-def]
    """coarse_k(sat16(value)); grid: half a step and the mask, None for sat16 alone.

    Both saturate at once: what lies below -2^15 is -2^15, with half a step or without.
    """
    if grid is None:
        return min(max(value, np.int64(-32768)), np.int64(32767))
    return min(max(value + grid[0], np.int64(-32768)), np.int64(32767)) & grid[1]


@jit
def passes_16(value, grid):  # type: ignore[no-untyped-def]
    """Whether fitted_16 saturates."""
    if grid is None:
        return value < -32768 or value > 32767
    return value < -32768 or value + grid[0] > 32767
