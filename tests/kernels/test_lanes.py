"""Kernels in vector lanes: every rounding, every count around the number of lanes, ties and far ends."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_nodes import codes, crossed, quantized, seeds
from strategies import assert_fast_is_reference, integer_node

from nnaq.ir.numerics import ROUNDINGS
from nnaq.ir.op import lookup
from nnaq.ir.types import TensorType
from nnaq.jit import jit
from nnaq.kernels.fixedpoint import CODES, quantize_multipliers, requantize_reference, saturate_reference
from nnaq.kernels.machine.maps import rescale_map
from nnaq.kernels.machine.norms import row_sums
from nnaq.kernels.machine.rescaling import LANES
from nnaq.kernels.norm_floats import real_scales
from nnaq.kernels.requantize_lanes import kind_of, limit_rows, requantize_lanes, rescaling_rows, stage_rows

counts = st.one_of(st.integers(0, 3 * LANES + 1), st.sampled_from((64, 100)))


@jit
def rescale(x, out, rows, kind):  # type: ignore[no-untyped-def]
    rescale_map(x, out, rows, kind)


@jit
def sums_of(x, first, count, sums):  # type: ignore[no-untyped-def]
    row_sums(x, first, count, sums)


def wide_values(random, count):
    """Numbers of 32 bits of every size, with ties of both signs and the ends among them."""
    ends = np.array([-(2**31), 2**31 - 1, 0, 1, -1, 2**30, -(2**30), 3 << 20, -(3 << 20)])
    sizes = random.integers(-(2**31), 2**31, count) >> random.integers(0, 31, count)
    return np.where(random.random(count) < 0.3, random.choice(ends, count), sizes).astype(np.int32)


@given(counts, st.sampled_from(ROUNDINGS), st.integers(-31, 1), st.booleans(), st.sampled_from((0, 7)), seeds)
@settings(max_examples=200)
def test_a_stage_is_the_rounding_for_every_shift_and_count(count, rounding, shift, power, zero, seed):
    random = np.random.default_rng(seed)
    mantissa = 0.5 if power or rounding == "pot_shift" else random.uniform(0.5, 1.0)
    multiplier, shifts = quantize_multipliers(np.array(mantissa * 2.0**shift), rounding)
    q, s = int(multiplier), int(shifts)
    reach = 2**29 if s > 0 or shift > 0 else 2**31
    stage = stage_rows(q, s, rounding, reach)
    if stage is None:
        assert rounding == "half_even"  # a float of 2^30 and more
        return
    x = np.clip(wide_values(random, count), -reach, reach - 1).astype(np.int32)
    rows, out = rescaling_rows((0,), (stage,), limit_rows(zero, -32768, 32767)), np.empty(count, np.int16)
    assert rows is not None
    rescale(x, out, rows, kind_of(rounding))
    expected = [
        saturate_reference(requantize_reference(int(v), q, s, rounding), zero, -32768, 32767) for v in x
    ]
    np.testing.assert_array_equal(out, expected)


@given(counts, st.sampled_from(ROUNDINGS), st.integers(0, 14), st.sampled_from((np.int8, np.int16)), seeds)
def test_sums_with_a_multiplier_each_are_requantised_also_under_left_shifts(
    count, rounding, left, kind, seed
):
    random = np.random.default_rng(seed)
    scales = 2.0 ** random.uniform(-33, left, count)
    if rounding == "pot_shift":
        scales = 2.0 ** random.integers(-32, 1, count)
    multiplier, shift = quantize_multipliers(scales, rounding, 2**16)
    sums, bias = wide_values(random, count) >> 1, wide_values(random, count) >> 1
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    out = np.empty(count, kind)
    requantize_lanes(sums, bias, multiplier, shift, CODES[rounding], -3, low, high, out)
    expected = [
        saturate_reference(requantize_reference(int(x) + int(b), int(q), int(s), rounding), -3, low, high)
        for x, b, q, s in zip(sums, bias, multiplier, shift, strict=True)
    ]
    np.testing.assert_array_equal(out, expected)


def test_a_stage_that_leaves_32_bits_is_refused():
    assert stage_rows(2**31 - 1, 1, "single", 2**31) is None
    assert stage_rows(2**31 - 1, 0, "single", 2**31) is not None
    assert rescaling_rows((0,), (None,), limit_rows(0, -128, 127)) is None


@given(st.sampled_from(["add", "sub", "mul"]), st.sampled_from(["i8", "i16"]), counts, seeds)
def test_operators_of_two_operands_at_every_count(name, dtype, count, seed):
    random = np.random.default_rng(seed)
    rounding = ROUNDINGS[seed % len(ROUNDINGS)]
    factors = (1.0, 1.0) if rounding == "pot_shift" else random.uniform(0.7, 1.4, 2)
    unit = 2.0**-7 if dtype == "i8" else 2.0**-15
    zero_a, zero_b = random.integers(-128, 128, 2) if dtype == "i8" else (0, 0)
    a = quantized(dtype, (count,), unit * factors[0], int(zero_a))
    b = quantized(dtype, (count,), unit * factors[1], int(zero_b))
    y = quantized(dtype, (count,), 2 * unit, int(zero_b))
    crossed(name, (a, b), y, rounding=rounding)(codes(a, seed), codes(b, seed + 1))


@given(st.sampled_from(["i8", "i16"]), st.sampled_from(["i8", "i16", "i32"]), counts, seeds)
def test_rescale_and_tables_at_every_count(dtype, result, count, seed):
    rounding = ROUNDINGS[seed % len(ROUNDINGS)]
    x, y = quantized(dtype, (count,), 2.0**-6), quantized(result, (count,), 2.0**-5)
    crossed("rescale", (x,), y, rounding=rounding)(codes(x, seed))
    if result == "i32" or (dtype, result) == ("i8", "i16"):
        return
    share = quantized(result, (count,), 2.0**-8 if result == "i8" else 2.0**-15)
    crossed("sigmoid", (x,), share, rounding=rounding)(codes(x, seed))


@given(st.sampled_from((np.int8, np.int16)), st.integers(0, 5 * LANES), st.integers(0, 5), seeds)
def test_sums_of_rows_are_exact(kind, count, first, seed):
    random, limits = np.random.default_rng(seed), np.iinfo(kind)
    x = random.integers(limits.min, limits.max + 1, first + count + 3).astype(kind)
    if seed % 3 == 0:
        x[:] = limits.min
    sums = np.empty(2, np.int64)
    sums_of(x, first, count, sums)
    row = [int(q) for q in x[first : first + count]]
    assert list(sums) == [sum(row), sum(q * q for q in row)]


@st.composite
def long_rows(draw: st.DrawFn):  # type: ignore[no-untyped-def]
    """A normalisation over more entries than lanes, of spread, constant, nearly constant or few values."""
    name = draw(st.sampled_from(("layer_norm", "rms_norm", "group_norm", "l2_normalize")))
    dtype, result = draw(st.sampled_from(("i8", "i16"))), draw(st.sampled_from(("i8", "i16")))
    count = draw(st.integers(LANES, 3 * LANES))
    random = np.random.default_rng(draw(seeds))
    zero = draw(st.integers(-128, 127)) if dtype == "i8" else 0
    mood = draw(st.sampled_from(("spread", "few", "far", "narrow")))
    low, high = (-128, 127) if dtype == "i8" else (-(2**15), 2**15 - 1)
    shape = (2, count) if name != "group_norm" else (1, 6, count // 2 + 1)
    x = {
        "spread": random.integers(low, high + 1, shape),
        "few": random.choice([-1, 1], shape),  # quotients of one size: ties meet all entries
        "far": np.where(random.random(shape) < 0.1, high - 1, high),
        "narrow": random.integers(-2, 3, shape) + high // 2,
    }[mood]
    kind = quantized(dtype, shape, draw(st.sampled_from((2.0**-7, 0.013))), zero)
    y = quantized(result, shape, draw(st.sampled_from((2.0**-4, 2.0**-12, 0.007))), draw(st.integers(-9, 9)))
    size = {"layer_norm": (count,), "rms_norm": (count,), "group_norm": (6,), "l2_normalize": ()}[name]
    weights = draw(st.sampled_from(("ones", "spread", "half")))
    made = {"ones": np.ones(size), "spread": random.normal(size=size), "half": np.full(size, 0.5)}[weights]
    parameters = [] if name == "l2_normalize" else [made]
    if name in ("layer_norm", "group_norm"):
        parameters.append(np.full(size, 0.5 * y.scale) if draw(st.booleans()) else random.normal(size=size))
    attrs = {"epsilon": draw(st.sampled_from((0.0, 1e-5)))}
    attrs |= {"groups": 3} if name == "group_norm" else {"axis": -1}
    return name, kind, x.astype(np.int8 if dtype == "i8" else np.int16), y, attrs, parameters


@given(long_rows(), st.sampled_from(ROUNDINGS))
@settings(max_examples=250)
def test_normalisations_of_long_rows_are_the_reference(case, rounding):
    name, kind, x, y, attrs, parameters = case
    given_parameters = [(TensorType("f32", p.shape), p) for p in parameters]
    op, signature, arrays = integer_node(name, [(kind, x), *given_parameters], y, attrs, rounding)
    assert_fast_is_reference(op, signature, arrays)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_the_real_scale_of_a_multiplier_is_the_one_it_stands_for(rounding):
    scales = 2.0 ** -np.arange(1.0, 20.0) * (1.0 if rounding == "pot_shift" else 1.3)
    found = real_scales(*quantize_multipliers(scales, rounding), rounding)
    width = {"half_even": 2.0**-24, "double_m16": 2.0**-15}.get(rounding, 2.0**-31)
    assert np.all(np.abs(found / scales - 1) <= width)


@given(st.sampled_from(["i8", "i16"]), st.sampled_from(["i8", "i16"]), st.booleans(), counts, seeds)
def test_softmax_at_every_count_with_and_without_a_mask(dtype, result, masked, count, seed):
    random = np.random.default_rng(seed)
    x = quantized(dtype, (3, count), 2.0 ** -float(random.integers(1, 14)))
    y = quantized(result, (3, count), 2.0**-8 if result == "i8" else 2.0**-15, -128 if result == "i8" else 0)
    flags = quantized("i8", (3, count) if seed % 2 else (count,))
    mask = random.integers(0, 2, flags.shape).astype(np.int8)
    kinds, arrays = ((x, flags), (mask,)) if masked else ((x,), ())
    crossed("softmax", kinds, y)(codes(x, seed), *arrays)


def test_a_long_row_of_equal_codes_shares_what_there_is():
    x = quantized("i8", (1, 5000), 0.1)
    y = quantized("i8", (1, 5000), 2.0**-8, -128)
    result = crossed("softmax", (x,), y)(np.zeros((1, 5000), np.int8))
    assert np.all(result == -128)


@pytest.mark.parametrize("name", ["rescale", "add", "mul", "sigmoid", "softmax", "layer_norm"])
def test_a_kernel_that_is_loaded_without_its_constants_waits_for_them(name):
    x, y = quantized("i8", (2, 9), 2.0**-6), quantized("i8", (2, 9), 2.0**-5)
    share = quantized("i8", (2, 9), 2.0**-8, -128)
    binary, attrs = name in ("add", "mul"), {"axis": -1, "epsilon": 1e-5} if name == "layer_norm" else {}
    kinds = (x, x) if binary else (x,)
    node = crossed(name, kinds, share if name == "softmax" else y, attrs)
    arrays = tuple(codes(kind, i) for i, kind in enumerate(kinds)) + node.constants
    load = lookup(name).load
    assert load is not None
    for operands in (arrays, (None,) * len(arrays), (None,) * len(kinds) + node.constants):
        (result,) = load(node.signature, operands)(*arrays)
        np.testing.assert_array_equal(result, node(*arrays[: len(kinds)]))


@pytest.mark.parametrize("code", [-32768, 32767])
def test_sums_of_long_rows_do_not_wrap(code):
    x, sums = np.full((1 << 20) + 3, code, np.int16), np.empty(2, np.int64)
    sums_of(x, 0, x.size, sums)
    assert sums.tolist() == [code * x.size, code**2 * x.size]
