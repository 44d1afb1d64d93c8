"""Pooling over one or two spatial axes of x[N, C, *spatial].

    max_pool       y = max of the codes in the window; padding counts as the lowest code
    average_pool   y = half_away(S / n):  S >= 0: (S + n // 2) // n,  S < 0: -((-S + n // 2) // n)
                   S the sum of the codes in the window (i32), n how many there are; padding is not
                   counted, or, with `count_include_pad`, counts as codes zero_point

Operand and result share scale and zero_point. attributes: kernel and stride, one number per spatial
axis; padding, (begin of every axis, then end of every axis), each smaller than the kernel.
The division is TFLite's; the result is within 1/2 of the real mean of the codes.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from nnaq.errors import GraphError
from nnaq.ir.dims import Dim, Shape, window
from nnaq.ir.op import Arrays, Op, Signature, Work, as_is, register
from nnaq.ir.types import bounds
from nnaq.jit import jit
from nnaq.kernels.movement import Attrs, Types, integers, operand, pad_constant


class Window(NamedTuple):
    """The window along one spatial axis."""

    kernel: int
    stride: int
    begin: int
    end: int

    def positions(self, size: int) -> int:
        """How many windows there are over an axis of `size`; none over an empty one."""
        return int(self.over(size)) if size else 0

    def over(self, dim: Dim) -> Dim:
        """The same for an axis that may be symbolic."""
        return window(dim, self.begin + self.end, self.kernel, self.stride)

    def span(self, position: int, size: int) -> range:
        """The entries of the axis under the window, without padding."""
        start = position * self.stride - self.begin
        return range(max(start, 0), min(start + self.kernel, size))


def windows(attrs: Attrs, rank: int, who: str) -> tuple[Window, ...]:
    """The window along each spatial axis. Raises GraphError where the attributes make none."""
    axes = rank - 2
    if axes not in (1, 2):
        raise GraphError(f"{who} takes [N,C,L] or [N,C,H,W], found a tensor of rank {rank}")
    kernel, stride = (integers(attrs, key, axes, who) for key in ("kernel", "stride"))
    padding = integers(attrs, "padding", 2 * axes, who)
    found = tuple(map(Window, kernel, stride, padding[:axes], padding[axes:]))
    for w in found:
        if w.kernel < 1 or w.stride < 1 or not (0 <= w.begin < w.kernel and 0 <= w.end < w.kernel):
            raise GraphError(
                f"{who} needs kernel and stride of at least 1 and padding below the kernel, "
                f"found kernel {w.kernel}, stride {w.stride}, padding {w.begin} and {w.end}"
            )
    return found


def infer_max(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    return _infer(inputs, attrs, "max_pool")


def infer_average(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    return _infer(inputs, attrs, "average_pool")


def _infer(inputs: Types, attrs: Attrs, who: str) -> tuple[Shape, ...]:
    shape = operand(inputs).shape
    found = windows(attrs, len(shape), who)
    return ((*shape[:2], *(w.over(dim) for w, dim in zip(found, shape[2:], strict=True))),)


# --- over the reals


def _padded(xp: Any, x: Any, found: tuple[Window, ...], fill: float) -> Any:
    for axis, w in enumerate(found, 2):
        if w.begin or w.end:
            x = pad_constant(xp, x, axis, w.begin, w.end, fill)
    return x


def _shifts(x: Any, found: tuple[Window, ...], sizes: tuple[int, ...]) -> Iterator[Any]:
    """One array of the result's shape per place in the kernel: what stands there in every window."""
    for place in np.ndindex(*(w.kernel for w in found)):
        cut = (
            slice(start, start + (size - 1) * w.stride + 1 if size else start, w.stride)
            for start, w, size in zip(place, found, sizes, strict=True)
        )
        yield x[(slice(None), slice(None), *cut)]


def _sizes(shape: tuple[int, ...], found: tuple[Window, ...]) -> tuple[int, ...]:
    return tuple(w.positions(size) for w, size in zip(found, shape[2:], strict=True))


def real_max(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    found = windows(attrs, len(x.shape), "max_pool")
    pieces = _shifts(_padded(xp, x, found, -math.inf), found, _sizes(x.shape, found))
    best = next(pieces)
    for piece in pieces:
        best = xp.where(piece > best, piece, best)
    return (best,)


def real_average(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    found = windows(attrs, len(x.shape), "average_pool")
    pieces = _shifts(_padded(xp, x, found, 0.0), found, _sizes(x.shape, found))
    total = next(pieces)
    for piece in pieces:
        total = total + piece
    return (total / xp.asarray(_counts(attrs, x.shape, found), dtype=x.dtype, device=x.device),)


def _counts(attrs: Attrs, shape: tuple[int, ...], found: tuple[Window, ...]) -> np.ndarray:
    """How many values each window divides by; broadcasts against the result."""
    counts = np.ones([1] * len(shape), np.int64)
    for axis, (w, size) in enumerate(zip(found, shape[2:], strict=True), 2):
        spans = [w.span(i, size) for i in range(w.positions(size))]
        inside = np.array([len(span) for span in spans], np.int64)
        along = np.full_like(inside, w.kernel) if attrs.get("count_include_pad", False) else inside
        counts = counts * along.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return counts


# --- over codes


def _reference(signature: Signature, x: np.ndarray, who: str) -> Arrays:
    """One window at a time, in Python integers."""
    found = windows(signature.attrs, x.ndim, who)
    include, zero_point = bool(signature.attrs.get("count_include_pad", False)), signature.input(0).zero_point
    shape = (*x.shape[:2], *_sizes(x.shape, found))
    codes = []
    for n, c, *position in np.ndindex(*shape):
        spans = [w.span(i, size) for w, i, size in zip(found, position, x.shape[2:], strict=True)]
        inside = [int(x[n, c][place]) for place in _places(spans)]
        if who == "max_pool":
            codes.append(max(inside))
            continue
        outside = math.prod(w.kernel for w in found) - len(inside) if include else 0
        codes.append(half_away_reference(sum(inside) + outside * zero_point, len(inside) + outside))
    return (np.array(codes, x.dtype).reshape(shape),)


def _places(spans: list[range]) -> list[tuple[int, ...]]:
    if len(spans) == 1:
        return [(i,) for i in spans[0]]
    return [(i, j) for i in spans[0] for j in spans[1]]


def half_away_reference(total: int, count: int) -> int:
    """total / count to the nearest whole number, ties away from zero."""
    size = (abs(total) + count // 2) // count
    return size if total >= 0 else -size


def reference_max(signature: Signature, x: np.ndarray) -> Arrays:
    return _reference(signature, x, "max_pool")


def reference_average(signature: Signature, x: np.ndarray) -> Arrays:
    return _reference(signature, x, "average_pool")


def _planes(x: np.ndarray, found: tuple[Window, ...]) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """x and an empty result as planes [N*C, H, W], and the windows as flat numbers."""
    lifted = found if len(found) == 2 else (Window(1, 1, 0, 0), *found)
    out = np.empty((*x.shape[:2], *_sizes(x.shape, found)), x.dtype)
    numbers = [n for w in lifted for n in (w.kernel, w.stride, w.begin)]
    return np.ascontiguousarray(x).reshape(_plane(x.shape)), out, numbers


def _plane(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0] * shape[1], *shape[2:]) if len(shape) == 4 else (shape[0] * shape[1], 1, shape[2])


def fast_max(signature: Signature, x: np.ndarray) -> Arrays:
    found = windows(signature.attrs, x.ndim, "max_pool")
    planes, out, numbers = _planes(x, found)
    low, _ = bounds(signature.input(0).dtype)
    _max_loop(planes, out.reshape(_plane(out.shape)), low, *numbers)
    return (out,)


def fast_average(signature: Signature, x: np.ndarray) -> Arrays:
    found = windows(signature.attrs, x.ndim, "average_pool")
    planes, out, numbers = _planes(x, found)
    include = bool(signature.attrs.get("count_include_pad", False))
    zero_point = signature.input(0).zero_point
    _average_loop(planes, out.reshape(_plane(out.shape)), zero_point, include, *numbers)
    return (out,)


@jit
def _under(place, stride, begin, size, count):  # type: ignore[no-untyped-def]
    """The windows, first and behind the last, that have an entry and no padding at `place` of the kernel."""
    first = (max(begin - place, 0) + stride - 1) // stride
    return first, min((size - 1 + begin - place) // stride + 1, count)


@jit
def _max_loop(x, out, low, kernel_h, stride_h, top, kernel_w, stride_w, left):  # type: ignore[no-untyped-def]
    """Row by row and place by place in the kernel, along all windows of a row."""
    for n, i in np.ndindex(out.shape[0], out.shape[1]):
        line, start = out[n, i], i * stride_h - top
        line[:] = low
        for h in range(max(start, 0), min(start + kernel_h, x.shape[1])):
            row = x[n, h]
            for w in range(kernel_w):
                first, last = _under(w, stride_w, left, row.size, line.size)
                for j in range(first, last):
                    value = row[j * stride_w + w - left]
                    line[j] = value if value > line[j] else line[j]


@jit
def _average_loop(  # type: ignore[no-untyped-def]
    x, out, zero_point, include, kernel_h, stride_h, top, kernel_w, stride_w, left
):
    """Sums like the maxima; quotients of whole numbers below 2^53 are exact in float64."""
    totals, inside = np.empty(out.shape[2], np.int64), np.zeros(out.shape[2], np.int64)
    for w in range(kernel_w):
        first, last = _under(w, stride_w, left, x.shape[2], out.shape[2])
        for j in range(first, last):
            inside[j] += 1
    for n, i in np.ndindex(out.shape[0], out.shape[1]):
        line, start = out[n, i], i * stride_h - top
        above, below = max(start, 0), min(start + kernel_h, x.shape[1])
        totals[:] = 0
        for h in range(above, below):
            row = x[n, h]
            for w in range(kernel_w):
                first, last = _under(w, stride_w, left, row.size, line.size)
                for j in range(first, last):
                    totals[j] += np.int64(row[j * stride_w + w - left])
        for j in range(line.size):
            count, total = (below - above) * inside[j], totals[j]
            if include:
                total += (kernel_h * kernel_w - count) * zero_point
                count = kernel_h * kernel_w
            size = np.int64(np.float64(abs(total) + (count >> 1)) / np.float64(count))
            line[j] = size if total >= 0 else -size


def work(signature: Signature) -> Work:
    """One vector operation per value under a window."""
    kernel = signature.attrs["kernel"]
    assert isinstance(kernel, tuple)
    places = math.prod(int(k) for k in kernel)
    return Work(elementwise=places * math.prod(signature.outputs[0].shape))  # type: ignore[arg-type]


register(
    Op(
        "max_pool",
        ("x",),
        ("i8 -> i8", "i16 -> i16", "i32 -> i32"),
        infer_max,
        real_max,
        as_is,
        reference_max,
        fast_max,
        work,
        "y = max of the codes in the window",
        moves=True,
    )
)
register(
    Op(
        "average_pool",
        ("x",),
        ("i8 -> i8", "i16 -> i16"),
        infer_average,
        real_average,
        as_is,
        reference_average,
        fast_average,
        work,
        "y = half_away(sum of the codes in the window / their number)",
        ties=((0, ~0),),
    )
)
