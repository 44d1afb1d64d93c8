"""Windows along an axis, and the bodies made of them: convolutions and pools.

A window is a Gather with indices that are constant where the axis has a whole size and counted
from its size at run time where it is symbolic. The axis becomes two: positions, places in the window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnaq.export.bodies_fixedpoint import fused_relu, rescaler
from nnaq.export.bodies_narrow import accumulated, cut, matrix_product
from nnaq.export.bodies_reduce import half_away
from nnaq.export.body_builder import Body
from nnaq.ir.dims import Dim
from nnaq.ir.op import Signature
from nnaq.ir.types import bounds
from nnaq.kernels import pool
from nnaq.kernels.conv import geometry
from nnaq.kernels.narrow import Narrow, narrow_of


@dataclass(frozen=True)
class Window:
    """A window of `kernel` places over an axis padded by `begin` and `end`."""

    kernel: int
    stride: int
    begin: int
    end: int
    dilation: int = 1

    def places(self, body: Body, size: str, dim: Dim) -> str:
        """Indices [positions, kernel] into the padded axis; `size` is its length before padding."""
        room = self.begin + self.end - (self.kernel - 1) * self.dilation
        taps = np.arange(self.kernel, dtype=np.int64) * self.dilation
        if isinstance(dim, int):
            starts = np.arange(0, max(dim + room, 0), self.stride, dtype=np.int64)
            return body.constant(starts[:, None] + taps)
        last = body.add(size, body.constant(room))
        starts_at_run = body.apply("Range", body.constant(0), last, body.constant(self.stride))
        return body.add(body.reshape(starts_at_run, (-1, 1)), body.constant(taps))


def padded(body: Body, x: str, windows: Sequence[Window], fill: int) -> str:
    """x [N,C,*spatial] in INT64 with `fill` around it."""
    return padded_by(body, x, [(w.begin, w.end) for w in windows], fill)


def padded_by(body: Body, x: str, sides: Sequence[tuple[int, int]], fill: int | np.ndarray) -> str:
    """x [N,C,*spatial] with so many of `fill`, of the dtype of x, before and after each spatial axis."""
    pads = [0, 0, *(begin for begin, _ in sides), 0, 0, *(end for _, end in sides)]
    if not any(pads):
        return x
    return body.apply("Pad", x, body.constant(pads), body.constant(fill))


def convolution(
    body: Body, signature: Signature, x: str, weight: str, bias: str, multiplier: str, shift: str
) -> tuple[str, ...]:
    """conv1d and conv2d: windows as rows, one MatMul per group, channels moved back in front."""
    kind_x, kind_w, kind_y = signature.input(0), signature.input(1), signature.outputs[0]
    rank = kind_x.rank - 2
    groups = geometry(signature.attrs, kind_w.shape[2:]).groups
    rows = _rows(body, signature, x)  # [N, *positions, C * kernel]
    outputs, *inner = (int(dim) for dim in kind_w.shape)
    weights = body.centred(weight, kind_w.zero_point)
    narrow = narrow_of(signature.attrs, kind_x)
    total = products(body, rows, weights, rank, groups, outputs, int(np.prod(inner)), narrow, body.wide(bias))
    scaling = rescaler(body, multiplier, shift, signature.attrs["rounding"], wide=kind_x.dtype != "i8")
    codes = scaling.to_codes(body, total, kind_y, fused_relu(signature))
    return (body.transpose(body.codes(codes, kind_y.dtype), (0, rank + 1, *range(1, rank + 1))),)


def _rows(body: Body, signature: Signature, x: str) -> str:
    """Every window of x - z_x as a row: [N, *positions, C, *kernel]."""
    kind = signature.input(0)
    rank = kind.rank - 2
    windows = _convolution_windows(signature)
    rows = padded(body, body.centred(x, kind.zero_point), windows, 0)
    for i in reversed(range(rank)):
        size = body.size(x, i + 2, kind.shape[i + 2])
        rows = body.take(rows, windows[i].places(body, size, kind.shape[i + 2]), i + 2)
    positions, kernel = range(2, 2 + 2 * rank, 2), range(3, 3 + 2 * rank, 2)
    return body.transpose(rows, (0, *positions, 1, *kernel))


def _convolution_windows(signature: Signature) -> list[Window]:
    kernel = signature.input(1).shape[2:]
    shape, first = geometry(signature.attrs, kernel), 2 - len(kernel)
    begins, ends = shape.padding[:2], shape.padding[2:]
    numbers = zip(shape.kernel, shape.stride, begins, ends, shape.dilation, strict=True)
    return [Window(*w) for w in numbers][first:]


def products(
    body: Body,
    rows: str,
    weight: str,
    rank: int,
    groups: int,
    outputs: int,
    depth: int,
    narrow: Narrow | None = None,
    bias: str | None = None,
) -> str:
    """Sums [N, *positions, O] of rows [N, *positions, G * depth] times weights [O, depth], in any split."""
    keep = (0,) * (rank + 1)
    if groups == 1:
        columns = body.transpose(body.reshape(weight, (outputs, depth)), (1, 0))
        return matrix_product(body, narrow, body.reshape(rows, (*keep, depth)), columns, depth, bias)
    columns = body.transpose(body.reshape(weight, (groups, outputs // groups, depth)), (0, 2, 1))
    swap = (*range(rank), rank + 1, rank, rank + 2)  # the last position axis and the groups
    stacked = body.transpose(body.reshape(rows, (*keep, groups, depth)), swap)

    def partial(start: int, stop: int) -> str:
        left, right = cut(body, stacked, -1, start, stop, depth), cut(body, columns, -2, start, stop, depth)
        sums = body.transpose(body.apply("MatMul", left, right), swap)
        return body.reshape(sums, (*keep, outputs))

    return accumulated(body, narrow, depth, partial, bias)


def max_pool(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """The largest code, axis by axis; padding counts as the lowest code."""
    kind = signature.input(0)
    low, _ = bounds(kind.dtype)
    codes = _pooled(body, signature, x, "max_pool", "ReduceMax", low)
    return (body.codes(codes, kind.dtype),)


def average_pool(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """half_away(sum / count): codes are summed axis by axis."""
    kind = signature.input(0)
    include = bool(signature.attrs.get("count_include_pad", False))
    total = _pooled(body, signature, x, "average_pool", "ReduceSum", kind.zero_point if include else 0)
    count = _count(body, signature, x, include)
    return (body.codes(half_away(body, total, count), kind.dtype),)


def _pool_windows(signature: Signature, who: str) -> list[Window]:
    found = pool.windows(signature.attrs, signature.input(0).rank, who)
    return [Window(w.kernel, w.stride, w.begin, w.end) for w in found]


def _pooled(body: Body, signature: Signature, x: str, who: str, reduce: str, fill: int) -> str:
    kind, windows = signature.input(0), _pool_windows(signature, who)
    values = padded(body, body.wide(x), windows, fill)
    for axis, window in enumerate(windows, 2):
        size = body.size(x, axis, kind.shape[axis])
        values = body.take(values, window.places(body, size, kind.shape[axis]), axis)
        values = body.apply(reduce, values, body.constant([axis + 1]), keepdims=0)
    return values


def _count(body: Body, signature: Signature, x: str, include: bool) -> str:
    """How many codes each window divides by; broadcasts against the result."""
    kind, windows = signature.input(0), _pool_windows(signature, "average_pool")
    if include:
        return body.constant(int(np.prod([w.kernel for w in windows])))
    count = body.constant(1)
    for axis, window in enumerate(windows, 2):
        size = body.size(x, axis, kind.shape[axis])
        ones = body.apply("Expand", body.constant([1]), body.reshape(size, (1,)))
        there = body.apply("Pad", ones, body.constant([window.begin, window.end]), body.constant(0))
        inside = body.take(there, window.places(body, size, kind.shape[axis]), 0)
        along = body.apply("ReduceSum", inside, body.constant([1]), keepdims=0)
        count = body.mul(count, body.reshape(along, (-1, *[1] * (kind.rank - 1 - axis))))
    return count
