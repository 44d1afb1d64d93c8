"""SOFTMAX of tflite-micro: gemmlowp's fixed-point algorithm for int8, two tables for int16.

int8: differences to the row's maximum are Q5.26, exponentials Q0.31, their sum Q12.19; the
reciprocal takes a leading-zero count and three Newton steps. int16: exponentials are Q0.15, read
with interpolation from 513 entries on [-10, 0], and the reciprocal from 513 entries of 1 / (1 + x).
"""

import numpy as np
from replicas import quantize_multiplier, requantise_double, saturate
from tflm_models import Tensor, build_model, run_model
from vectors import random_scale

ONE = (1 << 31) - 1
QUARTER = 1 << 24  # in Q5.26
# exp(-2^k) in Q0.31 for k = -2..4, by the bit of the Q5.26 remainder that calls for it.
EXP_OF_MINUS_POWERS = {
    24: 1672461947,
    25: 1302514674,
    26: 790015084,
    27: 290630308,
    28: 39332535,
    29: 720401,
    30: 242,
}
EXP_OF_MINUS_EIGHTH, ONE_THIRD = 1895147668, 715827883
NEWTON_48_OVER_17, NEWTON_MINUS_32_OVER_17 = 1515870810, -1010580540


def high_product(a, b):
    """Rounded high half of a doubled product."""
    return (a * b + (1 << 30)) >> 31


def rounding_divide(x, exponent):
    """x / 2^exponent, half away from zero."""
    mask = (1 << exponent) - 1
    return (x >> exponent) + ((x & mask) > ((mask >> 1) + (x < 0)))


def exp_near_zero(x):
    """exp of Q0.31 values in [-1/4, 0), a Taylor polynomial around -1/8."""
    x = x + (1 << 28)
    square = high_product(x, x)
    cube, fourth = high_product(square, x), high_product(square, square)
    tail = high_product(rounding_divide(fourth, 2) + cube, ONE_THIRD) + square
    return EXP_OF_MINUS_EIGHTH + high_product(EXP_OF_MINUS_EIGHTH, x + rounding_divide(tail, 1))


def exp_of_negative(x):
    """exp of Q5.26 values <= 0, in Q0.31."""
    part = (x & (QUARTER - 1)) - QUARTER
    result, remainder = exp_near_zero(part << 5), part - x
    for bit, factor in EXP_OF_MINUS_POWERS.items():
        result = np.where(remainder & (1 << bit), high_product(result, factor), result)
    return np.where(x == 0, ONE, result)


def reciprocal(total):
    """(Q0.31 mantissa of 1 / total, its exponent) for sums in Q12.19."""
    bit_length = np.frexp(total.astype(np.float64))[1].astype(np.int64)
    leading_zeros = 32 - bit_length
    fraction = (total << leading_zeros) - (1 << 31)
    half = fraction + ONE
    half = np.where(half >= 0, half + 1, half - 1) // 2
    x = NEWTON_48_OVER_17 + high_product(half, NEWTON_MINUS_32_OVER_17)
    for _ in range(3):
        error = (1 << 29) - high_product(half, x)
        x = x + saturate(high_product(x, error) << 2, 32)
    return saturate(x << 1, 32), 12 - leading_zeros


def input_parameters(beta_scale):
    """Multiplier and left shift that bring code differences to Q5.26, and their lowest bound."""
    multiplier, shift = quantize_multiplier(min(beta_scale * 2.0**26, float(ONE)))
    lowest = -int(np.floor(31 * 2.0**26 / 2.0**shift))
    return multiplier, shift, lowest


def softmax(x, multiplier, shift, lowest):
    """Rows of int8 codes to int8 codes of scale 1/256 and zero point -128."""
    difference = x.astype(np.int64) - x.max(axis=1, keepdims=True)
    counted = difference >= lowest
    scaled = high_product(np.where(counted, difference, 0) << shift, multiplier)
    exponential = exp_of_negative(scaled)
    terms = np.where(counted, rounding_divide(exponential, 12), 0)
    mantissa, exponent = reciprocal(terms.sum(axis=1, keepdims=True))
    y = rounding_divide(high_product(mantissa, exponential), exponent + 31 - 8)
    return saturate(np.where(counted, y - 128, -128), 8)


def softmax_int8(random, collector):
    """Rows of 1 to 64 codes, from nearly flat to one-hot; some rows are constant."""
    for case in range(96):
        rows, width = int(random.integers(2, 9)), int(random.integers(1, 65))
        x = random.integers(-128, 128, (rows * collector.bulk, width)).astype(np.int8)
        x[0] = random.integers(-128, 128)
        x_scale = np.float32(random_scale(random, -9, 0))
        tensors = [Tensor(np.int8, x.shape, x_scale, 0), Tensor(np.int8, x.shape, 2.0**-8, -128)]
        options = {"beta": 1.0}
        model = build_model("SOFTMAX", "SoftmaxOptions", options, tensors[:1], tensors[1], 2)
        y = run_model(model, x)
        multiplier, shift, lowest = input_parameters(float(x_scale))
        collector.prove(y, softmax(x, multiplier, shift, lowest), f"softmax case {case}")
        parameters = {"multiplier": multiplier, "shift": shift, "lowest_difference": lowest}
        parameters = {name: np.int32(value) for name, value in parameters.items()}
        collector.add(x=x, x_scale=x_scale, **parameters, y=y)


def round_half_away(x):
    """Whole numbers as std::round makes them."""
    return np.trunc(x + np.copysign(np.asarray(0.5, x.dtype), x))


def table(function, first, last, real):
    """513 entries of Q0.15 as the runtime makes them, in its own float type `real`."""
    first, last = real(first), real(last)
    step = (last - first) / real(512)
    x = first + np.arange(513, dtype=real) * step
    scale = real(2**15)
    value, middle = function(x), function(x[:-1] + step / real(2))
    samples = round_half_away(value * scale)
    between = round_half_away((value[1:] * scale + samples[:-1]) / real(2))
    bias = round_half_away((between - round_half_away(middle * scale)) / real(2))
    samples[:-1] -= bias
    return saturate(samples.astype(np.int64), 16)


def look_up(entries, x):
    """Interpolation between entries at int16 positions, rounded to whole numbers."""
    index, offset = 256 + (x >> 7), x & 127
    base = entries[index]
    return base + (((entries[index + 1] - base) * offset + 64) >> 7)


def softmax_of_int16(x, multiplier, shift, exponents, reciprocals):
    """Rows of int16 codes to int16 codes of scale 2^-15 and zero point 0."""
    difference = x.astype(np.int64) - x.max(axis=1, keepdims=True)
    scaled = requantise_double(difference, multiplier, shift)
    exponential = look_up(exponents, saturate(scaled + 32767, 16))
    total = exponential.sum(axis=1, keepdims=True)
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    mantissa = ((total << (headroom - 1)) + (1 << 13)) >> 14
    mantissa = look_up(reciprocals, saturate(mantissa - (1 << 15) - (1 << 16), 16))
    right_shift = 31 - headroom
    y = (exponential * mantissa + (1 << (right_shift - 1))) >> right_shift
    return np.clip(y, 0, 2**15 - 1)


def softmax_int16(random, collector):
    """Rows of 1 to 64 codes, from nearly flat to one-hot, over coarse and fine scales."""
    real = np.float32
    exponents = table(np.exp, real(-10), real(0), real)
    reciprocals = table(lambda x: real(1) / (real(1) + x), real(0), real(1), real)
    collector.constants["exp_table"] = exponents.astype(np.int16)
    collector.constants["reciprocal_table"] = reciprocals.astype(np.int16)
    for case in range(96):
        rows, width = int(random.integers(2, 9)), int(random.integers(1, 65))
        spread = 1 << int(random.integers(1, 16))
        x = random.integers(-spread, spread, (rows * collector.bulk, width)).astype(np.int16)
        x[0] = random.integers(-(2**15), 2**15)
        x_scale = np.float32(random_scale(random, -15, -4))
        tensors = [Tensor(np.int16, x.shape, x_scale, 0), Tensor(np.int16, x.shape, 2.0**-15, 0)]
        options = {"beta": 1.0}
        model = build_model("SOFTMAX", "SoftmaxOptions", options, tensors[:1], tensors[1], 3)
        y = run_model(model, x)
        multiplier, shift = quantize_multiplier(float(x_scale) / (10.0 / 65535.0))
        expected = softmax_of_int16(x, multiplier, shift, exponents, reciprocals)
        collector.prove(y, expected, f"softmax case {case}")
        parameters = {"multiplier": np.int32(multiplier), "shift": np.int32(shift)}
        collector.add(x=x, x_scale=x_scale, **parameters, y=y)


OPERATORS = {
    "softmax_int8": ("gemmlowp", softmax_int8),
    "softmax_int16": ("table", softmax_int16),
}
