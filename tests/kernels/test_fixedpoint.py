"""Requantisation: compiled equals Python integers, and both equal the words they are named after."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import SHIFTS, multipliers, roundings, sums

from nnaq.errors import LoweringError
from nnaq.ir.numerics import ROUNDINGS
from nnaq.kernels.fixedpoint import (
    CODES,
    quantize_multiplier,
    quantize_multipliers,
    requantize,
    requantize_reference,
    saturate,
    saturate_reference,
    shift_right_round,
    shift_right_round_reference,
)


@given(st.data(), roundings)
def test_compiled_requantize_is_the_reference(data, rounding):
    q, s = data.draw(multipliers(rounding))
    x = data.draw(sums(s))
    assert requantize(x, q, s, CODES[rounding]) == requantize_reference(x, q, s, rounding)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("r", range(17))
def test_ties_of_both_signs_at_every_right_shift(rounding, r):
    q, s = (int(np.float32(2.0 ** (-r - 1)).view(np.int32)), 0) if rounding == "half_even" else (2**30, -r)
    for k in range(-33, 34):
        for x in ((2 * k + 1) << r, ((2 * k + 1) << r) + 1, ((2 * k + 1) << r) - 1):
            assert requantize(x, q, s, CODES[rounding]) == requantize_reference(x, q, s, rounding)


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ("single", [-2, -1, -1, 0, 1, 1, 2, 3]),
        ("double", [-3, -2, -1, 0, 1, 1, 2, 3]),
        ("half_even", [-2, -2, -1, 0, 0, 1, 2, 2]),
        ("half_up_shift", [-2, -1, -1, 0, 1, 1, 2, 3]),
        ("pot_shift", [-2, -1, -1, 0, 1, 1, 2, 3]),
        ("floor", [-3, -2, -1, -1, 0, 1, 1, 2]),
        ("truncate", [-2, -1, -1, 0, 0, 1, 1, 2]),
        ("double_m16", [-2, -1, -1, 0, 1, 1, 2, 3]),
    ],
)
def test_a_quarter_of_small_numbers_by_hand(rounding, expected):
    quarter = quantize_multiplier(0.25, rounding)
    found = [requantize_reference(x, *quarter, rounding) for x in (-10, -6, -4, -1, 2, 4, 6, 10)]
    assert found == expected


@given(st.integers(-(2**47), 2**47 - 1), st.integers(2**30, 2**31 - 1), SHIFTS)
def test_one_rounding_modes_are_exact_over_the_rationals(x, q, s):
    exact = Fraction(x) * q * Fraction(2) ** (s - 31)
    assert requantize_reference(x, q, s, "single") == floor(exact + Fraction(1, 2))
    assert requantize_reference(x, q, s, "floor") == floor(exact)
    assert requantize_reference(x, q, s, "truncate") == int(exact)


@given(st.integers(-(2**31), 2**31 - 1), st.integers(2**30, 2**31 - 1), SHIFTS)
def test_double_never_strays_a_whole_step(x, q, s):
    exact = Fraction(x) * q * Fraction(2) ** (s - 31)
    r = max(-s, 0)
    bound = Fraction(1, 2) + Fraction(1, 2) / 2**r if r else Fraction(1, 2)
    assert abs(requantize_reference(x, q, s, "double") - exact) <= bound


@given(st.floats(2.0**-30, 1.9375))
@example(1 - 2.0**-40)
@example(0.5)
def test_a_multiplier_is_within_its_last_bit(scale):
    q, s = quantize_multiplier(scale)
    assert 2**30 <= q < 2**31
    assert -31 <= s <= 1
    assert abs(Fraction(q) * Fraction(2) ** (s - 31) - Fraction(scale)) <= Fraction(scale) / 2**31


def test_a_scale_too_small_for_a_shift_becomes_zero():
    assert quantize_multiplier(2.0**-33) == (0, 0)


@pytest.mark.parametrize(
    ("scale", "rounding", "words"), [(2.0, "single", "left shift"), (0.3, "pot_shift", "0.3")]
)
def test_scales_without_a_code_are_refused(scale, rounding, words):
    with pytest.raises(LoweringError, match=words):
        quantize_multiplier(scale, rounding)


@pytest.mark.parametrize(("bound", "most"), [(2**31, 1), (2**30, 1), (2**26, 4), (2**10, 14), (2**47, 14)])
def test_left_shifts_need_proved_room(bound, most):
    assert quantize_multiplier(2.0 ** (most - 1), "single", bound) == (2**30, most)
    with pytest.raises(LoweringError, match=f"at most {most} is exact for values up to {bound}"):
        quantize_multiplier(2.0**most, "single", bound)


def test_arrays_of_multipliers_keep_their_shape():
    multiplier, shift = quantize_multipliers(np.array([[0.5, 0.25]]), "single")
    assert multiplier.dtype == np.int32
    assert shift.dtype == np.int8
    np.testing.assert_array_equal(multiplier, [[2**30, 2**30]])
    np.testing.assert_array_equal(shift, [[0, -1]])


@given(st.integers(-(2**48), 2**48), st.integers(-128, 127))
def test_saturation_adds_the_zero_point_after_the_clamp(y, zero_point):
    expected = max(-128, min(127, y + zero_point))
    assert saturate_reference(y, zero_point, -128, 127) == expected
    assert saturate(y, zero_point, -128, 127) == expected


@given(st.integers(-(2**47), 2**47 - 1), st.integers(0, 40))
def test_rounding_right_shift(x, n):
    expected = floor(Fraction(x, 2**n) + Fraction(1, 2))
    assert shift_right_round_reference(x, n) == expected
    assert shift_right_round(x, n) == expected
