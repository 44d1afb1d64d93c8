"""ONNX operators with weights: convolution, matrix product, recurrence, normalisation, pooling.

Weights go into nnaq's layouts: a layer's weight is [N,K], the gates of an LSTM stand as i, f, g, o
with one bias, and a constant added right behind a layer is its bias.
"""

import math
from collections.abc import Sequence

import numpy as np

from nnaq.frontends.onnx_importer import Call
from nnaq.frontends.ports import Unsupported, reshape_to
from nnaq.ir.dims import Dim, Shape
from nnaq.ir.op import Attr

# --- convolution and pooling


def conv(call: Call) -> None:
    """Conv -> conv1d, conv2d."""
    weight = call.need(1, "weight")
    spatial = weight.ndim - 2
    if spatial not in (1, 2):
        raise Unsupported(f"it convolves {spatial} axes; there are conv1d and conv2d")
    stride, dilation = _list(call, "strides", spatial), _list(call, "dilations", spatial)
    padding = window_padding(call, weight.shape[2:], stride, dilation)
    inputs = [call.operand(0), call.constant(1, "", weight)]
    if call.has(2):
        inputs.append(call.constant(2, "", call.need(2, "bias")))
    else:
        inputs += _following_bias(call, weight.shape[0], axis=1)
    attrs: dict[str, Attr] = {"padding": padding, "groups": call.attrs.get("group", 1), "activation": "none"}
    attrs |= (
        {"stride": stride[0], "dilation": dilation[0]}
        if spatial == 1
        else {"stride": stride, "dilation": dilation}
    )
    call.result(f"conv{spatial}d", inputs, attrs)


def _list(call: Call, key: str, count: int) -> tuple[int, ...]:
    return tuple(call.attrs.get(key, [1] * count))


def window_padding(
    call: Call, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """Padding as (begin of every axis, then end of every axis), from `pads` or `auto_pad`."""
    mode = call.word("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        return (
            tuple(call.attrs.get("pads", [0] * 2 * len(kernel)))
            if mode == "NOTSET"
            else (0,) * 2 * len(kernel)
        )
    begins, ends = [], []
    for size, k, s, d in zip(call.shape(0)[2:], kernel, stride, dilation, strict=True):
        total = _same_padding(size, (k - 1) * d + 1, s)
        short = total // 2
        begins.append(total - short if mode == "SAME_LOWER" else short)
        ends.append(short if mode == "SAME_LOWER" else total - short)
    return (*begins, *ends)


def _same_padding(size: Dim, extent: int, stride: int) -> int:
    """Padding under which ceil(size / stride) windows fit."""
    if stride == 1:
        return extent - 1
    if not isinstance(size, int):
        raise Unsupported(
            f"auto_pad with stride {stride} over the open axis {size!r}", "give the axis a size"
        )
    return max((math.ceil(size / stride) - 1) * stride + extent - size, 0)


def pool(op: str) -> "_Pool":
    """MaxPool -> max_pool, AveragePool -> average_pool."""
    return _Pool(op)


class _Pool:
    def __init__(self, op: str) -> None:
        self.op = op

    def __call__(self, call: Call) -> None:
        kernel = tuple(call.attrs["kernel_shape"])
        stride, dilation = _list(call, "strides", len(kernel)), _list(call, "dilations", len(kernel))
        if len(call.node.output) > 1 or any(d != 1 for d in dilation):
            raise Unsupported("it asks for indices or dilation, which pooling here does not have")
        padding = window_padding(call, kernel, stride, dilation)
        if call.attrs.get("ceil_mode") and not _divides(call.shape(0)[2:], kernel, stride, padding):
            raise Unsupported("ceil_mode=1 adds a window that is not full")
        attrs: dict[str, Attr] = {"kernel": kernel, "stride": stride, "padding": padding}
        if call.attrs.get("count_include_pad"):
            attrs["count_include_pad"] = True
        call.result(self.op, [call.operand(0)], attrs)


def _divides(sizes: Shape, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> bool:
    sides = zip(sizes, kernel, stride, padding, padding[len(kernel) :], strict=False)
    return all(isinstance(n, int) and (n + a + b - k) % s == 0 for n, k, s, a, b in sides)


def global_average_pool(call: Call) -> None:
    """GlobalAveragePool -> average_pool over every spatial axis."""
    _average(call, call.shape(0), tuple(range(2, len(call.shape(0)))), keep=True)


def reduce_mean(call: Call) -> None:
    """ReduceMean -> nothing over axes of one entry, average_pool over all spatial axes."""
    shape = call.shape(0)
    given = call.integers(1, "axes")
    if given is None and call.attrs.get("noop_with_empty_axes"):
        return call.bind(call.operand(0))
    axes = tuple(sorted(a % len(shape) for a in given)) if given else tuple(range(len(shape)))
    _average(call, shape, axes, keep=bool(call.attrs.get("keepdims", 1)))


def _average(call: Call, shape: Shape, axes: tuple[int, ...], keep: bool) -> None:
    pooled = tuple(1 if a in axes else dim for a, dim in enumerate(shape))
    target = pooled if keep else tuple(dim for a, dim in enumerate(shape) if a not in axes)
    if all(shape[a] == 1 for a in axes):
        return call.result("reshape", [call.operand(0)], reshape_to(shape, target))
    kernel = tuple(dim for dim in shape[2:] if isinstance(dim, int))
    if len(shape) not in (3, 4) or axes != tuple(range(2, len(shape))) or len(kernel) != len(axes):
        raise Unsupported(
            f"a mean over axes {list(axes)} of {list(shape)}", "it reads means over fixed spatial axes"
        )
    attrs: dict[str, Attr] = {
        "kernel": kernel,
        "stride": (1,) * len(kernel),
        "padding": (0,) * 2 * len(kernel),
    }
    if keep:
        return call.result("average_pool", [call.operand(0)], attrs)
    mean = call.step("average_pool", [call.operand(0)], attrs)
    return call.result("reshape", [mean], reshape_to(pooled, target))


def batch_normalization(call: Call) -> None:
    """BatchNormalization with constants -> mul, add; behind a Conv the optimiser has folded it already."""
    scale, bias, mean, variance = (
        call.need(i, name).astype(np.float64)
        for i, name in enumerate(("scale", "bias", "mean", "variance"), 1)
    )
    if call.attrs.get("training_mode"):
        raise Unsupported("training_mode=1", "export the model in evaluation mode")
    factor = scale / np.sqrt(variance + call.attrs.get("epsilon", 1e-5))
    shape = (-1, *[1] * (len(call.shape(0)) - 2))
    scaled = call.step("mul", [call.operand(0), call.constant(1, "factor", factor.reshape(shape))])
    call.result("add", [scaled, call.constant(2, "offset", (bias - mean * factor).reshape(shape))])


# --- matrix products


def _following_bias(call: Call, channels: int, axis: int) -> list[str]:
    """The bias that an Add of a constant right behind a layer amounts to, as a list of none or one.

    channels: size of the layer's result along `axis` (1, or -1 for the last).
    """
    add = call.follower("Add")
    if add is None:
        return []
    position = 1 - list(add.node.input).index(call.node.output[0])
    array = add.array(position)
    bias = None if array is None else per_channel(array, len(call.shape(0)), channels, axis)
    if bias is None:
        return []
    name = add.constant(position, f"bias{channels}", bias)
    call.absorb(add)
    return [name]


def per_channel(array: np.ndarray, rank: int, channels: int, axis: int) -> np.ndarray | None:
    """The [channels] vector that `array` amounts to when broadcast along `axis`, else None."""
    if array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    others = [size for a, size in enumerate(shape) if a != axis % rank]
    if any(size != 1 for size in others) or shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,))


def matmul(call: Call) -> None:
    """MatMul -> fully_connected with a constant side, matmul of two activations otherwise."""
    left, right = call.array(0), call.array(1)
    if right is not None and right.ndim == 2:
        inputs = [call.operand(0), call.constant(1, "transposed", right.T)]
        call.result(
            "fully_connected", inputs + _following_bias(call, right.shape[1], axis=-1), {"activation": "none"}
        )
    elif left is not None and left.ndim == 2 and len(call.shape(1)) >= 2:
        rank = len(call.shape(1))
        swap = {"perm": (*range(rank - 2), rank - 1, rank - 2)}
        turned = call.step("transpose", [call.operand(1)], swap)
        product = call.step("fully_connected", [turned, call.constant(0, "", left)], {"activation": "none"})
        call.result("transpose", [product], swap)
    else:
        call.result("matmul", [call.operand(0), call.operand(1)], {})


def gemm(call: Call) -> None:
    """Gemm -> fully_connected; without a constant right side matmul and add."""
    alpha, beta = call.attrs.get("alpha", 1.0), call.attrs.get("beta", 1.0)
    x = call.operand(0)
    if call.attrs.get("transA"):
        x = call.step("transpose", [x], {"perm": (1, 0)}, call.node.input[0])
    right = call.array(1)
    if right is None:
        return _gemm_of_activations(call, x, alpha, beta)
    weight = (right if call.attrs.get("transB") else right.T) * np.float32(alpha)
    inputs = [x, call.constant(1, f"gemm{alpha}{call.attrs.get('transB')}", weight)]
    if not call.has(2):
        inputs += _following_bias(call, weight.shape[0], axis=-1)
        return call.result("fully_connected", inputs, {"activation": "none"})
    added = call.array(2)
    bias = None if added is None else per_channel(added * np.float32(beta), 2, weight.shape[0], axis=-1)
    if bias is not None:
        inputs.append(call.constant(2, f"bias{beta}{weight.shape[0]}", bias))
        return call.result("fully_connected", inputs, {"activation": "none"})
    product = call.step("fully_connected", inputs, {"activation": "none"})
    return _plus(call, product, beta)


def _gemm_of_activations(call: Call, x: str, alpha: float, beta: float) -> None:
    y = call.operand(1)
    if call.attrs.get("transB"):
        y = call.step("transpose", [y], {"perm": (1, 0)}, call.node.input[1])
    if alpha != 1:
        x = call.step("mul", [x, call.weight(f"{call.source}.alpha", np.array(alpha))])
    if not call.has(2):
        return call.result("matmul", [x, y], {})
    return _plus(call, call.step("matmul", [x, y], {}), beta)


def _plus(call: Call, product: str, beta: float) -> None:
    other = call.operand(2)
    if beta != 1:
        other = call.step("mul", [other, call.weight(f"{call.source}.beta", np.array(beta))])
    call.result("add", [product, other])


# --- recurrence


def lstm(call: Call) -> None:
    """LSTM, forward, time first -> lstm with reshapes around it.

    ONNX: X[T,B,I], W[1,4H,I], R[1,4H,H], B[1,8H] with gates i, o, f, c -> Y[T,1,B,H], Y_h[1,B,H], Y_c[1,B,H].
    """
    _refuse_lstm_variants(call)
    w, r = gates(_of_one_direction(call, 1, "weight W", 3)), gates(_of_one_direction(call, 2, "weight R", 3))
    if len(call.shape(0)) != 3:
        raise Unsupported(f"its operand has the shape {list(call.shape(0))}, not [T,B,I]")
    time, batch, _ = call.shape(0)
    hidden = r.shape[1]
    inputs = [call.operand(0), _lstm_state(call, 5, batch, hidden), _lstm_state(call, 6, batch, hidden)]
    inputs += [call.constant(1, "gates", w), call.constant(2, "gates", r)]
    if call.has(3):
        both = _of_one_direction(call, 3, "bias B", 2).astype(np.float64)
        inputs.append(call.constant(3, "gates", gates(both[: 4 * hidden] + both[4 * hidden :])))
    builder, stem = call.walk.builder, next(filter(None, call.node.output))
    names = [call.walk.names.fresh(f"{stem}.{part}") for part in ("y", "h", "c")]
    made = builder.node("lstm", inputs, {}, names, source=call.source)
    shapes: list[Shape] = [(time, 1, batch, hidden), (1, batch, hidden), (1, batch, hidden)]
    for output, value, shape in zip(call.node.output, made, shapes, strict=False):
        if output:
            call.result("reshape", [value], reshape_to(call.type_shape(value), shape), output)


def _of_one_direction(call: Call, position: int, what: str, rank: int) -> np.ndarray:
    """A constant without its first axis, the direction; its rows must be those of whole gates."""
    array = call.need(position, what)
    if array.ndim != rank or array.shape[0] != 1 or array.shape[1] % 4:
        raise Unsupported(f"its {what} has the shape {list(array.shape)}, which is not that of one direction")
    return np.asarray(array[0])


def gates(array: np.ndarray) -> np.ndarray:
    """Rows of the gates i, o, f, c of ONNX in the order i, f, g, o.

    >>> gates(np.array([1, 2, 3, 4])).tolist()
    [1, 3, 4, 2]
    """
    i, o, f, c = np.split(array, 4)
    return np.concatenate([i, f, c, o])


def _lstm_state(call: Call, position: int, batch: Dim, hidden: int) -> str:
    """h0 or c0 as [B,H]: the operand without its first axis, or zeros."""
    which = "h0" if position == 5 else "c0"
    if call.has(position):
        array = call.array(position)
        if array is not None:
            return call.constant(position, "state", array[0])
        shape = call.shape(position)
        stem = f"{call.node.input[position]}.{which}"
        return call.step("reshape", [call.operand(position)], reshape_to(shape, shape[1:]), stem)
    if not isinstance(batch, int):
        raise Unsupported(f"it starts from zeros for an open batch {batch!r}", "give the batch axis a size")
    return call.weight(f"{call.source}.{which}", np.zeros((batch, hidden)))


def _refuse_lstm_variants(call: Call) -> None:
    """One direction, time first, usual gates: the rest is not there."""
    usual = [b"Sigmoid", b"Tanh", b"Tanh"]
    found = [
        (call.word("direction", "forward") != "forward", f"direction {call.word('direction', 'forward')!r}"),
        (bool(call.attrs.get("layout")), "layout=1 (batch first)"),
        (bool(call.attrs.get("clip")), "clipped cells"),
        (bool(call.attrs.get("input_forget")), "coupled input and forget gates"),
        (list(call.attrs.get("activations", usual)) != usual, "activations other than Sigmoid, Tanh, Tanh"),
        (call.has(4), "sequence lengths"),
        (call.has(7), "peepholes"),
    ]
    bad = [text for is_bad, text in found if is_bad]
    if bad:
        raise Unsupported(f"{', '.join(bad)}", "it reads forward LSTMs over [T,B,I] without these")
