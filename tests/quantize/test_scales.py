"""Scales and zero points from ranges, at their corners, and the way back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnaq.ir.types import TensorType, bounds
from nnaq.kernels.boundary import dequantize_array, quantize_array
from nnaq.quantize.scales import activation_quant, as_float32, real_range, weight_type

low_ends = st.floats(-1e6, 0)
high_ends = st.floats(0, 1e6)


def kind(dtype: str, *range_: float, **choices: bool) -> TensorType:
    return TensorType(dtype, (), activation_quant(*range_, dtype, **choices))


@given(low_ends, high_ends)
def test_8_bits_hold_the_range_and_zero_exactly(low, high):
    made = kind("i8", low, high)
    assert -128 <= made.zero_point <= 127
    assert dequantize_array(np.array([made.zero_point], np.int8), made)[0] == 0
    reached = real_range(made)
    assert reached[0] <= low + made.scale * 0.5001
    assert reached[1] >= high - made.scale * 0.5001


@pytest.mark.parametrize(
    ("range_", "zero_point"),
    [((0.0, 1.0), -128), ((-1.0, 0.0), 127), ((-1.28, 1.27), 0), ((-3.0, -0.0), 127)],
)
def test_the_zero_point_of_one_sided_ranges(range_, zero_point):
    made = kind("i8", *range_)
    assert made.zero_point == zero_point
    assert made.scale == as_float32((range_[1] - range_[0]) / 255)


@pytest.mark.parametrize(("dtype", "scale"), [("i8", 2.0**-7), ("i16", 2.0**-15)])
def test_a_value_that_is_always_zero_has_a_harmless_scale(dtype, scale):
    made = kind(dtype, 0.0, 0.0)
    assert (made.scale, made.zero_point) == (scale, 0)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_a_range_below_float32_has_a_scale_all_the_same(dtype):
    made = kind(dtype, -1e-44, 1e-44)
    assert made.scale == float(np.finfo(np.float32).tiny)


@given(low_ends, high_ends, st.booleans())
def test_16_bits_are_symmetric_with_headroom_for_what_was_observed(low, high, exact):
    made, size = kind("i16", low, high, exact=exact), max(-low, high)
    assert made.zero_point == 0
    if size > 1e-30:
        assert made.scale == as_float32((1.0 if exact else 4.0) * size / 32767)


@pytest.mark.parametrize(
    ("size", "exact", "exponent"),
    [
        (0.0, False, 15),
        (1e-9, False, 15),
        (0.99, True, 15),
        (1.0, True, 14),  # 2^15 - 1 codes of 2^-15 end below 1
        (1.0, False, 14),
        (1.7, False, 13),  # 1.25 * 1.7 > 2
        (1.99, True, 14),
        (60.0, True, 9),
        (1e9, False, 9),
    ],
)
def test_a_cell_has_a_power_of_two(size, exact, exponent):
    assert kind("i16", -size, size / 2, power_of_two=True, exact=exact).scale == 2.0**-exponent


@given(low_ends, high_ends, st.sampled_from(["i8", "i16"]), st.booleans())
def test_the_reals_a_type_reaches_make_it_anew(low, high, dtype, power_of_two):
    """What a recipe writes down gives the same codes when it is read."""
    power_of_two = power_of_two and dtype == "i16"
    made = kind(dtype, low, high, power_of_two=power_of_two)
    again = kind(dtype, *real_range(made), power_of_two=power_of_two, exact=True)
    assert again == made


@given(st.integers(0, 2**32 - 1), st.integers(0, 1), st.sampled_from([127, 7]))
def test_weights_are_symmetric_per_channel_and_reach_their_largest_code(seed, axis, highest):
    weight = np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
    made = weight_type(weight, axis, highest=highest)
    assert (made.dtype, made.zero_point, made.quant.axis) == ("i8" if highest == 127 else "i4", 0, axis)
    codes = quantize_array(weight, made).astype(int)
    assert (np.abs(codes).max(axis=1 - axis) == highest).all()
    assert bounds(made.dtype)[0] < codes.min()


def test_a_channel_of_zeros_takes_the_largest_scale_of_the_others():
    weight = np.array([[1.27, 0], [0, 0], [0, -2.54]], np.float32)
    assert weight_type(weight, 0).quant.scale == pytest.approx((0.01, 0.02, 0.02))
    assert weight_type(np.zeros((2, 2), np.float32), 0).quant.scale == (1.0, 1.0)


def test_a_floor_lifts_scales_that_a_bias_would_overflow():
    weight = np.array([[1.27], [1.27]], np.float32)
    assert weight_type(weight, 0, np.array([0.5, 0.001])).quant.scale == pytest.approx((0.5, 0.01))
