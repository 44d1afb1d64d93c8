"""Tiles of sums of products: panels, rows of every count, every way a sum is held."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnaq.ir.numerics import ROUNDINGS
from nnaq.ir.types import Palette, Quant, TensorType
from nnaq.kernels.codebook import pack_codes
from nnaq.kernels.fixedpoint import CODES, requantize_reference, saturate_reference
from nnaq.kernels.machine.products import PANEL
from nnaq.kernels.multiply import TILE, requantize_rows, sum_products
from nnaq.kernels.narrow import Narrow, Order, sum_reference
from nnaq.kernels.requantize_lanes import requantize_lanes
from nnaq.kernels.weight_panels import FLIP, byte_panels_of, byte_zero, panels_of, rows_of, weights_of

WHOLE = Order(2**31 // 255**2, fits=True)
rows = st.integers(0, 3 * TILE)
outputs = st.one_of(st.integers(0, 3), st.integers(PANEL - 1, PANEL + 1), st.just(2 * PANEL + 5))
depths = st.one_of(st.integers(0, 9), st.just(64), st.just(77))


@st.composite
def operands(draw, low=-128, high=127, dtype=np.int8):
    """Codes of rows and of a weight, mostly at their ends, and zero_points."""
    count, width, depth = draw(rows), draw(outputs), draw(depths)
    ends = st.sampled_from((low, low, high, high, 0, -1, 1))
    x = draw(arrays(dtype, (count, depth), elements=st.one_of(ends, st.integers(low, high)), fill=ends))
    ends = st.sampled_from((-128, 127, 0))
    w = draw(arrays(np.int8, (width, depth), elements=st.one_of(ends, st.integers(-128, 127)), fill=ends))
    return x, w


def codes_at(zero_point):
    return TensorType("i8", (1, 1), Quant((1.0,), zero_point))


def exact(x, w):
    return x.astype(np.int64) @ w.astype(np.int64).T


@given(operands(), st.sampled_from((-128, 0, 7, 127)), st.sampled_from((0, 0, -128, 5)))
def test_sums_of_bytes_are_exact(both, zero_x, zero_w):
    x, w = both
    bias = np.arange(len(w), dtype=np.int32) - 3
    out = np.empty((len(x), len(w)), np.int64)
    weights = weights_of(w, zero_w, zero_x=byte_zero(codes_at(zero_x), WHOLE))
    sum_products(rows_of(x, zero_x, weights[-1]), weights, 0, bias, WHOLE, out)
    np.testing.assert_array_equal(out, exact(x.astype(int) - zero_x, w.astype(int) - zero_w) + bias)


@given(operands(-(2**15), 2**15 - 1, np.int16), st.sampled_from((1, 2, 3, 10, 515)))
def test_sums_of_words_are_exact_in_stretches(both, span):
    x, w = both
    bias = np.full(len(w), 2**40, np.int64)
    out = np.empty((len(x), len(w)), np.int64)
    sum_products(rows_of(x, 0), weights_of(w, 0), 0, bias, Order(span), out)
    np.testing.assert_array_equal(out, exact(x, w) + 2**40)


@given(operands(), st.integers(12, 20), st.booleans(), st.integers(1, 9))
def test_narrow_sums_are_limited_block_by_block(both, width, wraps, block):
    x, w = both
    narrow = Narrow(width, wraps, block)
    out = np.empty((len(x), len(w)), np.int64)
    sum_products(rows_of(x, 0), weights_of(w, 0), 0, np.full(len(w), 9, np.int32), narrow.order(100), out)
    expected = [[sum_reference(narrow, 9, list(map(int, r)), list(map(int, c))) for r in w] for c in x]
    np.testing.assert_array_equal(out, np.array(expected, np.int64).reshape(out.shape))


@given(operands(), st.integers(1, 8), st.integers(1, 3))
def test_packed_weights_and_parts_give_the_same_sums(both, bits, parts):
    x, w = both
    w = np.repeat(w, parts, 0)
    entries = np.unique(w)[: 2**bits] if w.size else np.array([0], np.int8)
    w = entries[np.searchsorted(entries, w).clip(0, len(entries) - 1)]
    packed = pack_codes(w, Palette(bits, (tuple(int(v) for v in entries),)))
    width = len(w) // parts
    for part in range(parts):
        out = np.empty((len(x), width), np.int64)
        bias = np.zeros(width, np.int32)
        sum_products(rows_of(x, 3), weights_of(packed, 0, parts), part, bias, WHOLE, out)
        own = w[part * width : (part + 1) * width]
        np.testing.assert_array_equal(out, exact(x.astype(int) - 3, own))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("order", [WHOLE, Order(2)])
def test_results_are_requantised_by_every_rounding(rounding, order):
    random = np.random.default_rng(ROUNDINGS.index(rounding))
    x, w = random.integers(-128, 128, (13, 40), np.int8), random.integers(-128, 128, (37, 40), np.int8)
    shift = (
        np.full(37, 0, np.int8) if rounding == "half_even" else random.integers(-14, 2, 37).astype(np.int8)
    )
    multiplier = random.integers(2**30, 2**31, 37, np.int32)
    if rounding == "half_even":
        multiplier = random.uniform(1e-4, 0.1, 37).astype(np.float32).view(np.int32)
    if rounding == "pot_shift":
        multiplier[:] = 2**30
    bias = random.integers(-500, 500, 37).astype(np.int32)
    out = np.empty((13, 37), np.int8)
    rest = bias, multiplier, shift, order, CODES[rounding], -5, -128, 120
    weights = weights_of(w, 0, zero_x=byte_zero(codes_at(11), order))
    requantize_rows(rows_of(x, 11, weights[-1]), weights, 0, *rest, out)
    sums = exact(x.astype(int) - 11, w) + bias
    expected = [
        saturate_reference(
            requantize_reference(int(sums[p, o]), int(multiplier[o]), int(shift[o]), rounding), -5, -128, 120
        )
        for p, o in np.ndindex(sums.shape)
    ]
    np.testing.assert_array_equal(out.ravel(), expected)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_lanes_round_ties_of_both_signs_at_every_shift(rounding):
    shifts = range(0, 1) if rounding == "half_even" else range(-31, 2)
    ties = [
        (sign * min(factor << max(-s, 0) >> 1, 2**30), s)
        for s in shifts
        for sign in (1, -1)
        for factor in (0, 1, 2, 3, 5, 2**31)
    ]
    sums, shift = (np.array(column) for column in zip(*ties, strict=True))
    q = int(np.float32(0.5).view(np.int32)) if rounding == "half_even" else 2**30
    out = np.empty(len(sums), np.int16)
    requantize_lanes(
        sums.astype(np.int32), np.zeros(len(sums), np.int32), np.full(len(sums), q, np.int32),
        shift.astype(np.int8), CODES[rounding], 100, -32768, 32767, out,
    )  # fmt: skip
    expected = [
        saturate_reference(requantize_reference(int(x), q, int(s), rounding), 100, -32768, 32767)
        for x, s in zip(sums, shift, strict=True)
    ]
    np.testing.assert_array_equal(out, expected)


def test_a_panel_of_bytes_holds_what_sums_begin_with_and_fours_of_k():
    codes = np.arange(-7, 3 * 5 - 7, dtype=np.int8).reshape(1, 3, 5)
    cut = byte_panels_of(codes, 9).reshape(3, PANEL, 4)
    starts = cut[0].reshape(-1).view(np.int32)
    np.testing.assert_array_equal(starts[:3], -(9 + FLIP) * codes[0].sum(1, dtype=np.int32))
    np.testing.assert_array_equal(cut[1:, :3].transpose(1, 0, 2).reshape(3, 8)[:, :5], codes[0])
    assert not cut[:, 3:].any()
    assert not cut[2, :, 1:].any()


def test_a_panel_holds_pairs_of_k_side_by_side():
    codes = np.arange(3 * 5, dtype=np.int8).reshape(1, 3, 5)
    cut = panels_of(codes).reshape(3, PANEL, 2)
    np.testing.assert_array_equal(cut[:, :3].transpose(1, 0, 2).reshape(3, 6)[:, :5], codes[0])
    assert not cut[:, 3:].any()
    assert not cut[2, :, 1].any()
