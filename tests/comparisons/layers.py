"""Comparisons of layers, products and rescales.

tosa files carry multipliers and right shifts (31 - s) for `single` and `double`; tflm and ort files
carry scales, from which nnaq prepares its own multipliers. Images of tosa and tflm are NHWC.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from integer_nodes import crossed
from strategies import integer_node, quantised

from comparisons.elementwise import call, kind_of, rescaled_as
from comparisons.table import Case, Pair, Vectors, compares, outcome
from nnaq.errors import LoweringError
from nnaq.ir.op import Attr, Op, Signature, lookup
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels.fixedpoint import LARGEST_LEFT_SHIFT

Node = tuple[Op, Signature, list[np.ndarray]]
Operand = tuple[TensorType, np.ndarray]
ACTIVATIONS = {"double": "i8", "double_m16": "i16", "half_even": "i8"}
ONE = {"multiplier": np.int32(2**30), "shift": np.int8(30), "y_zero_point": 0}  # 2^30 and shift 1 stand for 1


def coded(case: Case, field: str, array: np.ndarray, zero_point: int | None = None) -> Operand:
    """An i8 operand of a case under scale 1, with its zero point."""
    zero = int(case[f"{field}_zero_point"]) if zero_point is None else zero_point
    return quantised("i8", array.shape, 1.0, zero), array


def layer(
    case: Case, name: str, x: np.ndarray, weight: np.ndarray, attrs: Mapping[str, Attr], mode: str
) -> Node:
    """A layer prepared from the scales of a case; its bias is given as the codes it must become."""
    scales = np.float64(case["weight_scale"])
    per_channel = tuple(np.ravel(scales).tolist())
    dtype = ACTIVATIONS[mode]
    types = (
        quantised(dtype, x.shape, float(case["x_scale"]), int(case["x_zero_point"])),
        TensorType("i8", weight.shape, Quant(per_channel, 0, 0 if scales.size > 1 else None)),
        TensorType("f32", weight.shape[:1]),
    )
    codes = np.broadcast_to(case.get("bias", np.zeros(1)), weight.shape[:1])
    arrays = (x, weight, codes * (float(case["x_scale"]) * scales))
    result = quantised(dtype, (), float(case["y_scale"]), int(case["y_zero_point"]))
    node = integer_node(name, list(zip(types, arrays, strict=True)), result, attrs, mode)
    np.testing.assert_array_equal(node[2][2], codes)
    return node


def fits_48_bits(case: Case) -> bool:
    """Whether a bias is legal: beyond 48 bits tflite-micro's own product leaves 64 bits and wraps."""
    return bool((np.abs(case["bias"].astype(np.int64)) < 2**47).all())


def legal(cases: Sequence[Case], make: Callable[[Case], Node]) -> Iterator[tuple[Case, Node]]:
    """Cases with their nodes; a bias beyond 48 bits must be refused."""
    for case in cases:
        if fits_48_bits(case):
            yield case, make(case)
        else:
            with pytest.raises(LoweringError, match="does not fit i48"):
                make(case)


@compares("tflm__batch_matmul_int8", "double")
@compares("tflm__batch_matmul_int16", "double_m16")
def tflm_batch_matmul(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        kinds = tuple(kind_of(case, name) for name in "aby")
        node = rescaled_as(case, crossed("matmul", kinds[:2], kinds[2], rounding=mode))
        yield call(kernel, node, case["a"], case["b"]), case["y"]


def conv_attrs(case: Case, groups: int) -> dict[str, Attr]:
    top, bottom, left, right = case["pad"].tolist()
    return {
        "stride": tuple(case["stride"].tolist()),
        "dilation": tuple(case["dilation"].tolist()),
        "padding": (top, left, bottom, right),
        "groups": groups,
    }


def image_first(array: np.ndarray) -> np.ndarray:
    """NHWC -> NCHW, OHWI -> OIHW."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 1))


def depthwise_first(weights: np.ndarray) -> np.ndarray:
    """HWCM -> OIHW, output channel = channel * M + m."""
    height, width, channels, multiple = weights.shape
    rows = weights.reshape(height, width, channels * multiple)
    return np.ascontiguousarray(rows.transpose(2, 0, 1)[:, None])


def convolution(case: Case, op: str) -> tuple[np.ndarray, np.ndarray, dict[str, Attr]]:
    """x, weights and attributes of a tosa or tflm convolution, in nnaq's layouts."""
    x, weights = image_first(case["x"]), case["weights"]
    if op.startswith("depthwise"):
        return x, depthwise_first(weights), conv_attrs(case, x.shape[1])
    return x, image_first(weights), conv_attrs(case, 1)


@compares("tflm__fully_connected_int8", "double")
@compares("tflm__fully_connected_int16x8", "double_m16")
def tflm_fully_connected(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    def make(case: Case) -> Node:
        return layer(case, "fully_connected", case["x"], case["weights"], {}, mode)

    for case, node in legal(vectors.cases, make):
        yield outcome(kernel, *node), case["y"]


@compares("tflm__conv2d_int8", "double")
@compares("tflm__conv2d_int16x8", "double_m16")
@compares("tflm__depthwise_conv2d_int8", "double")
@compares("tflm__depthwise_conv2d_int16x8", "double_m16")
def tflm_convolution(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    def make(case: Case) -> Node:
        return layer(case, "conv2d", *convolution(case, vectors.op), mode)

    for case, node in legal(vectors.cases, make):
        yield outcome(kernel, *node), image_first(case["y"])


def given_multipliers(
    case: Mapping[str, np.ndarray | int],
    name: str,
    operands: Sequence[Operand],
    attrs: Mapping[str, Attr],
    mode: str,
) -> Node:
    """A layer with the multipliers of a case instead of prepared ones."""
    outputs = len(operands[1][1])
    constants = [
        np.broadcast_to(case.get("bias", np.int32(0)), (outputs,)),
        np.broadcast_to(case["multiplier"], (outputs,)),
        np.broadcast_to(31 - np.int8(case["shift"]), (outputs,)).astype(np.int8),
    ]
    accumulator = "i48" if operands[0][0].dtype == "i16" else "i32"
    types = [kind for kind, _ in operands] + [TensorType(d, (outputs,)) for d in (accumulator, "i32", "i8")]
    result = quantised(operands[0][0].dtype, (), 1.0, int(case["y_zero_point"]))
    signature = Signature(tuple(types), (result,), {**attrs, "rounding": mode})
    return lookup(name), signature, [array for _, array in operands] + constants


@compares("tosa__conv2d_int8", "single", "double")
@compares("tosa__depthwise_conv2d_int8", "single", "double")
def tosa_convolution(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        x, weights, attrs = convolution(case, vectors.op)
        operands = [coded(case, "x", x), coded(case, "weight", weights)]
        node = given_multipliers(case, "conv2d", operands, attrs, mode)
        yield outcome(kernel, *node), image_first(case[f"y_{mode}"])


@compares("tosa__fully_connected_int16x8", "double_m16")
@compares("tosa__conv2d_int16x8", "double_m16")
@compares("tosa__depthwise_conv2d_int16x8", "double_m16")
def tosa_wide_layers(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """16-bit activations; the oracle's fully_connected is a convolution with a kernel of one pixel."""
    for case in vectors.cases:
        symmetric = {**case, "y_zero_point": np.int32(0)}
        if vectors.op.startswith("fully_connected"):
            x, weights, name = case["x"], case["weights"][:, 0, 0], "fully_connected"
            attrs: Mapping[str, Attr] = {}
        else:
            x, weights, attrs = convolution(case, vectors.op)
            name = "conv2d"
        operands = [(quantised("i16", x.shape), x), (quantised("i8", weights.shape), weights)]
        found = outcome(kernel, *given_multipliers(symmetric, name, operands, attrs, mode))
        yield found, case["y"] if name == "fully_connected" else image_first(case["y"])


@compares("tosa__matmul_int16", "double_m16")
def tosa_wide_matmul(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        kinds = tuple(quantised("i16", case[name].shape) for name in "ab")
        signature = Signature(kinds, (quantised("i16", ()),), {"rounding": mode})
        rescale = [case["multiplier"][0], np.array(31 - int(case["shift"][0]), np.int8)]
        yield outcome(kernel, lookup("matmul"), signature, [case["a"], case["b"], *rescale]), case["y"]


@compares("tosa__matmul_int8", "single", "double")
def tosa_matmul(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """Twice: b as the weight of a layer, which may have a multiplier per column, and as an activation."""
    for case in vectors.cases:
        for a, b, expected in zip(case["a"], case["b"], case[f"y_{mode}"], strict=True):
            operands = [coded(case, "a", a), coded(case, "b", np.ascontiguousarray(b.T))]
            yield outcome(kernel, *given_multipliers(case, "fully_connected", operands, {}, mode)), expected
        yield from product_of_activations(case, mode, kernel)


def product_of_activations(case: Case, mode: str, kernel: str) -> Iterator[Pair]:
    """matmul column by column: it has one multiplier for all."""
    kinds = tuple(coded(case, name, case[name])[0] for name in "ab")
    result = quantised("i8", (), 1.0, int(case["y_zero_point"]))
    signature = Signature(kinds, (result,), {"rounding": mode})
    columns = case["b"].shape[-1:]
    multipliers, shifts = (np.broadcast_to(case[n], columns) for n in ("multiplier", "shift"))
    for column in range(*columns):
        one = slice(column, column + 1)
        arrays = [
            case["a"],
            case["b"][..., one],
            np.array(multipliers[column]),
            np.array(31 - shifts[column], np.int8),
        ]
        yield outcome(kernel, lookup("matmul"), signature, arrays), case[f"y_{mode}"][..., one]


@compares("tosa__rescale", "single", "double")
def tosa_rescale(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        x, y = (
            quantised(
                f"i{int(case[f'{side}_bits'])}", case["x"].shape[:1], 1.0, int(case[f"{side}_zero_point"])
            )
            for side in ("input", "output")
        )
        signature = Signature((x,), (y,), {"rounding": mode})
        for c, (multiplier, shift) in enumerate(
            zip(case["multiplier"], 31 - case["shift"].astype(int), strict=True)
        ):
            if kernel == "fast" and shift > LARGEST_LEFT_SHIFT:
                continue  # nnaq never makes such a shift; the compiled product is not defined for it
            column = case["x"][:, c].astype(f"int{int(case['input_bits'])}")
            arrays = [column, np.array(multiplier), np.array(shift, np.int8)]
            yield outcome(kernel, lookup("rescale"), signature, arrays), case[f"y_{mode}"][:, c]


@compares("tosa__arithmetic_right_shift", "pot_shift", "floor")
def tosa_arithmetic_right_shift(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    field = {"pot_shift": "y_rounded", "floor": "y_floored"}[mode]
    for case in vectors.cases:
        kind = quantised("i32", case["x"].shape)
        arrays = [case["x"], np.array(2**30), np.array(1 - int(case["shift"]), np.int8)]
        yield (
            outcome(kernel, lookup("rescale"), Signature((kind,), (kind,), {"rounding": mode}), arrays),
            case[field],
        )


@compares("ort__qlinear_matmul", "half_even")
def ort_qlinear_matmul(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        weight = np.ascontiguousarray(case["weights"].T)
        yield outcome(kernel, *layer(case, "fully_connected", case["x"], weight, {}, mode)), case["y"]


@compares("ort__qlinear_conv", "half_even")
def ort_qlinear_conv(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        attrs = conv_attrs(case, int(case["group"]))
        yield outcome(kernel, *layer(case, "conv2d", case["x"], case["weights"], attrs, mode)), case["y"]


def sum_itself(
    kernel: str, name: str, operands: Sequence[Operand], attrs: Mapping[str, Attr], theirs: np.ndarray
) -> Pair:
    """A layer that rescales by 1 into i16, beside the oracle's sums saturated alike."""
    op, signature, arrays = given_multipliers(ONE, name, operands, attrs, "single")
    wide = replace(signature, outputs=(quantised("i16", ()),))
    return outcome(kernel, op, wide, arrays), np.clip(theirs, -(2**15), 2**15 - 1)


@compares("ort__conv_integer", "exact")
def ort_conv_integer(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        operands = [coded(case, "x", case["x"]), coded(case, "weight", case["weights"])]
        yield sum_itself(kernel, "conv2d", operands, conv_attrs(case, int(case["group"])), case["y"])


@compares("ort__matmul_integer", "exact")
def ort_matmul_integer(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """Column by column where b has a zero point per column."""
    for case in vectors.cases:
        zero_points = case["b_zero_point"].tolist()
        width = case["b"].shape[1] // len(zero_points)
        for number, zero_point in enumerate(zero_points):
            some = slice(number * width, (number + 1) * width)
            weight = np.ascontiguousarray(case["b"][:, some].T)
            operands = [coded(case, "a", case["a"]), coded(case, "b", weight, zero_point)]
            yield sum_itself(kernel, "fully_connected", operands, {}, case["y"][:, some])
