"""ONNX operators that take many entries together: reductions, pooling, running sums."""

import math
from collections.abc import Sequence

import numpy as np

from nnaq.frontends.onnx_importer import Call, Handler
from nnaq.frontends.onnx_windows import listed, window_padding
from nnaq.frontends.ports import Unsupported, reshape_to
from nnaq.ir.dims import Shape
from nnaq.ir.op import Attr


def axes_of(call: Call) -> tuple[int, ...] | None:
    """The axes a Reduce takes together; None where it takes none."""
    rank = len(call.shape(0))
    given = call.integers(1, "axes")
    if not given:
        return None if call.attrs.get("noop_with_empty_axes") else tuple(range(rank))
    return tuple(sorted(axis % rank for axis in given))


def reduction(op: str, before: str = "", after: str = "") -> Handler:
    """Reduce…: a function of every entry, the reduction, a function of the result."""

    def handle(call: Call) -> None:
        value, axes = call.operand(0), axes_of(call)
        if before:
            value = call.step(before, [value])
        if axes is None:
            return call.result(after, [value]) if after else _same(call, value)
        return _reduced(call, op, value, axes, bool(call.attrs.get("keepdims", 1)), after)

    return handle


def _same(call: Call, value: str) -> None:
    call.result("reshape", [value], {"shape": (0,) * len(call.shape(0))})


def _reduced(call: Call, op: str, value: str, axes: tuple[int, ...], keep: bool, after: str = "") -> None:
    shape = call.type_shape(value)
    if all(shape[axis] == 1 for axis in axes):
        target = shape if keep else tuple(dim for a, dim in enumerate(shape) if a not in axes)
        op, attrs = "reshape", reshape_to(shape, target)
    else:
        attrs = {"axes": axes, "keepdims": keep}
    if after:
        return call.result(after, [call.step(op, [value], attrs)])
    return call.result(op, [value], attrs)


def over_space(op: str) -> Handler:
    """GlobalAveragePool, GlobalMaxPool: a reduction over every spatial axis."""
    return lambda call: _reduced(call, op, call.operand(0), tuple(range(2, len(call.shape(0)))), True)


def cumulative_sum(call: Call) -> None:
    """CumSum along a constant axis."""
    axis = int(call.need(1, "axis").reshape(-1)[0]) % len(call.shape(0))
    options = {key: bool(call.attrs.get(key)) for key in ("exclusive", "reverse")}
    call.result("cumulative_sum", [call.operand(0)], {"axis": axis, **options})


# --- pooling


def pool(op: str) -> Handler:
    """MaxPool -> max_pool, AveragePool -> average_pool."""
    return lambda call: _pool(call, op)


def _pool(call: Call, op: str) -> None:
    call.refuse_outputs(1, "pooling here makes no indices")
    kernel = tuple(call.attrs["kernel_shape"])
    stride, dilation = listed(call, "strides", len(kernel)), listed(call, "dilations", len(kernel))
    padding = window_padding(call, kernel, stride, dilation)
    counted = bool(call.attrs.get("count_include_pad"))
    value = call.operand(0)
    if call.attrs.get("ceil_mode"):
        last = _up(call.shape(0)[2:], kernel, stride, dilation, padding)
        half = len(kernel)
        if counted:  # what lies beyond the padding does not count: the padding becomes entries
            inside = tuple(min(a, b) for a, b in zip(last, padding[half:], strict=True))
            value = _padded(call, value, (*padding[:half], *inside))
            last = tuple(a - b for a, b in zip(last, inside, strict=True))
            padding, counted = (0,) * 2 * half, False
        padding = (*padding[:half], *last)
    if any(d != 1 for d in dilation):
        return _dilated(call, op, value, kernel, stride, dilation, padding, counted)
    attrs: dict[str, Attr] = {"kernel": kernel, "stride": stride, "padding": padding}
    if counted:
        attrs["count_include_pad"] = True
    return call.result(op, [value], attrs)


def _padded(call: Call, value: str, padding: Sequence[int]) -> str:
    half = len(padding) // 2
    pads = (0, 0, *padding[:half], 0, 0, *padding[half:])
    return call.step("pad", [value], {"pads": pads, "mode": "constant"}) if any(pads) else value


def _up(
    sizes: Shape,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
) -> tuple[int, ...]:
    """How much padding at the end the last window needs, which may be partial but starts on an entry."""
    ends = []
    sides = zip(padding, padding[len(kernel) :], strict=False)
    for n, k, s, d, (a, b) in zip(sizes, kernel, stride, dilation, sides, strict=True):
        if not isinstance(n, int):
            raise Unsupported(f"ceil_mode=1 over the open axis {n!r}", "give the axis a size")
        extent = (k - 1) * d + 1
        count = math.ceil((n + a + b - extent) / s) + 1
        if (count - 1) * s >= n + a:
            count -= 1
        ends.append(max((count - 1) * s + extent - n - a, 0))
    return tuple(ends)


def _dilated(
    call: Call,
    op: str,
    value: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    counted: bool,
) -> None:
    """Pooling over spread entries: their maximum one by one, or their mean by a convolution."""
    if any(padding) and not (counted and op == "average_pool"):
        raise Unsupported("dilation with padding", "it reads dilated pooling without padding")
    if op == "max_pool":
        return _spread_maximum(call, value, kernel, stride, dilation)
    channels = call.shape(0)[1]
    if not isinstance(channels, int) or len(kernel) not in (1, 2):
        raise Unsupported(f"dilated means over {channels} channels", "it reads whole channels")
    weight = np.full((channels, 1, *kernel), 1 / math.prod(kernel))
    attrs: dict[str, Attr] = {"padding": tuple(padding), "groups": channels, "activation": "none"}
    one = len(kernel) == 1
    attrs |= {"stride": stride[0] if one else tuple(stride)}
    attrs |= {"dilation": dilation[0] if one else tuple(dilation)}
    constant = call.weight(f"{call.source}.mean", weight)
    return call.result(f"conv{len(kernel)}d", [value, constant], attrs)


def _spread_maximum(
    call: Call, value: str, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> None:
    """The maximum of one strided slice per place in the kernel."""
    sizes = [dim for dim in call.type_shape(value)[2:] if isinstance(dim, int)]
    if len(sizes) != len(kernel):
        raise Unsupported("dilated maxima over open axes", "give the axes sizes with the input shapes")
    axes = tuple(range(2, 2 + len(kernel)))
    spans = [
        (n - (k - 1) * d - 1) // s * s + 1 for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
    ]
    parts = []
    for place in np.ndindex(*kernel):
        starts = tuple(int(i) * d for i, d in zip(place, dilation, strict=True))
        ends = tuple(start + span for start, span in zip(starts, spans, strict=True))
        cut: dict[str, Attr] = {"starts": starts, "ends": ends, "axes": axes, "steps": tuple(stride)}
        parts.append(call.step("slice", [value], cut))
    found = parts[0]
    for part in parts[1:-1]:
        found = call.step("maximum", [found, part])
    call.result("maximum", [found, parts[-1]])


HANDLERS: dict[str, Handler] = {
    "AveragePool": pool("average_pool"),
    "CumSum": cumulative_sum,
    "GlobalAveragePool": over_space("reduce_mean"),
    "GlobalMaxPool": over_space("reduce_max"),
    "MaxPool": pool("max_pool"),
    "ReduceL1": reduction("reduce_sum", before="abs"),
    "ReduceL2": reduction("reduce_sum", before="square", after="sqrt"),
    "ReduceLogSum": reduction("reduce_sum", after="log"),
    "ReduceLogSumExp": reduction("reduce_sum", before="exp", after="log"),
    "ReduceMax": reduction("reduce_max"),
    "ReduceMean": reduction("reduce_mean"),
    "ReduceMin": reduction("reduce_min"),
    "ReduceSum": reduction("reduce_sum"),
    "ReduceSumSquare": reduction("reduce_sum", before="square"),
}
