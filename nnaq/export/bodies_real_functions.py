"""Bodies of elementwise host islands: activations, signs, division, comparisons and choices in float32.

They mean what the operator's `real` means; flags are 0.0 and 1.0.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels.activations import SELU_ALPHA, SELU_GAMMA

MakeBody = Callable[..., tuple[str, ...]]


def number(body: Body, value: float) -> str:
    """A float32 constant."""
    return body.constant(np.array(value, np.float32))


def standard(op: str, defaults: Mapping[str, float] | None = None) -> MakeBody:
    """The body that is one standard operator with the node's attributes, or ours where it has none."""

    def make(body: Body, signature: Signature, *operands: str) -> tuple[str, ...]:
        attrs = {
            name: float(signature.attrs.get(name, value))  # type: ignore[arg-type]
            for name, value in (defaults or {}).items()
        }
        return (body.apply(op, *operands, **attrs),)

    return make


def _sigmoid(body: Body, x: str) -> str:
    half = number(body, 0.5)
    return body.add(body.mul(half, body.apply("Tanh", body.mul(half, x))), half)


def silu(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (body.mul(x, _sigmoid(body, x)),)


def gelu(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """x (1 + erf(x / sqrt 2)) / 2, or its tanh form."""
    if signature.attrs.get("approximate", "none") == "tanh":
        cube = body.mul(number(body, 0.044715), body.mul(body.mul(x, x), x))
        inner = body.mul(number(body, math.sqrt(2.0 / math.pi)), body.add(x, cube))
        bent = body.apply("Tanh", inner)
    else:
        bent = body.apply("Erf", body.mul(x, number(body, math.sqrt(0.5))))
    return (body.mul(body.mul(number(body, 0.5), x), body.add(number(body, 1.0), bent)),)


def _softplus(body: Body, x: str) -> str:
    """max(x, 0) + ln(1 + e^-|x|), which cannot overflow."""
    tail = body.apply("Exp", body.apply("Neg", body.apply("Abs", x)))
    return body.add(body.apply("Relu", x), body.apply("Log", body.add(number(body, 1.0), tail)))


def softplus(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (_softplus(body, x),)


def log_sigmoid(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (body.apply("Neg", _softplus(body, body.apply("Neg", x))),)


def mish(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (body.mul(x, body.apply("Tanh", _softplus(body, x))),)


def hard_swish(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    gate = body.add(body.apply("Div", x, number(body, 6.0)), number(body, 0.5))
    return (body.mul(x, _between(body, gate, 0.0, 1.0)),)


def _between(body: Body, x: str, low: float, high: float) -> str:
    return body.apply("Min", body.apply("Max", x, number(body, low)), number(body, high))


def rsqrt(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    positive = body.apply("Max", x, number(body, 0.0))
    return (body.apply("Reciprocal", body.apply("Sqrt", positive)),)


def power(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (body.apply("Pow", x, number(body, float(signature.attrs["exponent"]))),)  # type: ignore[arg-type]


def prelu(body: Body, signature: Signature, x: str, slope: str) -> tuple[str, ...]:
    positive = body.apply("Greater", x, number(body, 0.0))
    return (body.apply("Where", positive, x, body.mul(slope, x)),)


def clip(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    low, high = (float(signature.attrs[name]) for name in ("low", "high"))  # type: ignore[arg-type]
    return (_between(body, x, low, high),)


def where(body: Body, signature: Signature, condition: str, a: str, b: str) -> tuple[str, ...]:
    return (body.apply("Where", _is_true(body, condition), a, b),)


def _is_true(body: Body, flag: str) -> str:
    return body.apply("Not", body.apply("Equal", flag, number(body, 0.0)))


def floor_divide(body: Body, signature: Signature, a: str, b: str) -> tuple[str, ...]:
    """floor(a / b), and 0 where b = 0."""
    none = body.apply("Equal", b, number(body, 0.0))
    quotient = body.apply("Floor", body.apply("Div", a, body.apply("Where", none, number(body, 1.0), b)))
    return (body.apply("Where", none, number(body, 0.0), quotient),)


def comparison(op: str) -> MakeBody:
    """The body of a comparison: 1.0 where it holds."""

    def make(body: Body, signature: Signature, a: str, b: str) -> tuple[str, ...]:
        return (body.codes(body.apply(op, a, b), "f32"),)

    return make


def logic(op: str) -> MakeBody:
    """The body of a logical operator of one or two flags."""

    def make(body: Body, signature: Signature, *flags: str) -> tuple[str, ...]:
        return (body.codes(body.apply(op, *(_is_true(body, flag) for flag in flags)), "f32"),)

    return make


BODIES: dict[str, MakeBody] = {
    "silu": silu,
    "gelu": gelu,
    "mish": mish,
    "softplus": softplus,
    "log_sigmoid": log_sigmoid,
    "softsign": standard("Softsign"),
    "elu": standard("Elu", {"alpha": 1.0}),
    "celu": standard("Celu", {"alpha": 1.0}),
    "selu": standard("Selu", {"alpha": SELU_ALPHA, "gamma": SELU_GAMMA}),
    "erf": standard("Erf"),
    "sin": standard("Sin"),
    "cos": standard("Cos"),
    "power": power,
    "leaky_relu": standard("LeakyRelu", {"alpha": 0.01}),
    "thresholded_relu": standard("ThresholdedRelu", {"alpha": 1.0}),
    "hard_sigmoid": standard("HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
    "hard_swish": hard_swish,
    "prelu": prelu,
    "reciprocal": standard("Reciprocal"),
    "rsqrt": rsqrt,
    "div": standard("Div"),
    "floor_divide": floor_divide,
    "abs": standard("Abs"),
    "neg": standard("Neg"),
    "sign": standard("Sign"),
    "floor": standard("Floor"),
    "ceil": standard("Ceil"),
    "round": standard("Round"),
    "minimum": standard("Min"),
    "maximum": standard("Max"),
    "clip": clip,
    "where": where,
    "equal": comparison("Equal"),
    "less": comparison("Less"),
    "less_or_equal": comparison("LessOrEqual"),
    "greater": comparison("Greater"),
    "greater_or_equal": comparison("GreaterOrEqual"),
    "logical_and": logic("And"),
    "logical_or": logic("Or"),
    "logical_xor": logic("Xor"),
    "logical_not": logic("Not"),
}
