"""Oracle vectors from the TOSA reference model: rescale, convolution and matrix product here.

Every operator that rescales is run in both roundings on the same values. Stored shifts are TOSA's
(the left-positive exponent is 31 - shift).
"""

import importlib.metadata

import numpy as np
import replicas
import tosa_choices
import tosa_elementwise
import tosa_gru
import tosa_lstm
import tosa_movement
import tosa_reduce
import tosa_resize
import tosa_softmax
import tosa_sums
import tosa_wide
import vectors
from tosa.Op import Op
from tosa_graph import BOTH, ROUNDINGS, TYPES, Attribute, DType, Graph, random_multipliers

SWEEP_OF_MATMUL = 15  # right shifts 0..14, as far as sums of products reach
SWEEP = 22  # right shifts 0..21 of layers; from 12 on it is the bias that fills the range


def near_ties(random, count, right_shift, multiplier, reach):
    """Integers whose rescaled value lies on, or next to, k + 1/2, of both signs, |k| <= reach."""
    halves = random.integers(-reach, reach, count) + 0.5
    exact = halves * 2.0 ** (31 + right_shift) / multiplier
    return np.rint(exact).astype(np.int64) + random.integers(-1, 2, count)


def rescale_input(random, rows, right_shift, multipliers, input_bits, output_bits):
    """One column per channel: near ties, uniform values, and the ends of the legal range."""
    if input_bits == 8:
        return np.tile(np.arange(-128, 128).reshape(-1, 1), multipliers.size)
    limit = min((1 << (input_bits - 1)) - 1, (1 << (30 + right_shift)) - 1)
    reach = max(1, min(1 << (output_bits - 1), limit >> (right_shift + 1)))
    spread = min(limit, 1 << min(31, output_bits + right_shift + 1))
    columns = []
    for multiplier in multipliers:
        ties = near_ties(random, rows // 2, right_shift, int(multiplier), reach)
        uniform = random.integers(-spread, spread, rows - rows // 2 - 6)
        columns.append(np.concatenate([ties, uniform, [-limit, limit, -1, 0, 1, spread]]))
    return np.clip(np.stack(columns, axis=1), -limit, limit)


def prove_rescale(collector, outputs, x, multiplier, shift, zero_point, bits):
    """Compare both roundings of one accumulator with the replicas."""
    collector.note_ties(x * np.asarray(multiplier, np.int64), shift)
    formulas = (replicas.requantise_single, replicas.requantise_double)
    for values, formula in zip(outputs, formulas, strict=True):
        expected = formula(x, multiplier, 31 - np.asarray(shift, np.int64)) + zero_point
        expected = replicas.saturate(expected, bits)
        collector.prove(values, expected, f"{formula.__name__}, shift {shift}")


def rescale_case(random, collector, input_bits, output_bits, right_shift, power_of_two):
    channels = 3 if (right_shift + power_of_two) % 2 else 1
    multiplier = random_multipliers(random, channels, power_of_two)
    shift = np.full(channels, 31 + right_shift, np.int8)
    if channels > 1:
        shift[-1] = max(31 + right_shift + int(random.integers(-1, 2)), 30)
    zero_points = [int(random.integers(-128, 128)) if bits == 8 else 0 for bits in (input_bits, output_bits)]
    x = rescale_input(random, 48 * collector.bulk, int(shift.min()) - 31, multiplier, input_bits, output_bits)
    graph = Graph()
    source = graph.input(x, input_bits)
    for rounding in ROUNDINGS:
        graph.rescale(source, x.shape, output_bits, rounding, multiplier, shift, zero_points)
    outputs = graph.run()
    centred = x - zero_points[0]
    prove_rescale(collector, outputs, centred, multiplier, shift, zero_points[1], output_bits)
    collector.add(
        input_bits=np.int8(input_bits),
        output_bits=np.int8(output_bits),
        x=x.astype(np.int32),
        multiplier=multiplier,
        shift=shift,
        input_zero_point=np.int32(zero_points[0]),
        output_zero_point=np.int32(zero_points[1]),
        y_single=outputs[0].astype(np.int32),
        y_double=outputs[1].astype(np.int32),
    )


def rescale(random, collector):
    """From 32 bits r sweeps -1..24; from 8 and 16 bits only as far as outputs stay non-trivial."""
    sweeps = {
        (32, 8): range(-1, 23),
        (32, 16): range(-1, 16),
        (32, 32): range(-1, 25),
        (16, 8): range(-1, 10),
        (16, 16): range(-1, 6),
        (16, 32): range(-1, 4),
        (8, 8): range(-1, 5),
        (8, 16): range(-12, 3, 3),
        (8, 32): range(-20, 3, 4),
    }
    for (input_bits, output_bits), right_shifts in sweeps.items():
        for right_shift in right_shifts:
            for power_of_two in (True, False):
                sizes = (input_bits, output_bits, right_shift)
                rescale_case(random, collector, *sizes, power_of_two)


def channel_rescale(random, channels, case, sweep):
    """Parameters of a per-channel rescale to 8 bits; the right shift sweeps with the case."""
    right_shift = case % sweep
    multiplier = random_multipliers(random, channels, power_of_two=case % 2 == 0)
    shift = (31 + right_shift + random.integers(0, 2, channels)).astype(np.int8)
    return multiplier, shift, int(random.integers(-128, 128))


def scaled_weights(random, shape, depth, right_shift):
    """Weights whose sums of `depth` products fill, and overflow a little, the rescaled range."""
    limit = int(np.clip(2.0 ** (right_shift + 3) / np.sqrt(depth), 1, 127))
    return random.integers(-limit, limit + 1, shape)


def random_bias(random, outputs, case):
    """Small where the products fill the rescaled range, and of its size beyond their reach."""
    right_shift = case % SWEEP
    limit = 200 if right_shift < 12 else 1 << (right_shift + 7)
    return random.integers(-limit, limit, outputs).astype(np.int32)


def convolution_geometry(random):
    """Random kernel, stride, dilation and padding; the image is sized so that no pixel is left."""
    kernel, stride, dilation = random.integers(1, [[4, 4], [3, 3], [3, 3]])
    pad = random.integers(0, 3, 4)
    steps = random.integers(1, 4, 2)
    size = steps * stride + (kernel - 1) * dilation + 1 - pad.reshape(2, 2).sum(axis=1)
    if (size < 1).any():
        pad, size = np.zeros(4, np.int64), steps * stride + (kernel - 1) * dilation + 1
    return kernel, stride, dilation, pad, size


def convolution_operands(random, case, depthwise, batch):
    """Random image, weights, bias and zero points; every eighth case has a weight zero point."""
    kernel, stride, dilation, pad, size = convolution_geometry(random)
    inputs, group = int(random.integers(1, 6)), int(random.integers(1, 4))
    outputs = inputs * group if depthwise else int(random.integers(1, 7))
    shape = (*kernel, inputs, group) if depthwise else (outputs, *kernel, inputs)
    depth = int(kernel.prod()) * (1 if depthwise else inputs)
    return {
        "x": random.integers(-128, 128, (batch, *size, inputs)).astype(np.int8),
        "weights": scaled_weights(random, shape, depth, case % SWEEP).astype(np.int8),
        "bias": random_bias(random, outputs, case),
        "pad": pad.astype(np.int32),
        "stride": stride.astype(np.int32),
        "dilation": dilation.astype(np.int32),
        "x_zero_point": np.int32(random.integers(-128, 128)),
        "weight_zero_point": np.int32(case % 8 == 7) * 5,
    }


def convolution_sums(fields, depthwise):
    """The replica's 32-bit sums."""
    accumulate = replicas.convolve_depthwise if depthwise else replicas.convolve
    x = fields["x"].astype(np.int64) - fields["x_zero_point"]
    weights = fields["weights"].astype(np.int64) - fields["weight_zero_point"]
    geometry = (fields["pad"], fields["stride"], fields["dilation"])
    return accumulate(x, weights, *geometry) + fields["bias"]


def add_convolution(graph, fields, depthwise, shape):
    """Put CONV2D or DEPTHWISE_CONV2D with constant weights into the graph."""
    geometry = [fields[name].tolist() for name in ("pad", "stride", "dilation")]
    attribute = Attribute()
    if depthwise:
        attribute.DepthwiseConv2dAttribute(*geometry, False, DType.INT32)
    else:
        attribute.Conv2dAttribute(*geometry, False, DType.INT32)
    operands = [
        graph.input(fields["x"], 8),
        graph.constant(fields["weights"], 8),
        graph.constant(fields["bias"], 32),
        graph.constant(fields["x_zero_point"], 8),
        graph.constant(fields["weight_zero_point"], 8),
    ]
    op = Op.DEPTHWISE_CONV2D if depthwise else Op.CONV2D
    return graph.apply(op, operands, shape, 32, attribute)


def rescaled_case(random, collector, case, graph, sums, expected, fields, sweep=SWEEP):
    """Rescale the sums to int8 in both roundings, prove all three outputs and keep the case."""
    multiplier, shift, zero_point = channel_rescale(random, expected.shape[-1], case, sweep)
    for rounding in ROUNDINGS:
        graph.rescale(sums, expected.shape, 8, rounding, multiplier, shift, (0, zero_point))
    accumulator, *results = graph.run()
    collector.prove(accumulator, expected, "accumulator")
    prove_rescale(collector, results, expected, multiplier, shift, zero_point, 8)
    collector.add(
        **fields,
        multiplier=multiplier,
        shift=shift,
        y_zero_point=np.int32(zero_point),
        accumulator=accumulator,
        y_single=results[0],
        y_double=results[1],
    )


def convolution_cases(random, collector, depthwise):
    for case in range(144):
        fields = convolution_operands(random, case, depthwise, collector.bulk)
        expected = convolution_sums(fields, depthwise)
        graph = Graph()
        sums = add_convolution(graph, fields, depthwise, expected.shape)
        rescaled_case(random, collector, case, graph, sums, expected, fields)


def conv2d_int8(random, collector):
    convolution_cases(random, collector, depthwise=False)


def depthwise_conv2d_int8(random, collector):
    convolution_cases(random, collector, depthwise=True)


def transposed_geometry(random):
    """Random kernel, stride, image size and out_pad, which cuts at the begin, and cuts or adds at the end."""
    kernel, stride, size = random.integers(1, [[5, 5], [4, 4], [5, 5]])
    begin, end = (np.maximum(random.integers(-2, most, 2), 1 - kernel) for most in (1, 3))
    if ((size - 1) * stride + kernel + begin + end < 1).any():
        begin, end = np.zeros((2, 2), np.int64)
    return kernel, stride, size, np.stack([begin, end], axis=1).reshape(4)


def transposed_operands(random, case, batch):
    """Random image, weights, bias and zero points; every eighth case has a weight zero point."""
    kernel, stride, size, pad = transposed_geometry(random)
    inputs, outputs = (int(count) for count in random.integers(1, 6, 2))
    shape = (outputs, *kernel, inputs)
    return {
        "x": random.integers(-128, 128, (batch, *size, inputs)).astype(np.int8),
        "weights": scaled_weights(random, shape, int(kernel.prod()) * inputs, case % SWEEP).astype(np.int8),
        "bias": random_bias(random, outputs, case),
        "pad": pad.astype(np.int32),
        "stride": stride.astype(np.int32),
        "x_zero_point": np.int32(random.integers(-128, 128)),
        "weight_zero_point": np.int32(case % 8 == 7) * 5,
    }


def transposed_sums(fields):
    """The replica's sums: every entry of the image spreads over a window of the result."""
    x = fields["x"].astype(np.int64) - fields["x_zero_point"]
    weights = fields["weights"].astype(np.int64) - fields["weight_zero_point"]
    kernel, (top, bottom, left, right) = weights.shape[1:3], fields["pad"]
    size = [(n - 1) * s + k for n, s, k in zip(x.shape[1:3], fields["stride"], kernel, strict=True)]
    total = np.zeros((len(x), size[0] + max(bottom, 0), size[1] + max(right, 0), len(weights)), np.int64)
    for row, column in np.ndindex(*x.shape[1:3]):
        y, z = np.array([row, column]) * fields["stride"]
        spread = np.tensordot(x[:, row, column], weights, (1, 3)).transpose(0, 2, 3, 1)
        total[:, y : y + kernel[0], z : z + kernel[1]] += spread
    height, width = size[0] + bottom, size[1] + right
    return total[:, -top:height, -left:width] + fields["bias"]


def add_transposed(graph, fields, shape, bits, output):
    """Put TRANSPOSE_CONV2D of 8 or 16 bits with sums of 32 or 48 into the graph."""
    attribute, width = Attribute(), {8: 32, 16: 48}[bits]
    geometry = [fields[name].tolist() for name in ("pad", "stride")]
    attribute.TransposeConv2dAttribute(*geometry, False, TYPES[width])
    operands = [graph.input(fields["x"], bits), graph.constant(fields["weights"], 8)]
    operands.append(graph.constant(fields["bias"], width))
    operands.append(graph.constant(fields["x_zero_point"], bits))
    operands.append(graph.constant(fields["weight_zero_point"], 8))
    return graph.apply(Op.TRANSPOSE_CONV2D, operands, shape, width, attribute, output)


def transpose_conv2d_int8(random, collector):
    for case in range(120):
        fields, graph = transposed_operands(random, case, collector.bulk), Graph()
        expected = transposed_sums(fields)
        sums = add_transposed(graph, fields, expected.shape, 8, output=True)
        rescaled_case(random, collector, case, graph, sums, expected, fields)


def transpose_conv2d_int16x8(random, collector):
    """The same geometries with 16-bit images and 48-bit biases, without zero points."""
    for case in range(96):
        fields, graph = transposed_operands(random, case, collector.bulk), Graph()
        outputs, limit = len(fields["weights"]), 1 << (case % tosa_wide.SWEEP + 14)
        depth = int(np.prod(fields["weights"].shape[1:]))
        fields |= {
            "x": random.integers(-(2**15), 2**15, fields["x"].shape).astype(np.int16),
            "weights": tosa_wide.weights_of(random, fields["weights"].shape, depth, case),
            "bias": random.integers(-limit, limit, outputs),
            "x_zero_point": np.int32(0),
            "weight_zero_point": np.int32(0),
        }
        expected = transposed_sums(fields)
        sums = add_transposed(graph, fields, expected.shape, 16, output=False)
        tosa_wide.finish(collector, graph, sums, expected, tosa_wide.numbers(random, case, outputs), fields)


def matmul_operands(random, case, bulk):
    """Two batched int8 matrices; the first quarter has K from 1 to 4, so that ties are frequent.

    From r = 12 on they are deep, and a is on one side of its zero point: only such sums reach that far.
    """
    batch, rows, depth, columns = (int(size) for size in random.integers(1, [3, 17, 49, 17]))
    deep = case % SWEEP_OF_MATMUL >= 12
    if deep:
        batch, rows, depth, columns = 1, (rows + 3) // 4, 256, (columns + 3) // 4
    elif case < 24:
        depth = case % 4 + 1
    b = scaled_weights(random, (batch, depth, columns), depth, case % SWEEP_OF_MATMUL)
    return {
        "a": random.integers(-128, 128, (batch, rows * bulk, depth)).astype(np.int8),
        "b": (np.abs(b) * random.choice([-1, 1], columns) if deep else b).astype(np.int8),
        "a_zero_point": np.int32(-128 if deep else random.integers(-128, 128)),
        "b_zero_point": np.int32(random.integers(-3, 4) * (case % 5 == 4)),
    }


def matmul_int8(random, collector):
    for case in range(96):
        fields = matmul_operands(random, case, collector.bulk)
        graph, attribute = Graph(), Attribute()
        attribute.MatMulAttribute()
        operands = [graph.input(fields[name], 8) for name in ("a", "b")]
        zero_points = [fields[name] for name in ("a_zero_point", "b_zero_point")]
        operands += [graph.constant(value, 8) for value in zero_points]
        centred = [fields[name].astype(np.int64) - fields[f"{name}_zero_point"] for name in "ab"]
        expected = centred[0] @ centred[1]
        sums = graph.apply(Op.MATMUL, operands, expected.shape, 32, attribute)
        rescaled_case(random, collector, case, graph, sums, expected, fields, SWEEP_OF_MATMUL)


OPERATORS = {
    "rescale": (BOTH, rescale),
    "conv2d_int8": (BOTH, conv2d_int8),
    "depthwise_conv2d_int8": (BOTH, depthwise_conv2d_int8),
    "transpose_conv2d_int8": (BOTH, transpose_conv2d_int8),
    "transpose_conv2d_int16x8": ("double_m16", transpose_conv2d_int16x8),
    "matmul_int8": (BOTH, matmul_int8),
    **tosa_choices.OPERATORS,
    **tosa_elementwise.OPERATORS,
    **tosa_gru.OPERATORS,
    **tosa_lstm.OPERATORS,
    **tosa_movement.OPERATORS,
    **tosa_reduce.OPERATORS,
    **tosa_resize.OPERATORS,
    **tosa_softmax.OPERATORS,
    **tosa_sums.OPERATORS,
    **tosa_wide.OPERATORS,
}

if __name__ == "__main__":
    versions = {name: importlib.metadata.version(name) for name in ("tosa-tools", "numpy")}
    vectors.run_driver("tosa", versions, OPERATORS)
