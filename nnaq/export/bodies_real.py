"""Bodies of host islands: nodes that stayed real, in float32 standard operators.

They mean what the operator's `real` means and follow its formula where runtimes leave a choice.
Their last bits are the runtime's own: the promise of equal integers ends at an island.
"""

from collections.abc import Callable

import numpy as np

from nnaq.export import bodies_movement
from nnaq.export.bodies_fixedpoint import fused_relu
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels import pool
from nnaq.kernels.conv import geometry
from nnaq.kernels.lstm_numbers import H0
from nnaq.kernels.movement import widths

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


def lstm(
    body: Body, signature: Signature, x: str, h: str, c: str, w_input: str, w_recurrent: str, bias: str = ""
) -> tuple[str, ...]:
    """ONNX's LSTM, whose gates stand in the order i, o, f, c; two biases, of which one is zero."""
    units = signature.input(H0).shape[1]
    first = body.constant([0])
    weights = [body.apply("Unsqueeze", _gates(body, w), first) for w in (w_input, w_recurrent)]
    biases = ""
    if signature.has(5):
        one = _gates(body, bias)
        biases = body.apply("Unsqueeze", body.apply("Concat", one, body.sub(one, one), axis=0), first)
    states = [body.apply("Unsqueeze", state, first) for state in (h, c)]
    y, h, c = body.several("LSTM", 3, x, *weights, biases, "", *states, hidden_size=units)
    second = body.constant([1])
    return (body.apply("Squeeze", y, second), *(body.apply("Squeeze", v, first) for v in (h, c)))


def _gates(body: Body, weight: str) -> str:
    """Rows in the order i, f, g, o brought into the order i, o, f, g."""
    i, f, g, o = body.several("Split", 4, weight, axis=0, num_outputs=4)
    return body.apply("Concat", i, o, f, g, axis=0)


REAL_BODIES: dict[str, MakeBody] = {
    "sigmoid": sigmoid,
    "tanh": standard("Tanh"),
    "exp": standard("Exp"),
    "log": standard("Log"),
    "fully_connected": fully_connected,
    "matmul": standard("MatMul"),
    "conv1d": convolution,
    "conv2d": convolution,
    "max_pool": pooling("MaxPool"),
    "average_pool": pooling("AveragePool"),
    "add": standard("Add"),
    "sub": standard("Sub"),
    "mul": standard("Mul"),
    "square": square,
    "relu": standard("Relu"),
    "sqrt": sqrt,
    "lstm": lstm,
    "reshape": bodies_movement.reshape,
    "transpose": bodies_movement.transpose,
    "slice": bodies_movement.slice_,
    "pad": pad,
    "concat": bodies_movement.concat,
}
