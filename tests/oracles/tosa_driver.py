"""Oracle vectors from the TOSA reference model: rescale, convolution and matrix product here.

Every operator that rescales is run in both roundings on the same values. Stored shifts are TOSA's
(the left-positive exponent is 31 - shift).
"""

import importlib.metadata

import numpy as np
import replicas
import tosa_elementwise
import tosa_lstm
import vectors
from tosa.Op import Op
from tosa_graph import BOTH, ROUNDINGS, Attribute, DType, Graph, random_multipliers


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
    x = rescale_input(random, 48, int(shift.min()) - 31, multiplier, input_bits, output_bits)
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
    """From 32 bits r sweeps -1..16; from 8 and 16 bits only as far as outputs stay non-trivial."""
    sweeps = {
        (32, 8): range(-1, 17),
        (32, 16): range(-1, 16),
        (32, 32): range(-1, 17),
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


def channel_rescale(random, channels, case):
    """Parameters of a per-channel rescale to 8 bits; the right shift sweeps with the case."""
    right_shift = case % 12
    multiplier = random_multipliers(random, channels, power_of_two=case % 2 == 0)
    shift = (31 + right_shift + random.integers(0, 2, channels)).astype(np.int8)
    return multiplier, shift, int(random.integers(-128, 128))


def scaled_weights(random, shape, depth, right_shift):
    """Weights whose sums of `depth` products fill, and overflow a little, the rescaled range."""
    limit = int(np.clip(2.0 ** (right_shift + 3) / np.sqrt(depth), 1, 127))
    return random.integers(-limit, limit + 1, shape)


def convolution_geometry(random):
    """Random kernel, stride, dilation and padding; the image is sized so that no pixel is left."""
    kernel, stride, dilation = random.integers(1, [[4, 4], [3, 3], [3, 3]])
    pad = random.integers(0, 3, 4)
    steps = random.integers(1, 4, 2)
    size = steps * stride + (kernel - 1) * dilation + 1 - pad.reshape(2, 2).sum(axis=1)
    if (size < 1).any():
        pad, size = np.zeros(4, np.int64), steps * stride + (kernel - 1) * dilation + 1
    return kernel, stride, dilation, pad, size


def convolution_operands(random, case, depthwise):
    """Random image, weights, bias and zero points; every eighth case has a weight zero point."""
    kernel, stride, dilation, pad, size = convolution_geometry(random)
    inputs, group = int(random.integers(1, 6)), int(random.integers(1, 4))
    outputs = inputs * group if depthwise else int(random.integers(1, 7))
    shape = (*kernel, inputs, group) if depthwise else (outputs, *kernel, inputs)
    depth = int(kernel.prod()) * (1 if depthwise else inputs)
    return {
        "x": random.integers(-128, 128, (1, *size, inputs)).astype(np.int8),
        "weights": scaled_weights(random, shape, depth, case % 12).astype(np.int8),
        "bias": random.integers(-200, 200, outputs).astype(np.int32),
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


def rescaled_case(random, collector, case, graph, sums, expected, fields):
    """Rescale the sums to int8 in both roundings, prove all three outputs and keep the case."""
    multiplier, shift, zero_point = channel_rescale(random, expected.shape[-1], case)
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
        fields = convolution_operands(random, case, depthwise)
        expected = convolution_sums(fields, depthwise)
        graph = Graph()
        sums = add_convolution(graph, fields, depthwise, expected.shape)
        rescaled_case(random, collector, case, graph, sums, expected, fields)


def conv2d_int8(random, collector):
    convolution_cases(random, collector, depthwise=False)


def depthwise_conv2d_int8(random, collector):
    convolution_cases(random, collector, depthwise=True)


def matmul_operands(random, case):
    """Two batched int8 matrices; the first third has K from 1 to 4, so that ties are frequent."""
    batch, rows, depth, columns = (int(size) for size in random.integers(1, [3, 17, 49, 17]))
    depth = case % 4 + 1 if case < 24 else depth
    return {
        "a": random.integers(-128, 128, (batch, rows, depth)).astype(np.int8),
        "b": scaled_weights(random, (batch, depth, columns), depth, case % 12).astype(np.int8),
        "a_zero_point": np.int32(random.integers(-128, 128)),
        "b_zero_point": np.int32(random.integers(-3, 4) * (case % 5 == 4)),
    }


def matmul_int8(random, collector):
    for case in range(96):
        fields = matmul_operands(random, case)
        graph, attribute = Graph(), Attribute()
        attribute.MatMulAttribute()
        operands = [graph.input(fields[name], 8) for name in ("a", "b")]
        zero_points = [fields[name] for name in ("a_zero_point", "b_zero_point")]
        operands += [graph.constant(value, 8) for value in zero_points]
        centred = [fields[name].astype(np.int64) - fields[f"{name}_zero_point"] for name in "ab"]
        expected = centred[0] @ centred[1]
        sums = graph.apply(Op.MATMUL, operands, expected.shape, 32, attribute)
        rescaled_case(random, collector, case, graph, sums, expected, fields)


OPERATORS = {
    "rescale": (BOTH, rescale),
    "conv2d_int8": (BOTH, conv2d_int8),
    "depthwise_conv2d_int8": (BOTH, depthwise_conv2d_int8),
    "matmul_int8": (BOTH, matmul_int8),
    **tosa_elementwise.OPERATORS,
    **tosa_lstm.OPERATORS,
}

if __name__ == "__main__":
    versions = {name: importlib.metadata.version(name) for name in ("tosa-tools", "numpy")}
    vectors.run_driver("tosa", versions, OPERATORS)
