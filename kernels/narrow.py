"""Narrow accumulators: sums of products that may overflow, a target's choice for what-if studies.

A node whose contract is narrow carries the attributes accumulator_bits, overflow and array_depth; all
others have wide accumulators that are proved wrap-free (kernels/accumulate.py). With

    width = accumulator_bits for i8 activations, accumulator_bits + 16 for i16 activations
    low   = -2^(width-1),  high = 2^(width-1) - 1
    limit(v) = min(max(v, low), high)               overflow "saturate"
             = (v - low) mod 2^width + low          overflow "wrap"

and the K products p[k] = (w[k] - z_w) * (x[k] - z_x) of one result,

    acc = limit(bias)
    acc = limit(acc + Σ p[k], b*array_depth <= k < min(K, (b+1)*array_depth))    for b = 0, 1, …

Saturation is not associative: the order is part of the contract. K ascends; a block's own sum is exact,
however wide, and one accumulator serves bias and all blocks. A wrap may be taken once, at the end: it
gives the same acc. The order of K is

    fully_connected, matmul, lstm, gru     the summed axis
    conv1d, conv2d                         channels of the group, then taps: the memory order of the
                                           weight [O, C/G, *kernel]; what stands for padding is 0
    conv_transpose1d, conv_transpose2d     channels of the group, then taps, of a weight
                                           [C, O/G, *kernel]; a tap that meets no entry of x adds 0

where zeros keep their places in the blocks. In lstm and gru, W x + b, R h (+ b) and a projection each have
an accumulator of their own; the mixing of a gru's state by its gate is no such sum and stays exact.

Where Σ |p| + |bias| < 2^(width-1), nothing overflows and acc is the wide one. acc fits 48 bits always, so
that requantisation needs no rule of its own; block sums are held in int64, in reach for K < 2^33.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import NamedTuple

from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Attr
from nnaq.ir.types import TensorType
from nnaq.jit import jit

ATTRIBUTES = ("accumulator_bits", "overflow", "array_depth")


class Order(NamedTuple):
    """How a compiled kernel sums: whole numbers only, so that all kernels share one compilation.

    span: products that always fit 32 bits. block: products per block of a narrow accumulator, 0 for a
    wide one; low, high, wraps: its limits, and whether it wraps. fits: whether every sum, bias included,
    is proved within 32 bits.
    """

    span: int
    block: int = 0
    low: int = 0
    high: int = 0
    wraps: int = 0
    fits: bool = False


@dataclass(frozen=True)
class Narrow:
    """The accumulator of one sum of products."""

    width: int
    wraps: bool
    block: int

    @property
    def low(self) -> int:
        return -(1 << (self.width - 1))

    @property
    def high(self) -> int:
        return (1 << (self.width - 1)) - 1

    def order(self, span: int) -> Order:
        return Order(span, self.block, self.low, self.high, int(self.wraps))

    def limit(self, value: int) -> int:
        """What the accumulator holds of a value, in Python integers."""
        if self.wraps:
            return (value - self.low) % (1 << self.width) + self.low
        return min(max(value, self.low), self.high)


def width_of(accumulator_bits: int, x: TensorType) -> int:
    """Bits of an accumulator for activations of type `x`."""
    return accumulator_bits + (16 if x.dtype == "i16" else 0)


def contract(numerics: Numerics) -> dict[str, Attr]:
    """The attributes that a narrow contract adds to a node; none for a wide one."""
    if not numerics.is_narrow:
        return {}
    return {name: getattr(numerics, name) for name in ATTRIBUTES}


def contract_of(attrs: Mapping[str, Attr]) -> dict[str, Attr]:
    """The attributes of a narrow contract that a node carries."""
    return {name: attrs[name] for name in ATTRIBUTES if name in attrs}


def narrow_of(attrs: Mapping[str, Attr], x: TensorType) -> Narrow | None:
    """The narrow accumulator of a node for activations of type `x`; None where it is wide."""
    if "accumulator_bits" not in attrs:
        return None
    width = width_of(int(attrs["accumulator_bits"]), x)  # type: ignore[arg-type]
    return Narrow(width, attrs["overflow"] == "wrap", int(attrs["array_depth"]))  # type: ignore[arg-type]


def sum_reference(narrow: Narrow | None, bias: int, weights: Sequence[int], column: Sequence[int]) -> int:
    """bias + Σ weights * column in Python integers, block by block in a narrow accumulator."""
    if narrow is None:
        exact: int = bias + sum(map(mul, weights, column))
        return exact
    total = narrow.limit(bias)
    for k in range(0, len(weights), narrow.block):
        stop = k + narrow.block
        total = narrow.limit(total + sum(map(mul, weights[k:stop], column[k:stop])))
    return total


@jit
def limited(value, low, high, wraps):  # type: ignore[no-untyped-def]
    """What an accumulator from low to high holds of a value."""
    if wraps:
        return ((value - low) & (high - low)) + low
    return min(max(value, low), high)
