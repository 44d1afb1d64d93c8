"""Small .tflite files, one operator each (and a few of several), with what tflite-micro makes of them.

    .oracles/tflm/bin/python tests/oracles/tflm_files.py conv_2d 7 OUT.npz
    .oracles/tflm/bin/python tests/oracles/tflm_files.py --list

A case holds `model` (the bytes of the file), `steps` (how often it ran), and `x` and `y`: the bytes of
all inputs and all outputs, step after step. No replica stands beside the runtime here: the reader of
such files is what is tested.
"""

import importlib.metadata

import flatbuffers
import numpy as np
import tflm_models
import tflm_wakeword
import vectors
from tflite_micro import runtime
from tflm_models import Tensor, schema
from vectors import random_scale

SAME, VALID = 0, 1
TYPES = {**tflm_models.TENSOR_TYPES, np.dtype(np.uint8): schema.TensorType.UINT8}
FLOAT = "float"  # the scale of a tensor of reals
ARENA_BYTES = 1 << 20


class FileBuilder:
    """Collects tensors and operators, then makes the bytes of a file."""

    def __init__(self):
        self.buffers, self.tensors, self.operators, self.codes = [schema.BufferT()], [], [], []
        self.inputs, self.kinds, self.init = [], [], None

    def tensor(self, dtype, shape, scale=1.0, zero_point=0, data=None, axis=0, variable=False):
        kind = Tensor(dtype, tuple(int(n) for n in shape), scale, zero_point, data, axis, variable)
        raw = None if data is None else np.frombuffer(data.tobytes(), np.uint8)
        self.buffers.append(schema.BufferT(data=raw))
        held = schema.TensorT(
            shape=list(kind.shape),
            type=TYPES[np.dtype(dtype)],
            buffer=len(self.buffers) - 1,
            name=f"tensor_{len(self.tensors)}",
            isVariable=variable,
        )
        if scale is not FLOAT:
            scales = [float(s) for s in np.atleast_1d(scale)]
            held.quantization = schema.QuantizationParametersT(
                scale=scales, zeroPoint=[int(zero_point)] * len(scales), quantizedDimension=axis
            )
        self.tensors.append(held)
        self.kinds.append(kind)
        return len(self.tensors) - 1

    def input(self, *kind):
        self.inputs.append(self.tensor(*kind))
        return self.inputs[-1]

    def constant(self, data, scale=1.0, zero_point=0, axis=0):
        data = np.asarray(data)
        return self.tensor(data.dtype.type, data.shape, scale, zero_point, data, axis)

    def numbers(self, *values):
        """Whole numbers (axes, sizes), which have no scale."""
        data = np.array(values, np.int32)
        return self.tensor(np.int32, data.shape, FLOAT, data=data)

    def resource(self):
        held = schema.TensorT(
            shape=[], type=schema.TensorType.RESOURCE, buffer=0, name=f"v{len(self.tensors)}"
        )
        self.tensors.append(held)
        self.kinds.append(None)
        return len(self.tensors) - 1

    def op(self, name, inputs, outputs, options_name=None, options=None, version=1):
        code = getattr(schema.BuiltinOperator, name)
        self.codes.append(schema.OperatorCodeT(min(code, 127), version=version, builtinCode=code))
        self.operators.append(
            schema.OperatorT(
                opcodeIndex=len(self.codes) - 1,
                inputs=list(inputs),
                outputs=list(outputs),
                builtinOptionsType=getattr(schema.BuiltinOptions, options_name or "NONE"),
                builtinOptions=getattr(schema, f"{options_name}T")(**(options or {}))
                if options_name
                else None,
            )
        )

    def bytes(self, outputs):
        self.outputs = list(outputs)
        graphs = [
            schema.SubGraphT(
                tensors=self.tensors,
                inputs=self.inputs,
                outputs=self.outputs,
                operators=self.operators,
                name="main",
            )
        ]
        if self.init is not None:
            graphs.append(self.init)
        model = schema.ModelT(version=3, operatorCodes=self.codes, subgraphs=graphs, buffers=self.buffers)
        builder = flatbuffers.Builder(1 << 12)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def drawn(random, kind):
    """Codes of the whole range, the ends among them; reals beyond the range of codes."""
    dtype = np.dtype(kind.dtype)
    if dtype == np.float32:
        return random.normal(0, 40, kind.shape).astype(np.float32)
    ends = np.iinfo(dtype)
    return random.integers(ends.min, ends.max, kind.shape, endpoint=True).astype(dtype)


def keep(random, collector, file, outputs, steps=1):
    """Run a file on random inputs and keep it with them and the outputs."""
    model = file.bytes(outputs)
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=ARENA_BYTES)
    taken, given, count, steps = [], [], 0, steps * collector.bulk
    for _ in range(steps):
        for position, index in enumerate(file.inputs):
            values = drawn(random, file.kinds[index])
            interpreter.set_input(values, position)
            taken.append(values.tobytes())
        interpreter.invoke()
        for position in range(len(file.outputs)):
            values = np.array(interpreter.get_output(position))
            given.append(values.tobytes())
            count += values.size
    parts = {"model": model, "x": b"".join(taken), "y": b"".join(given)}
    parts = {name: np.frombuffer(part, np.uint8) for name, part in parts.items()}
    collector.values_compared += count
    collector.add(**parts, steps=np.int32(steps))


def zero_point(random):
    return int(random.integers(-128, 128))


# --- layers


def weights(random, shape, channels, axis, depth):
    codes = random.integers(-127, 128, shape).astype(np.int8)
    size = channels if random.integers(2) else 1
    return codes, np.float32(random.uniform(0.5, 1.5, size) / (64 * np.sqrt(depth))), axis


def layer_scales(random, bits, dtype=np.int8):
    if bits == 16:
        return np.float32(2.0**-11), 0, np.float32(random.uniform(0.5, 2) * 2.0**-11), 0
    return (
        np.float32(random.uniform(0.01, 0.1)),
        zero_point(random),
        np.float32(random.uniform(0.01, 0.1)),
        zero_point(random),
    )


def bias_of(random, channels, x_scale, w_scale, bits):
    codes = random.uniform(-2, 2, channels) / (x_scale * w_scale)
    return np.rint(codes).astype(np.int32 if bits == 8 else np.int64)


def window(random, case):
    kernel = random.integers(1, 4, 2)
    stride, dilation = random.integers(1, 4, 2), random.integers(1, 3, 2)
    padding = SAME if case % 2 else VALID
    size = random.integers(1, 6, 2) + (kernel - 1) * dilation
    reach = (kernel - 1) * dilation + 1
    out = -(-size // stride) if padding == SAME else (size - reach) // stride + 1
    options = {
        "padding": padding,
        "strideH": int(stride[0]),
        "strideW": int(stride[1]),
        "dilationHFactor": int(dilation[0]),
        "dilationWFactor": int(dilation[1]),
        "fusedActivationFunction": case % 4,
    }
    return kernel, size, out, options


def conv_2d(random, collector):
    """SAME and VALID, strides, dilations, groups, all fused activations, int8 and int16."""
    for case in range(24):
        bits = 16 if case % 6 == 5 else 8
        kernel, size, out, options = window(random, case)
        groups, inputs, outputs = int(random.integers(1, 3)), int(random.integers(1, 4)), 0
        groups = 1 if bits == 16 else groups
        outputs = groups * int(random.integers(1, 4))
        sx, zx, sy, zy = layer_scales(random, bits)
        dtype = np.int8 if bits == 8 else np.int16
        codes, sw, axis = weights(random, (outputs, *kernel, inputs), outputs, 0, kernel.prod() * inputs)
        file = FileBuilder()
        x = file.input(dtype, (1, *size, inputs * groups), sx, zx)
        operands = [x, file.constant(codes, sw, axis=axis)]
        if case % 5:
            operands.append(file.constant(bias_of(random, outputs, sx, sw, bits), sx * sw))
        y = file.tensor(dtype, (1, *out, outputs), sy, zy)
        file.op("CONV_2D", operands, [y], "Conv2DOptions", options, 3)
        keep(random, collector, file, [y], 16)


def depthwise_conv_2d(random, collector):
    for case in range(20):
        bits = 16 if case % 6 == 5 else 8
        kernel, size, out, options = window(random, case)
        inputs, multiple = int(random.integers(1, 5)), int(random.integers(1, 4))
        options["depthMultiplier"] = multiple
        outputs = inputs * multiple
        sx, zx, sy, zy = layer_scales(random, bits)
        dtype = np.int8 if bits == 8 else np.int16
        codes, sw, axis = weights(random, (1, *kernel, outputs), outputs, 3, kernel.prod())
        file = FileBuilder()
        x = file.input(dtype, (1, *size, inputs), sx, zx)
        bias = file.constant(bias_of(random, outputs, sx, sw, bits), sx * sw)
        y = file.tensor(dtype, (1, *out, outputs), sy, zy)
        file.op(
            "DEPTHWISE_CONV_2D",
            [x, file.constant(codes, sw, axis=axis), bias],
            [y],
            "DepthwiseConv2DOptions",
            options,
            3,
        )
        keep(random, collector, file, [y], 16)


def transpose_conv(random, collector):
    for case in range(20):
        kernel, stride = random.integers(1, 5, 2), random.integers(1, 4, 2)
        size = random.integers(1, 6, 2)
        padding = SAME if case % 2 else VALID
        out = size * stride if padding == SAME else (size - 1) * stride + kernel
        inputs, outputs = (int(n) for n in random.integers(1, 4, 2))
        sx, zx, sy, zy = layer_scales(random, 8)
        codes, sw, axis = weights(random, (outputs, *kernel, inputs), outputs, 0, kernel.prod() * inputs)
        file = FileBuilder()
        x = file.input(np.int8, (1, *size, inputs), sx, zx)
        operands = [file.numbers(1, *out, outputs), file.constant(codes, sw, axis=axis), x]
        if case % 3:
            operands.append(file.constant(bias_of(random, outputs, sx, sw, 8), sx * sw))
        y = file.tensor(np.int8, (1, *out, outputs), sy, zy)
        options = {
            "padding": padding,
            "strideH": int(stride[0]),
            "strideW": int(stride[1]),
            "fusedActivationFunction": case % 2,
        }
        file.op("TRANSPOSE_CONV", operands, [y], "TransposeConvOptions", options, 3)
        keep(random, collector, file, [y], 6)


def fully_connected(random, collector):
    """With and without bias, per tensor and per channel, flattened images, int8 and int16."""
    for case in range(32):
        bits = 16 if case % 6 == 5 else 8
        depth, outputs, rows = (int(n) for n in random.integers(1, [40, 9, 5]))
        sx, zx, sy, zy = layer_scales(random, bits)
        dtype = np.int8 if bits == 8 else np.int16
        codes, sw, _ = weights(random, (outputs, depth), outputs, 0, depth)
        zw = zero_point(random) // 8 if bits == 8 and sw.size == 1 and case % 4 == 1 else 0
        file = FileBuilder()
        shape = (rows, depth) if case % 3 else (rows, depth, 1)
        x = file.input(dtype, shape, sx, zx)
        operands = [x, file.constant(codes, sw, zw)]
        if case % 4:
            operands.append(file.constant(bias_of(random, outputs, sx, sw, bits), sx * sw))
        y = file.tensor(dtype, (rows, outputs), sy, zy)
        options = {"fusedActivationFunction": case % 4}
        file.op("FULLY_CONNECTED", operands, [y], "FullyConnectedOptions", options, 4)
        keep(random, collector, file, [y], 16)


def batch_matmul(random, collector):
    for case in range(24):
        batch, rows, depth, columns = (int(n) for n in random.integers(1, 7, 4))
        adjoint = bool(case & 1), bool(case & 2)
        a_shape = (batch, depth, rows) if adjoint[0] else (batch, rows, depth)
        b_shape = (batch, columns, depth) if adjoint[1] else (batch, depth, columns)
        file = FileBuilder()
        scales = random.uniform(0.01, 0.1, 3)
        scales[2] *= 4
        a, b = (
            file.input(np.int8, shape, np.float32(s), zero_point(random))
            for shape, s in zip((a_shape, b_shape), scales[:2], strict=True)
        )
        y = file.tensor(np.int8, (batch, rows, columns), np.float32(scales[2]), zero_point(random))
        options = {"adjX": adjoint[0], "adjY": adjoint[1]}
        file.op("BATCH_MATMUL", [a, b], [y], "BatchMatMulOptions", options, 1)
        keep(random, collector, file, [y], 8)


def pools(random, collector):
    for case in range(20):
        kernel, size, _, options = window(random, case)
        stride = np.array([options["strideH"], options["strideW"]])
        out = -(-size // stride) if options["padding"] == SAME else (size - kernel) // stride + 1
        options = {k: v for k, v in options.items() if not k.startswith("dilation")}
        options |= {"filterHeight": int(kernel[0]), "filterWidth": int(kernel[1])}
        codes = np.float32(random.uniform(0.01, 0.1)), zero_point(random)
        channels = int(random.integers(1, 5))
        file = FileBuilder()
        x = file.input(np.int8, (1, *size, channels), *codes)
        y = file.tensor(np.int8, (1, *out, channels), *codes)
        name = "MAX_POOL_2D" if case % 4 < 2 else "AVERAGE_POOL_2D"
        file.op(name, [x], [y], "Pool2DOptions", options, 2)
        keep(random, collector, file, [y], 8)


# --- arithmetic


def elementwise(random, collector):
    """ADD, SUB, MUL with broadcasting, fused activations and far scales."""
    for case in range(48):
        name, options = [("ADD", "AddOptions"), ("SUB", "SubOptions"), ("MUL", "MulOptions")][case % 3]
        file = FileBuilder()
        scales = np.float32(random.uniform(0.5, 1, 3) * 2.0 ** random.integers(-7, -2, 3))
        if name == "MUL":
            scales[2] = scales[0] * scales[1] * np.float32(random.uniform(1, 200))
        else:
            scales[2] = max(scales[:2]) * np.float32(random.uniform(0.6, 3))
        shapes = [(5, 17), (5, 17)] if case % 2 else [(5, 17), (1, 17)]
        a, b = (
            file.input(np.int8, shape, s, zero_point(random))
            for shape, s in zip(shapes, scales[:2], strict=True)
        )
        y = file.tensor(np.int8, (5, 17), scales[2], zero_point(random))
        file.op(name, [a, b], [y], options, {"fusedActivationFunction": case // 3 % 4}, 2)
        keep(random, collector, file, [y], 3)


def extremes(random, collector):
    for case in range(8):
        codes = np.float32(random.uniform(0.01, 0.1)), zero_point(random)
        file = FileBuilder()
        a, b = (
            file.input(np.int8, shape, *codes) for shape in ((3, 11), (3, 11) if case % 4 < 2 else (1, 11))
        )
        y = file.tensor(np.int8, (3, 11), *codes)
        name = "MAXIMUM" if case % 2 else "MINIMUM"
        file.op(name, [a, b], [y], "MaximumMinimumOptions", {}, 1)
        keep(random, collector, file, [y], 4)


def all_codes(file, scale, zero):
    return file.input(np.int8, (32, 32), scale, zero)


def activations(random, collector):
    """RELU with and without other codes, RELU6, LEAKY_RELU, HARD_SWISH; every code is likely among 1024."""
    for case in range(40):
        sx, zx = np.float32(random.uniform(0.02, 0.1)), zero_point(random)
        sy, zy = np.float32(random.uniform(0.5, 3) * sx), zero_point(random)
        name, options, fields = [
            ("RELU", None, {}),
            ("RELU6", None, {}),
            ("LEAKY_RELU", "LeakyReluOptions", {"alpha": float(random.uniform(-0.2, 1.5))}),
            ("HARD_SWISH", "HardSwishOptions", {}),
        ][case % 4]
        if name == "RELU6" or (name == "RELU" and case % 8):
            sy, zy = sx, zx
        file = FileBuilder()
        x = all_codes(file, sx, zx)
        y = file.tensor(np.int8, (32, 32), sy, zy)
        file.op(name, [x], [y], options, fields, 1)
        keep(random, collector, file, [y])


def curves(random, collector):
    """LOGISTIC, TANH of int8 and int16, SOFTMAX of int8."""
    for case in range(20):
        name = ["LOGISTIC", "TANH", "LOGISTIC", "TANH", "SOFTMAX"][case % 5]
        wide = case % 5 in (2, 3)
        sx = np.float32(random_scale(random, -15, -11) if wide else random_scale(random, -7, -2))
        sy, zy = (2.0**-7, 0) if name == "TANH" else (2.0**-8, -128)
        dtype, sy, zy = (np.int16, 2.0**-15, 0) if wide else (np.int8, sy, zy)
        file = FileBuilder()
        x = file.input(dtype, (24, 32), sx, 0 if wide else zero_point(random))
        y = file.tensor(dtype, (24, 32), np.float32(sy), zy)
        softmax = name == "SOFTMAX"
        file.op(name, [x], [y], "SoftmaxOptions" if softmax else None, {"beta": 1.0} if softmax else {}, 2)
        keep(random, collector, file, [y])


def reductions(random, collector):
    for case in range(40):
        name = ["MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"][case % 4]
        shape = tuple(int(n) for n in random.integers(1, 8, 4))
        axes = sorted(int(a) for a in random.choice(4, random.integers(1, 4), replace=False))
        keep_dims = bool(random.integers(2))
        sx, zx = np.float32(random.uniform(0.02, 0.1)), zero_point(random)
        sy, zy = np.float32(random.uniform(0.3, 1.5) * sx), zero_point(random)
        if name == "SUM":
            sy = sy * np.float32(8)
        elif name != "MEAN":
            sy, zy = sx, zx
        out = [1 if i in axes else n for i, n in enumerate(shape) if keep_dims or i not in axes]
        file = FileBuilder()
        x = file.input(np.int8, shape, sx, zx)
        y = file.tensor(np.int8, out, sy, zy)
        signed = [a - 4 * int(random.integers(2)) for a in axes]
        file.op(name, [x, file.numbers(*signed)], [y], "ReducerOptions", {"keepDims": keep_dims}, 2)
        keep(random, collector, file, [y], 4)


def edges(random, collector):
    """QUANTIZE between int8, uint8, int16, from reals; DEQUANTIZE."""
    pairs = [
        (np.int8, np.int8),
        (np.int8, np.uint8),
        (np.uint8, np.int8),
        (np.int8, np.int16),
        (np.int16, np.int8),
        (np.int16, np.int16),
        (np.float32, np.int8),
        (np.float32, np.int16),
        (np.int8, np.float32),
        (np.int16, np.float32),
        (np.uint8, np.float32),
    ]
    for case in range(3 * len(pairs)):
        file, ends = FileBuilder(), []
        for dtype in pairs[case % len(pairs)]:
            scale = np.float32(
                random_scale(random, -14, -10) if dtype is np.int16 else random_scale(random, -6, -2)
            )
            zero = {np.int8: zero_point(random), np.uint8: zero_point(random) + 128}.get(dtype, 0)
            ends.append((dtype, (16, 24), FLOAT if dtype is np.float32 else scale, zero))
        if case >= 2 * len(pairs) and case % len(pairs) < 3:
            # The same codes, but for the 128 that uint8 moves them.
            moved = [128 if kind[0] is np.uint8 else 0 for kind in ends]
            ends[1] = (ends[1][0], ends[1][1], ends[0][2], ends[0][3] - moved[0] + moved[1])
        x, y = file.input(*ends[0]), file.tensor(*ends[1])
        reals = ends[1][0] is np.float32
        file.op("DEQUANTIZE" if reals else "QUANTIZE", [x], [y], version=2)
        keep(random, collector, file, [y])


# --- movement


def movement(random, collector):
    """RESHAPE, TRANSPOSE, PAD, CONCATENATION, PACK, UNPACK, SPLIT, SPLIT_V, EXPAND_DIMS, SQUEEZE."""
    for case in range(20):
        codes = np.float32(random.uniform(0.01, 0.1)), zero_point(random)
        file = FileBuilder()
        a, b, c, d = (int(n) for n in random.integers(1, 5, 4))
        outputs = MOVES[case % len(MOVES)](file, random, codes, (a, b, c, d))
        keep(random, collector, file, outputs, 2)


def _reshape(file, random, codes, shape):
    a, b, c, d = shape
    x, y = file.input(np.int8, shape, *codes), file.tensor(np.int8, (a * b, c * d), *codes)
    file.op("RESHAPE", [x, file.numbers(a * b, -1)], [y], "ReshapeOptions", {"newShape": [a * b, -1]})
    return [y]


def _transpose(file, random, codes, shape):
    perm = [int(p) for p in random.permutation(4)]
    x, y = file.input(np.int8, shape, *codes), file.tensor(np.int8, [shape[p] for p in perm], *codes)
    file.op("TRANSPOSE", [x, file.numbers(*perm)], [y], "TransposeOptions", {}, 2)
    return [y]


def _pad(file, random, codes, shape):
    widths = random.integers(0, 3, (4, 2)).astype(np.int32)
    x = file.input(np.int8, shape, *codes)
    y = file.tensor(np.int8, np.array(shape) + widths.sum(axis=1), *codes)
    file.op("PAD", [x, file.tensor(np.int32, (4, 2), FLOAT, data=widths)], [y], "PadOptions", {}, 2)
    return [y]


def _concatenation(file, random, codes, shape):
    a, b, c, d = shape
    parts = [file.input(np.int8, (a, b, n, d), *codes) for n in (c, 1, 3)]
    y = file.tensor(np.int8, (a, b, c + 4, d), *codes)
    file.op("CONCATENATION", parts, [y], "ConcatenationOptions", {"axis": -2}, 2)
    return [y]


def _concatenation_of_nine(file, random, codes, shape):
    parts = [file.input(np.int8, (2, shape[0]), *codes) for _ in range(9)]
    y = file.tensor(np.int8, (18, shape[0]), *codes)
    file.op("CONCATENATION", parts, [y], "ConcatenationOptions", {"axis": 0}, 2)
    return [y]


def _pack(file, random, codes, shape):
    parts = [file.input(np.int8, shape[:3], *codes) for _ in range(2)]
    y = file.tensor(np.int8, (shape[0], 2, *shape[1:3]), *codes)
    file.op("PACK", parts, [y], "PackOptions", {"valuesCount": 2, "axis": 1}, 2)
    return [y]


def _unpack(file, random, codes, shape):
    x = file.input(np.int8, shape, *codes)
    outputs = [file.tensor(np.int8, (shape[0], *shape[2:]), *codes) for _ in range(shape[1])]
    file.op("UNPACK", [x], outputs, "UnpackOptions", {"num": shape[1], "axis": 1}, 2)
    return outputs


def _split(file, random, codes, shape):
    a, b, c, d = shape
    x = file.input(np.int8, (a, b, 3 * c, d), *codes)
    outputs = [file.tensor(np.int8, (a, b, c, d), *codes) for _ in range(3)]
    file.op("SPLIT", [file.numbers(2), x], outputs, "SplitOptions", {"numSplits": 3}, 2)
    return outputs


def _split_v(file, random, codes, shape):
    a, b, c, d = shape
    x = file.input(np.int8, (a, c + b + 1, d), *codes)
    outputs = [file.tensor(np.int8, (a, n, d), *codes) for n in (c, 1, b)]
    operands = [x, file.numbers(c, 1, b), file.numbers(1)]
    file.op("SPLIT_V", operands, outputs, "SplitVOptions", {"numSplits": 3}, 2)
    return outputs


def _axes(file, random, codes, shape):
    x = file.input(np.int8, shape[:3], *codes)
    middle = file.tensor(np.int8, (shape[0], 1, *shape[1:3]), *codes)
    file.op("EXPAND_DIMS", [x, file.numbers(1)], [middle], "ExpandDimsOptions", {})
    y = file.tensor(np.int8, shape[:3], *codes)
    file.op("SQUEEZE", [middle], [y], "SqueezeOptions", {"squeezeDims": [1]})
    return [y]


MOVES = (
    _reshape,
    _transpose,
    _pad,
    _concatenation,
    _concatenation_of_nine,
    _pack,
    _unpack,
    _split,
    _split_v,
    _axes,
)


def strided_slice(random, collector):
    """Limits from either end and beyond it, masks, steps, shrunk axes."""
    for _ in range(24):
        shape = [int(n) for n in random.integers(2, 8, 3)]
        codes = np.float32(random.uniform(0.01, 0.1)), zero_point(random)
        begin_mask, end_mask = (int(n) for n in random.integers(0, 8, 2))
        shrink = int(random.integers(0, 8)) & ~begin_mask if random.integers(2) else 0
        begins, ends, steps, out = [], [], [], []
        for axis, size in enumerate(shape):
            first = int(random.integers(0, size))
            last = int(random.integers(first + 1, size + 1))
            step = 1 if shrink >> axis & 1 else int(random.integers(1, 4))
            low = 0 if begin_mask >> axis & 1 else first
            high = size if end_mask >> axis & 1 else last
            if not shrink >> axis & 1:
                out.append(-(-(high - low) // step))
            begins.append(first - size * int(random.integers(2)))
            ends.append(last if last == size or random.integers(2) else last - size)
            ends[-1] = ends[-1] + 3 if last == size else ends[-1]
            steps.append(step)
        file = FileBuilder()
        x, y = file.input(np.int8, shape, *codes), file.tensor(np.int8, out, *codes)
        operands = [x, *(file.numbers(*values) for values in (begins, ends, steps))]
        options = {"beginMask": begin_mask, "endMask": end_mask, "shrinkAxisMask": shrink}
        file.op("STRIDED_SLICE", operands, [y], "StridedSliceOptions", options, 1)
        keep(random, collector, file, [y], 4)


# --- what is kept from run to run


def variables(random, collector):
    """A shift register and a running sum; with and without first contents; a read after an assignment."""
    for case in range(8):
        codes = np.float32(random.uniform(0.01, 0.1)), zero_point(random)
        file = FileBuilder()
        x = file.input(np.int8, (1, 2, 3), *codes)
        handle = file.resource()
        if case % 2:
            file.init = _initial(file, random, codes)
        file.op("VAR_HANDLE", [], [handle], "VarHandleOptions", {"container": "", "sharedName": "register"})
        held = file.tensor(np.int8, (1, 4, 3), *codes)
        file.op("READ_VARIABLE", [handle], [held], "ReadVariableOptions", {})
        joined = file.tensor(np.int8, (1, 6, 3), *codes)
        file.op("CONCATENATION", [held, x], [joined], "ConcatenationOptions", {"axis": 1}, 2)
        last = file.tensor(np.int8, (1, 4, 3), *codes)
        limits = [file.numbers(0, 2, 0), file.numbers(1, 6, 3), file.numbers(1, 1, 1)]
        file.op("STRIDED_SLICE", [joined, *limits], [last], "StridedSliceOptions", {})
        file.op("ASSIGN_VARIABLE", [handle, last], [], "AssignVariableOptions", {})
        outputs = [joined]
        if case % 4 > 1:
            again = file.tensor(np.int8, (1, 4, 3), *codes)
            file.op("READ_VARIABLE", [handle], [again], "ReadVariableOptions", {})
            total = file.tensor(np.int8, (1, 4, 3), np.float32(codes[0] * 1.5), zero_point(random))
            file.op("ADD", [held, again], [total], "AddOptions", {}, 2)
            outputs.append(total)
        keep(random, collector, file, outputs, 6)


def _initial(file, random, codes):
    """A second subgraph that puts random codes into the variable, called once."""
    data = random.integers(-128, 128, (1, 4, 3)).astype(np.int8)
    main = file.tensors, file.operators, file.kinds
    file.tensors, file.operators, file.kinds = [], [], []
    handle, value = file.resource(), file.constant(data, *codes)
    file.op("VAR_HANDLE", [], [handle], "VarHandleOptions", {"container": "", "sharedName": "register"})
    file.op("ASSIGN_VARIABLE", [handle, value], [], "AssignVariableOptions", {})
    graph = schema.SubGraphT(
        tensors=file.tensors, inputs=[], outputs=[], operators=file.operators, name="init"
    )
    file.tensors, file.operators, file.kinds = main
    file.op("CALL_ONCE", [], [], "CallOnceOptions", {"initSubgraphIndex": 1})
    return graph


def lstm(random, collector):
    """UNIDIRECTIONAL_SEQUENCE_LSTM, 8x8_16 and 16x8_16, over several runs with the states it keeps."""
    for case in range(12):
        wide = case % 3 == 2
        width, units = (int(n) for n in random.integers(1, [20, 17]))
        batch, steps = int(random.integers(1, 3)), int(random.integers(1, 7))
        dtype = np.int16 if wide else np.int8
        x_scale, x_zero = (
            (2.0**-12, 0) if wide else (np.float32(random.uniform(0.01, 0.06)), zero_point(random) // 4)
        )
        hidden = (
            (2.0**-15, 0) if wide else (np.float32(random.choice([2.0**-7, 0.0061])), zero_point(random) // 8)
        )
        file = FileBuilder()
        operands = [file.input(dtype, (batch, steps, width), x_scale, x_zero)]
        scales = []
        for size, reach in ((width, x_scale * (2**15 if wide else 128)), (units, 1.0)):
            for gain in random.uniform(1, 4, 4):
                scales.append(np.float32(gain / (42 * reach * np.sqrt(size))))
                operands.append(
                    file.constant(random.integers(-127, 128, (units, size)).astype(np.int8), scales[-1])
                )
        operands += [-1] * 3
        for scale in scales[:4]:
            bias = np.rint(random.uniform(-2, 2, units) / (x_scale * scale))
            operands.append(file.constant(bias.astype(np.int64 if wide else np.int32), x_scale * scale))
        operands += [-1] * 2
        operands.append(file.tensor(dtype, (batch, units), *hidden, variable=True))
        operands.append(file.tensor(np.int16, (batch, units), 2.0 ** -(9 + case % 7), variable=True))
        operands += [-1] * 4
        y = file.tensor(dtype, (batch, steps, units), *hidden)
        options = {"fusedActivationFunction": 4, "timeMajor": False}
        name = "UNIDIRECTIONAL_SEQUENCE_LSTM"
        file.op(name, operands, [y], "UnidirectionalSequenceLSTMOptions", options, 3)
        keep(random, collector, file, [y], 4)


OPERATORS = {
    function.__name__: ("files", function)
    for function in (
        activations,
        batch_matmul,
        conv_2d,
        curves,
        depthwise_conv_2d,
        edges,
        elementwise,
        extremes,
        fully_connected,
        lstm,
        movement,
        pools,
        reductions,
        strided_slice,
        transpose_conv,
        variables,
    )
} | tflm_wakeword.OPERATORS

if __name__ == "__main__":
    packages = ("tflite_micro", "flatbuffers", "numpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    vectors.run_driver("tflm", versions, OPERATORS)
