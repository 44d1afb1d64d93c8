"""Golden vectors of outside runtimes: elementwise, pooling and table kernels give their bits.

tflm rounds `double`; tosa tables and shifts are as its standard writes them. Where an oracle
carries multipliers, the crossing must make the very same ones from the scales.
"""

from pathlib import Path

import numpy as np
import pytest
from integer_nodes import IntegerNode, crossed, quantized
from oracles.vectors import load_vectors

from nnaq.ir.op import lookup
from nnaq.kernels.fixedpoint import CODES, requantize

GOLDEN = Path(__file__).parents[1] / "golden" / "oracles"
EVERY_I16 = np.arange(-(2**15), 2**15).astype(np.int16)


def vectors(name):
    header, cases, constants = load_vectors(GOLDEN / f"{name}.npz")
    assert header["case_count"] == len(cases)
    return cases, constants


def kind_of(case, name, dtype="i8", array=None):
    """The type of the operand or result `name` of a case."""
    shape = case[name if array is None else array].shape
    return quantized(dtype, shape, float(case[f"{name}_scale_f64"]), int(case[f"{name}_zero_point"]))


@pytest.mark.parametrize("name", ["add", "mul"])
def test_tflm_add_and_mul(name):
    cases, _ = vectors(f"tflm__{name}_int8")
    for case in cases:
        node = crossed(name, (kind_of(case, "a"), kind_of(case, "b")), kind_of(case, "y"), rounding="double")
        assert [int(c) for c in node.constants[0::2]] == np.ravel(case["multiplier"]).tolist()
        assert [int(c) for c in node.constants[1::2]] == np.ravel(case["shift"]).tolist()
        np.testing.assert_array_equal(node(case["a"], case["b"]), case["y"])


@pytest.mark.parametrize(("curve", "name"), [("logistic", "sigmoid"), ("tanh", "tanh")])
def test_tflm_tables_of_i8(curve, name):
    cases, _ = vectors(f"tflm__{curve}_int8")
    for case in cases:
        np.testing.assert_array_equal(
            crossed(name, (kind_of(case, "x"),), kind_of(case, "y"))(case["x"]), case["y"]
        )


def curve_map(name, table, multiplier, right_shift):
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


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_tflm_gate_curves_at_every_code(name):
    """The map that the runtime itself gave is read as it stands: the rescale after it changes nothing."""
    _, maps = vectors("tflm__gate_curves")
    node = crossed(name, (quantized("i16", (65536,), 2.0**-12),), quantized("i16", (65536,), 2.0**-15))
    parity = maps[f"{name}_q3_12"]
    np.testing.assert_array_equal(with_table(node, parity)(EVERY_I16), parity)
    np.testing.assert_array_equal(curve_map(name, maps["table"], 3, 0), parity)


@pytest.mark.parametrize(("curve", "name"), [("logistic", "sigmoid"), ("tanh", "tanh")])
def test_tflm_curves_of_i16_through_their_parity_maps(curve, name):
    cases, constants = vectors(f"tflm__{curve}_int16")
    for case in cases:
        x = EVERY_I16[:: int(case["x_step"])]
        scale = float(case["x_scale_f64"])
        node = crossed(name, (quantized("i16", x.shape, scale),), quantized("i16", x.shape, 2.0**-15))
        multiplier, right_shift = int(case["input_multiplier"]), int(case["input_right_shift"])
        parity = curve_map(name, constants["table"], multiplier, right_shift)
        np.testing.assert_array_equal(with_table(node, parity)(x), case["y"])


def with_table(node: IntegerNode, table: np.ndarray) -> IntegerNode:
    """The same node with another table."""
    return IntegerNode(node.op, node.signature, (table, *node.constants[1:]))


@pytest.mark.parametrize("name", ["average_pool", "max_pool"])
def test_tflm_pools(name):
    cases, _ = vectors(f"tflm__{name}_int8")
    for case in cases:
        x = np.ascontiguousarray(case["x"].transpose(0, 3, 1, 2))  # the oracle's images are NHWC
        top, bottom, left, right = (int(p) for p in case["pad"])
        attrs = {
            "kernel": tuple(int(k) for k in case["kernel"]),
            "stride": tuple(int(s) for s in case["stride"]),
            "padding": (top, left, bottom, right),
        }
        kind = quantized("i8", x.shape, 0.5, -7)
        (shape,) = lookup(name).infer((kind,), attrs)
        result = crossed(name, (kind,), kind.with_shape(shape), attrs)(x)
        np.testing.assert_array_equal(result.transpose(0, 2, 3, 1), case["y"])


def test_tosa_table_of_i8():
    cases, _ = vectors("tosa__table_int8")
    for case in cases:
        kind = quantized("i8", case["x"].shape)
        node = crossed("tanh", (kind,), kind)
        np.testing.assert_array_equal(with_table(node, case["table"])(case["x"]), case["y"])


def test_tosa_table_of_i16():
    cases, _ = vectors("tosa__table_int16")
    for case in cases:
        x = EVERY_I16[:: int(case["x_step"])]
        node = crossed("tanh", (quantized("i16", x.shape, 2.0**-12),), quantized("i16", x.shape, 2.0**-15))
        np.testing.assert_array_equal(with_table(node, case["table"])(x), case["y"])


def test_tosa_mul_with_a_shift():
    """The oracle's result is 32 bits wide; ours is the same, saturated to 16."""
    cases, _ = vectors("tosa__mul_int32")
    admitted = [case for case in cases if case["bits"] in (8, 16)]
    assert admitted
    for case in admitted:
        dtype, shape = f"i{case['bits']}", case["a"].shape
        kind, scale = quantized(dtype, shape), 2.0 ** int(case["shift"])
        node = crossed("mul", (kind, kind), quantized("i16", shape, scale), rounding="pot_shift")
        a, b = (case[n].astype(f"int{case['bits']}") for n in "ab")
        np.testing.assert_array_equal(node(a, b), np.clip(case["y"], -(2**15), 2**15 - 1))


@pytest.mark.parametrize("rounding", ["single", "double"])
def test_tosa_rescales_of_the_i16_add(rounding):
    """The oracle rescales operands to 32 bits and their sum to 16: the same requantisation, thrice."""
    cases, _ = vectors("tosa__add_int16")
    for case in cases:
        q, s = case["multiplier"].tolist(), (31 - case["shift"].astype(int)).tolist()
        code = CODES[rounding]
        u, v = ([requantize(int(x), q[i], s[i], code) for x in case["ab"[i]]] for i in (0, 1))
        sums = [requantize(m + n, q[2], s[2], code) for m, n in zip(u, v, strict=True)]
        np.testing.assert_array_equal(np.clip(sums, -(2**15), 2**15 - 1), case[f"y_{rounding}"])
