"""Bodies of host islands: nodes that stayed real, in float32 standard operators.

They mean what the operator's `real` means and follow its formula where runtimes leave a choice.
Their last bits are the runtime's own: the promise of equal integers ends at an island.
"""

from collections.abc import Callable

import numpy as np

from nnaq.export import (
    bodies_conv_transpose,
    bodies_cumulative,
    bodies_gather,
    bodies_logarithm,
    bodies_matmul,
    bodies_movement,
    bodies_norm,
    bodies_real_functions,
    bodies_recurrent_real,
    bodies_reduce,
    bodies_resize,
    bodies_softmax,
    bodies_spread,
)
from nnaq.export.bodies_fixedpoint import fused_relu
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels import pool
from nnaq.kernels.conv import geometry
from nnaq.kernels.cut_and_join import widths

MakeBody = Callable[..., tuple[str, ...]]


def _number(body: Body, value: float) -> str:
    return body.constant(np.array(value, np.float32))


def standard(op: str) -> MakeBody:
    """The body that is one standard operator."""

    def make(body: Body, signature: Signature, *operands: str) -> tuple[str, ...]:
        return (body.apply(op, *operands),)

    return make


def sigmoid(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """tanh(x / 2) / 2 + 1/2, as in nnaq.kernels.lut."""
    half = _number(body, 0.5)
    return (body.add(body.mul(half, body.apply("Tanh", body.mul(half, x))), half),)


def square(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (body.mul(x, x),)


def sqrt(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """The root of what is not negative."""
    return (body.apply("Sqrt", body.apply("Max", x, _number(body, 0))),)


def fully_connected(body: Body, signature: Signature, x: str, weight: str, bias: str = "") -> tuple[str, ...]:
    """activation(x weight^T + bias)."""
    total = body.apply("MatMul", x, body.transpose(weight, (1, 0)))
    return (_activated(body, signature, body.add(total, bias) if _has_bias(signature) else total),)


def _has_bias(signature: Signature) -> bool:
    return signature.has(2)


def _activated(body: Body, signature: Signature, y: str) -> str:
    return body.apply("Relu", y) if fused_relu(signature) else y


def convolution(body: Body, signature: Signature, x: str, weight: str, bias: str = "") -> tuple[str, ...]:
    """activation(Conv(x, weight, bias))."""
    rank = signature.input(0).rank - 2
    shape = geometry(signature.attrs, signature.input(1).shape[2:])
    begins, ends = shape.padding[:2], shape.padding[2:]
    y = body.apply(
        "Conv",
        *((x, weight, bias) if _has_bias(signature) else (x, weight)),
        strides=shape.stride[2 - rank :],
        dilations=shape.dilation[2 - rank :],
        pads=[*begins[2 - rank :], *ends[2 - rank :]],
        group=shape.groups,
    )
    return (_activated(body, signature, y),)


def pooling(op: str, **attributes: int) -> MakeBody:
    """The body of max_pool (`MaxPool`) or average_pool (`AveragePool`)."""

    def make(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
        found = pool.windows(signature.attrs, signature.input(0).rank, op)
        own = {"count_include_pad": int(bool(signature.attrs.get("count_include_pad", False)))}
        y = body.apply(
            op,
            x,
            kernel_shape=[w.kernel for w in found],
            strides=[w.stride for w in found],
            pads=[*(w.begin for w in found), *(w.end for w in found)],
            **(own if op == "AveragePool" else {}),
        )
        return (y,)

    return make


def pad(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """Zeros around x; reflected and repeated entries as for codes."""
    if signature.attrs["mode"] != "constant":
        return bodies_movement.pad(body, signature, x)
    sides = widths(signature.attrs, signature.input(0).rank)
    pads = body.constant([begin for begin, _ in sides] + [end for _, end in sides])
    return (body.apply("Pad", x, pads, _number(body, 0)),)


REAL_BODIES: dict[str, MakeBody] = {
    "sigmoid": sigmoid,
    "tanh": standard("Tanh"),
    "exp": standard("Exp"),
    "log": bodies_logarithm.real_log,
    "fully_connected": fully_connected,
    "matmul": bodies_matmul.real_matmul,
    "conv1d": convolution,
    "conv2d": convolution,
    "max_pool": pooling("MaxPool"),
    "average_pool": pooling("AveragePool"),
    "conv_transpose1d": bodies_conv_transpose.real_conv_transpose,
    "conv_transpose2d": bodies_conv_transpose.real_conv_transpose,
    "reduce_sum": bodies_reduce.real_sum,
    "reduce_mean": bodies_reduce.real_mean,
    "reduce_max": bodies_reduce.real_largest,
    "reduce_min": bodies_reduce.real_smallest,
    "cumulative_sum": bodies_cumulative.real_cumulative_sum,
    "running_mean": bodies_cumulative.real_running_mean,
    "resize": bodies_resize.real_resize,
    "add": standard("Add"),
    "sub": standard("Sub"),
    "mul": standard("Mul"),
    "square": square,
    "relu": standard("Relu"),
    **bodies_real_functions.BODIES,
    "sqrt": sqrt,
    "softmax": bodies_softmax.real_softmax,
    "log_softmax": bodies_softmax.real_log_softmax,
    "lstm": bodies_recurrent_real.lstm,
    "gru": bodies_recurrent_real.gru,
    "reshape": bodies_movement.reshape,
    "transpose": bodies_movement.transpose,
    "slice": bodies_movement.slice_,
    "pad": pad,
    "concat": bodies_movement.concat,
    "gather": bodies_gather.gather,
    "one_hot": bodies_gather.one_hot,
    "arange": bodies_gather.arange,
    "relative_shift": bodies_gather.relative_shift,
    "expand": bodies_spread.expand,
    "tile": bodies_spread.tile,
    "reverse": bodies_spread.reverse,
    "layer_norm": bodies_norm.real_layer_norm,
    "group_norm": bodies_norm.real_group_norm,
    "rms_norm": bodies_norm.real_rms_norm,
    "l2_normalize": bodies_norm.real_l2_normalize,
    "batch_norm": bodies_norm.real_batch_norm,
}
