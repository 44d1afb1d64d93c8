"""UNIDIRECTIONAL_SEQUENCE_LSTM of tflite-micro with int8 or int16 inputs and outputs."""

import numpy as np
from tflm_curves import gate_table
from tflm_models import Tensor, build_model, constant, run_model
from tflm_replicas import lstm, lstm_parameters

PEEPHOLES = [None] * 3
PROJECTION = [None] * 2
LAYER_NORM = [None] * 4


def quantisation(random, case, bits):
    """Scales of input, output and cell; the cell's 2^-n sweeps n over 9..15."""
    x_scale = 2.0**-15 * 8 if bits == 16 else random.uniform(0.01, 0.06)
    h_scale = 2.0**-15 if bits == 16 else random.choice([2.0**-7, 0.0061, 0.004])
    zero_points = random.integers(-20, 21, 2) if bits == 8 else (0, 0)
    return {
        "x_scale": np.float32(x_scale),
        "h_scale": np.float32(h_scale),
        "x_zero_point": np.int32(zero_points[0]),
        "h_zero_point": np.int32(zero_points[1]),
        "cell_fraction_bits": np.int32(9 + case % 7),
    }


def weight_fields(random, gain, fields, width, units, bits):
    """Weights of the four gates, whose sums reach about `gain` in real units."""
    reach = {"input": 1 << (bits - 1), "recurrent": 1 / float(fields["h_scale"])}
    reach["input"] *= float(fields["x_scale"])
    reach["recurrent"] *= float(fields["h_scale"])
    weights = {}
    for name, size in (("input", width), ("recurrent", units)):
        codes = random.integers(-127, 128, (4, units, size)).astype(np.int8)
        scale = gain * random.uniform(0.7, 1.4, 4) / (42 * reach[name] * np.sqrt(size))
        weights[f"{name}_weights"] = codes
        weights[f"{name}_weights_scale"] = scale.astype(np.float32)
    bias_scale = fields["x_scale"] * weights["input_weights_scale"]
    bias = random.uniform(-gain, gain, (4, units)) / bias_scale[:, None]
    return {**weights, "bias": np.rint(bias).astype(f"int{bits * 4}"), "bias_scale": bias_scale}


def lstm_fields(random, case, bits, bulk):
    """One random network and input; every fourth has large gains, so that the cell saturates."""
    width, units = (int(size) for size in random.integers(1, [25, 21]))
    batch, steps = int(random.integers(1, 3)), int(random.integers(1, 25))
    fields = quantisation(random, case, bits)
    gain = 6.0 if case % 4 == 3 else 2.0
    fields |= weight_fields(random, gain, fields, width, units, bits)
    limit = 1 << (bits - 1)
    fields["x"] = random.integers(-limit, limit, (batch * bulk, steps, width)).astype(f"int{bits}")
    return fields | lstm_parameters(fields)


def gate_constants(fields, name):
    weights, scales = fields[f"{name}_weights"], fields[f"{name}_weights_scale"]
    return [constant(codes, scale) for codes, scale in zip(weights, scales, strict=True)]


def run_lstm(fields):
    """The operator's 24 operands in the runtime's order, gates i, f, g, o."""
    x, bias = fields["x"], fields["bias"]
    batch, steps, units = x.shape[0], x.shape[1], bias.shape[1]
    output = Tensor(x.dtype, (batch, steps, units), fields["h_scale"], fields["h_zero_point"])
    hidden = Tensor(x.dtype, (batch, units), fields["h_scale"], fields["h_zero_point"])
    cell = Tensor(np.int16, (batch, units), 2.0 ** -int(fields["cell_fraction_bits"]))
    hidden.variable = cell.variable = True
    operands = [
        Tensor(x.dtype, x.shape, fields["x_scale"], fields["x_zero_point"]),
        *gate_constants(fields, "input"),
        *gate_constants(fields, "recurrent"),
        *PEEPHOLES,
        *[constant(row, scale) for row, scale in zip(bias, fields["bias_scale"], strict=True)],
        *PROJECTION,
        hidden,
        cell,
        *LAYER_NORM,
    ]
    name = "UnidirectionalSequenceLSTMOptions"
    options = {"fusedActivationFunction": 4, "timeMajor": False}
    model = build_model("UNIDIRECTIONAL_SEQUENCE_LSTM", name, options, operands, output, version=3)
    return run_model(model, x)


def lstm_cases(random, collector, bits, count):
    table = gate_table()
    for case in range(count):
        fields = lstm_fields(random, case, bits, collector.bulk)
        y = run_lstm(fields)
        collector.prove(y, lstm(fields, table), f"lstm case {case}")
        collector.add(**fields, y=y)
    collector.constants["table"] = table.astype(np.uint16)


OPERATORS = {
    "lstm_8x8_16": ("double", lambda *args: lstm_cases(*args, 8, 56)),
    "lstm_16x8_16": ("double_m16", lambda *args: lstm_cases(*args, 16, 36)),
}
