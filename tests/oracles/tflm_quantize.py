"""QUANTIZE of tflite-micro: float32 to int8 (half away from zero) and int8 to int8 (double)."""

import numpy as np
import replicas
from tflm_models import Tensor, build_model, run_model
from vectors import random_scale


def run_quantize(x, x_scale, x_zero_point, y_scale, y_zero_point):
    source = Tensor(x.dtype, x.shape, x_scale, x_zero_point)
    target = Tensor(np.int8, x.shape, y_scale, y_zero_point)
    return run_model(build_model("QUANTIZE", None, {}, [source], target, version=2), x)


def quantize_int8(random, collector):
    """Ties of both signs, their float32 neighbours, uniform and far values."""
    for case in range(48 * collector.bulk):
        scale = 2.0 ** -(case // 2 % 12) if case % 2 == 0 else random_scale(random, -12, 3)
        scale, zero_point = np.float32(scale), int(random.integers(-128, 128))
        ties = (np.arange(-260, 260, 2) + 0.5).astype(np.float32) * scale
        beside = np.nextafter(ties, np.float32(np.inf) * random.choice([-1, 1], ties.size))
        uniform = random.uniform(-300, 300, 120) * scale
        x = np.concatenate([ties, beside, uniform, [0.0, -0.0, 1e5 * scale, -1e5 * scale]])
        x = x.astype(np.float32)
        y = run_quantize(x, 1.0, 0, scale, zero_point)
        quotient = (x / scale).astype(np.float64)
        codes = np.sign(quotient) * np.floor(np.abs(quotient) + 0.5) + zero_point
        collector.prove(y, np.clip(codes, -128, 127).astype(np.int64), f"quantize case {case}")
        collector.add(x=x, y_scale=scale, y_zero_point=np.int32(zero_point), y=y)


def requantize_int8(random, collector):
    """All 256 codes to another scale; right shifts -1..8, every other multiplier 1/2."""
    for case in range(120 * collector.bulk):
        right_shift = case // 2 % 10 - 1
        mantissa = 0.5 if case % 2 == 0 else random.uniform(0.5, 1)
        x_scale, y_scale = np.float32(2.0**-5), np.float32(2.0 ** (right_shift - 5) / mantissa)
        x_zero_point, y_zero_point = (int(value) for value in random.integers(-128, 128, 2))
        x = np.arange(-128, 128).astype(np.int8)
        y = run_quantize(x, x_scale, x_zero_point, y_scale, y_zero_point)
        multiplier, shift = replicas.quantize_multiplier(float(x_scale) / float(y_scale))
        centred = x.astype(np.int64) - x_zero_point
        collector.note_ties(centred * multiplier, 31 - shift)
        expected = replicas.requantise_double(centred, multiplier, shift)
        expected = replicas.saturate(expected + y_zero_point, 8)
        collector.prove(y, expected, f"requantize case {case}")
        collector.add(
            x=x,
            x_scale=x_scale,
            x_zero_point=np.int32(x_zero_point),
            y_scale=y_scale,
            y_zero_point=np.int32(y_zero_point),
            multiplier=np.int32(multiplier),
            shift=np.int32(shift),
            y=y,
        )


OPERATORS = {
    "quantize_int8": ("half_away", quantize_int8),
    "requantize_int8": ("double", requantize_int8),
}
