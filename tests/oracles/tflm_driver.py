"""Oracle vectors from tflite-micro: layers, element-wise operators, curves, pooling.

Scales are stored as the float32 the model carries, with their exact float64 twins; multipliers
and left-positive shifts are derived from the float64 ones.
"""

import importlib.metadata

import numpy as np
import replicas
import tflm_curves
import tflm_lstm
import tflm_quantize
import tflm_replicas
import tflm_softmax
import vectors
from tflm_models import Tensor, build_model, constant, run_model

SAME, VALID = 0, 1
LARGEST_RIGHT_SHIFT = {8: 12, 16: 24}


def power_of_two_scales(right_shift, channels):
    """Scales whose products are exact powers of two, so that odd sums make exact ties."""
    weight_scale = 2.0 ** -(6 + np.arange(channels) % 2)
    return np.float32(2.0**-7), weight_scale, np.float32(2.0 ** (right_shift + 1 - 13))


def random_scales(random, right_shift, channels):
    """Scales whose first channel's multiplier has the wanted right shift."""
    x_scale = np.float32(vectors.random_scale(random, -9, -3))
    weight_scale = vectors.random_scale(random, -9, -8, channels)
    mantissa = random.uniform(0.5, 1)
    y_scale = x_scale * weight_scale[0] / (mantissa * 2.0**-right_shift)
    return x_scale, weight_scale, np.float32(y_scale)


def layer_scales(random, case, channels, bits):
    """Right shifts sweep -1..12 (or 24); even cases use powers of two, every third is per tensor.

    With a single weight scale the operator takes its per-tensor path.
    """
    right_shift = case % (LARGEST_RIGHT_SHIFT[bits] + 2) - 1
    channels = 1 if case % 3 == 0 else channels
    if case // 2 % 2 == 0:
        scales = power_of_two_scales(right_shift, channels)
    else:
        scales = random_scales(random, right_shift, channels)
    x_scale, weight_scale, y_scale = scales
    return right_shift, x_scale, weight_scale.astype(np.float32), y_scale


def layer_operands(random, case, image, weights_shape, channels, depth, bits):
    """Input, weights, bias and quantisation of a layer whose outputs fill their range."""
    right_shift, x_scale, weight_scale, y_scale = layer_scales(random, case, channels, bits)
    limit = int(np.clip(2.0 ** (right_shift + 3) / np.sqrt(depth), 1, 127))
    x_limit = 1 << (bits - 1)
    bias_limit = 1 << (right_shift + bits - 2)
    if bits == 16 and case % 5 == 4:
        # Almost everything saturates. The runtime wraps a rescaled sum that leaves 32 bits.
        bias_limit = 1 << (right_shift + 29)
    real = np.float64(x_scale) * np.float64(weight_scale) / np.float64(y_scale)
    multiplier, shift = replicas.quantize_multipliers(real)
    zero_points = random.integers(-128, 128, 2) if bits == 8 else (0, 0)
    return {
        "x": random.integers(-x_limit, x_limit, image).astype(f"int{bits}"),
        "weights": random.integers(-limit, limit + 1, weights_shape).astype(np.int8),
        "bias": random.integers(-bias_limit, bias_limit, channels).astype(f"int{bits * 4}"),
        "x_scale": x_scale,
        "weight_scale": weight_scale,
        "y_scale": y_scale,
        "x_zero_point": np.int32(zero_points[0]),
        "y_zero_point": np.int32(zero_points[1]),
        "multiplier": multiplier,
        "shift": shift,
    }


def layer_tensors(fields, weights, weights_axis, output_shape):
    """Operands and output of a layer as model tensors."""
    x = fields["x"]
    bias_scale = fields["x_scale"] * fields["weight_scale"]
    operands = [
        Tensor(x.dtype, x.shape, fields["x_scale"], fields["x_zero_point"]),
        constant(weights, fields["weight_scale"], weights_axis),
        constant(fields["bias"], bias_scale),
    ]
    output = Tensor(x.dtype, output_shape, fields["y_scale"], fields["y_zero_point"])
    return operands, output


def finish_layer(collector, fields, sums, y):
    """Rescale the replica's sums by the runtime's rule for this width, prove, and keep the case."""
    bits = 8 * fields["x"].dtype.itemsize
    rescale = replicas.requantise_double if bits == 8 else replicas.requantise_double_m16
    total = sums + fields["bias"]
    if bits == 8:
        collector.note_ties(total * fields["multiplier"].astype(np.int64), 31 - fields["shift"])
    expected = rescale(total, fields["multiplier"], fields["shift"])
    expected = replicas.saturate(expected + fields["y_zero_point"], bits)
    collector.prove(y, expected, f"r = {-fields['shift'].max()}")
    collector.add(**fields, y=y)


def fully_connected(random, collector, bits):
    for case in range(208):
        depth = case % 4 + 1 if case < 104 else int(random.integers(5, 64))
        rows, units = (int(size) for size in random.integers(4, 17, 2))
        shape = (units, depth)
        image = (rows * collector.bulk, depth)
        fields = layer_operands(random, case, image, shape, units, depth, bits)
        operands, output = layer_tensors(fields, fields["weights"], 0, (len(fields["x"]), units))
        options = "FullyConnectedOptions"
        model = build_model("FULLY_CONNECTED", options, {}, operands, output, version=4)
        centred = fields["x"].astype(np.int64) - fields["x_zero_point"]
        sums = centred @ fields["weights"].astype(np.int64).T
        finish_layer(collector, fields, sums, run_model(model, fields["x"]))


def same_padding(size, kernel, stride, dilation):
    """[top, bottom, left, right] of SAME; the odd pixel goes to the end."""
    outputs = -(-size // stride)
    total = np.maximum((outputs - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return np.stack([total // 2, total - total // 2], axis=1).ravel()


def window_geometry(random, case):
    """Kernel, stride, dilation, image size and padding; stride and dilation are not combined."""
    kernel, stride, dilation = random.integers(1, [[4, 4], [4, 4], [3, 3]])
    if case % 2:
        dilation = np.ones(2, np.int64)
    else:
        stride = np.ones(2, np.int64)
    size = random.integers(1, 9, 2) + (kernel - 1) * dilation
    scheme = SAME if case % 4 < 2 else VALID
    pad = np.zeros(4, np.int64)
    if scheme == SAME:
        pad = same_padding(size, kernel, stride, dilation)
    options = {
        "padding": scheme,
        "strideH": int(stride[0]),
        "strideW": int(stride[1]),
    }
    return kernel, stride, dilation, size, pad, options


def convolution(random, collector, bits):
    for case in range(208):
        kernel, stride, dilation, size, pad, options = window_geometry(random, case)
        inputs, units = (int(count) for count in random.integers(1, 6, 2))
        options |= {"dilationHFactor": int(dilation[0]), "dilationWFactor": int(dilation[1])}
        shape, depth = (units, *kernel, inputs), int(kernel.prod()) * inputs
        fields = layer_operands(random, case, (collector.bulk, *size, inputs), shape, units, depth, bits)
        centred = fields["x"].astype(np.int64) - fields["x_zero_point"]
        sums = replicas.convolve(centred, fields["weights"], pad, stride, dilation)
        operands, output = layer_tensors(fields, fields["weights"], 0, sums.shape)
        model = build_model("CONV_2D", "Conv2DOptions", options, operands, output, version=3)
        fields |= geometry_fields(pad, stride, dilation)
        finish_layer(collector, fields, sums, run_model(model, fields["x"]))


def depthwise_convolution(random, collector, bits):
    for case in range(156):
        kernel, stride, dilation, size, pad, options = window_geometry(random, case)
        inputs, group = (int(count) for count in random.integers(1, [6, 4]))
        options |= {"dilationHFactor": int(dilation[0]), "dilationWFactor": int(dilation[1])}
        options["depthMultiplier"] = group
        shape, units = (*kernel, inputs, group), inputs * group
        depth = int(kernel.prod())
        fields = layer_operands(random, case, (collector.bulk, *size, inputs), shape, units, depth, bits)
        centred = fields["x"].astype(np.int64) - fields["x_zero_point"]
        sums = replicas.convolve_depthwise(centred, fields["weights"], pad, stride, dilation)
        flat = fields["weights"].reshape(1, *kernel, units)
        operands, output = layer_tensors(fields, flat, 3, sums.shape)
        name = "DepthwiseConv2DOptions"
        model = build_model("DEPTHWISE_CONV_2D", name, options, operands, output, version=3)
        fields |= geometry_fields(pad, stride, dilation)
        finish_layer(collector, fields, sums, run_model(model, fields["x"]))


def geometry_fields(pad, stride, dilation):
    names = {"pad": pad, "stride": stride, "dilation": dilation}
    return {name: np.asarray(value, np.int32) for name, value in names.items()}


def binary_operands(random, scales, bulk):
    """Two random int8 vectors with the corner pairs first, and their quantisation."""
    a, b = random.integers(-128, 128, (2, 256 * bulk)).astype(np.int8)
    a[:4], b[:4] = [-128, -128, 127, 127], [-128, 127, -128, 127]
    fields = {"a": a, "b": b}
    for name, scale in zip("aby", scales, strict=True):
        fields[f"{name}_scale"] = np.float32(scale)
        fields[f"{name}_zero_point"] = np.int32(random.integers(-128, 128))
    return fields


def run_binary(fields, op_name, options_name):
    a, b, y = (
        Tensor(np.int8, fields["a"].shape, fields[f"{name}_scale"], fields[f"{name}_zero_point"])
        for name in "aby"
    )
    model = build_model(op_name, options_name, {}, [a, b], y, version=2)
    return run_model(model, fields["a"], fields["b"])


def sum_int8(random, collector, name):
    """Operand scales up to 2^6 apart; every other case has powers of two only, for ties."""
    for case in range(96):
        exponents = random.integers(-6, 1, 3)
        exponents[2] = max(exponents[:2]) + random.integers(-1, 3)
        mantissas = np.ones(3) if case % 2 == 0 else random.uniform(0.5, 1, 3)
        fields = binary_operands(random, np.ldexp(mantissas, exponents), collector.bulk)
        y = run_binary(fields, name.upper(), f"{name.capitalize()}Options")
        scales = [fields[f"{name}_scale"] for name in "aby"]
        multiplier, shift = tflm_replicas.add_parameters(*scales)
        a, b = (fields[name].astype(np.int64) - fields[f"{name}_zero_point"] for name in "ab")
        scaled = tflm_replicas.scaled_operands(a, b, multiplier, shift)
        total = scaled[0] + scaled[1] if name == "add" else scaled[0] - scaled[1]
        collector.note_ties(total * int(multiplier[2]), 31 - int(shift[2]))
        expected = replicas.requantise_double(total, multiplier[2], shift[2])
        collector.prove(y, replicas.saturate(expected + fields["y_zero_point"], 8), f"{name} int8")
        collector.add(**fields, multiplier=multiplier, shift=shift, y=y)


def batch_matmul(random, collector, bits):
    """Two batches of matrices, neither constant; the right shift sweeps 0..12 (or 20)."""
    sweep, limit = {8: 13, 16: 21}[bits], 1 << (bits - 1)
    for case in range(104):
        batch, rows, depth, columns = (int(size) for size in random.integers(1, [3, 9, 33, 9]))
        depth, right_shift = case % 4 + 1 if case < 52 else depth, case % sweep
        reach = int(np.clip(2.0 ** (right_shift + 3) / np.sqrt(depth), 1, limit - 1))
        codes = f"int{bits}"
        fields = {
            "a": random.integers(-limit, limit, (batch, rows * collector.bulk, depth)).astype(codes),
            "b": random.integers(-reach, reach + 1, (batch, depth, columns)).astype(codes),
        }
        mantissa = 0.5 if case % 2 == 0 else random.uniform(0.5, 1)
        scales = (2.0**-6, 2.0**-7, 2.0**-13 / (mantissa * 2.0**-right_shift))
        zero_points = random.integers(-128, 128, 3) if bits == 8 else (0, 0, 0)
        for name, scale, zero_point in zip("aby", scales, zero_points, strict=True):
            fields[f"{name}_scale"] = np.float32(scale)
            fields[f"{name}_zero_point"] = np.int32(zero_point)
        shape = (batch, fields["a"].shape[1], columns)
        a, b, output = (
            Tensor(
                fields["a"].dtype,
                shape if name == "y" else fields[name].shape,
                fields[f"{name}_scale"],
                fields[f"{name}_zero_point"],
            )
            for name in "aby"
        )
        model = build_model("BATCH_MATMUL", "BatchMatMulOptions", {}, [a, b], output, version=2)
        y = run_model(model, fields["a"], fields["b"])
        real = float(a.scale) * float(b.scale) / float(output.scale)
        multiplier, shift = replicas.quantize_multiplier(real)
        a, b = (fields[name].astype(np.int64) - fields[f"{name}_zero_point"] for name in "ab")
        sums = a @ b
        if bits == 8:
            collector.note_ties(sums * multiplier, 31 - shift)
        rescale = replicas.requantise_double if bits == 8 else replicas.requantise_double_m16
        expected = rescale(sums, multiplier, shift) + fields["y_zero_point"]
        collector.prove(y, replicas.saturate(expected, bits), f"batch matmul r = {right_shift}")
        parameters = {"multiplier": np.int32(multiplier), "shift": np.int32(shift)}
        collector.add(**fields, **parameters, y=y)


def mul_int8(random, collector):
    """The right shift sweeps 0..11; every other case is a power of two, so that ties are exact."""
    for case in range(96):
        right_shift = case // 2 % 12
        mantissa = 0.5 if case % 2 == 0 else random.uniform(0.5, 1)
        scales = (2.0**-6, 2.0**-7, 2.0**-13 / (mantissa * 2.0**-right_shift))
        fields = binary_operands(random, scales, collector.bulk)
        y = run_binary(fields, "MUL", "MulOptions")
        a_scale, b_scale, y_scale = (float(fields[f"{name}_scale"]) for name in "aby")
        multiplier, shift = replicas.quantize_multiplier(a_scale * b_scale / y_scale)
        a, b = (fields[name].astype(np.int64) - fields[f"{name}_zero_point"] for name in "ab")
        collector.note_ties(a * b * multiplier, 31 - shift)
        expected = replicas.requantise_double(a * b, multiplier, shift) + fields["y_zero_point"]
        collector.prove(y, replicas.saturate(expected, 8), f"mul int8 r = {right_shift}")
        parameters = {"multiplier": np.int32(multiplier), "shift": np.int32(shift)}
        collector.add(**fields, **parameters, y=y)


def pooling_case(random, case, batch):
    kernel, stride, _, size, pad, options = window_geometry(random, case)
    size, kernel = size + 2, kernel + (case % 3 == 0)
    if options["padding"] == SAME:
        pad = same_padding(size, kernel, stride, np.ones(2, np.int64))
    options |= {"filterHeight": int(kernel[0]), "filterWidth": int(kernel[1])}
    x = random.integers(-128, 128, (batch, *size, int(random.integers(1, 5)))).astype(np.int8)
    return x, kernel, stride, pad, options


def pooling(random, collector, op_name):
    """Padding pixels are outside the mean's count and outside the maximum."""
    for case in range(96):
        x, kernel, stride, pad, options = pooling_case(random, case, collector.bulk)
        ones = replicas.pad_image(np.ones(x.shape, np.int64), pad)
        padded = replicas.pad_image(x.astype(np.int64), pad)
        if op_name == "AVERAGE_POOL_2D":
            expected = tflm_replicas.average_pool(padded, ones, kernel, stride)
        else:
            padded = np.where(ones == 1, padded, -128)
            parts = [taps for _, _, taps in replicas.windows(padded, kernel, stride, (1, 1))]
            expected = np.max(parts, axis=0)
        tensors = [Tensor(np.int8, shape, 0.125, 3) for shape in (x.shape, expected.shape)]
        model = build_model(op_name, "Pool2DOptions", options, tensors[:1], tensors[1], version=2)
        y = run_model(model, x)
        collector.prove(y, expected, op_name)
        geometry = geometry_fields(pad, stride, np.ones(2))
        del geometry["dilation"]
        collector.add(x=x, kernel=kernel.astype(np.int32), **geometry, y=y)


OPERATORS = {
    "fully_connected_int8": ("double", lambda *args: fully_connected(*args, 8)),
    "fully_connected_int16x8": ("double_m16", lambda *args: fully_connected(*args, 16)),
    "conv2d_int8": ("double", lambda *args: convolution(*args, 8)),
    "conv2d_int16x8": ("double_m16", lambda *args: convolution(*args, 16)),
    "depthwise_conv2d_int8": ("double", lambda *args: depthwise_convolution(*args, 8)),
    "depthwise_conv2d_int16x8": ("double_m16", lambda *args: depthwise_convolution(*args, 16)),
    "add_int8": ("double", lambda *args: sum_int8(*args, "add")),
    "sub_int8": ("double", lambda *args: sum_int8(*args, "sub")),
    "batch_matmul_int8": ("double", lambda *args: batch_matmul(*args, 8)),
    "batch_matmul_int16": ("double_m16", lambda *args: batch_matmul(*args, 16)),
    "mul_int8": ("double", mul_int8),
    "average_pool_int8": ("half_away", lambda *args: pooling(*args, "AVERAGE_POOL_2D")),
    "max_pool_int8": ("exact", lambda *args: pooling(*args, "MAX_POOL_2D")),
    **tflm_curves.OPERATORS,
    **tflm_lstm.OPERATORS,
    **tflm_quantize.OPERATORS,
    **tflm_softmax.OPERATORS,
}

if __name__ == "__main__":
    packages = ("tflite_micro", "flatbuffers", "numpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    vectors.run_driver("tflm", versions, OPERATORS)
