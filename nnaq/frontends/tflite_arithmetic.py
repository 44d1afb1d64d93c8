"""Arithmetic of TFLite files: sums, products, activations, curves, reductions, and the edges to reals."""

from collections.abc import Mapping

import numpy as np

from nnaq.frontends import tflite_parity as parity
from nnaq.frontends.ports import Unsupported
from nnaq.frontends.tflite_importer import Call, Handler
from nnaq.frontends.tflite_layers import bounded, clipped
from nnaq.ir.op import Attr
from nnaq.ir.types import TensorType
from nnaq.kernels import tflite_curves


def named(pair: parity.Pair, prefix: str = "") -> dict[str, np.ndarray]:
    """multiplier and shift under the names of the prepared constants."""
    return {f"{prefix}multiplier": pair[0], f"{prefix}shift": pair[1]}


def arithmetic(op: str) -> Handler:
    """ADD, SUB, MUL of int8."""

    def handle(call: Call) -> None:
        call.only_int8()
        own = _difference(call) if op == "sub" else {}
        call.bind(bounded(call, call.step(op, [call.value(0), call.value(1)], {}, call.result, own=own)))

    return handle


def _difference(call: Call) -> Mapping[str, np.ndarray]:
    scales = parity.difference_scales(call.kind(0).scale, call.kind(1).scale, call.result.scale)
    if scales[2] >= 1:
        raise Unsupported("its result is too fine for its operands: TFLite has no code for it")
    pairs = [parity.pair(scale) for scale in scales]
    return {k: v for pair, p in zip(pairs, ("a_", "b_", ""), strict=True) for k, v in named(pair, p).items()}


def extreme(op: str) -> Handler:
    """MAXIMUM and MINIMUM."""

    def handle(call: Call) -> None:
        call.same_codes()
        call.make(op, [call.value(0), call.value(1)])

    return handle


# --- activations and curves


def relu(call: Call) -> None:
    """RELU of int8; other codes than the operand's are made by a rescale before it."""
    call.only_int8()
    value, x, y = call.value(0), call.kind(0), call.result
    if x.quant != y.quant:
        own = named(parity.pair(parity.f32(x.scale / y.scale), bound=255))
        value = call.step("rescale", [value], {}, y, own=own)
    call.make("relu", [value])


def relu6(call: Call) -> None:
    """RELU6 of int8 codes that stay as they are."""
    call.only_int8()
    call.same_codes()
    call.bind(clipped(call, call.value(0), 0.0, 6.0))


def leaky_relu(call: Call) -> None:
    """LEAKY_RELU of int8, by the table of TFLite's formula."""
    call.only_int8()
    alpha = float(call.options.Alpha())
    if not np.isfinite(alpha):
        raise Unsupported(f"its slope is {alpha}")
    table = parity.leaky_table(call.kind(0), call.result, alpha)
    call.bind(call.step("leaky_relu", [call.value(0)], {"alpha": alpha}, call.result, own={"table": table}))


def hard_swish(call: Call) -> None:
    """HARD_SWISH of int8, by the table of TFLite's formula."""
    call.only_int8()
    table = parity.hard_swish_table(call.kind(0), call.result)
    if table is None:
        raise Unsupported("its result is too fine for its operand: TFLite has no code for it")
    call.bind(call.step("hard_swish", [call.value(0)], {}, call.result, own={"table": table}))


def curve(op: str, scale: float, zero_point: int) -> Handler:
    """LOGISTIC and TANH: int8 by the exact table, int16 by TFLite's curve; their results' codes are fixed."""

    def handle(call: Call) -> None:
        x, y = call.kind(0), call.result
        if x.dtype == y.dtype == "i16":
            if (x.zero_point, y.scale, y.zero_point) != (0, 2.0**-15, 0):
                raise Unsupported(f"{x} -> {y}", "a result of int16 has the scale 2^-15 and the zero_point 0")
            own = {"table": tflite_curves.curve_of(op, x.scale)}
            return call.bind(call.step(op, [call.value(0)], {}, y, own=own))
        call.only_int8()
        if (y.scale, y.zero_point) != (scale, zero_point):
            raise Unsupported(f"a result {y}", f"TFLite's has the scale {scale}, the zero_point {zero_point}")
        return call.make(op, [call.value(0)])

    return handle


def softmax(call: Call) -> None:
    """SOFTMAX of int8 over the last axis with beta 1."""
    call.only_int8()
    if call.options.Beta() != 1.0:
        raise Unsupported(f"beta is {call.options.Beta()}", "fold it into the scores")
    if (call.result.scale, call.result.zero_point) != (2.0**-8, -128):
        raise Unsupported(f"a result {call.result}", "TFLite's has the scale 2^-8 and the zero_point -128")
    call.make("softmax", [call.value(0)])


# --- reductions


def reduction(op: str) -> Handler:
    """MEAN, SUM, REDUCE_MAX, REDUCE_MIN of int8."""

    def handle(call: Call) -> None:
        x = call.kind(0)
        if {x.dtype, call.result.dtype} != {"i8"}:
            raise Unsupported(f"it computes with {x.dtype}", "int8 is read")
        axes = tuple(sorted({axis % x.rank for axis in call.numbers(1)}))
        attrs: dict[str, Attr] = {"axes": axes, "keepdims": bool(call.options.KeepDims())}
        own: Mapping[str, np.ndarray] = {}
        if op == "reduce_mean":
            count = int(np.prod([int(x.shape[axis]) for axis in axes]))
            own = named(parity.mean(x.scale, call.result.scale, count))
        elif op != "reduce_sum":
            call.same_codes(0)
        call.bind(call.step(op, [call.value(0)], attrs, call.result, own=own))

    return handle


# --- between codes, and between codes and reals


def requantised(call: Call) -> None:
    """QUANTIZE: of reals at the beginning, or from codes to other codes (none where they are the same)."""
    tensor, y = call.tensor(0), call.result
    if tensor.dtype == "FLOAT32":
        if y.dtype not in ("i8", "i16") or call.node.outputs[0].dtype == "UINT8":
            raise Unsupported(f"reals into {call.node.outputs[0].dtype}", "int8 and int16 are read")
        return call.bind(call.step("quantize", [call.walk.values[tensor.index]], {}, y))
    x = call.kind(0)
    if {x.dtype, y.dtype} - {"i8", "i16"}:
        raise Unsupported(f"from {x.dtype} to {y.dtype}", "int8 and int16 are read")
    if (x.dtype, x.quant) == (y.dtype, y.quant):
        return call.bind(call.value(0))
    return call.make("rescale", [call.value(0)])


def dequantised(call: Call) -> None:
    """DEQUANTIZE: reals, for an output of the file."""
    if call.node.outputs[0].dtype != "FLOAT32" or call.kind(0).dtype not in ("i8", "i16"):
        raise Unsupported(f"{call.tensor(0).dtype} to {call.node.outputs[0].dtype}")
    call.bind(call.step("dequantize", [call.value(0)], {}, TensorType("f32", ())))
