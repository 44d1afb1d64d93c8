"""tflite-micro's own integer formulas: gate curves, element-wise operators, pooling and LSTM."""

import numpy as np
from replicas import (
    quantize_multiplier,
    quantize_multipliers,
    requantise_double,
    requantise_double_m16,
    saturate,
    windows,
)

ADD_HEADROOM = 20
GATE_FRACTION_BITS = 12


def curve_input(x, input_multiplier, right_shift):
    """Bring int16 codes to the table's grid: 3 * 2^12 steps per unit."""
    rounding = (1 << right_shift) >> 1
    return (np.asarray(x, np.int64) * input_multiplier + rounding) >> right_shift


def curve_multiplier(scale):
    """(multiplier, right shift) that LOGISTIC and TANH int16 use for a float32 input scale."""
    multiplier, right_shift = float(scale) * 2.0**GATE_FRACTION_BITS * 3, 0
    while multiplier <= 32767 / 2 and right_shift <= 30:
        multiplier, right_shift = multiplier * 2, right_shift + 1
    return int(multiplier), right_shift


def interpolate(table, magnitude, fraction_bits):
    """Linear interpolation of the unsigned table; beyond its end it stays at the last value."""
    index = np.minimum(magnitude >> fraction_bits, table.size - 2)
    fraction = magnitude & ((1 << fraction_bits) - 1)
    low, high = table[index], table[index + 1]
    return (low << fraction_bits) + fraction * (high - low)


def sigmoid_int16(x, table, input_multiplier=3, right_shift=0):
    """Sigmoid in Q0.15 from the 16-bit unsigned table of sigmoid(i / 24)."""
    grid = curve_input(x, input_multiplier, right_shift)
    magnitude = np.abs(grid)
    result = np.where((magnitude >> 9) >= 255, 0x7FFF << 10, interpolate(table, magnitude, 9))
    result = np.where(grid >= 0, result + (1 << 9), (1 << 25) - result + (1 << 9) - 1)
    return result >> 10


def tanh_int16(x, table, input_multiplier=3, right_shift=0):
    """tanh(v) = 2 sigmoid(2 v) - 1 in Q0.15, from the same table."""
    grid = curve_input(x, input_multiplier, right_shift)
    magnitude = np.abs(grid)
    result = np.where((magnitude >> 8) >= 255, 0xFFFF << 8, interpolate(table, magnitude, 8))
    half, rounding = 1 << 23, 1 << 7
    result = np.where(grid >= 0, result - half + rounding, half - result + rounding - 1)
    return result >> 8


def add_parameters(a_scale, b_scale, y_scale):
    """Multipliers and shifts of both operands and of the sum, for ADD int8."""
    twice_larger = 2 * max(float(a_scale), float(b_scale))
    return quantize_multipliers(
        [
            float(a_scale) / twice_larger,
            float(b_scale) / twice_larger,
            twice_larger / ((1 << ADD_HEADROOM) * float(y_scale)),
        ]
    )


def scaled_operands(a, b, multiplier, shift):
    """Both operands of ADD or SUB int8 at their common scale; zero points are already removed."""
    return [
        requantise_double(np.asarray(x, np.int64) << ADD_HEADROOM, multiplier[i], shift[i])
        for i, x in enumerate((a, b))
    ]


def pool_counts(ones, kernel, stride):
    """How many real pixels each window holds; `ones` is the padded mask of the image."""
    return sum(taps for _, _, taps in windows(ones, kernel, stride, (1, 1)))


def average_pool(padded, ones, kernel, stride):
    """Integer mean over real pixels, half away from zero; codes keep their zero point."""
    total = sum(taps for _, _, taps in windows(padded, kernel, stride, (1, 1)))
    count = pool_counts(ones, kernel, stride)
    return np.sign(total) * ((np.abs(total) + count // 2) // count)


def lstm_parameters(fields):
    """Every multiplier of the cell, by name, from float64 products of the float32 scales.

    Multipliers from float32 products differ in their last bits and gave the same outputs.
    """
    cell_scale = 2.0 ** -int(fields["cell_fraction_bits"])
    parameters = {}
    for name, operand in (("input", "x"), ("recurrent", "h")):
        product = np.float64(fields[f"{operand}_scale"]) * fields[f"{name}_weights_scale"]
        pair = quantize_multipliers(product * 2.0**GATE_FRACTION_BITS)
        parameters[f"{name}_multiplier"], parameters[f"{name}_shift"] = pair
    real = {
        "forget_cell": 2.0**-15,
        "input_cell": 2.0**-30 / cell_scale,
        "hidden": 2.0**-30 / float(fields["h_scale"]),
    }
    for name, value in real.items():
        multiplier, shift = quantize_multiplier(value)
        parameters[f"{name}_multiplier"] = np.int32(multiplier)
        parameters[f"{name}_shift"] = np.int32(shift)
    return parameters


def lstm_gate(fields, gate, x, h):
    """sat16(sat16(rescale(Wx + b)) + sat16(rescale(Rh))) in Q3.12."""
    parts = []
    for name, operand in (("input", x), ("recurrent", h)):
        sums = operand @ fields[f"{name}_weights"][gate].astype(np.int64).T
        if name == "input":
            sums = sums + fields["bias"][gate]
        rescale = requantise_double_m16 if fields["x"].dtype == np.int16 else requantise_double
        multiplier, shift = fields[f"{name}_multiplier"][gate], fields[f"{name}_shift"][gate]
        parts.append(saturate(rescale(sums, multiplier, shift), 16))
    return saturate(parts[0] + parts[1], 16)


def lstm_tanh_of_cell(cell, fraction_bits, table):
    """tanh of the cell state, whose format is Q(15 - n).n; coarser than Q3.12 shifts left."""
    left = GATE_FRACTION_BITS - int(fraction_bits)
    if left >= 0:
        return tanh_int16(cell, table, 3 << left, 0)
    return tanh_int16(cell, table, 3, -left)


def lstm(fields, table):
    """Outputs of the whole sequence, batch x time x units; gates in order i, f, g, o."""
    x = fields["x"].astype(np.int64) - fields["x_zero_point"]
    batch, steps, units = x.shape[0], x.shape[1], fields["bias"].shape[1]
    bits = 8 * fields["x"].dtype.itemsize
    h, cell = np.zeros((2, batch, units), np.int64)
    outputs = []
    for step in range(steps):
        gates = [lstm_gate(fields, gate, x[:, step], h) for gate in range(4)]
        i, f, o = (sigmoid_int16(gates[gate], table) for gate in (0, 1, 3))
        g = tanh_int16(gates[2], table)
        kept = _rescaled(fields, "forget_cell", f * cell)
        new = _rescaled(fields, "input_cell", i * g)
        cell = saturate(saturate(kept, 16) + saturate(new, 16), 16)
        squashed = lstm_tanh_of_cell(cell, fields["cell_fraction_bits"], table)
        h = _rescaled(fields, "hidden", o * squashed)
        code = saturate(h + fields["h_zero_point"], bits)
        h = code - fields["h_zero_point"]
        outputs.append(code)
    return np.stack(outputs, axis=1)


def _rescaled(fields, name, product):
    return requantise_double(product, fields[f"{name}_multiplier"], fields[f"{name}_shift"])
