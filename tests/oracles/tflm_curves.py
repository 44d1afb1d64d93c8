"""Sigmoid and tanh of tflite-micro: int8 by table, int16 by its own interpolated table."""

import numpy as np
from tflm_models import Tensor, build_model, run_model
from tflm_replicas import curve_multiplier, sigmoid_int16, tanh_int16
from vectors import clear_of_ties, random_scale

ALL_INT16 = np.arange(-32768, 32768).astype(np.int16)
GATE_SCALE = np.float32(2.0**-12)
Q15_SCALE = np.float32(2.0**-15)


def run_curve(op_name, x, x_scale, x_zero_point, y_scale, y_zero_point):
    tensors = [
        Tensor(x.dtype, x.shape, x_scale, x_zero_point),
        Tensor(x.dtype, x.shape, y_scale, y_zero_point),
    ]
    model = build_model(op_name, None, {}, tensors[:1], tensors[1], version=2)
    return run_model(model, x)


def gate_table():
    """The runtime's 256-entry table of sigmoid(i / 24) in 0.16, read out through TANH.

    It is not the correctly rounded one. An input scale just above 2 / (3 * 2^12) makes the table
    position exactly 2 x, and TANH returns entry - 2^15 there. The last entry is beyond reach.
    """
    scale = np.nextafter(np.float32(2 / (3 * 4096)), np.float32(1))
    x = (128 * np.arange(255)).astype(np.int16)
    y = run_curve("TANH", x, scale, 0, Q15_SCALE, 0)
    return np.append(y.astype(np.int64) + 32768, 65535)


def round_half_away(values):
    return np.sign(values) * np.floor(np.abs(values) + 0.5)


def curve_int8(random, collector, op_name, function, y_scale, y_zero_point):
    """All codes clear of ties under many scales and zero points; the runtime makes its table in float32."""
    for _ in range(96 * collector.bulk):
        x_scale = np.float32(random_scale(random, -9, -1))
        x_zero_point = int(random.integers(-128, 128))
        real = function((np.arange(-128, 128) - x_zero_point) * np.float64(x_scale)) / np.float64(y_scale)
        kept = clear_of_ties(real) | (real == 0)
        codes = np.arange(-128, 128)[kept].astype(np.int8)
        y = run_curve(op_name, codes, x_scale, x_zero_point, y_scale, y_zero_point)
        expected = round_half_away(real[kept]) + y_zero_point
        collector.prove(y, np.clip(expected, -128, 127).astype(np.int64), op_name)
        collector.add(
            x=codes,
            x_scale=x_scale,
            x_zero_point=np.int32(x_zero_point),
            y_scale=np.float32(y_scale),
            y_zero_point=np.int32(y_zero_point),
            y=y,
        )


def curve_int16(random, collector, op_name, replica):
    """Every input is compared; stored are those of `arange(-32768, 32768, x_step)`."""
    table, step = gate_table(), 13 if collector.bulk == 1 else 1
    # The step already makes large files 13 times longer.
    scales = [2.0**-11, 2.0**-13, *random_scale(random, -15, -10, 10 * -(-collector.bulk // 13))]
    for x_scale in np.float32(scales):
        y = run_curve(op_name, ALL_INT16, x_scale, 0, Q15_SCALE, 0)
        multiplier, right_shift = curve_multiplier(x_scale)
        collector.prove(y, replica(ALL_INT16, table, multiplier, right_shift), op_name)
        collector.add(
            x_scale=x_scale,
            x_step=np.int32(step),
            input_multiplier=np.int32(multiplier),
            input_right_shift=np.int32(right_shift),
            y=y[::step],
        )
    collector.constants["table"] = table.astype(np.uint16)


def gate_curves(random, collector):
    """Both curves at the LSTM's gate format, Q3.12 in and Q0.15 out, for all 65536 inputs."""
    table = gate_table()
    operators = {"sigmoid": ("LOGISTIC", sigmoid_int16), "tanh": ("TANH", tanh_int16)}
    for name, (op_name, replica) in operators.items():
        y = run_curve(op_name, ALL_INT16, GATE_SCALE, 0, Q15_SCALE, 0)
        collector.prove(y, replica(ALL_INT16, table), op_name)
        collector.constants[f"{name}_q3_12"] = y
    collector.constants["table"] = table.astype(np.uint16)


def logistic(x):
    return 1 / (1 + np.exp(-x))


OPERATORS = {
    "logistic_int8": (
        "exact",
        lambda *args: curve_int8(*args, "LOGISTIC", logistic, 2.0**-8, -128),
    ),
    "tanh_int8": ("exact", lambda *args: curve_int8(*args, "TANH", np.tanh, 2.0**-7, 0)),
    "logistic_int16": ("table", lambda *args: curve_int16(*args, "LOGISTIC", sigmoid_int16)),
    "tanh_int16": ("table", lambda *args: curve_int16(*args, "TANH", tanh_int16)),
    "gate_curves": ("table", gate_curves),
}
