"""ONNX operators that treat entry by entry: functions, arithmetic, comparisons, casts.

Whole numbers and flags are reals here, so a comparison makes 0 and 1, and a division of whole
numbers is cut back to a whole number.
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
from onnx import numpy_helper

from nnaq.frontends.onnx_importer import Call, Handler
from nnaq.frontends.ports import Unsupported
from nnaq.ir.op import Attr


def unary(op: str, **defaults: float) -> Handler:
    """An operator of one operand; `defaults` are the ONNX attributes that nnaq's has as well."""

    def handle(call: Call) -> None:
        attrs: dict[str, Attr] = {key: float(call.attrs.get(key, value)) for key, value in defaults.items()}
        call.result(op, [call.operand(0)], attrs)

    return handle


def binary(op: str) -> Handler:
    """An operator of two operands that broadcast."""
    return lambda call: call.result(op, [call.operand(0), call.operand(1)])


def skip(call: Call) -> None:
    """Identity, and casts that change no number."""
    value = call.node.input[0]
    if value in call.walk.arrays:
        call.walk.arrays[call.node.output[0]] = call.walk.arrays[value]
    else:
        call.bind(call.operand(0))


def dropout(call: Call) -> None:
    """Dropout in evaluation: its operand; the mask keeps everything."""
    training, ratio = call.array(2), call.array(1)
    drops = ratio is None or bool(np.any(ratio))
    if call.has(2) and drops and (training is None or np.any(training)):
        raise Unsupported("it is in training mode", "export the model in evaluation mode")
    if len(call.node.output) > 1 and call.node.output[1]:
        shape = tuple(dim for dim in call.shape(0) if isinstance(dim, int))
        if len(shape) == len(call.shape(0)):
            call.walk.arrays[call.node.output[1]] = np.ones(shape, bool)
        else:
            call.refuse_outputs(1, "the mask of an open shape")
    skip(call)


def constant(call: Call) -> None:
    """Constant, in each of its spellings."""
    ((key, value),) = call.attrs.items()
    if not key.startswith("value") or "string" in key:
        raise Unsupported(f"its {key} is not an array of numbers")
    array = numpy_helper.to_array(value) if key == "value" else np.asarray(value)
    call.walk.arrays[call.node.output[0]] = array


# --- arithmetic


def chain(op: str) -> Handler:
    """An operator of any number of operands, taken two by two."""

    def handle(call: Call) -> None:
        first, *rest = (call.walk.operand(value) for value in call.node.input)
        if not rest:
            return call.bind(first)
        return call.result(op, [reduce(lambda a, b: call.step(op, [a, b]), rest[:-1], first), rest[-1]])

    return handle


def mean(call: Call) -> None:
    """Mean of operands -> their sum times 1 / count."""
    first, *rest = (call.walk.operand(value) for value in call.node.input)
    if not rest:
        return call.bind(first)
    total = reduce(lambda a, b: call.step("add", [a, b]), rest, first)
    return call.result("mul", [total, call.number(1 / len(call.node.input))])


def power(call: Call) -> None:
    """Pow with constant exponents: square, sqrt, reciprocal, rsqrt, power; of a positive constant: exp."""
    base, exponent = call.array(0), call.array(1)
    if exponent is None and base is not None and base.size and np.all(base > 0):
        rate = call.constant(0, "logarithm", np.log(base.astype(np.float64)))
        return call.result("exp", [call.step("mul", [call.operand(1), rate])])
    exponent = call.need(1, "exponent")
    found = np.unique(exponent)
    if exponent.ndim > len(call.shape(0)) or _grows(exponent.shape, call.shape(0)):
        raise Unsupported(f"its exponents {list(exponent.shape)} are more than its operand has entries")
    if not 1 <= len(found) <= MOST_EXPONENTS:
        raise Unsupported(f"it has {len(found)} different exponents", f"it reads 1 to {MOST_EXPONENTS}")
    if len(found) == 1:
        return _power(call, float(found[0]))
    value = raised(call, float(found[0]))
    for other in found[1:]:
        flags = call.constant(1, f"is {float(other)}", exponent == other)
        value = call.step("where", [flags, raised(call, float(other)), value])
    return call.result("reshape", [value], {"shape": (0,) * len(call.shape(0))})


POWERS = {2.0: "square", 0.5: "sqrt", -1.0: "reciprocal", -0.5: "rsqrt"}
MOST_EXPONENTS = 8


def _power(call: Call, exponent: float) -> None:
    """The operand to one power."""
    if exponent == 1.0:
        return skip(call)
    attrs: dict[str, Attr] = {} if exponent in POWERS else {"exponent": exponent}
    return call.result(POWERS.get(exponent, "power"), [call.operand(0)], attrs)


def raised(call: Call, exponent: float) -> str:
    """The same, as one of several."""
    if exponent == 1.0:
        return call.operand(0)
    attrs: dict[str, Attr] = {} if exponent in POWERS else {"exponent": exponent}
    return call.step(POWERS.get(exponent, "power"), [call.operand(0)], attrs)


def _grows(small: Sequence[int], shape: Sequence[int | str]) -> bool:
    """Whether broadcasting an array of `small` would enlarge a value of `shape`."""
    return any(n not in (1, dim) for n, dim in zip(small[::-1], shape[::-1], strict=False))


def divide(call: Call) -> None:
    """Div: by a constant -> mul by its reciprocal; of whole numbers -> cut towards zero."""
    divisor = call.array(1)
    if divisor is not None and not np.all(divisor):
        raise Unsupported("it divides by zero")
    if call.kind(0) == "whole":
        return call.bind(truncated(call, call.operand(0), call.operand(1)))
    if divisor is None:
        return call.result("div", [call.operand(0), call.operand(1)])
    inverse = call.constant(1, "reciprocal", 1.0 / divisor.astype(np.float64))
    return call.result("mul", [call.operand(0), inverse])


def modulo(call: Call) -> None:
    """Mod -> a - b floor(a / b), with the sign of b; fmod keeps the sign of a."""
    a, b = call.operand(0), call.operand(1)
    if call.attrs.get("fmod"):
        quotient = truncated(call, a, b)
    elif call.kind(0) == "whole":
        quotient = call.step("floor_divide", [a, b])
    else:
        quotient = call.step("floor", [call.step("div", [a, b])])
    call.result("sub", [a, call.step("mul", [b, quotient])])


def cut(call: Call, value: str) -> str:
    """A real cut towards zero."""
    size = call.step("floor", [call.step("abs", [value])])
    return call.step("mul", [call.step("sign", [value]), size])


def truncated(call: Call, a: str, b: str) -> str:
    """a / b cut towards zero; exact between whole numbers."""
    if call.kind(0) != "whole":
        return cut(call, call.step("div", [a, b]))
    size = call.step("floor_divide", [call.step("abs", [a]), call.step("abs", [b])])
    sign = call.step("mul", [call.step("sign", [a]), call.step("sign", [b])])
    return call.step("mul", [sign, size])


def clip(call: Call) -> None:
    """Clip -> relu, clip; limits that are computed -> maximum, minimum."""
    limits = [call.array(i) for i in (1, 2)]
    if any(call.has(i) and limits[i - 1] is None for i in (1, 2)):
        value = call.operand(0)
        for position, op in ((1, "maximum"), (2, "minimum")):
            if call.has(position):
                value = call.step(op, [value, call.operand(position)])
        return call.result("reshape", [value], {"shape": (0,) * len(call.shape(0))})
    low, high = (
        float(call.attrs.get(key, limit)) if held is None else float(held.reshape(-1)[0])
        for key, limit, held in zip(("min", "max"), (-math.inf, math.inf), limits, strict=True)
    )
    if (low, high) == (-math.inf, math.inf):
        return skip(call)
    if (low, high) == (0.0, math.inf):
        return call.result("relu", [call.operand(0)])
    return call.result("clip", [call.operand(0)], {"low": min(low, high), "high": high})


# --- functions


def gelu(call: Call) -> None:
    call.result("gelu", [call.operand(0)], {"approximate": call.word("approximate", "none")})


def swish(call: Call) -> None:
    """Swish -> silu; with alpha x sigmoid(alpha x)."""
    alpha = float(call.attrs.get("alpha", 1.0))
    x = call.operand(0)
    if alpha == 1.0:
        return call.result("silu", [x])
    return call.result("mul", [x, call.step("sigmoid", [call.step("mul", [x, call.number(alpha)])])])


def prelu(call: Call) -> None:
    """PRelu; the slope broadcasts towards x."""
    call.result("prelu", [call.operand(0), call.operand(1)])


def shrink(call: Call) -> None:
    """Shrink: x + bias below -lambd, x - bias above lambd, 0 between."""
    limit, bias = float(call.attrs.get("lambd", 0.5)), float(call.attrs.get("bias", 0.0))
    x = call.operand(0)
    below, above = call.step("less", [x, call.number(-limit)]), call.step("greater", [x, call.number(limit)])
    inner = call.step("where", [above, call.step("sub", [x, call.number(bias)]), call.number(0)])
    call.result("where", [below, call.step("add", [x, call.number(bias)]), inner])


# --- casts


def cast(call: Call) -> None:
    """Cast, CastLike: to whole numbers cuts towards zero, to flags asks for not 0."""
    source, target = call.kind(0), call.walk.kind_of(call.node.output[0])
    if "other" in (source, target):
        raise Unsupported(f"it casts from {source} to {target}")
    array = call.array(0)
    if array is not None:
        types = {"real": np.float32, "whole": np.int64, "flag": np.bool_}
        call.walk.arrays[call.node.output[0]] = array.astype(types[target])
        return None
    if target == "whole" and source == "real":
        return call.bind(cut(call, call.operand(0)))
    if target == "flag" and source != "flag":
        return call.result("logical_not", [call.step("equal", [call.operand(0), call.number(0)])])
    return skip(call)


def is_nan(call: Call) -> None:
    """IsNaN of a softmax: never, since a row without any score gets zeros here."""
    maker = call.walk.makers.get(call.node.input[0])
    if maker is None or maker.op_type != "Softmax":
        raise Unsupported("it looks for NaN", "integers have none; only the guard of a softmax is read")
    call.walk.arrays[call.node.output[0]] = np.zeros((1,) * len(call.shape(0)), bool)


def table(ops: dict[str, str], make: Callable[[str], Handler]) -> dict[str, Handler]:
    return {name: make(op) for name, op in ops.items()}


HANDLERS: dict[str, Handler] = {
    **table(
        {
            "Abs": "abs",
            "Ceil": "ceil",
            "Cos": "cos",
            "Erf": "erf",
            "Exp": "exp",
            "Floor": "floor",
            "HardSwish": "hard_swish",
            "Log": "log",
            "Mish": "mish",
            "Neg": "neg",
            "Not": "logical_not",
            "Reciprocal": "reciprocal",
            "Relu": "relu",
            "Round": "round",
            "Sigmoid": "sigmoid",
            "Sign": "sign",
            "Sin": "sin",
            "Softplus": "softplus",
            "Softsign": "softsign",
            "Sqrt": "sqrt",
            "Tanh": "tanh",
        },
        unary,
    ),
    **table(
        {
            "And": "logical_and",
            "Equal": "equal",
            "Greater": "greater",
            "GreaterOrEqual": "greater_or_equal",
            "Less": "less",
            "LessOrEqual": "less_or_equal",
            "Or": "logical_or",
            "Sub": "sub",
            "Xor": "logical_xor",
        },
        binary,
    ),
    **table({"Max": "maximum", "Min": "minimum", "Sum": "add"}, chain),
    "Cast": cast,
    "CastLike": cast,
    "Celu": unary("celu", alpha=1.0),
    "Clip": clip,
    "Constant": constant,
    "Div": divide,
    "Dropout": dropout,
    "Elu": unary("elu", alpha=1.0),
    "Gelu": gelu,
    "HardSigmoid": unary("hard_sigmoid", alpha=0.2, beta=0.5),
    "Identity": skip,
    "IsNaN": is_nan,
    "LeakyRelu": unary("leaky_relu", alpha=0.01),
    "Mean": mean,
    "Mod": modulo,
    "Mul": binary("mul"),
    "PRelu": prelu,
    "Pow": power,
    "Selu": unary("selu", alpha=1.6732632423543772, gamma=1.0507009873554805),
    "Shrink": shrink,
    "Swish": swish,
    "ThresholdedRelu": unary("thresholded_relu", alpha=1.0),
}
