"""Layers and rescales against golden vectors of runtimes nnaq did not write: not one value may differ.

tosa files carry multipliers and right shifts (31 - s) for `single` and `double`; tflm and ort files
carry scales, from which nnaq prepares its own multipliers. Images of tosa and tflm are NHWC.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from oracles.vectors import load_vectors
from strategies import integer_node, quantised

from nnaq.errors import LoweringError
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels.fixedpoint import LARGEST_LEFT_SHIFT

GOLDEN = Path(__file__).parents[1] / "golden" / "oracles"
KERNELS = ("fast", "reference")


def cases_of(name):
    return load_vectors(GOLDEN / f"{name}.npz")[1]


def compare(op, signature, arrays, expected, kernel):
    (y,) = getattr(op, kernel)(signature, *arrays)
    np.testing.assert_array_equal(y, expected)
    return y.size


def fits_48_bits(case):
    """Whether a bias is legal: beyond 48 bits tflite-micro's own product leaves 64 bits and wraps."""
    return "bias" not in case or bool((np.abs(case["bias"].astype(np.int64)) < 2**47).all())


def layer(case, x, weight, attrs, name, output, rounding):
    """A layer prepared from the scales of a case; its bias is given as the codes it must become."""
    scales = np.float64(case["weight_scale"])
    per_channel = tuple(scales.tolist()) if scales.size > 1 else (float(scales.item()),)
    quant = Quant(per_channel, 0, 0 if scales.size > 1 else None)
    types = (
        quantised(output, x.shape, float(case["x_scale"]), int(case["x_zero_point"])),
        TensorType("i8", weight.shape, quant),
        TensorType("f32", weight.shape[:1]),
    )
    bias = np.broadcast_to(case.get("bias", np.zeros(1)), weight.shape[:1]) * (
        float(case["x_scale"]) * scales
    )
    result = quantised(output, (), float(case["y_scale"]), int(case["y_zero_point"]))
    return integer_node(name, list(zip(types, (x, weight, bias), strict=True)), result, attrs, rounding)


def conv_attrs(case, groups):
    top, bottom, left, right = case["pad"].tolist()
    return {
        "stride": tuple(case["stride"].tolist()),
        "dilation": tuple(case["dilation"].tolist()),
        "padding": (top, left, bottom, right),
        "groups": groups,
    }


def image_first(array):
    """NHWC -> NCHW, OHWI -> OIHW."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 1))


def depthwise_first(weights):
    """HWCM -> OIHW, output channel = channel * M + m."""
    height, width, channels, multiple = weights.shape
    return np.ascontiguousarray(
        weights.reshape(height, width, channels * multiple).transpose(2, 0, 1)[:, None]
    )


def convolution(case):
    """x, weights and attributes of a tosa or tflm convolution, in nnaq's layouts."""
    x, weights = image_first(case["x"]), case["weights"]
    depthwise = "depthwise" in case["op"]
    oihw = depthwise_first(weights) if depthwise else image_first(weights)
    return x, oihw, conv_attrs(case, x.shape[1] if depthwise else 1)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("suffix", "dtype", "rounding"), [("int8", "i8", "double"), ("int16x8", "i16", "double_m16")]
)
def test_tflite_micro_fully_connected(suffix, dtype, rounding, kernel):
    compared = 0
    for case in cases_of(f"tflm__fully_connected_{suffix}"):
        operands = case["x"], case["weights"], {}, "fully_connected", dtype, rounding
        if not fits_48_bits(case):
            with pytest.raises(LoweringError, match="does not fit i48"):
                layer(case, *operands)
            continue
        node = layer(case, *operands)
        np.testing.assert_array_equal(node[2][2], case["bias"])
        compared += compare(*node, case["y"], kernel)
    assert compared > 5000


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
@pytest.mark.parametrize(
    ("suffix", "dtype", "rounding"), [("int8", "i8", "double"), ("int16x8", "i16", "double_m16")]
)
def test_tflite_micro_convolution(op, suffix, dtype, rounding, kernel):
    compared = 0
    for case in cases_of(f"tflm__{op}_{suffix}"):
        x, weights, attrs = convolution(case | {"op": op})
        operands = x, weights, attrs, "conv2d", dtype, rounding
        if not fits_48_bits(case):
            with pytest.raises(LoweringError, match="does not fit i48"):
                layer(case, *operands)
            continue
        node = layer(case, *operands)
        compared += compare(*node, image_first(case["y"]), kernel)
    assert compared > 5000


def tosa_node(case, op, operands, attrs, rounding):
    """A node with the multipliers of a case instead of prepared ones; returns it and its arrays."""
    outputs = len(operands[1][1])
    constants = [
        np.broadcast_to(case.get("bias", np.int32(0)), (outputs,)),
        np.broadcast_to(case["multiplier"], (outputs,)),
        np.broadcast_to(31 - case["shift"].astype(np.int8), (outputs,)).astype(np.int8),
    ]
    types = [kind for kind, _ in operands] + [TensorType(d, (outputs,)) for d in ("i32", "i32", "i8")]
    result = quantised("i8", (), 1.0, int(case["y_zero_point"]))
    return (
        op,
        Signature(tuple(types), (result,), {**attrs, "rounding": rounding}),
        [a for _, a in operands] + constants,
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("rounding", ["single", "double"])
@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d"])
def test_tosa_convolution(name, rounding, kernel):
    compared = 0
    for case in cases_of(f"tosa__{name}_int8"):
        x, weights, attrs = convolution(case | {"op": name})
        operands = [
            (quantised("i8", x.shape, 1.0, int(case["x_zero_point"])), x),
            (quantised("i8", weights.shape, 1.0, int(case["weight_zero_point"])), weights),
        ]
        node = tosa_node(case, lookup("conv2d"), operands, attrs, rounding)
        compared += compare(*node, image_first(case[f"y_{rounding}"]), kernel)
    assert compared > 1500


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("rounding", ["single", "double"])
def test_tosa_matmul(rounding, kernel):
    # Its columns have multipliers of their own, so b stands as the weight of a layer, image by image.
    compared = 0
    for case in cases_of("tosa__matmul_int8"):
        for a, b, expected in zip(case["a"], case["b"], case[f"y_{rounding}"], strict=True):
            turned = np.ascontiguousarray(b.T)
            operands = [
                (quantised("i8", a.shape, 1.0, int(case["a_zero_point"])), a),
                (quantised("i8", turned.shape, 1.0, int(case["b_zero_point"])), turned),
            ]
            compared += compare(
                *tosa_node(case, lookup("fully_connected"), operands, {}, rounding), expected, kernel
            )
    assert compared > 1000


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("rounding", ["single", "double"])
def test_tosa_matmul_of_two_activations(rounding, kernel):
    compared = 0
    for case in cases_of("tosa__matmul_int8"):
        kinds = [quantised("i8", case[n].shape, 1.0, int(case[f"{n}_zero_point"])) for n in "ab"]
        result = quantised("i8", (), 1.0, int(case["y_zero_point"]))
        for column, shift in enumerate(np.broadcast_to(case["shift"], case["b"].shape[-1:])):
            multiplier = np.broadcast_to(case["multiplier"], case["b"].shape[-1:])[column]
            one = slice(column, column + 1)
            signature = Signature((*kinds[:1], kinds[1]), (result,), {"rounding": rounding})
            arrays = [case["a"], case["b"][..., one], np.array(multiplier), np.array(31 - shift, np.int8)]
            compared += compare(lookup("matmul"), signature, arrays, case[f"y_{rounding}"][..., one], kernel)
    assert compared > 1000


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("rounding", ["single", "double"])
def test_tosa_rescale(rounding, kernel):
    compared = 0
    for case in cases_of("tosa__rescale"):
        x_dtype, y_dtype = (f"i{int(case[f'{side}_bits'])}" for side in ("input", "output"))
        y = quantised(y_dtype, case["x"].shape[:1], 1.0, int(case["output_zero_point"]))
        x = quantised(x_dtype, case["x"].shape[:1], 1.0, int(case["input_zero_point"]))
        signature = Signature((x,), (y,), {"rounding": rounding})
        for c in range(case["x"].shape[1]):
            if kernel == "fast" and 31 - case["shift"][c] > LARGEST_LEFT_SHIFT:
                continue  # nnaq never makes such a shift; the compiled product is not defined for it
            column = case["x"][:, c].astype(f"int{int(case['input_bits'])}")
            arrays = [column, np.array(case["multiplier"][c]), np.array(31 - case["shift"][c], np.int8)]
            compared += compare(lookup("rescale"), signature, arrays, case[f"y_{rounding}"][:, c], kernel)
    assert compared > 20000


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("rounding", "field"), [("pot_shift", "y_rounded"), ("floor", "y_floored")])
def test_tosa_arithmetic_right_shift(rounding, field, kernel):
    compared = 0
    for case in cases_of("tosa__arithmetic_right_shift"):
        kind = quantised("i32", case["x"].shape)
        shift = np.array(1 - int(case["shift"]), np.int8)
        signature = Signature((kind,), (kind,), {"rounding": rounding})
        compared += compare(
            lookup("rescale"), signature, [case["x"], np.array(2**30), shift], case[field], kernel
        )
    assert compared > 3000


@pytest.mark.parametrize("kernel", KERNELS)
def test_onnx_runtime_qlinear_matmul(kernel):
    compared = 0
    for case in cases_of("ort__qlinear_matmul"):
        weight = np.ascontiguousarray(case["weights"].T)
        node = layer(case, case["x"], weight, {}, "fully_connected", "i8", "half_even")
        compared += compare(*node, case["y"], kernel)
    assert compared > 5000


@pytest.mark.parametrize("kernel", KERNELS)
def test_onnx_runtime_qlinear_conv(kernel):
    compared = 0
    for case in cases_of("ort__qlinear_conv"):
        attrs = conv_attrs(case, int(case["group"]))
        op, signature, arrays = layer(case, case["x"], case["weights"], attrs, "conv2d", "i8", "half_even")
        np.testing.assert_array_equal(arrays[2], case["bias"])
        compared += compare(op, signature, arrays, case["y"], kernel)
    assert compared > 10000


@pytest.mark.parametrize("kernel", KERNELS)
def test_onnx_runtime_sums_without_a_rescale(kernel):
    # Multiplier 2^30 and shift 1 stand for 1: an i16 result is the sum itself, saturated.
    compared = 0
    for case in cases_of("ort__conv_integer"):
        x = quantised("i8", case["x"].shape, 1.0, int(case["x_zero_point"]))
        weight = quantised("i8", case["weights"].shape, 1.0, int(case["weight_zero_point"]))
        outputs = len(case["weights"])
        result = quantised("i16", ())
        operands = [(x, case["x"]), (weight, case["weights"])]
        ones = {"multiplier": np.int32(2**30), "shift": np.int8(30), "y_zero_point": 0}
        op, signature, arrays = tosa_node(
            ones, lookup("conv2d"), operands, conv_attrs(case, int(case["group"])), "single"
        )
        assert arrays[3].shape == (outputs,)
        expected = np.clip(case["y"], -(2**15), 2**15 - 1)
        compared += compare(op, replace(signature, outputs=(result,)), arrays, expected, kernel)
    assert compared > 5000
