"""div: exact integer quotients rounded once; floor_divide: rounded down; zero divisors have an answer."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import code_dtypes, codes, crossed, ideal, quantized, reals, seeds

from nnaq.errors import LoweringError
from nnaq.ir.op import lookup
from nnaq.ir.types import bounds

SPAN = {"i8": 2.0**7, "i16": 2.0**15, "i32": 2.0**31}
EVERY_I8 = np.arange(-128, 128).astype(np.int8)


@given(
    code_dtypes,
    code_dtypes,
    st.sampled_from(["i8", "i16"]),
    st.floats(0.1, 10),
    st.floats(0.1, 10),
    st.sampled_from([((), ()), ((0,), (1,)), ((3, 1), (1, 4)), ((40,), (40,))]),
    seeds,
)
def test_fast_equals_reference_in_every_form(dtype_a, dtype_b, dtype_y, size_a, size_y, pair, seed):
    a = quantized(dtype_a, pair[0], size_a / SPAN[dtype_a], 3 if dtype_a == "i8" else 0)
    b = quantized(dtype_b, pair[1], 1.0 / SPAN[dtype_b], -5 if dtype_b == "i8" else 0)
    shape = np.broadcast_shapes(*pair)
    y = quantized(dtype_y, shape, size_y / SPAN[dtype_y], 7 if dtype_y == "i8" else 0)
    p, q = codes(a, seed), codes(b, seed + 1)
    if dtype_a == "i32" and dtype_b != "i32":
        a = quantized("i32", pair[0], size_a / 2.0**31 / 16)
    if dtype_b == "i32" and dtype_a == "i32" and dtype_y == "i16":
        y = quantized("i16", shape, size_y)
    assert crossed("div", (a, b), y)(p, q).shape == shape


@pytest.mark.parametrize(("size", "bound"), [(20.0, 0.5), (0.7, 0.5), (0.01, 0.5)])
def test_every_i8_pair_is_the_nearest_code(size, bound):
    a, b = quantized("i8", (256, 1), 0.031, -7), quantized("i8", (256,), 0.017, 11)
    y = quantized("i8", (256, 256), size / 128, -3)
    result = crossed("div", (a, b), y)(EVERY_I8[:, None], EVERY_I8)
    real_a, real_b = reals(EVERY_I8[:, None], a), reals(EVERY_I8, b)
    there = (real_b != 0) & (real_a == real_a)
    exact = ideal(real_a / np.where(real_b == 0, 1.0, real_b), y)
    assert np.abs(result - exact)[there].max() <= bound + 2**-20


@pytest.mark.parametrize(
    ("dtype_a", "dtype_b"), [("i16", "i16"), ("i32", "i16"), ("i32", "i32"), ("i8", "i32")]
)
def test_wide_codes_are_the_nearest_code(dtype_a, dtype_b):
    a, b = quantized(dtype_a, (4000,), 1.3 / SPAN[dtype_a]), quantized(dtype_b, (4000,), 60.0 / SPAN[dtype_b])
    y = quantized("i16", (4000,), 0.0011)
    p, q = codes(a, 1), codes(b, 2)
    result = crossed("div", (a, b), y)(p, q)
    there = q != 0
    exact = ideal(reals(p, a) / np.where(there, reals(q, b), 1.0), y)
    assert np.abs(result - exact)[there].max() <= 0.5 + 2**-12


@given(st.integers(-(2**15), 2**15 - 1), st.integers(1, 2**15 - 1), st.integers(-6, 6))
def test_ties_go_away_from_zero(dividend, divisor, power):
    a, b, y = quantized("i16", (1,), 2.0**power), quantized("i16", (1,)), quantized("i16", (1,))
    (result,) = crossed("div", (a, b), y)(np.array([dividend], np.int16), np.array([divisor], np.int16))
    exact = Fraction(dividend * 2**12 * 2 ** (power + 6), divisor * 2**18)
    away = int(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
    assert result == min(max(away, -(2**15)), 2**15 - 1)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_division_by_zero_saturates_by_the_sign_of_the_dividend(dtype):
    a = quantized("i8", (3,), 0.1, 5)
    b, y = quantized("i8", (), 0.1, -9), quantized(dtype, (3,), 0.1, 4 if dtype == "i8" else 0)
    low, high = bounds(dtype)
    result = crossed("div", (a, b), y)(np.array([4, 5, 6], np.int8), np.array(-9, np.int8))
    assert result.tolist() == [low, y.zero_point, high]


def test_the_largest_codes_stay_in_64_bits():
    ends = np.array([-(2**31), 2**31 - 1, 1, -1], np.int32)
    kind, y = quantized("i32", (4, 1)), quantized("i16", (4, 4))
    crossed("div", (kind, kind.with_shape((4,))), y)(ends[:, None], ends)
    fine = quantized("i16", (4, 4), 2.0**-29)
    crossed("div", (kind, kind.with_shape((4,))), fine)(ends[:, None], ends)


def test_a_ratio_beyond_64_bits_is_refused():
    kind = quantized("i32", (2,), 1.0)
    with pytest.raises(LoweringError, match="out of 64 bits"):
        crossed("div", (kind, quantized("i32", (2,), 2.0**-20)), quantized("i16", (2,), 2.0**-15))


def test_a_ratio_too_small_for_any_code_gives_the_zero_point():
    a, b, y = quantized("i8", (3,), 2.0**-30), quantized("i8", (3,), 1.0), quantized("i8", (3,), 8.0, 6)
    x = np.array([-128, 1, 127], np.int8)
    assert crossed("div", (a, b), y)(x, np.array([1, 1, -1], np.int8)).tolist() == [6, 6, 6]


def test_torch_and_numpy_have_one_meaning():
    torch = pytest.importorskip("torch")
    arrays = [np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4), np.full((4,), 1.5, np.float32)]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    (expected,), (found,) = lookup("div").real(np, {}, *arrays), lookup("div").real(torch, {}, *tensors)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-6)
    found.sum().backward()
    assert all(tensor.grad.shape == tensor.shape for tensor in tensors)


WHOLE = quantized("i32", ())
ENDS = [-(2**31), -(2**31) + 1, -7, -2, -1, 0, 1, 2, 7, 2**31 - 2, 2**31 - 1]


@given(st.lists(st.tuples(*[st.one_of(st.sampled_from(ENDS), st.integers(-40, 40))] * 2), max_size=12))
def test_whole_numbers_are_divided_as_python_divides(pairs):
    a, b = np.array(pairs, np.int32).reshape(-1, 2).T
    kind = WHOLE.with_shape(a.shape)
    result = crossed("floor_divide", (kind, kind), kind)(a, b)
    expected = [min(p // q, 2**31 - 1) if q else 0 for p, q in pairs]
    assert result.tolist() == expected


def test_whole_numbers_broadcast():
    a, b = np.arange(-6, 6, dtype=np.int32)[:, None], np.array([-2, 0, 5], np.int32)
    kinds = WHOLE.with_shape((12, 1)), WHOLE.with_shape((3,))
    assert crossed("floor_divide", kinds, WHOLE.with_shape((12, 3)))(a, b).shape == (12, 3)


@given(st.lists(st.tuples(st.integers(-(2**24) + 1, 2**24 - 1), st.integers(-(2**24), 2**24)), min_size=1))
def test_float32_divides_whole_numbers_exactly(pairs):
    torch = pytest.importorskip("torch")
    a, b = np.array(pairs, np.float32).T
    expected = [p // q if q else 0 for p, q in pairs]
    (found,) = lookup("floor_divide").real(np, {}, a, b)
    assert found.dtype == np.float32
    assert found.tolist() == expected
    (found,) = lookup("floor_divide").real(torch, {}, torch.tensor(a), torch.tensor(b))
    assert found.tolist() == expected


@given(st.integers(1, 4096), st.integers(1, 4096), st.sampled_from((-1, 0, 1)))
def test_float32_tells_a_multiple_from_its_neighbours(b, n, offset):
    a = b * n + offset
    (found,) = lookup("floor_divide").real(np, {}, np.float32([a]), np.float32([b]))
    assert found.tolist() == [a // b] or a >= 2**24
