"""The integer formulas of the oracles, in plain numpy, independent of the toolchain under test.

Every function works in int64 and is exact for the operand ranges the drivers make.
`shift` is the left-positive exponent of `quantize_multiplier`; a TOSA shift is 31 - shift.
"""

import math

import numpy as np


def quantize_multiplier(real_multiplier):
    """Split a positive float64 into a 31-bit integer multiplier and a left-positive shift."""
    mantissa, shift = math.frexp(real_multiplier)
    multiplier = math.floor(mantissa * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = multiplier // 2, shift + 1
    if shift < -31:
        return 0, 0
    return multiplier, shift


def quantize_multipliers(real_multipliers):
    """Array form of `quantize_multiplier`: (int32 multipliers, int32 shifts)."""
    pairs = [quantize_multiplier(float(value)) for value in np.ravel(real_multipliers)]
    multipliers, shifts = np.array(pairs, np.int64).T
    shape = np.shape(real_multipliers)
    return multipliers.reshape(shape).astype(np.int32), shifts.reshape(shape).astype(np.int32)


def _wide(*values):
    return tuple(np.asarray(value, np.int64) for value in values)


def requantise_single(x, multiplier, shift):
    """One rounding, half up."""
    x, multiplier, shift = _wide(x, multiplier, shift)
    return (x * multiplier + (1 << (30 - shift))) >> (31 - shift)


def requantise_double(x, multiplier, shift):
    """Two roundings: half up at 2^-31, then half away from zero at the remaining right shift."""
    x, multiplier, shift = _wide(x, multiplier, shift)
    high = ((x << np.maximum(shift, 0)) * multiplier + (1 << 30)) >> 31
    right = np.maximum(-shift, 0)
    mask = (1 << right) - 1
    return (high >> right) + ((high & mask) > ((mask >> 1) + (high < 0)))


def requantise_double_m16(x, multiplier, shift):
    """48-bit accumulator times the multiplier reduced to 16 bits, one rounding, half up."""
    x, multiplier, shift = _wide(x, multiplier, shift)
    reduced = np.where(multiplier >= 0x7FFF0000, 0x7FFF, (multiplier + (1 << 15)) >> 16)
    return (x * reduced + (1 << (14 - shift))) >> (15 - shift)


def requantise_half_even(x, scale):
    """float32 product, rounded to the nearest integer, ties to even."""
    product = np.asarray(x, np.int32).astype(np.float32) * np.asarray(scale, np.float32)
    return np.rint(product).astype(np.int64)


def saturate(x, bits):
    """Clamp to the signed range of that many bits."""
    return np.clip(x, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def pad_image(x, pad):
    """Zero-pad NHWC by [top, bottom, left, right]; zero means the zero point, already removed."""
    top, bottom, left, right = (int(value) for value in pad)
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))


def windows(x, kernel, stride, dilation):
    """Yield (row, column, taps of all output pixels) for every kernel position of an NHWC image."""
    extent = [(size - 1) * step for size, step in zip(kernel, dilation, strict=True)]
    high, wide = (x.shape[1 + axis] - extent[axis] for axis in (0, 1))
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            top, left = row * dilation[0], column * dilation[1]
            taps = x[:, top : top + high : stride[0], left : left + wide : stride[1]]
            yield row, column, taps


def convolve(x, weights, pad, stride, dilation):
    """Accumulate an NHWC image with OHWI weights; zero points already removed."""
    x, weights = _wide(pad_image(x, pad), weights)
    taps = windows(x, weights.shape[1:3], stride, dilation)
    return sum(part @ weights[:, row, column].T for row, column, part in taps)


def convolve_depthwise(x, weights, pad, stride, dilation):
    """Accumulate an NHWC image with HWCM weights, output channel = channel * M + m."""
    x, weights = _wide(pad_image(x, pad), weights)
    taps = windows(x, weights.shape[:2], stride, dilation)
    total = sum(part[..., None] * weights[row, column] for row, column, part in taps)
    return total.reshape(*total.shape[:3], -1)
