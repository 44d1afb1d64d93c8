"""Compiled ends against the formulas over whole arrays, ties, limits and what is no number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import quantised, zero_points

from nnaq.kernels.boundary import code_bounds, dequantize_array, quantize_array
from nnaq.kernels.ends import dequantizer, is_finite, quantizer

dtypes = st.sampled_from(("i8", "i16", "i32"))
rules = st.sampled_from(("half_even", "half_away"))
scales = st.one_of(st.integers(-20, 10).map(lambda n: 2.0**n), st.floats(2.0**-20, 2.0**10, width=32))
LIMITS = (2.0**22, 2.0**23, 2.0**24, 2.0**31, 2.0**62, 2.0**127, np.inf)


@st.composite
def kinds(draw):
    dtype = draw(dtypes)
    return quantised(dtype, (40,), float(np.float32(draw(scales))), draw(zero_points(dtype)))


def ratios(random: np.random.Generator) -> np.ndarray:
    """40 numbers of scales: ties of both signs, large ones beside powers of two, and any."""
    ties = random.integers(-600, 600, 10) / 2
    far = random.choice(LIMITS, 10) * random.choice([-1, 1], 10)
    near = np.nextafter(np.float32(far), np.float32(random.choice([-1, 1]) * np.inf))
    return np.concatenate([ties, far, near, random.normal(size=10) * 2.0 ** random.integers(-3, 34)])


@given(kinds(), rules, st.integers(0, 2**32 - 1))
def test_codes_are_those_of_the_formula(kind, rule, seed):
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is infinite
        x = np.float32(ratios(np.random.default_rng(seed)) * kind.scale)
        kernel = quantizer(kind, code_bounds(kind), rule)
        for given_one in (x, x.reshape(5, 8).T, x[::3], x[:0], x[0]):
            (found,) = kernel(given_one)
            np.testing.assert_array_equal(found, quantize_array(given_one, kind, rule), strict=True)
        expected = quantize_array(x, kind, rule)
    place = np.zeros(40, np.float32)
    (found,), run = kernel.bind(place)
    place[:] = x
    run()
    np.testing.assert_array_equal(found, expected)


@given(kinds(), st.integers(0, 2**32 - 1))
def test_reals_are_those_of_the_formula(kind, seed):
    random = np.random.default_rng(seed)
    low, high = code_bounds(kind)
    codes = random.integers(low, high, 40, endpoint=True).astype(
        {"i8": "i1", "i16": "i2", "i32": "i4"}[kind.dtype]
    )
    kernel = dequantizer(kind)
    for given_one in (codes, codes.reshape(5, 8).T, codes[::3], codes[:0], codes[0]):
        (found,) = kernel(given_one)
        np.testing.assert_array_equal(found, dequantize_array(given_one, kind), strict=True)
    place = np.zeros_like(codes)
    (found,), run = kernel.bind(place)
    place[:] = codes
    run()
    np.testing.assert_array_equal(found, dequantize_array(codes, kind))


@pytest.mark.parametrize("rule", ["half_even", "half_away"])
@pytest.mark.parametrize(("dtype", "zero"), [("i8", -7), ("i16", 0), ("i32", 0)])
def test_what_is_no_number_is_the_zero_point(dtype, zero, rule):
    kind = quantised(dtype, (2,), 0.5, zero)
    (found,) = quantizer(kind, code_bounds(kind), rule)(np.array([np.nan, -np.nan], np.float32))
    assert found.tolist() == [zero, zero]


@given(st.lists(st.floats(width=32), max_size=20))
def test_numbers_are_told_from_what_is_none(values):
    x = np.array(values, np.float32)
    assert is_finite(x) == np.isfinite(x).all()
