"""Integer operators as TFLite's, where its kernels compute the same integers under the rounding `double`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnaq.export.tflite_file import Tensor
from nnaq.export.tflite_writer import Emit, Refused, TfliteWriter
from nnaq.frontends import tflite_parity as parity
from nnaq.ir.graph import Node
from nnaq.kernels.conv import geometry
from nnaq.kernels.cut_and_join import widths
from nnaq.kernels.pool import windows
from nnaq.quantize.tflite_codes import CURVES

SAME, VALID = 0, 1
NONE, RELU = 0, 1


def only(writer: TfliteWriter, node: Node, *dtypes: str, values: Sequence[str] = ()) -> None:
    """Raise Refused where values have other dtypes; without values the first operand and the results."""
    found = {writer.kind(v).dtype for v in values or (node.inputs[0], *node.outputs)}
    if not found <= set(dtypes):
        raise Refused(f"it computes with {' and '.join(sorted(found))}; {' and '.join(dtypes)} are written")


def fused(node: Node) -> int:
    return RELU if node.attrs.get("activation", "none") == "relu" else NONE


# --- layers


def bias(writer: TfliteWriter, node: Node, weight: str, value: str) -> int:
    """The 32-bit bias, at scale s_x * s_w."""
    codes, quant = writer.graph.constants[value], writer.kind(weight).quant
    assert quant is not None
    scale = tuple(writer.kind(node.inputs[0]).scale * s for s in quant.scale)
    return writer.file.tensor(Tensor(codes.shape, "int32", scale, data=codes, name=value))


def weights(writer: TfliteWriter, value: str, codes: np.ndarray, axis: int) -> int:
    """A weight in TFLite's layout, its channels along `axis`; codes of 4 bits rest as int8."""
    quant = writer.kind(value).quant
    if value not in writer.graph.constants or quant is None or quant.zero_point:
        raise Refused(f"its weight {value!r} is no constant with the zero_point 0")
    scale = quant.scale if quant.axis is not None else quant.scale[0]
    return writer.file.tensor(
        Tensor(codes.shape, "int8", scale, data=codes.astype(np.int8), axis=axis, name=value)
    )


def fully_connected(writer: TfliteWriter, node: Node) -> None:
    only(writer, node, "i8")
    x, weight, whole = node.inputs[:3]
    y, rows = node.outputs[0], int(np.prod(writer.shape(x)[:-1]))
    codes = writer.graph.constants[weight]
    operands = [writer.reshape(writer.place(x), x, (rows, writer.shape(x)[-1]))]
    operands += [weights(writer, weight, codes, 0), bias(writer, node, weight, whole)]
    flat = (rows, len(codes))
    made = writer.tensor(y, flat, y if flat == writer.shape(y) else f"{y}:rows")
    options = "FullyConnectedOptions"
    writer.file.operator("FULLY_CONNECTED", operands, made, options, 4, fused_activation_function=fused(node))
    writer.places[y] = writer.reshape(made, y, writer.shape(y), y)


def convolution(writer: TfliteWriter, node: Node) -> None:
    """CONV_2D with filters [O,KH,KW,I], or DEPTHWISE_CONV_2D with [1,KH,KW,O]; conv1d has KH = 1."""
    only(writer, node, "i8")
    x, weight, whole = node.inputs[:3]
    codes = writer.graph.constants[weight]
    form = geometry(node.attrs, codes.shape[2:])
    codes = codes.reshape(*codes.shape[:2], *form.kernel)
    channels = writer.shape(x)[1]
    depthwise = form.groups == channels and channels > 1
    if form.groups > 1 and not depthwise:
        raise Refused(
            f"{form.groups} groups of {channels} channels; TFLite's kernels have one, or one a channel"
        )
    turned = codes.transpose(1, 2, 3, 0) if depthwise else codes.transpose(0, 2, 3, 1)
    image, padding = padded(writer, node, form.padding, form.kernel, form.stride, form.dilation)
    operands = [
        image,
        weights(writer, weight, turned, 3 if depthwise else 0),
        bias(writer, node, weight, whole),
    ]
    fields: dict[str, Any] = {"padding": padding, "stride_h": form.stride[0], "stride_w": form.stride[1]}
    fields |= {"dilation_h_factor": form.dilation[0], "dilation_w_factor": form.dilation[1]}
    fields |= {"fused_activation_function": fused(node)}
    if depthwise:
        fields["depth_multiplier"] = len(codes) // channels
    name, options = (
        ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
    )
    made = image_result(writer, node.outputs[0])
    writer.images[node.outputs[0]] = writer.file.operator(name, operands, made, options, 3, **fields)


def image_result(writer: TfliteWriter, value: str) -> int:
    batch, channels, *spatial = writer.shape(value)
    return writer.tensor(value, (batch, *(1, *spatial)[-2:], channels), f"{value}:image")


def padded(
    writer: TfliteWriter, node: Node, padding: Sequence[int], kernel: Sequence[int], stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[int, int]:  # fmt: skip
    """The operand as an image and SAME or VALID; other paddings are a PAD before it."""
    x = node.inputs[0]
    image = writer.image(x)
    batch, *sizes, channels = writer.file.tensors[image].shape
    top, left, bottom, right = padding
    if not any(padding):
        return image, VALID
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    total = [max((-(-n // s) - 1) * s + e - n, 0) for n, s, e in zip(sizes, stride, extents, strict=True)]
    if (top, left, bottom, right) == (*(t // 2 for t in total), *(t - t // 2 for t in total)):
        return image, SAME
    shape = (batch, sizes[0] + top + bottom, sizes[1] + left + right, channels)
    made = writer.tensor(x, shape, f"{x}:padded{len(writer.file.tensors)}")
    sides = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    return writer.file.operator("PAD", [image, writer.file.constant(sides)], made, "PadOptions", 2), VALID


def pool(op: str) -> Emit:
    """MAX_POOL_2D and AVERAGE_POOL_2D, without padding or with SAME."""

    def emit(writer: TfliteWriter, node: Node) -> None:
        only(writer, node, "i8")
        same_codes(writer, node)
        found = windows(node.attrs, len(writer.shape(node.inputs[0])), node.op)
        sides = [(w.begin, w.end) for w in found]
        one = [(1, 1, 0, 0)] if len(found) == 1 else []
        kernel_h, kernel_w = ([k for k, *_ in one] + [w.kernel for w in found])[-2:]
        stride_h, stride_w = ([k for k, *_ in one] + [w.stride for w in found])[-2:]
        if any(any(side) for side in sides) or node.attrs.get("ceil_mode"):
            raise Refused(f"its padding {sides}; pools without padding are written")
        fields = {"padding": VALID, "stride_h": stride_h, "stride_w": stride_w}
        fields |= {"filter_height": kernel_h, "filter_width": kernel_w}
        image, made = writer.image(node.inputs[0]), image_result(writer, node.outputs[0])
        writer.images[node.outputs[0]] = writer.file.operator(op, [image], made, "Pool2DOptions", 2, **fields)

    return emit


def same_codes(writer: TfliteWriter, node: Node) -> None:
    x, y = writer.kind(node.inputs[0]), writer.kind(node.outputs[0])
    if (x.dtype, x.quant) != (y.dtype, y.quant):
        raise Refused(f"it changes codes from {x} to {y}, which TFLite's kernel does not")


# --- elementwise


def unary(op: str, options: str = "", version: int = 2) -> Emit:
    """An operator of one operand, in whichever layout that is."""

    def emit(writer: TfliteWriter, node: Node) -> None:
        x, (y,) = node.inputs[0], node.outputs
        if x in writer.images and x not in writer.places and x not in writer.graph.constants:
            made = image_result(writer, y)
            writer.images[y] = writer.file.operator(op, [writer.images[x]], made, options, version)
        else:
            writer.make(op, node, [writer.place(x)], options, version)

    return emit


def relu(writer: TfliteWriter, node: Node) -> None:
    only(writer, node, "i8")
    same_codes(writer, node)
    unary("RELU")(writer, node)


def curve(op: str) -> Emit:
    """LOGISTIC and TANH of int8, whose results have codes of their own."""

    def emit(writer: TfliteWriter, node: Node) -> None:
        only(writer, node, "i8")
        wanted, found = CURVES[node.op, "i8"], writer.kind(node.outputs[0]).quant
        if found != wanted:
            raise Refused(
                f"its result has the codes {found}, TFLite's has {wanted}; lower for a target with "
                'curves = "tflite"'
            )
        unary(op)(writer, node)

    return emit


def softmax(writer: TfliteWriter, node: Node) -> None:
    only(writer, node, "i8")
    mask = writer.graph.constants.get(node.inputs[1])
    if mask is None or not mask.all():
        raise Refused("it has a mask")
    writer.make("SOFTMAX", node, [writer.place(node.inputs[0])], "SoftmaxOptions", beta=1.0)


def binary(op: str, options: str) -> Emit:
    def emit(writer: TfliteWriter, node: Node) -> None:
        only(writer, node, "i8")
        operands = [writer.place(v) for v in node.inputs[:2]]
        fields = (
            {"fused_activation_function": fused(node)} if options.startswith(("Add", "Mul", "Sub")) else {}
        )
        writer.make(op, node, operands, options, **fields)

    return emit


def difference(writer: TfliteWriter, node: Node) -> None:
    """SUB, whose rescales TFLite makes of float32 quotients."""
    scales = [writer.kind(v).scale for v in (*node.inputs[:2], *node.outputs)]
    pairs = [parity.pair(scale) for scale in parity.difference_scales(*scales)]
    wanted = [int(number) for pair in pairs for number in pair]
    found = [int(writer.graph.constants[v]) for v in node.inputs[2:]]
    if found != wanted:
        raise Refused(f"its multipliers and shifts are {found}, TFLite's {wanted}")
    binary("SUB", "SubOptions")(writer, node)


# --- movement and edges


def reshape(writer: TfliteWriter, node: Node) -> None:
    (y,) = node.outputs
    shape = writer.shape(y)
    writer.make(
        "RESHAPE", node, [writer.place(node.inputs[0]), writer.file.numbers(*shape)], "ReshapeOptions", 1,
        new_shape=shape,
    )  # fmt: skip


def transpose(writer: TfliteWriter, node: Node) -> None:
    perm = writer.file.numbers(*node.attrs["perm"])  # type: ignore[misc]
    writer.make("TRANSPOSE", node, [writer.place(node.inputs[0]), perm], "TransposeOptions")


def slice_(writer: TfliteWriter, node: Node) -> None:
    shape = writer.shape(node.inputs[0])
    cuts = [(0, size, 1) for size in shape]
    keys = ("axes", "starts", "ends", "steps")
    for axis, *cut in zip(*(node.attrs[key] for key in keys), strict=True):
        cuts[axis] = slice(*cut).indices(shape[axis])
    if min(step for *_, step in cuts) < 1:
        raise Refused("it goes backwards")
    limits = [writer.file.numbers(*(cut[k] for cut in cuts)) for k in range(3)]
    writer.make("STRIDED_SLICE", node, [writer.place(node.inputs[0]), *limits], "StridedSliceOptions")


def concat(writer: TfliteWriter, node: Node) -> None:
    operands = [writer.place(v) for v in node.inputs]
    writer.make("CONCATENATION", node, operands, "ConcatenationOptions", axis=int(node.attrs["axis"]))  # type: ignore[arg-type]


def pad(writer: TfliteWriter, node: Node) -> None:
    if node.attrs["mode"] != "constant":
        raise Refused(f"it pads with mode {node.attrs['mode']}; constant is written")
    sides = np.array(widths(node.attrs, len(writer.shape(node.inputs[0]))), np.int32)
    writer.make("PAD", node, [writer.place(node.inputs[0]), writer.file.constant(sides)], "PadOptions")


def quantize(writer: TfliteWriter, node: Node) -> None:
    if node.attrs["rounding"] != "half_away":
        raise Refused('it rounds ties to even; lower for a target with input_rounding = "half_away"')
    only(writer, node, "i8", "i16", "f32")
    writer.make("QUANTIZE", node, [writer.place(node.inputs[0])], "QuantizeOptions", 1)


EMIT: dict[str, Emit] = {
    "add": binary("ADD", "AddOptions"),
    "average_pool": pool("AVERAGE_POOL_2D"),
    "concat": concat,
    "conv1d": convolution,
    "conv2d": convolution,
    "dequantize": unary("DEQUANTIZE", "DequantizeOptions"),
    "fully_connected": fully_connected,
    "max_pool": pool("MAX_POOL_2D"),
    "maximum": binary("MAXIMUM", "MaximumMinimumOptions"),
    "minimum": binary("MINIMUM", "MaximumMinimumOptions"),
    "mul": binary("MUL", "MulOptions"),
    "pad": pad,
    "quantize": quantize,
    "relu": relu,
    "rescale": unary("QUANTIZE", "QuantizeOptions"),
    "reshape": reshape,
    "sigmoid": curve("LOGISTIC"),
    "slice": slice_,
    "softmax": softmax,
    "sub": difference,
    "tanh": curve("TANH"),
    "transpose": transpose,
}
