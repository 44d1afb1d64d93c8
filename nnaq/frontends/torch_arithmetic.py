"""torch operators on every entry by itself, and comparisons; whole numbers and flags ride as reals."""

import math
from typing import Any

import numpy as np
import torch

from nnaq.frontends.ports import Unsupported
from nnaq.frontends.torch_importer import Call, Handler, dtype_of
from nnaq.ir.op import Attr


def unary(op: str, **names: str) -> Handler:
    """An operator of one operand; `names`: its attributes by torch's arguments."""

    def handle(call: Call) -> None:
        attrs: dict[str, Attr] = {name: float(call.args[key]) for key, name in names.items()}
        call.result(op, [call.operand("self")], attrs)

    return handle


def binary(op: str) -> Handler:
    """An operator of two operands that broadcast; either may be a number."""

    def handle(call: Call) -> None:
        if call.args.get("alpha", 1) != 1:
            raise Unsupported(f"alpha={call.args['alpha']}", "multiply the second operand instead")
        call.result(op, [call.operand("self"), call.operand("other")])

    return handle


def multiply(call: Call) -> None:
    """mul; by 1, as torch writes 1 / x, nothing."""
    if call.args["other"] == 1 and call.node.name not in call.walk.wanted:
        return call.bind(call.operand("self"))
    return call.result("mul", [call.operand("self"), call.operand("other")])


def is_flag(given: Any) -> bool:
    return dtype_of(given) == torch.bool


def is_whole(given: Any) -> bool:
    kind = dtype_of(given)
    return isinstance(given, int) or (kind is not None and not kind.is_floating_point)


def reversed_sub(call: Call) -> None:
    """rsub: other - self."""
    if call.args.get("alpha", 1) != 1:
        raise Unsupported(f"alpha={call.args['alpha']}", "multiply the operand instead")
    if call.args["other"] == 1 and is_flag(call.args["self"]):
        return call.result("logical_not", [call.operand("self")])
    return call.result("sub", [call.operand("other"), call.operand("self")])


def divide(call: Call) -> None:
    """div: by a constant -> mul by its reciprocal; rounded quotients by floor."""
    mode, array = call.args.get("rounding_mode"), call.array("other")
    if mode not in (None, "floor"):
        raise Unsupported(f"rounding_mode={mode!r}", "use rounding_mode='floor'")
    if array is not None and not np.all(array):
        raise Unsupported("it divides by zero")
    if mode == "floor":
        return floor_divide(call)
    if array is None:
        return call.result("div", [call.operand("self"), call.operand("other")])
    if isinstance(call.args["other"], int | float):
        inverse = call.weight(f"{call.source}.reciprocal", 1.0 / array.astype(np.float64))
    else:
        inverse = call.derived(f"{call.source}.reciprocal", "made", torch.reciprocal, "other")
    return call.result("mul", [call.operand("self"), inverse])


def floor_divide(call: Call) -> None:
    """floor(a / b); exact between whole numbers."""
    call.bind(_floored(call))


def remainder(call: Call) -> None:
    """a - floor(a / b) b."""
    times = call.step("mul", [_floored(call), call.operand("other")])
    call.result("sub", [call.operand("self"), times])


def _floored(call: Call) -> str:
    """The value of floor(a / b)."""
    operands = [call.operand("self"), call.operand("other")]
    if is_whole(call.args["self"]):
        return call.step("floor_divide", operands)
    return call.step("floor", [call.step("div", operands)])


def power(call: Call) -> None:
    """Exponents 2, 1/2, -1, -1/2 have operators of their own; 1 is nothing."""
    exponent = call.args["exponent"]
    if not isinstance(exponent, int | float):
        raise Unsupported("its exponent is computed", "use exp and log")
    ops = {2.0: "square", 0.5: "sqrt", -1.0: "reciprocal", -0.5: "rsqrt"}
    if exponent == 1:
        return call.bind(call.operand("self"))
    if exponent in ops:
        return call.result(ops[exponent], [call.operand("self")])
    return call.result("power", [call.operand("self")], {"exponent": float(exponent)})


def gelu(call: Call) -> None:
    call.result("gelu", [call.operand("self")], {"approximate": call.args["approximate"]})


def glu(call: Call) -> None:
    """The first half times the sigmoid of the second."""
    axis, shape = call.axis(), call.shape()
    size = shape[axis]
    if not isinstance(size, int):
        raise Unsupported(f"it halves the open axis {size!r}")
    halves = []
    for start in (0, size // 2):
        cut: dict[str, Attr] = {
            "starts": (start,),
            "ends": (start + size // 2,),
            "axes": (axis,),
            "steps": (1,),
        }
        halves.append(call.step("slice", [call.operand("self")], cut))
    call.result("mul", [halves[0], call.step("sigmoid", [halves[1]])])


def elu(call: Call) -> None:
    if call.args.get("scale", 1) != 1 or call.args.get("input_scale", 1) != 1:
        raise Unsupported("scale or input_scale", "multiply around it")
    call.result("elu", [call.operand("self")], {"alpha": float(call.args["alpha"])})


def softplus(call: Call) -> None:
    if call.args["beta"] != 1:
        raise Unsupported(f"beta={call.args['beta']}", "multiply around it")
    call.result("softplus", [call.operand("self")])


def threshold(call: Call) -> None:
    """x above the threshold, else the value; with 0 and a threshold of 0 or more one table."""
    limit, value = float(call.args["threshold"]), float(call.args["value"])
    if value == 0 and limit >= 0:
        return call.result("thresholded_relu", [call.operand("self")], {"alpha": limit})
    above = call.step("greater", [call.operand("self"), call.number(limit)])
    return call.result("where", [above, call.operand("self"), call.number(value)])


def clamp(low: str, high: str) -> Handler:
    """clamp, clamp_min, clamp_max, relu6, hardtanh: to numbers, else minimum and maximum."""

    def handle(call: Call) -> None:
        limits = [call.args.get(key) if key else None for key in (low, high)]
        if all(limit is None or isinstance(limit, int | float) for limit in limits):
            low_limit = -math.inf if limits[0] is None else float(limits[0])
            high_limit = math.inf if limits[1] is None else float(limits[1])
            return call.result("clip", [call.operand("self")], {"low": low_limit, "high": high_limit})
        value = call.operand("self")
        for limit, op in zip(limits, ("maximum", "minimum"), strict=True):
            if limit is not None:
                value = call.step(op, [value, call.value(limit)])
        return call.bind(value)

    return handle


def relu6(call: Call) -> None:
    call.result("clip", [call.operand("self")], {"low": 0.0, "high": 6.0})


def prelu(call: Call) -> None:
    """One slope, or one per channel (axis 1)."""
    slope, rank = call.need("weight"), len(call.shape())
    shape = slope.shape if slope.size == 1 or rank < 2 else (-1, *[1] * (rank - 2))
    made = call.derived("weight", f"of rank {rank}", lambda held: held.reshape(shape), "weight")
    call.result("prelu", [call.operand("self"), made])


# --- comparisons and flags


def negated(op: str) -> Handler:
    """The opposite of a comparison."""

    def handle(call: Call) -> None:
        call.result("logical_not", [call.step(op, [call.operand("self"), call.operand("other")])])

    return handle


def bitwise(op: str) -> Handler:
    """&, |, ^ and ~ of flags."""

    def handle(call: Call) -> None:
        keys = ["self"] if op == "logical_not" else ["self", "other"]
        if not all(is_flag(call.args[key]) or isinstance(call.args[key], bool) for key in keys):
            raise Unsupported("it works on the bits of whole numbers", "use flags, or arithmetic")
        call.result(op, [call.operand(key) for key in keys])

    return handle


HANDLERS: dict[str, Handler] = {
    "aten::__and__": bitwise("logical_and"),
    "aten::__or__": bitwise("logical_or"),
    "aten::__xor__": bitwise("logical_xor"),
    "aten::abs": unary("abs"),
    "aten::add": binary("add"),
    "aten::bitwise_and": bitwise("logical_and"),
    "aten::bitwise_not": bitwise("logical_not"),
    "aten::bitwise_or": bitwise("logical_or"),
    "aten::bitwise_xor": bitwise("logical_xor"),
    "aten::ceil": unary("ceil"),
    "aten::celu": unary("celu", alpha="alpha"),
    "aten::clamp": clamp("min", "max"),
    "aten::clamp_max": clamp("", "max"),
    "aten::clamp_min": clamp("min", ""),
    "aten::cos": unary("cos"),
    "aten::div": divide,
    "aten::elu": elu,
    "aten::eq": binary("equal"),
    "aten::erf": unary("erf"),
    "aten::exp": unary("exp"),
    "aten::floor": unary("floor"),
    "aten::floor_divide": floor_divide,
    "aten::ge": binary("greater_or_equal"),
    "aten::gelu": gelu,
    "aten::glu": glu,
    "aten::gt": binary("greater"),
    "aten::hardsigmoid": lambda call: call.result(
        "hard_sigmoid", [call.operand("self")], {"alpha": 1 / 6, "beta": 0.5}
    ),
    "aten::hardswish": unary("hard_swish"),
    "aten::hardtanh": clamp("min_val", "max_val"),
    "aten::le": binary("less_or_equal"),
    "aten::leaky_relu": unary("leaky_relu", negative_slope="alpha"),
    "aten::log": unary("log"),
    "aten::log_sigmoid": unary("log_sigmoid"),
    "aten::logical_and": binary("logical_and"),
    "aten::logical_not": unary("logical_not"),
    "aten::logical_or": binary("logical_or"),
    "aten::logical_xor": binary("logical_xor"),
    "aten::lt": binary("less"),
    "aten::maximum": binary("maximum"),
    "aten::minimum": binary("minimum"),
    "aten::mish": unary("mish"),
    "aten::mul": multiply,
    "aten::ne": negated("equal"),
    "aten::neg": unary("neg"),
    "aten::pow": power,
    "aten::prelu": prelu,
    "aten::reciprocal": unary("reciprocal"),
    "aten::relu": unary("relu"),
    "aten::relu6": relu6,
    "aten::remainder": remainder,
    "aten::round": unary("round"),
    "aten::rsqrt": unary("rsqrt"),
    "aten::rsub": reversed_sub,
    "aten::selu": lambda call: call.result(
        "selu", [call.operand("self")], {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}
    ),
    "aten::sigmoid": unary("sigmoid"),
    "aten::sign": unary("sign"),
    "aten::silu": unary("silu"),
    "aten::sin": unary("sin"),
    "aten::softplus": softplus,
    "aten::sqrt": unary("sqrt"),
    "aten::square": unary("square"),
    "aten::sub": binary("sub"),
    "aten::tanh": unary("tanh"),
    "aten::threshold": threshold,
}
