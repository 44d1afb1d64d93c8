"""Requantisation of runs of sums: the machine follows the formula for every rounding, count and corner."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import generators, multipliers, roundings, sums

from nnaq.kernels.conv_runs import COUNT, requantize_run, requantize_wide
from nnaq.kernels.fixedpoint import CODES, requantize_reference, saturate_reference

LIMITS = {np.int8: (-128, 127), np.int16: (-(2**15), 2**15 - 1)}


@st.composite
def runs(draw, width):
    """Rounding, multiplier and shift, sums of `width` bits, and where they begin and their codes go."""
    rounding = draw(roundings)
    multiplier, shift = draw(multipliers(rounding))
    few = draw(st.lists(sums(shift, width), max_size=5))
    generator, limit = draw(generators), 2 ** (width - 1)
    many = generator.integers(-limit, limit, draw(st.sampled_from((0, 9, 16, 17, 40, 64))))
    low = generator.integers(-64, 64, many.size) << generator.integers(0, width - 8, many.size)
    found = np.array([*few, *np.where(generator.random(many.size) < 0.5, many, low)], np.int64)
    return rounding, multiplier, shift, found, draw(st.integers(0, 5)), draw(st.integers(0, 5))


def expected(found, rounding, multiplier, shift, zero_y, low, high):
    return [
        saturate_reference(requantize_reference(int(x), multiplier, shift, rounding), zero_y, low, high)
        for x in found
    ]


@given(runs(32), st.sampled_from(list(LIMITS)), st.data())
def test_runs_of_words_follow_the_formula(run, dtype, data):
    rounding, multiplier, shift, found, begin, to = run
    low, high = LIMITS[dtype]
    zero_y = data.draw(st.sampled_from((low, 0, 5, high)))
    low = data.draw(st.sampled_from((low, zero_y)))
    given_sums, out = np.zeros(begin + found.size + 1, np.int32), np.full(to + found.size + 1, 77, dtype)
    given_sums[begin : begin + found.size] = found
    scale = np.int32(multiplier), np.int8(shift), CODES[rounding], zero_y, low, high
    requantize_run(given_sums, begin, found.size, scale, np.empty(COUNT, np.int64), out, to)
    assert out[to:-1].tolist() == expected(found, rounding, multiplier, shift, zero_y, low, high)
    assert (out[:to] == 77).all() and out[-1] == 77


@given(runs(48), st.sampled_from(list(LIMITS)))
def test_runs_of_wide_sums_follow_the_formula(run, dtype):
    rounding, multiplier, shift, found, begin, to = run
    low, high = LIMITS[dtype]
    given_sums, out = np.zeros(begin + found.size, np.int64), np.full(to + found.size, 77, dtype)
    given_sums[begin:] = found
    scale = np.int32(multiplier), np.int8(shift), CODES[rounding], 0, low, high
    requantize_wide(given_sums, begin, found.size, scale, out, to)
    assert out[to:].tolist() == expected(found, rounding, multiplier, shift, 0, low, high)
