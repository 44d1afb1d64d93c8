"""Codes from reals, reals from codes, and codes of another scale."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from strategies import (
    assert_fast_is_reference,
    codes,
    integer_node,
    layer_scales,
    quantised,
    roundings,
    zero_points,
)

from nnaq.ir.op import Signature, Work, lookup
from nnaq.ir.types import Quant, TensorType, bounds
from nnaq.kernels.boundary import dequantize_array, quantize_array, quantize_attrs, round_real

rules = st.sampled_from(("half_even", "half_away"))
floats = st.floats(-(2.0**100), 2.0**100, width=32)


@st.composite
def grids(draw):
    """A code type, and reals on its ties, next to them, and anywhere."""
    dtype = draw(st.sampled_from(("i8", "i16")))
    scale = float(np.float32(draw(st.floats(2.0**-20, 2.0**10, width=32))))
    kind = quantised(dtype, (draw(st.integers(0, 30)),), scale, draw(zero_points(dtype)))
    halves = draw(arrays(np.int32, kind.shape, elements=st.integers(-140000, 140000)))
    ties = (halves.astype(np.float32) / 2) * np.float32(scale)
    step = draw(st.sampled_from((0, 1, -1)))
    near = np.nextafter(ties, np.float32(step) * np.float32(np.inf)) if step else ties
    return kind, np.where(draw(st.booleans()), near, draw(arrays(np.float32, kind.shape, elements=floats)))


@given(grids(), rules)
def test_quantize_fast_is_reference(grid, rule):
    kind, x = grid
    signature = Signature((TensorType("f32", kind.shape),), (kind,), {"rounding": rule})
    assert_fast_is_reference(lookup("quantize"), signature, [x.astype(np.float32)])


@pytest.mark.parametrize(
    ("rule", "expected"), [("half_even", [-2, -2, 0, 0, 2, 2]), ("half_away", [-3, -2, -1, 1, 2, 3])]
)
def test_ties_follow_the_rule(rule, expected):
    kind = quantised("i8", (6,), 0.5)
    x = np.array([-1.25, -0.75, -0.25, 0.25, 0.75, 1.25], np.float32)
    np.testing.assert_array_equal(quantize_array(x, kind, rule), expected)


@pytest.mark.parametrize("rule", ["half_even", "half_away"])
def test_the_last_float_below_a_half_rounds_to_zero(rule):
    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert quantize_array(np.array([below, -below]), quantised("i8", (2,)), rule).tolist() == [0, 0]


@given(st.data(), st.sampled_from(("i8", "i16", "i32")))
def test_dequantize_fast_is_reference(data, dtype):
    kind = quantised(dtype, (3, 4), 0.1, data.draw(zero_points(dtype)))
    signature = Signature((kind,), (TensorType("f32", kind.shape),))
    assert_fast_is_reference(lookup("dequantize"), signature, [data.draw(codes(kind))])


@given(grids(), rules)
def test_fake_quantize_is_quantize_then_dequantize(grid, rule):
    kind, x = grid
    (reals,) = lookup("fake_quantize").real(np, quantize_attrs(kind, rule), x.astype(np.float32))
    np.testing.assert_array_equal(reals, dequantize_array(quantize_array(x, kind, rule), kind))


@given(st.data())
def test_codes_survive_the_way_over_the_reals(data):
    kind = quantised(
        "i8", (9,), data.draw(st.floats(2.0**-20, 2.0**10, width=32)), data.draw(zero_points("i8"))
    )
    q = data.draw(codes(kind))
    np.testing.assert_array_equal(quantize_array(dequantize_array(q, kind), kind), q)


def test_per_channel_weights_stay_symmetric():
    kind = TensorType("i8", (2, 2), Quant((0.5, 0.25), 0, 0))
    x = np.array([[-100.0, 100.0], [-1.0, 1.0]], np.float32)
    np.testing.assert_array_equal(quantize_array(x, kind), [[-127, 127], [-4, 4]])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["i4", "i8", "i16"])
@pytest.mark.parametrize("rule", ["half_even", "half_away"])
def test_each_channel_has_its_own_scale_there_and_back(axis, dtype, rule):
    random = np.random.default_rng(0)
    scales = np.float32([0.5, 0.3, 2.0, 0.001])
    kind = TensorType(dtype, (4, 4, 3), Quant(tuple(map(float, scales)), 0, axis))
    low, high = bounds(dtype)
    steps = random.integers(2 * low, 2 * high, kind.shape) + random.choice([0.0, 0.5, 0.3], kind.shape)
    along = scales.reshape([4 if a == axis else 1 for a in range(3)])
    x = steps.astype(np.float32) * along
    whole = round_real(np, x / along, rule)
    q = np.clip(whole, low + 1, high)
    np.testing.assert_array_equal(quantize_array(x, kind, rule), q)
    np.testing.assert_array_equal(
        dequantize_array(quantize_array(x, kind, rule), kind), np.float32(q) * along
    )


@st.composite
def rescales(draw):
    """A prepared rescale node and its array."""
    rounding, dtypes = draw(roundings), st.sampled_from(("i8", "i16", "i32"))
    from_dtype, to_dtype = draw(dtypes), draw(dtypes)
    scale, scales, scale_y = draw(layer_scales(rounding, None))
    x = quantised(from_dtype, (draw(st.integers(0, 20)),), scale * scales[0], draw(zero_points(from_dtype)))
    output = quantised(to_dtype, (), scale_y, draw(zero_points(to_dtype)))
    return integer_node("rescale", [(x, draw(codes(x)))], output, {}, rounding)


@given(rescales())
def test_rescale_fast_is_reference(rescale):
    y = assert_fast_is_reference(*rescale)
    low, high = bounds(rescale[1].outputs[0].dtype)
    assert ((y >= low) & (y <= high)).all()


def test_work_is_one_operation_per_result():
    kind = quantised("i8", (3, 4))
    for name in ("quantize", "dequantize", "rescale"):
        assert lookup(name).work(Signature((kind,), (kind,))) == Work(elementwise=12)
