"""Exact products of integer matrices from what a GPU multiplies: int8, float32 and float64.

CUDA has no product of INT64 matrices. Every way below gives the sum of products mod 2^64, the very bits of
the INT64 product, for operands whose ranges |a| <= A, |b| <= B are proved beforehand:

    int8      both ranges hold at most 256 numbers. With a = a8 + p, b = b8 + q, a8 and b8 in -128 … 127:
              Σ a b = Σ a8 b8 + q Σ a8 + p Σ b8 + K p q
              by `_int_mm` in blocks of K <= 2^16, each sum within 2^16 * 2^7 * 2^7 = 2^30 < 2^31
    float32   blocks of K <= 2^24 / (A B); every partial sum, in any order, fused or not, is a whole number
              within 2^24 and so exact. Eight-bit codes: 2^24 / (2^7 * 2^7) = 1024; less a zero_point on one
              side: 2^24 / (255 * 128) = 514. Blocks are cut at 512 at most and summed in INT64
    float64   the same with blocks of K <= 2^53 / (A B)
    limbs     A B > 2^53: the wider operand is cut, x = high 2^20 + low, 0 <= low < 2^20; each part is a
              product of its own and INT64 joins them

`_int_mm` of CUDA takes two matrices of more than 16 rows, K and N multiples of 8 and not 0, the second one
stored by columns (ATen/native/cuda/Blas.cpp): zeros fill up what is missing. Small products, of which
recurrent layers have one per frame, go to float32, which takes fewer launches. TF32 is off while a product
runs, and automatic casts (`torch.autocast`) are too. Not run on a GPU: the order of the ways is a guess at
their speed, which no bit depends on.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

Way = Literal["int8", "float32", "float64", "limbs"]
Range = tuple[int, int]
LIMB = 20
LARGEST = {"float32": 2**24, "float64": 2**53}
LONGEST = {"int8": 2**16, "float32": 512, "float64": 2**53}
SHORTEST = 64  # a float32 block that is worth its launch
MANY_PRODUCTS = 2**22  # what is worth the launches around `_int_mm`
ROWS, MULTIPLE = 17, 8


def integer_product(a: Tensor, b: Tensor, range_a: Range, range_b: Range, way: Way | None = None) -> Tensor:
    """a [..., M, K] times b [..., K, N], both INT64 with entries in the given ranges, as INT64.

    way: what multiplies; without it the first that the ranges, shapes and device admit.
    """
    way = way or choose(a, b, range_a, range_b)
    if way == "limbs":
        return _by_limbs(a, b, range_a, range_b)
    if way == "int8":
        return _by_bytes(a, b, range_a, range_b)
    block = block_of(way, range_a, range_b)
    with exact_floats(a.device):
        return _by_floats(a, b, torch.float32 if way == "float32" else torch.float64, block)


def choose(a: Tensor, b: Tensor, range_a: Range, range_b: Range) -> Way:
    """The first way admitted: int8 for one right-hand matrix and many products, float32 in long blocks."""
    narrow = all(high - low <= 255 for low, high in (range_a, range_b))
    if narrow and b.ndim == 2 and a.numel() * b.shape[-1] >= MANY_PRODUCTS and has_int8(b.device):
        return "int8"
    if block_of("float32", range_a, range_b) >= min(b.shape[-2], SHORTEST):
        return "float32"
    return "float64" if block_of("float64", range_a, range_b) else "limbs"


def has_int8(device: torch.device) -> bool:
    """Whether `_int_mm` runs there: on a CPU, and on GPUs with tensor cores for int8 (compute 8.0 on)."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return True
    return torch.cuda.get_device_capability(device) >= (8, 0)


def block_of(way: Way, range_a: Range, range_b: Range) -> int:
    """How many products may be summed exactly; 0 for none."""
    return min(LARGEST[way] // max(magnitude(range_a) * magnitude(range_b), 1), LONGEST[way])


def magnitude(limits: Range) -> int:
    """The largest absolute value of a range."""
    return max(abs(limit) for limit in limits)


@contextmanager
def exact_floats(device: torch.device) -> Iterator[None]:
    """TF32 and automatic casts off, as they were afterwards."""
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = "ieee"
    try:
        if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
            with torch.autocast(device.type, enabled=False):
                yield
        else:
            yield
    finally:
        products.fp32_precision = before


def _by_floats(a: Tensor, b: Tensor, dtype: torch.dtype, block: int) -> Tensor:
    """Blocks of K as floats, their sums as INT64."""
    parts = [
        _product(left.to(dtype), right.to(dtype)).to(torch.int64)
        for left, right in zip(torch.split(a, block, -1), torch.split(b, block, -2), strict=True)
    ]
    return _added(parts)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a [..., M, K] times b [..., K, N] by mm or bmm; torch.matmul chooses by rules of its own."""
    if b.ndim == 2:
        return torch.mm(a.flatten(0, -2), b).reshape((*a.shape[:-1], b.shape[-1]))
    outer = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left, right = (x.expand((*outer, *x.shape[-2:])).flatten(0, -3) for x in (a, b))
    return torch.bmm(left, right).reshape((*outer, a.shape[-2], b.shape[-1]))


def _by_bytes(a: Tensor, b: Tensor, range_a: Range, range_b: Range) -> Tensor:
    """The product of codes and the corrections for what was taken off them."""
    (p, rows), (q, columns) = _bytes(a, range_a), _bytes(b, range_b)
    depth, width = columns.shape
    total = _sums(rows.flatten(0, -2), columns, width).reshape(*a.shape[:-1], width)
    if q:
        total = total + rows.sum(-1, keepdim=True, dtype=torch.int64) * q
    if p:
        total = total + (columns.sum(0, dtype=torch.int64) * p + depth * p * q)
    return total


def _bytes(x: Tensor, limits: Range) -> tuple[int, Tensor]:
    """What is taken off x, and the rest as int8."""
    low, high = limits
    offset = 0 if low >= -128 and high <= 127 else low + 128
    return offset, (x - offset if offset else x).to(torch.int8)


def _sums(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """int8 rows [M, K] times columns [K, N] as INT64, filled up to what `_int_mm` takes."""
    count, depth = rows.shape
    if 0 in (count, depth, width):
        return rows.new_zeros((count, width), dtype=torch.int64)
    deep = -depth % MULTIPLE
    left = pad(rows, (0, deep, 0, max(ROWS - count, 0)))
    right = pad(columns.t(), (0, deep, 0, -width % MULTIPLE))
    blocks = zip(*(torch.split(x, LONGEST["int8"], 1) for x in (left, right)), strict=True)
    total = _added([torch._int_mm(x.contiguous(), y.contiguous().t()).to(torch.int64) for x, y in blocks])
    return total.narrow(0, 0, count).narrow(1, 0, width)


def _added(parts: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, parts)


def _by_limbs(a: Tensor, b: Tensor, range_a: Range, range_b: Range) -> Tensor:
    """The wider operand as high 2^20 + low; INT64 wraps where the product itself does."""
    cut_a = magnitude(range_a) >= magnitude(range_b)
    x, (least, most) = (a, range_a) if cut_a else (b, range_b)
    low, high = x & ((1 << LIMB) - 1), x >> LIMB
    ranges = (0, (1 << LIMB) - 1), (least >> LIMB, most >> LIMB)
    made = [
        integer_product(part, b, limits, range_b) if cut_a else integer_product(a, part, range_a, limits)
        for part, limits in zip((low, high), ranges, strict=True)
    ]
    return made[0] + made[1] * (1 << LIMB)
