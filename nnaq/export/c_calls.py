"""The C99 references (`c/*.h`) as calls: which one computes a node, and from which numbers.

A call is a statement of C over arrays of a node: `x0`, `x1`, … are its operands, `y0`, … its results as the
reference makes them; codes are int32_t, biases int64_t. A node without a reference has no call: operators
that only move, softmax, norms, gru, an lstm with projection, norm or coupled gates, narrow accumulators, and
rounding half_even, which is float.
"""

from collections.abc import Callable, Sequence

import numpy as np

from nnaq.ir.graph import Node
from nnaq.ir.op import Signature
from nnaq.ir.types import bounds
from nnaq.kernels import lstm_numbers
from nnaq.kernels.accumulate import output_range
from nnaq.kernels.conv import geometry

ROUNDINGS = ("single", "double", "half_up_shift", "pot_shift", "floor", "truncate", "double_m16")
OTHER_NUMBERS = ("accumulator_bits", "internal_bits")
Arrays = Sequence[np.ndarray | None]
MakeCall = Callable[[Node, Signature, Arrays, tuple[int, ...]], str | None]


def call_of(node: Node, signature: Signature, operands: Arrays, shape: tuple[int, ...]) -> str | None:
    """The statement that computes a node; None without a reference. shape: of the first result."""
    rounding = node.attrs.get("rounding", "single")
    if rounding not in ROUNDINGS or any(word in node.attrs for word in OTHER_NUMBERS):
        return None
    make = CALLS.get(node.op)
    return None if make is None else make(node, signature, operands, shape)


def _codes(node: Node, signature: Signature) -> str:
    zero_point, low, high = output_range(signature)
    rounding = str(node.attrs.get("rounding", "single")).upper()
    return f"(struct codes){{{zero_point}, {low}, {high}, {rounding}}}"


def _zeros(signature: Signature, *positions: int) -> str:
    return ", ".join(str(signature.input(position).zero_point) for position in positions)


def _fully_connected(
    node: Node, signature: Signature, operands: Arrays, shape: tuple[int, ...]
) -> str | None:
    if len(operands) != 5:
        return None
    units, depth = operands[1].shape  # type: ignore[union-attr]
    rows = int(np.prod(shape)) // units
    return (
        f"fully_connected(x0, x1, x2, x3, x4, {rows}, {depth}, {units}, {_zeros(signature, 0, 1)}, "
        f"{_codes(node, signature)}, y0);"
    )


def _conv(node: Node, signature: Signature, operands: Arrays, shape: tuple[int, ...]) -> str | None:
    if len(operands) != 5:
        return None
    x, weight = operands[0], operands[1]
    assert x is not None and weight is not None
    form = geometry(node.attrs, weight.shape[2:])
    batch, channels, *spatial = x.shape
    numbers = [
        batch, channels, *(1, *spatial)[-2:], len(weight), *form.kernel, *(1, *shape[2:])[-2:], *form.stride,
        *form.dilation, *form.padding[:2], form.groups,
    ]  # fmt: skip
    window = f"(struct window){{{', '.join(map(str, numbers))}}}"
    return f"conv(x0, x1, x2, x3, x4, {window}, {_zeros(signature, 0, 1)}, {_codes(node, signature)}, y0);"


def _sum(sign: int) -> MakeCall:
    def call(node: Node, signature: Signature, operands: Arrays, shape: tuple[int, ...]) -> str | None:
        if len(operands) not in (6, 8):
            return None
        pairs = (len(operands) - 2) // 2
        scales = ", ".join(f"{{x{2 + 2 * i}[0], x{3 + 2 * i}[0]}}" for i in range(pairs))
        name = "add_8" if pairs == 3 else "add_16"
        return (
            f"{name}(x0, x1, {int(np.prod(shape))}, {sign}, {_zeros(signature, 0, 1)}, "
            f"(struct scale[]){{{scales}}}, {_codes(node, signature)}, y0);"
        )

    return call


def _mul(node: Node, signature: Signature, operands: Arrays, shape: tuple[int, ...]) -> str | None:
    if len(operands) != 4:
        return None
    return (
        f"mul(x0, x1, {int(np.prod(shape))}, {_zeros(signature, 0, 1)}, (struct scale){{x2[0], x3[0]}}, "
        f"{_codes(node, signature)}, y0);"
    )


def _rescale(node: Node, signature: Signature, operands: Arrays, shape: tuple[int, ...]) -> str | None:
    scale = "(struct scale){x1[0], x2[0]}"
    return (
        f"rescale(x0, {int(np.prod(shape))}, {_zeros(signature, 0)}, {scale}, {_codes(node, signature)}, y0);"
    )


def _plain(name: str) -> MakeCall:
    def call(node: Node, signature: Signature, operands: Arrays, shape: tuple[int, ...]) -> str | None:
        return f"{name}(x0, {int(np.prod(shape))}, {_zeros(signature, 0)}, y0);"

    return call


def _table(node: Node, signature: Signature, operands: Arrays, shape: tuple[int, ...]) -> str | None:
    count = int(np.prod(shape))
    if len(operands) == 2:
        return f"table_8(x0, x1, {count}, y0);"
    entries = operands[1].size if operands[1] is not None else 0
    return f"table_16(x0, x1, {entries}, {count}, x2[0], x3[0], {_codes(node, signature)}, y0);"


def _lstm(node: Node, signature: Signature, operands: Arrays, shape: tuple[int, ...]) -> str | None:
    attrs = node.attrs
    if lstm_numbers.is_projected(attrs) or lstm_numbers.is_normed(attrs) or lstm_numbers.is_coupled(attrs):
        return None
    at = lstm_numbers.by_name(attrs, [f"x{position}" for position in range(len(operands))])
    arrays = lstm_numbers.by_name(attrs, operands)
    frames, batch, units = shape
    low, high = bounds(signature.outputs[0].dtype)
    rows = [
        "{"
        + ", ".join(at[word] for word in (f"w_{who}", f"{who}_multiplier", f"{who}_shift"))
        + f", {signature.input(place).zero_point}}}"
        for who, place in (("input", lstm_numbers.W_INPUT), ("recurrent", lstm_numbers.W_RECURRENT))
    ]
    x, c = signature.input(lstm_numbers.X), signature.input(lstm_numbers.C0)
    numbers = [
        frames, batch, arrays["x"].shape[2], units, arrays["sigmoid_table"].size,
        lstm_numbers.cell_fraction(c), x.zero_point,
        *rows, at["bias"], at["sigmoid_table"], at["tanh_table"], at.get("cell_table", "0"),
        f"{at['hidden_multiplier']}[0]", f"{at['hidden_shift']}[0]",
        f"{{{signature.outputs[0].zero_point}, {low}, {high}, {str(attrs['rounding']).upper()}}}",
    ]  # fmt: skip
    count = batch * units
    return (
        f"static int32_t gates[{4 * units}];\n"
        f"    struct lstm l = {{{', '.join(map(str, numbers))}}};\n"
        f"    for (int i = 0; i < {count}; i++) {{ y1[i] = {at['h0']}[i]; y2[i] = {at['c0']}[i]; }}\n"
        "    lstm(&l, x0, y1, y2, gates, y0);"
    )


TABLES = (
    "sigmoid", "tanh", "exp", "log", "gelu", "silu", "hard_swish", "leaky_relu", "softplus", "elu",
    "hard_sigmoid",
)  # fmt: skip
CALLS: dict[str, MakeCall] = {
    "fully_connected": _fully_connected,
    "conv1d": _conv,
    "conv2d": _conv,
    "add": _sum(1),
    "sub": _sum(-1),
    "mul": _mul,
    "rescale": _rescale,
    "relu": _plain("relu"),
    "square": _plain("square"),
    "lstm": _lstm,
    **dict.fromkeys(TABLES, _table),
}
