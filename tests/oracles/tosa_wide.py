"""16-bit matrix products and convolutions of the TOSA reference model, rescaled by 16-bit multipliers.

Sums have 48 bits, which the runtime does not hand out: RESCALE follows at once. Its 16-bit multiplier
is the rounded upper half of the stored one: `double_m16`.
"""

import numpy as np
import replicas
from tosa.Op import Op
from tosa_graph import Attribute, DType, Graph, random_multipliers

SWEEP = 24  # right shifts 0..23


def numbers(random, case, channels):
    """Stored multipliers, their 16-bit forms and shifts; even cases are powers of two."""
    multiplier = random_multipliers(random, channels, power_of_two=case % 2 == 0)
    shift = (case % SWEEP + random.integers(0, 2, channels)).astype(np.int32)
    reduced = np.where(multiplier >= 0x7FFF0000, 0x7FFF, (multiplier.astype(np.int64) + (1 << 15)) >> 16)
    return multiplier, shift, reduced


def weights_of(random, shape, depth, case):
    """int8 weights whose sums fill, and overflow a little, the rescaled range."""
    limit = int(np.clip(2.0 ** (case % SWEEP + 2) / np.sqrt(depth), 1, 127))
    return random.integers(-limit, limit + 1, shape).astype(np.int8)


def finish(collector, graph, sums, expected, case_numbers, fields):
    """RESCALE the 48-bit sums to 16 bits, prove and keep."""
    multiplier, right_shift, reduced = case_numbers
    attribute = Attribute()
    attribute.RescaleAttribute(False, 1, reduced.size > 1, False, False)
    parameters = [
        graph.constant(reduced, 16),
        graph.constant(15 + right_shift, 8),
        graph.constant(0, 48),
        graph.constant(0, 16),
    ]
    graph.apply(Op.RESCALE, [sums, *parameters], expected.shape, 16, attribute)
    (y,) = graph.run()
    collector.note_ties(expected * reduced, 15 + right_shift)
    rounded = replicas.requantise_double_m16(expected, multiplier, -right_shift)
    collector.prove(y, replicas.saturate(rounded, 16), f"r = {right_shift}")
    collector.add(**fields, multiplier=multiplier, shift=(31 + right_shift).astype(np.int8), y=y)


def matmul_int16(random, collector):
    for case in range(96):
        batch, rows, depth, columns = (int(size) for size in random.integers(1, [3, 13, 33, 13]))
        depth = case % 4 + 1 if case < 24 else depth
        reach = int(np.clip(2.0 ** (case % SWEEP + 2) / np.sqrt(depth), 1, 2**15 - 1))
        a = random.integers(-(2**15), 2**15, (batch, rows * collector.bulk, depth)).astype(np.int16)
        b = random.integers(-reach, reach + 1, (batch, depth, columns)).astype(np.int16)
        graph, attribute = Graph(), Attribute()
        attribute.MatMulAttribute()
        operands = [graph.input(a, 16), graph.input(b, 16), graph.constant(0, 16), graph.constant(0, 16)]
        expected = a.astype(np.int64) @ b.astype(np.int64)
        sums = graph.apply(Op.MATMUL, operands, expected.shape, 48, attribute, output=False)
        finish(collector, graph, sums, expected, numbers(random, case, 1), {"a": a, "b": b})


def layer(random, collector, kind):
    """fully_connected (a 1x1 convolution), conv2d or depthwise_conv2d, int16 by int8 with 48-bit biases."""
    for case in range(96):
        kernel, stride, dilation = random.integers(1, [[4, 4], [3, 3], [3, 3]])
        edges, steps = random.integers(0, 3, 4), random.integers(1, 4, 2)
        if kind == "fully_connected":
            kernel, stride, dilation, edges = *np.ones((3, 2), int), np.zeros(4, int)
        size = steps * stride + (kernel - 1) * dilation + 1 - edges.reshape(2, 2).sum(axis=1)
        if (size < 1).any():
            edges, size = np.zeros(4, np.int64), steps * stride + (kernel - 1) * dilation + 1
        inputs, group, outputs = (int(n) for n in random.integers(1, [9, 4, 7]))
        depthwise = kind == "depthwise_conv2d"
        outputs = inputs * group if depthwise else outputs
        shape = (*kernel, inputs, group) if depthwise else (outputs, *kernel, inputs)
        weights = weights_of(random, shape, int(kernel.prod()) * (1 if depthwise else inputs), case)
        limit = 1 << (case % SWEEP + 14)
        x = random.integers(-(2**15), 2**15, (collector.bulk, *size, inputs)).astype(np.int16)
        bias = random.integers(-limit, limit, outputs)
        accumulate = replicas.convolve_depthwise if depthwise else replicas.convolve
        expected = accumulate(x.astype(np.int64), weights.astype(np.int64), edges, stride, dilation) + bias
        graph, attribute = Graph(), Attribute()
        word = "DepthwiseConv2d" if depthwise else "Conv2d"
        geometry = [part.tolist() for part in (edges, stride, dilation)]
        getattr(attribute, f"{word}Attribute")(*geometry, False, DType.INT48)
        operands = [graph.input(x, 16), graph.constant(weights, 8), graph.constant(bias, 48)]
        operands += [graph.constant(0, 16), graph.constant(0, 8)]
        op = Op.DEPTHWISE_CONV2D if depthwise else Op.CONV2D
        sums = graph.apply(op, operands, expected.shape, 48, attribute, output=False)
        fields = {"x": x, "weights": weights, "bias": bias.astype(np.int64)}
        names = zip(("pad", "stride", "dilation"), geometry, strict=True)
        fields |= {name: np.array(values, np.int32) for name, values in names}
        finish(collector, graph, sums, expected, numbers(random, case, outputs), fields)


OPERATORS = {
    "matmul_int16": ("double_m16", matmul_int16),
    **{
        f"{kind}_int16x8": ("double_m16", lambda *args, kind=kind: layer(*args, kind))
        for kind in ("fully_connected", "conv2d", "depthwise_conv2d")
    },
}
