"""The passes that a frame of a recurrent layer is made of, against plain integers, one code at a time.

Rows are as long as vectors and what is left behind them make necessary; codes stand at the ends of 16 bits,
around 0, and anywhere.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnaq.ir.numerics import ROUNDINGS
from nnaq.jit import jit
from nnaq.kernels.cell_numbers import blend_numbers, curve_numbers, joined, matrix_of, product_numbers
from nnaq.kernels.fixedpoint import quantize_multiplier, requantize_reference
from nnaq.kernels.internals import coarse_reference
from nnaq.kernels.lut import lookup_reference
from nnaq.kernels.machine import curves

BEHIND = [word for word in ROUNDINGS if word != "double_m16"]  # what rounds behind the accumulators
LIMITS = [(-32768, 32767), (-128, 127), (-255, 0), (0, 255), (-121, 134)]


@jit
def interpolate(a, b, table, numbers, out):
    return curves.interpolate(a, b, table, numbers, out)


@jit
def multiply(a, b, numbers, out):
    return curves.multiply(a, b, numbers, out)


@jit
def multiply_both(a, b, c, d, numbers, out):
    return curves.multiply_both(a, b, c, d, numbers, out)


@jit
def blend(a, b, c, numbers, d):
    return curves.blend(a, b, c, numbers, d)


def sat16(value):
    return min(max(value, -(2**15)), 2**15 - 1)


@st.composite
def drawn_rows(draw):
    """Four rows of 0 to 40 codes, and a source of more numbers."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = 4, draw(st.integers(0, 40))
    ends = random.choice([-32768, -32767, -1, 0, 1, 32766, 32767], shape)
    anywhere = random.integers(-32768, 32768, shape)
    return np.where(random.random(shape) < 0.3, ends, anywhere).astype(np.int16), random


def grids(k):
    """Of internals of 16 - k bits."""
    return (1 << (k - 1), -(1 << k)) if k else None


def numbers_of(listed):
    return matrix_of({0: listed})[0]


def multipliers(random, rounding):
    """Anything from 2^-31 to below 2; powers of two as often, and no others under pot_shift."""
    exponent = random.integers(-31, 1)
    whole = rounding == "pot_shift" or random.random() < 0.5
    return quantize_multiplier(float(2.0**exponent * (1 if whole else random.uniform(1, 2))), rounding)


@pytest.mark.parametrize("rounding", BEHIND)
@settings(max_examples=40)
@given(drawn_rows(), st.sampled_from([0, 4, 10]), st.sampled_from([0, 8]), st.booleans())
def test_curves(rounding, rows, k, code_k, full):
    (a, b, _, _), random = rows
    tables = [random.integers(-32768, 32768, entries).astype(np.int16) for entries in (513, 65536)]
    table, begin = joined(tables)[0], joined(tables)[1][full]
    pair, entries = quantize_multiplier(2.0**-7, rounding), tables[full].tolist()
    numbers = curve_numbers(pair, rounding, grids(k), len(entries), begin, grids(code_k))
    out = np.empty_like(a)
    interpolate(a, b, table, numbers_of(numbers), out)
    for x, y, found in zip(a.tolist(), b.tolist(), out.tolist(), strict=True):
        code = coarse_reference(sat16(x + y), code_k)
        value = requantize_reference(lookup_reference(code, entries), *pair, rounding)
        assert found == coarse_reference(sat16(value), k)


@pytest.mark.parametrize("rounding", BEHIND)
@settings(max_examples=60)
@given(drawn_rows(), st.sampled_from(LIMITS))
def test_products(rounding, rows, limits):
    (a, b, c, d), random = rows
    pair = multipliers(random, rounding)
    numbers, out = numbers_of(product_numbers(pair, rounding, *limits)), np.empty_like(a)
    multiply(a, b, numbers, out)
    for x, y, found in zip(a.tolist(), b.tolist(), out.tolist(), strict=True):
        value = requantize_reference(x * y, *pair, rounding)
        assert found == min(max(value, limits[0]), limits[1])
    multiply_both(a >> 1, b, c >> 1, d, numbers, out)
    for *codes, found in zip(*(row.tolist() for row in (a >> 1, b, c >> 1, d, out)), strict=True):
        value = requantize_reference(codes[0] * codes[1] + codes[2] * codes[3], *pair, rounding)
        assert found == min(max(value, limits[0]), limits[1])


@pytest.mark.parametrize("rounding", BEHIND)
@settings(max_examples=40)
@given(drawn_rows(), st.sampled_from([0, 4, 10]), st.integers(9, 15))
def test_blends_and_how_many_are_clamped(rounding, rows, k, fraction):
    (a, b, c, d), _ = rows
    keep, new = (quantize_multiplier(scale, rounding) for scale in (2.0**-15, 2.0 ** (fraction - 30)))
    out, clamped = d.copy(), 0
    count = blend(a, b, c, numbers_of(blend_numbers(keep, new, rounding, grids(k))), out)
    for w, x, y, z, found in zip(*(row.tolist() for row in (a, b, c, d, out)), strict=True):
        kept = sat16(requantize_reference(w * z, *keep, rounding))
        total = kept + sat16(requantize_reference(x * y, *new, rounding))
        assert found == coarse_reference(sat16(total), k)
        clamped += total < -(2**15) or total + (2**k >> 1) >= 2**15
    assert count == clamped
