"""Oracle vectors from ONNX Runtime's integer operators, optimisations off, signed x signed only.

Unsigned x signed products saturate on CPUs without VNNI, so they are never made here.
"""

import importlib.metadata

import numpy as np
import onnxruntime
import replicas
import vectors
from onnx import TensorProto, helper, numpy_helper

OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.int32): TensorProto.INT32,
}
GEOMETRY = ("pad", "stride", "dilation")


def run_operator(op_name, operands, constants_from, output_type, attributes=None, domain=""):
    """Run one operator; operands from index `constants_from` on are initializers."""
    names = [f"operand_{index}" for index in range(len(operands))]
    inputs = [
        helper.make_tensor_value_info(name, TYPES[array.dtype], array.shape)
        for name, array in zip(names[:constants_from], operands, strict=False)
    ]
    initializers = [
        numpy_helper.from_array(array, name)
        for name, array in list(zip(names, operands, strict=True))[constants_from:]
    ]
    output = helper.make_tensor_value_info("y", output_type, None)
    node = helper.make_node(op_name, names, ["y"], domain=domain, **(attributes or {}))
    graph = helper.make_graph([node], "main", inputs, [output], initializers)
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = dict(zip(names[:constants_from], operands, strict=False))
    return session.run(None, feeds)[0]


def layer_quantisation(random, case, channels):
    """Scales and zero points; even cases are powers of two, so that odd sums make exact ties."""
    right_shift = case // 2 % 13
    channels = 1 if case % 3 == 0 else channels
    if case % 2 == 0:
        x_scale, y_scale = 2.0**-7, 2.0 ** (right_shift - 12)
        weight_scale = 2.0 ** -(6 + np.arange(channels) % 2)
    else:
        x_scale = vectors.random_scale(random, -9, -3)
        weight_scale = vectors.random_scale(random, -9, -8, channels)
        y_scale = x_scale * weight_scale[0] * 2.0**right_shift / random.uniform(0.5, 1)
    return right_shift, {
        "x_scale": np.float32(x_scale),
        "weight_scale": weight_scale.astype(np.float32),
        "y_scale": np.float32(y_scale),
        "x_zero_point": np.int8(random.integers(-128, 128)),
        "y_zero_point": np.int8(random.integers(-128, 128)),
    }


def scaled_weights(random, shape, depth, right_shift):
    """Weights whose sums of `depth` products fill the rescaled range, and overflow it a little."""
    limit = int(np.clip(2.0 ** (right_shift + 3) / np.sqrt(depth), 1, 127))
    return random.integers(-limit, limit + 1, shape).astype(np.int8)


def requantise(fields, sums):
    """float32 throughout, in this order: product of scales, quotient, product with the sum."""
    scale = (fields["x_scale"] * fields["weight_scale"]) / fields["y_scale"]
    rounded = replicas.requantise_half_even(sums, scale) + fields["y_zero_point"]
    return replicas.saturate(rounded, 8)


def ties_of(fields, sums):
    """Which float32 products are exact halves, and the products."""
    scale = (fields["x_scale"] * fields["weight_scale"]) / fields["y_scale"]
    product = np.asarray(sums, np.int32).astype(np.float32) * np.asarray(scale, np.float32)
    return product - np.floor(product) == 0.5, product


def layer_operands(fields):
    """Operands of QLinearMatMul and QLinearConv in their order, without the bias."""
    weight_zero_point = np.zeros(fields["weight_scale"].shape, np.int8)
    names = ("x", "x_scale", "x_zero_point", "weights", "weight_scale")
    operands = [np.asarray(fields[name]) for name in names]
    if weight_zero_point.size == 1:
        operands[-1], weight_zero_point = operands[-1].reshape(()), weight_zero_point.reshape(())
    tail = [np.asarray(fields[name]) for name in ("y_scale", "y_zero_point")]
    return [*operands, weight_zero_point, *tail]


def inexact_sum_fields():
    """Sums one away from a tie and beyond 2^24, so that float32 rounds them onto the tie.

    All centred inputs are 128 but the first, which is 1 or -1; every column of weights but its
    first adds up to an odd multiple of 2^10, and the first is 1 or -1.
    """
    depth, odd = 1401, np.array([163, 165, 167, 169])
    share, rest = np.divmod(odd * 1024, depth - 1)
    body = share + (np.arange(depth - 1)[:, None] < rest)
    x = np.full((2, depth), 127)
    x[:, 0] = [0, -2]
    return {
        "x_scale": np.float32(2.0**-7),
        "weight_scale": np.float32([2.0**-6]),
        "y_scale": np.float32(2.0**5),
        "x_zero_point": np.int8(-1),
        "y_zero_point": np.int8(-5),
        "x": x.astype(np.int8),
        "weights": np.vstack([[1, -1, 1, -1], body]).astype(np.int8),
    }


def matrix_fields(random, case, bulk):
    """Small K first, so that ties are frequent, then random K; at last the inexact sums."""
    if case == 140:
        return inexact_sum_fields()
    rows, columns = (int(size) for size in random.integers(2, 13, 2))
    depth = case % 4 + 1 if case < 78 else int(random.integers(5, 65))
    right_shift, fields = layer_quantisation(random, case, columns)
    x = random.integers(-128, 128, (rows * bulk, depth)).astype(np.int8)
    return fields | {
        "x": x,
        "weights": scaled_weights(random, (depth, columns), depth, right_shift),
    }


def qlinear_matmul(random, collector):
    for case in range(141):
        fields = matrix_fields(random, case, collector.bulk)
        x = fields["x"].astype(np.int64) - fields["x_zero_point"]
        sums = x @ fields["weights"].astype(np.int64)
        collector.count_ties(*ties_of(fields, sums))
        y = run_operator("QLinearMatMul", layer_operands(fields), 1, TensorProto.INT8)
        collector.prove(y, requantise(fields, sums), f"QLinearMatMul case {case}")
        collector.add(**fields, y=y)


def convolution_fields(random, right_shift, units, depthwise, batch):
    """NCHW image, OIHW weights and geometry; `units` output channels per input when depthwise."""
    kernel, stride, dilation = random.integers(1, [[4, 4], [3, 3], [3, 3]])
    pad = random.integers(0, 2, 4)
    size = random.integers(1, 9, 2) + (kernel - 1) * dilation
    inputs = units if depthwise else int(random.integers(1, 5))
    depth = int(kernel.prod()) * (1 if depthwise else inputs)
    shape = (units, 1 if depthwise else inputs, *kernel)
    geometry = zip(GEOMETRY, (pad, stride, dilation), strict=True)
    return {
        "x": random.integers(-128, 128, (batch, inputs, *size)).astype(np.int8),
        "weights": scaled_weights(random, shape, depth, right_shift),
        "group": np.int32(inputs if depthwise else 1),
        **{name: values.astype(np.int32) for name, values in geometry},
    }


def convolution_sums(fields, x_zero_point, weight_zero_point):
    """The replica's sums, NCHW."""
    x = np.moveaxis(fields["x"].astype(np.int64) - x_zero_point, 1, -1)
    weights = fields["weights"].astype(np.int64) - weight_zero_point
    geometry = [fields[name] for name in GEOMETRY]
    if weights.shape[1] == 1 and fields["group"] == weights.shape[0]:
        sums = replicas.convolve_depthwise(x, np.transpose(weights, (2, 3, 0, 1)), *geometry)
    else:
        sums = replicas.convolve(x, np.transpose(weights, (0, 2, 3, 1)), *geometry)
    return np.moveaxis(sums, -1, 1)


def convolution_attributes(fields):
    """ONNX writes pads as [top, left, bottom, right]; ours are [top, bottom, left, right]."""
    pad = fields["pad"]
    return {
        "pads": [int(pad[index]) for index in (0, 2, 1, 3)],
        "strides": fields["stride"].tolist(),
        "dilations": fields["dilation"].tolist(),
        "group": int(fields["group"]),
    }


def qlinear_conv(random, collector):
    """Every fourth case is depthwise; weight scales per tensor or per output channel."""
    for case in range(208):
        units = int(random.integers(2, 6))
        right_shift, fields = layer_quantisation(random, case, units)
        fields |= convolution_fields(
            random, right_shift, units, depthwise=case % 4 == 3, batch=collector.bulk
        )
        fields["bias"] = random.integers(-200, 200, units).astype(np.int32)
        bias = fields["bias"].reshape(1, -1, 1, 1)
        sums = convolution_sums(fields, fields["x_zero_point"], 0) + bias
        channel_scale = fields["weight_scale"].reshape(1, -1, 1, 1)
        collector.count_ties(*ties_of({**fields, "weight_scale": channel_scale}, sums))
        expected = requantise({**fields, "weight_scale": channel_scale}, sums)
        operands = [*layer_operands(fields), fields["bias"]]
        attributes = convolution_attributes(fields)
        y = run_operator("QLinearConv", operands, 1, TensorProto.INT8, attributes)
        collector.prove(y, expected, f"QLinearConv case {case}")
        collector.add(**fields, y=y)


def matmul_integer(random, collector):
    """Exact sums; zero points of both sides, those of b per tensor or per column."""
    for case in range(96):
        rows, depth, columns = random.integers(1, [17, 49, 17])
        a = random.integers(-128, 128, (rows * collector.bulk, depth)).astype(np.int8)
        b = random.integers(-128, 128, (depth, columns)).astype(np.int8)
        a_zero_point = np.int8(random.integers(-128, 128))
        b_zero_point = random.integers(-128, 128, columns if case % 2 else 1).astype(np.int8)
        zero_points = [np.asarray(a_zero_point), b_zero_point if case % 2 else b_zero_point[0]]
        operands = [a, b, *map(np.asarray, zero_points)]
        y = run_operator("MatMulInteger", operands, 2, TensorProto.INT32)
        centred = a.astype(np.int64) - a_zero_point, b.astype(np.int64) - b_zero_point
        collector.prove(y, centred[0] @ centred[1], f"MatMulInteger case {case}")
        collector.add(a=a, b=b, a_zero_point=a_zero_point, b_zero_point=b_zero_point, y=y)


def conv_integer(random, collector):
    """Exact sums; padding stands for the input's zero point."""
    for case in range(96):
        units = int(random.integers(2, 6))
        fields = convolution_fields(random, 12, units, depthwise=case % 4 == 3, batch=collector.bulk)
        fields["x_zero_point"] = np.int8(random.integers(-128, 128))
        fields["weight_zero_point"] = np.int8(random.integers(-5, 6) if case % 3 == 0 else 0)
        zero_points = (fields["x_zero_point"], fields["weight_zero_point"])
        operands = [fields["x"], fields["weights"], *map(np.asarray, zero_points)]
        attributes = convolution_attributes(fields)
        y = run_operator("ConvInteger", operands, 2, TensorProto.INT32, attributes)
        collector.prove(y, convolution_sums(fields, *zero_points), f"ConvInteger case {case}")
        collector.add(**fields, y=y)


def quantize_linear(random, collector):
    """float32 to int8: ties of both signs on power-of-two grids, neighbours of ties, far values."""
    for case in range(48 * collector.bulk):
        power = case % 2 == 0
        grid = 2.0 ** -(case // 2 % 12)
        scale = np.float32(grid if power else vectors.random_scale(random, -12, 3))
        zero_point = np.int8(random.integers(-128, 128))
        ties = (np.arange(-260, 260) + 0.5).astype(np.float32) * scale
        beside = np.nextafter(ties, np.float32(np.inf) * random.choice([-1, 1], ties.size))
        uniform = random.uniform(-300, 300, 120) * scale
        far = [0.0, -0.0, 1e9, -1e9, 3e38, -3e38]
        x = np.concatenate([ties, beside, uniform, far]).astype(np.float32)
        operands = [x, np.asarray(scale), np.asarray(zero_point)]
        y = run_operator("QuantizeLinear", operands, 1, TensorProto.INT8)
        with np.errstate(over="ignore"):
            codes = np.rint(np.clip(x / scale, -1024, 1024))
        expected = codes.astype(np.int64) + zero_point
        collector.prove(y, replicas.saturate(expected, 8), f"QuantizeLinear case {case}")
        collector.add(x=x, y_scale=scale, y_zero_point=zero_point, y=y)


def qlinear_add(random, collector):
    """com.microsoft.QLinearAdd: float32 reals, added, divided, ties to even.

    The zero point joins before the rounding, so that ties go to the even code, not to the even number
    of steps from the zero point. Even cases have scales of powers of two, whose sums are exact, ties
    included, and an even zero point, where both are one; of the other sums those near a tie are left
    out, because there float32 decides.
    """
    for case in range(96):
        exact = case % 2 == 0
        exponents = random.integers(-6, 1, 3)
        exponents[2] = max(exponents[:2]) + random.integers(-1, 3)
        mantissas = np.ones(3) if exact else random.uniform(0.5, 1, 3)
        scales = np.ldexp(mantissas, exponents).astype(np.float32)
        zero_points = random.integers(-128, 128, 3).astype(np.int8)
        if exact:
            zero_points[2] &= -2
        a, b = random.integers(-128, 128, (2, 256 * collector.bulk)).astype(np.int8)
        wide = scales.astype(np.float64)
        reals = [(codes - float(z)) * s for codes, z, s in zip((a, b), zero_points, wide, strict=False)]
        quotient = sum(reals) / wide[2]
        kept = np.full(a.shape, True) if exact else vectors.clear_of_ties(quotient)
        a, b, quotient = a[kept], b[kept], quotient[kept]
        collector.count_ties(quotient - np.floor(quotient) == 0.5, quotient)
        operands = [a, scales[0], zero_points[0], b, scales[1], zero_points[1], scales[2], zero_points[2]]
        arrays = [np.asarray(operand) for operand in operands]
        y = run_operator("QLinearAdd", arrays, 8, TensorProto.INT8, domain="com.microsoft")
        expected = replicas.saturate(np.rint(quotient + zero_points[2]).astype(np.int64), 8)
        collector.prove(y, expected, f"QLinearAdd case {case}")
        fields = {"a": a, "b": b, "y": y}
        for name, scale, zero_point in zip("aby", scales, zero_points, strict=True):
            fields |= {f"{name}_scale": scale, f"{name}_zero_point": zero_point}
        collector.add(**fields)


OPERATORS = {
    "qlinear_add": ("half_even", qlinear_add),
    "qlinear_matmul": ("half_even", qlinear_matmul),
    "qlinear_conv": ("half_even", qlinear_conv),
    "matmul_integer": ("exact", matmul_integer),
    "conv_integer": ("exact", conv_integer),
    "quantize_linear": ("half_even", quantize_linear),
}

if __name__ == "__main__":
    packages = ("onnxruntime", "onnx", "numpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    vectors.run_driver("ort", versions, OPERATORS)
