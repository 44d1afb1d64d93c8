"""Comparisons of elementwise, pooling, table and quantising kernels.

Where an oracle carries multipliers, the crossing must make the very same ones from the scales.
"""

from collections.abc import Iterator

import numpy as np
from integer_nodes import IntegerNode, crossed, quantized

from comparisons.table import Case, Pair, Vectors, compares, outcome
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import TensorType

EVERY_I16 = np.arange(-(2**15), 2**15).astype(np.int16)
CURVES = {"logistic": "sigmoid", "tanh": "tanh"}


def kind_of(case: Case, name: str) -> TensorType:
    """The type of the operand or result `name` of a case."""
    dtype = "i16" if case[name].dtype == np.int16 else "i8"
    scale, zero_point = float(case[f"{name}_scale_f64"]), int(case[f"{name}_zero_point"])
    return quantized(dtype, case[name].shape, scale, zero_point)


def call(kernel: str, node: IntegerNode, *arrays: np.ndarray) -> np.ndarray:
    """The result of one kernel of a node."""
    return outcome(kernel, node.op, node.signature, [*arrays, *node.constants])


def with_table(node: IntegerNode, table: np.ndarray) -> IntegerNode:
    """The same node with another table."""
    return IntegerNode(node.op, node.signature, (table, *node.constants[1:]))


def rescaled_as(case: Case, node: IntegerNode) -> IntegerNode:
    """The node, after its multipliers and shifts were found equal to those of the oracle."""
    assert [int(c) for c in node.constants[0::2]] == np.ravel(case["multiplier"]).tolist()
    assert [int(c) for c in node.constants[1::2]] == np.ravel(case["shift"]).tolist()
    return node


@compares("tflm__add_int8", "double")
@compares("tflm__sub_int8", "double")
@compares("tflm__mul_int8", "double")
def tflm_add_and_mul(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        kinds = (kind_of(case, "a"), kind_of(case, "b"))
        name = vectors.op.removesuffix("_int8")
        node = rescaled_as(case, crossed(name, kinds, kind_of(case, "y"), rounding=mode))
        yield call(kernel, node, case["a"], case["b"]), case["y"]


@compares("ort__qlinear_add", "half_even")
def ort_add(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        node = crossed("add", (kind_of(case, "a"), kind_of(case, "b")), kind_of(case, "y"), rounding=mode)
        yield call(kernel, node, case["a"], case["b"]), case["y"]


@compares("tflm__requantize_int8", "double")
def tflm_requantize(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        node = rescaled_as(case, crossed("rescale", (kind_of(case, "x"),), kind_of(case, "y"), rounding=mode))
        yield call(kernel, node, case["x"]), case["y"]


@compares("tflm__quantize_int8", "half_away")
@compares("ort__quantize_linear", "half_even")
def quantize(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        real = TensorType("f32", case["x"].shape)
        signature = Signature((real,), (kind_of(case, "y"),), {"rounding": mode})
        with np.errstate(over="ignore"):  # 3e38 / scale is infinite in float32, and saturates
            yield outcome(kernel, lookup("quantize"), signature, [case["x"]]), case["y"]


@compares("tflm__logistic_int8", "exact")
@compares("tflm__tanh_int8", "exact")
def tflm_tables_of_i8(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    name = CURVES[vectors.op.removesuffix("_int8")]
    for case in vectors.cases:
        node = crossed(name, (kind_of(case, "x"),), kind_of(case, "y"))
        yield call(kernel, node, case["x"]), case["y"]


def curve_map(name: str, table: np.ndarray, multiplier: int, right_shift: int) -> np.ndarray:
    """The runtime's curve at all 65536 codes: interpolation in its 256 entries of sigmoid(i / 24)."""
    table = table.astype(np.int64)
    grid = (EVERY_I16.astype(np.int64) * multiplier + ((1 << right_shift) >> 1)) >> right_shift
    bits, high = (9, 0x7FFF << 10) if name == "sigmoid" else (8, 0xFFFF << 8)
    size, one = np.abs(grid), 1 << 25
    i, u = np.minimum(size >> bits, 254), size & ((1 << bits) - 1)
    value = np.where(size >> bits >= 255, high, (table[i] << bits) + u * (table[i + 1] - table[i]))
    if name == "sigmoid":
        return (np.where(grid >= 0, value + (1 << 9), one - value + (1 << 9) - 1) >> 10).astype(np.int16)
    half, rounding = 1 << 23, 1 << 7
    mirrored = np.where(grid >= 0, value - half + rounding, half - value + rounding - 1)
    return (mirrored >> 8).astype(np.int16)


@compares("tflm__gate_curves", "table")
def tflm_gate_curves(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """The map that the runtime itself gave is read as it stands: the rescale after it changes nothing."""
    for name in ("sigmoid", "tanh"):
        parity = vectors.constants[f"{name}_q3_12"]
        np.testing.assert_array_equal(curve_map(name, vectors.constants["table"], 3, 0), parity)
        kinds = [quantized("i16", EVERY_I16.shape, 2.0**-n) for n in (12, 15)]
        yield call(kernel, with_table(crossed(name, (kinds[0],), kinds[1]), parity), EVERY_I16), parity


@compares("tflm__logistic_int16", "table")
@compares("tflm__tanh_int16", "table")
def tflm_curves_of_i16(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """Through the runtime's map at every code."""
    name = CURVES[vectors.op.removesuffix("_int16")]
    for case in vectors.cases:
        x = EVERY_I16[:: int(case["x_step"])]
        kind = quantized("i16", x.shape, float(case["x_scale_f64"]))
        node = crossed(name, (kind,), quantized("i16", x.shape, 2.0**-15))
        scaling = int(case["input_multiplier"]), int(case["input_right_shift"])
        parity = curve_map(name, vectors.constants["table"], *scaling)
        yield call(kernel, with_table(node, parity), x), case["y"]


@compares("tflm__average_pool_int8", "half_away")
@compares("tflm__max_pool_int8", "exact")
def tflm_pools(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    name = vectors.op.removesuffix("_int8")
    for case in vectors.cases:
        x = np.ascontiguousarray(case["x"].transpose(0, 3, 1, 2))  # the oracle's images are NHWC
        top, bottom, left, right = case["pad"].tolist()
        attrs = {
            "kernel": tuple(case["kernel"].tolist()),
            "stride": tuple(case["stride"].tolist()),
            "padding": (top, left, bottom, right),
        }
        kind = quantized("i8", x.shape, 0.5, -7)
        (shape,) = lookup(name).infer((kind,), attrs)
        node = crossed(name, (kind,), kind.with_shape(shape), attrs)
        yield call(kernel, node, x).transpose(0, 2, 3, 1), case["y"]


@compares("tosa__table_int8", "exact")
def tosa_table_of_i8(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        kind = quantized("i8", case["x"].shape)
        yield call(kernel, with_table(crossed("tanh", (kind,), kind), case["table"]), case["x"]), case["y"]


@compares("tosa__table_int16", "single")
def tosa_table_of_i16(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        x = EVERY_I16[:: int(case["x_step"])]
        kinds = [quantized("i16", x.shape, 2.0**-n) for n in (12, 15)]
        node = crossed("tanh", (kinds[0],), kinds[1], rounding=mode)
        yield call(kernel, with_table(node, case["table"]), x), case["y"]


@compares("tosa__mul_int32", "pot_shift")
def tosa_mul_with_a_shift(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """The oracle's result is 32 bits wide; from 8 and 16 bits ours is the same, saturated to 16.

    Whole numbers of 32 bits give 32 bits; they are compared without a shift, which nnaq does not have there.
    """
    for case in (case for case in vectors.cases if case["bits"] in (8, 16)):
        dtype, shape = f"i{case['bits']}", case["a"].shape
        kind, scale = quantized(dtype, shape), 2.0 ** int(case["shift"])
        node = crossed("mul", (kind, kind), quantized("i16", shape, scale), rounding=mode)
        a, b = (case[n].astype(f"int{case['bits']}") for n in "ab")
        yield call(kernel, node, a, b), np.clip(case["y"], -(2**15), 2**15 - 1)
    for case in (case for case in vectors.cases if (case["bits"], case["shift"]) == (32, 0)):
        whole = quantized("i32", case["a"].shape)
        yield call(kernel, crossed("mul", (whole, whole), whole), case["a"], case["b"]), case["y"]


@compares("tosa__add_int8", "single", "double")
@compares("tosa__sub_int8", "single", "double")
@compares("tosa__mul_int8", "single", "double")
def tosa_arithmetic_of_i8(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """The nodes with the multipliers of the case; TOSA's shift is 31 - s."""
    for case in vectors.cases:
        kinds = [quantized("i8", case["a"].shape, 1.0, int(case[f"{n}_zero_point"])) for n in "aby"]
        node = crossed(vectors.op.removesuffix("_int8"), (kinds[0], kinds[1]), kinds[2], rounding=mode)
        pairs = zip(np.ravel(case["multiplier"]), np.ravel(31 - case["shift"].astype(int)), strict=True)
        constants = [c for q, s in pairs for c in (np.array(q), np.array(s, np.int8))]
        found = outcome(kernel, node.op, node.signature, [case["a"], case["b"], *constants])
        yield found, case[f"y_{mode}"]


@compares("tosa__add_int16", "single", "double")
def tosa_rescales_of_the_i16_add(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """The oracle rescales operands to 32 bits and their sum to 16: the same requantisation, thrice."""
    for case in vectors.cases:
        q, s = case["multiplier"].tolist(), (31 - case["shift"].astype(int)).tolist()
        a, b = (rescaled(case[name], "i32", q[i], s[i], mode, kernel) for i, name in enumerate("ab"))
        yield rescaled(a + b, "i16", q[2], s[2], mode, kernel), case[f"y_{mode}"]


def rescaled(
    codes: np.ndarray, dtype: str, multiplier: int, shift: int, mode: str, kernel: str
) -> np.ndarray:
    """Codes of another width, by the rescale of the node."""
    kinds = (quantized(d, codes.shape) for d in (f"i{8 * codes.itemsize}", dtype))
    signature = Signature((next(kinds),), (next(kinds),), {"rounding": mode})
    return outcome(
        kernel, lookup("rescale"), signature, [codes, np.array(multiplier), np.array(shift, np.int8)]
    )
