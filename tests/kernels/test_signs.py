"""abs, neg, sign and the whole parts: the last exact for every float32 scale, ties to even included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import codes, crossed, ideal, quantized, reals, seeds, shapes

from nnaq.errors import LoweringError
from nnaq.ir.numerics import ROUNDINGS
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import TensorType, bounds, storage

SPAN = {"i8": 2.0**7, "i16": 2.0**15, "i32": 2.0**31}
SIGNED = {"abs": np.abs, "neg": np.negative}
PARTS = {"floor": np.floor, "ceil": np.ceil, "round": np.rint}
dtypes = st.sampled_from(sorted(SPAN))


@given(
    st.sampled_from(sorted(SIGNED)),
    dtypes,
    dtypes,
    st.sampled_from([r for r in ROUNDINGS if r != "pot_shift"]),
    shapes,
    seeds,
)
def test_fast_equals_reference_in_every_form_and_rounding(name, dtype_x, dtype_y, rounding, shape, seed):
    x = quantized(dtype_x, shape, 0.9 / SPAN[dtype_x], -7 if dtype_x == "i8" else 0)
    y = quantized(dtype_y, shape, max(1.1 / SPAN[dtype_y], x.scale / 2), 5 if dtype_y == "i8" else 0)
    crossed(name, (x,), y, rounding=rounding)(codes(x, seed))


@pytest.mark.parametrize("name", sorted(SIGNED))
@pytest.mark.parametrize(("dtype", "dtype_y"), [("i8", "i8"), ("i8", "i16"), ("i16", "i8"), ("i32", "i16")])
def test_abs_and_neg_are_the_nearest_code(name, dtype, dtype_y):
    x = quantized(dtype, (4000,), 0.97 / SPAN[dtype], -100 if dtype == "i8" else 0)
    y = quantized(dtype_y, (4000,), 1.7 / SPAN[dtype_y], 3 if dtype_y == "i8" else 0)
    p = codes(x, 1)
    error = np.abs(crossed(name, (x,), y)(p) - ideal(SIGNED[name](reals(p, x)), y))
    assert error.max() <= 0.5 + 2**-10


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_i32_codes_keep_their_scale_and_saturate(name):
    kind = quantized("i32", (5,), 0.25)
    assert lookup(name).follow(Signature((kind,), (TensorType("f32", (5,)),))) == (kind,)
    assert lookup(name).follow(Signature((quantized("i16", (5,)),), (TensorType("f32", (5,)),))) is None
    ends = np.array([-(2**31), -(2**31) + 1, 0, 1, 2**31 - 1], np.int32)
    expected = np.clip(SIGNED[name](ends.astype(np.int64)), -(2**31), 2**31 - 1)
    np.testing.assert_array_equal(crossed(name, (kind,), kind)(ends), expected)


@given(dtypes, shapes, seeds)
def test_sign(dtype, shape, seed):
    x = quantized(dtype, shape, 0.3, -128 if dtype == "i8" else 0)
    p = codes(x, seed)
    np.testing.assert_array_equal(crossed("sign", (x,), quantized("i32", shape))(p), np.sign(reals(p, x)))


scales = st.one_of(
    st.sampled_from([1.0, 0.5, 0.25, 0.1, 1.0 / 3.0, 2.0**-15]),
    st.floats(2.0**-20, 1.875, width=32),
).map(lambda scale: float(np.float32(scale)))


@given(st.sampled_from(sorted(PARTS)), dtypes, scales, seeds)
def test_whole_parts_are_exact_for_float32_scales(name, dtype, scale, seed):
    x = quantized(dtype, (60,), scale if dtype != "i32" else min(scale, 1.0), 9 if dtype == "i8" else 0)
    p = codes(x, seed)
    # a 24-bit mantissa times at most 32 bits is no float64: these are Python's fractions of whole numbers
    numerator, denominator = x.scale.as_integer_ratio()
    product = [(int(q) - x.zero_point) * numerator for q in p]
    expected = [whole_part(name, n, denominator) for n in product]
    assert crossed(name, (x,), quantized("i32", (60,)))(p).tolist() == expected


def whole_part(name: str, n: int, d: int) -> int:
    """floor, ceil or round half to even of n / d."""
    if name == "floor":
        return n // d
    if name == "ceil":
        return -(-n // d)
    low, rest = divmod(n, d)
    return low + int(2 * rest > d or (2 * rest == d and low % 2 == 1))


@pytest.mark.parametrize("name", sorted(PARTS))
@pytest.mark.parametrize("scale", [0.5, 0.25, 1.0])
@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_ties_of_both_signs(name, scale, dtype):
    low, high = bounds(dtype)
    every = np.arange(low, high + 1).astype(storage(dtype))
    x = quantized(dtype, every.shape, scale, -3 if dtype == "i8" else 0)
    expected = PARTS[name](reals(every, x))
    for rounding in ("single", "half_even", "pot_shift"):
        result = crossed(name, (x,), quantized("i32", every.shape), rounding=rounding)(every)
        np.testing.assert_array_equal(result, expected)


def test_pot_shift_has_no_parts_of_other_scales():
    with pytest.raises(LoweringError, match="powers of two"):
        crossed("floor", (quantized("i8", (2,), 0.3),), quantized("i32", (2,)), rounding="pot_shift")


@pytest.mark.parametrize("name", [*SIGNED, *PARTS, "sign"])
def test_the_meaning_over_the_reals(name):
    torch = pytest.importorskip("torch")
    x = np.array([-2.5, -1.5, -0.5, -0.2, 0.0, 0.5, 1.5, 2.6], np.float32)
    tensor = torch.tensor(x, requires_grad=True)
    (array,), (found,) = lookup(name).real(np, {}, x), lookup(name).real(torch, {}, tensor)
    np.testing.assert_array_equal(array, {**SIGNED, **PARTS, "sign": np.sign}[name](x))
    np.testing.assert_array_equal(found.detach().numpy(), array)
    found.sum().backward()
    assert tensor.grad.shape == tensor.shape


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
def test_every_rank_and_empty_values(shape):
    kind = quantized("i16", shape, 0.25)
    for name in [*SIGNED, *PARTS, "sign"]:
        y = kind if name in SIGNED else quantized("i32", shape)
        assert crossed(name, (kind,), y)(codes(kind, 0)).shape == shape
