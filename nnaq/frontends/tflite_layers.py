"""Layers of TFLite files: convolutions, products, pools, and what an activation does behind them.

Rescales of int8 activations round by `double`, those of int16 activations (bias of 64 bits) by
`double_m16`, as tflite-micro's kernels do.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from nnaq.frontends import tflite_parity as parity
from nnaq.frontends.ports import Unsupported
from nnaq.frontends.tflite_importer import Call, Handler
from nnaq.ir.numerics import Rounding
from nnaq.ir.op import Attr
from nnaq.ir.types import Quant, TensorType

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)
LIMITS = {RELU_N1_TO_1: (-1.0, 1.0), RELU6: (0.0, 6.0)}
INT32 = 2  # the number of that dtype in a file


# --- activations


def activated(call: Call, value: str) -> str:
    """The limits of a fused RELU6 or RELU_N1_TO_1; a RELU is part of the operator before."""
    limits = LIMITS.get(call.options.FusedActivationFunction())
    return value if limits is None else clipped(call, value, *limits)


def clipped(call: Call, value: str, low: float, high: float) -> str:
    """Codes between the codes of two limits."""
    kind = call.result
    ends = {"low": parity.limit(kind, low), "high": parity.limit(kind, high)}
    attrs = {name: (code - kind.zero_point) * kind.scale for name, code in ends.items()}
    return call.step("clip", [value], attrs, kind)


def activation(call: Call) -> str:
    """What a node fuses into its rescale; limits come after it."""
    kind = call.options.FusedActivationFunction()
    if kind not in (NONE, RELU, RELU_N1_TO_1, RELU6):
        raise Unsupported(f"its fused activation has the number {kind}", "RELU and RELU6 are read")
    return "relu" if kind in (RELU, RELU6) else "none"


def bounded(call: Call, value: str) -> str:
    """The fused activation of an operator that has none of its own."""
    if activation(call) == "relu":
        value = call.step("relu", [value], {}, call.result)
    return activated(call, value)


# --- what layers share


def turned(call: Call, value: str, perm: tuple[int, ...]) -> str:
    """The same codes with their axes in another order."""
    return call.step("transpose", [value], {"perm": perm}, call.walk.builder.types[value])


def image_sizes(call: Call, position: int = 0) -> list[int]:
    """Height and width of an image [N,H,W,C]."""
    shape = call.kind(position).shape
    if len(shape) != 4:
        raise Unsupported(f"its operand {call.tensor(position).name!r} has {len(shape)} axes, not 4")
    return [int(n) for n in shape[1:3]]


def same_or_valid(
    call: Call, sizes: Sequence[int], extents: Sequence[int], strides: Sequence[int]
) -> tuple[int, ...]:
    """Padding as (top, left, bottom, right)."""
    if call.options.Padding() not in (SAME, VALID) or min((*extents, *strides)) < 1:
        raise Unsupported(f"padding {call.options.Padding()}, strides {list(strides)}")
    if call.options.Padding() == VALID:
        return (0, 0, 0, 0)
    steps = zip(sizes, extents, strides, strict=True)
    total = [max((-(-size // stride) - 1) * stride + extent - size, 0) for size, extent, stride in steps]
    return (*(t // 2 for t in total), *(t - t // 2 for t in total))


def layer_weight(call: Call, weight: np.ndarray, axis: int, file_axis: int = 0, position: int = 1) -> str:
    """A weight whose outputs stand on `axis`, in the file on `file_axis`; one scale, or one per output."""
    quant = call.kind(position).quant
    assert quant is not None
    if quant.axis not in (None, file_axis):
        raise Unsupported(f"its weight has scales along axis {quant.axis}, not {file_axis}")
    kind = TensorType(
        call.kind(position).dtype,
        weight.shape,
        Quant(quant.scale, quant.zero_point, None if quant.axis is None else axis),
    )
    return call.weight(position, weight, kind)


def symmetric(call: Call, position: int = 1) -> None:
    """Raise Unsupported for a weight with a zero_point, which TFLite's kernels do not look at."""
    if call.kind(position).zero_point != 0:
        raise Unsupported(f"its weight has the zero_point {call.kind(position).zero_point}, not 0")


def rounding_of(call: Call, bias: int) -> Rounding:
    """How a layer rescales: by the dtype of its activations. Raises Unsupported for other layers."""
    x, y = call.kind(0).dtype, call.result.dtype
    if x != y or x not in ("i8", "i16") or call.kind(1).dtype != "i8":
        raise Unsupported(f"{x} by {call.kind(1).dtype} into {y}", "int8 or int16 by int8 weights is read")
    if x == "i8":
        return "double"
    given = call.tensor(bias).dtype if call.has(bias) else "INT64"
    quantised = getattr(call.options, "QuantizedBiasType", lambda: 0)()
    if given != "INT64" or (not call.has(bias) and quantised == INT32):
        raise Unsupported("int16 activations and sums of 32 bits", "convert it with a bias of 64 bits")
    return "double_m16"


def layer_bias(call: Call, position: int = 2) -> dict[int, np.ndarray]:
    """The bias in reals; the crossing divides by s_x * s_w again and finds the file's codes."""
    if not call.has(position):
        return {}
    quant = call.kind(1).quant
    assert quant is not None
    codes = call.array(position)
    if codes.ndim != 1 or codes.dtype not in (np.int32, np.int64):
        raise Unsupported(f"its bias is {call.tensor(position).dtype} {list(codes.shape)}")
    return {2: codes.astype(np.float64) * (call.kind(0).scale * np.array(quant.scale, np.float64))}


# --- layers


def convolution(call: Call) -> None:
    """CONV_2D, filter [O,KH,KW,I/groups], and DEPTHWISE_CONV_2D, filter [1,KH,KW,O]."""
    sizes, filters, channels = image_sizes(call), call.array(1), int(call.kind(0).shape[-1])
    symmetric(call)
    if call.node.op == "DEPTHWISE_CONV_2D":
        weight, groups, axis = filters.transpose(3, 0, 1, 2), channels, 3
    else:
        weight, groups, axis = filters.transpose(0, 3, 1, 2), channels // filters.shape[3], 0
    options, kernel = call.options, weight.shape[2:]
    stride = options.StrideH(), options.StrideW()
    dilation = options.DilationHFactor(), options.DilationWFactor()
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    attrs: dict[str, Attr] = {"groups": groups, "stride": stride, "dilation": dilation}
    attrs |= {"padding": same_or_valid(call, sizes, extents, stride), "activation": activation(call)}
    inputs = [turned(call, call.value(0), TO_CHANNELS_FIRST), layer_weight(call, weight, 0, axis)]
    y = call.step("conv2d", inputs, attrs, call.result, layer_bias(call), rounding=rounding_of(call, 2))
    call.bind(turned(call, activated(call, y), TO_CHANNELS_LAST))


def transposed_convolution(call: Call) -> None:
    """TRANSPOSE_CONV of int8: output shape, filter [O,KH,KW,I], x, bias."""
    sizes, wanted, filters = image_sizes(call, 2), call.result.shape, call.array(1)
    symmetric(call)
    if {call.kind(1).dtype, call.kind(2).dtype, call.result.dtype} != {"i8"}:
        raise Unsupported("it computes with other dtypes than int8", "int8 is read")
    options, kernel = call.options, filters.shape[1:3]
    stride = options.StrideH(), options.StrideW()
    top, left, *_ = same_or_valid(call, [int(n) for n in wanted[1:3]], kernel, stride)
    ends = [
        (size - 1) * step + k - begin - int(n)
        for size, step, k, begin, n in zip(sizes, stride, kernel, (top, left), wanted[1:3], strict=True)
    ]
    attrs: dict[str, Attr] = {"groups": 1, "stride": stride, "dilation": (1, 1)}
    attrs |= {"padding": (top, left, *(max(end, 0) for end in ends))}
    attrs |= {"output_padding": tuple(max(-end, 0) for end in ends), "activation": activation(call)}
    weight = layer_weight(call, filters.transpose(3, 0, 1, 2), 1)
    inputs = [turned(call, call.value(2), TO_CHANNELS_FIRST), weight]
    y = call.step("conv_transpose2d", inputs, attrs, call.result, _transposed_bias(call))
    call.bind(turned(call, activated(call, y), TO_CHANNELS_LAST))


def _transposed_bias(call: Call) -> dict[int, np.ndarray]:
    quant = call.kind(1).quant
    assert quant is not None
    if not call.has(3):
        return {}
    return {2: call.array(3).astype(np.float64) * (call.kind(2).scale * np.array(quant.scale, np.float64))}


def fully_connected(call: Call) -> None:
    """x [..., K] or anything that flattens to rows of K, weight [O, K]."""
    weight, x, value = call.array(1), call.kind(0), call.value(0)
    if weight.ndim != 2 or not weight.size:
        raise Unsupported(f"its weight has the shape {list(weight.shape)}")
    if call.options.WeightsFormat():
        raise Unsupported("its weights are shuffled", "convert it without that optimisation")
    depth = weight.shape[1]
    if len(call.kind(1).quant.scale) > 1 or x.dtype == "i16":  # type: ignore[union-attr]
        symmetric(call)
    if not call.options.KeepNumDims() and (x.rank != 2 or x.shape[1] != depth):
        rows = int(np.prod([int(n) for n in x.shape])) // depth
        value = call.step("reshape", [value], {"shape": (rows, depth)}, x)
    attrs: dict[str, Attr] = {"activation": activation(call)}
    y = call.step(
        "fully_connected",
        [value, layer_weight(call, weight, 0)],
        attrs,
        call.result,
        layer_bias(call),
        _unbiased(call, len(weight)),
        rounding_of(call, 2),
    )
    y = activated(call, y)
    if call.walk.builder.types[y].shape != call.result.shape:
        y = call.step("reshape", [y], {"shape": tuple(int(n) for n in call.result.shape)}, call.result)
    call.bind(y)


def _unbiased(call: Call, outputs: int) -> Mapping[str, np.ndarray]:
    """TFLite's multipliers of a layer with one scale and no bias."""
    quant = call.kind(1).quant
    assert quant is not None
    if call.has(2) or len(quant.scale) > 1:
        return {}
    scale = parity.product_scale(call.kind(0).scale, quant.scale[0], call.result.scale)
    return dict(zip(("multiplier", "shift"), parity.pair(scale, (outputs,)), strict=True))


def matrix_product(call: Call) -> None:
    """BATCH_MATMUL of int8; a factor that is adjoint is transposed first."""
    call.only_int8()
    factors = []
    for position, adjoint in enumerate((call.options.AdjX(), call.options.AdjY())):
        value, rank = call.value(position), call.kind(position).rank
        if adjoint:
            value = turned(call, value, (*range(rank - 2), rank - 1, rank - 2))
        factors.append(value)
    scale = parity.product_scale(call.kind(0).scale, call.kind(1).scale, call.result.scale)
    own = dict(zip(("multiplier", "shift"), parity.pair(scale), strict=True))
    call.bind(call.step("matmul", factors, {}, call.result, own=own))


def pool(op: str) -> Handler:
    """MAX_POOL_2D and AVERAGE_POOL_2D of int8."""

    def handle(call: Call) -> None:
        call.only_int8()
        call.same_codes()
        options, sizes = call.options, image_sizes(call)
        kernel = options.FilterHeight(), options.FilterWidth()
        stride = options.StrideH(), options.StrideW()
        padding = same_or_valid(call, sizes, kernel, stride)
        attrs: dict[str, Attr] = {"kernel": kernel, "stride": stride, "padding": padding}
        y = call.step(op, [turned(call, call.value(0), TO_CHANNELS_FIRST)], attrs, call.result)
        call.bind(turned(call, bounded(call, y), TO_CHANNELS_LAST))

    return handle
