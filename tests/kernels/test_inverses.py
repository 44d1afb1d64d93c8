"""reciprocal and rsqrt: the nearest code over the whole range, by Newton's step from a 513-entry table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import codes, crossed, ideal, quantized, reals, seeds

from nnaq.ir.numerics import ROUNDINGS
from nnaq.ir.op import lookup
from nnaq.kernels.inverses import reciprocal_reference, reciprocal_table, rsqrt_reference
from nnaq.kernels.roots import reciprocal_root_table

EVERY_I8 = np.arange(-128, 128).astype(np.int8)
EVERY_I16 = np.arange(-(2**15), 2**15).astype(np.int16)


def function(name, x, smallest):
    """The real function; what has no value takes that of the smallest code."""
    if name == "rsqrt":
        return 1 / np.sqrt(np.maximum(x, smallest))
    return 1 / np.where(x == 0, smallest, x)


@pytest.mark.parametrize("name", ["reciprocal", "rsqrt"])
@pytest.mark.parametrize("zero_point", [0, -7, -128])
def test_i8_tables_are_correctly_rounded(name, zero_point):
    x, y = quantized("i8", (256,), 0.031, zero_point), quantized("i8", (256,), 0.11, 4)
    exact = ideal(function(name, reals(EVERY_I8, x), 0.031), y)
    assert np.abs(crossed(name, (x,), y)(EVERY_I8) - exact).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("name", ["reciprocal", "rsqrt"])
@pytest.mark.parametrize("scale_y", [2.0**-10, 0.0113, 0.37, 1e-5])
def test_every_i16_code_is_the_nearest(name, scale_y):
    x, y = quantized("i16", EVERY_I16.shape, 0.00031), quantized("i16", EVERY_I16.shape, scale_y)
    exact = ideal(function(name, reals(EVERY_I16, x), 0.00031), y)
    assert np.abs(crossed(name, (x,), y)(EVERY_I16) - exact).max() <= 0.5 + 2**-10


@pytest.mark.parametrize("name", ["reciprocal", "rsqrt"])
def test_i32_codes_are_the_nearest(name):
    x, y = quantized("i32", (4000,), 1e-6), quantized("i16", (4000,), 0.0213)
    small = np.random.default_rng(0).integers(-(2**20), 2**20, 4000).astype(np.int32) >> np.arange(4000) % 20
    for p in (codes(x, 1), small.astype(np.int32)):
        exact = ideal(function(name, reals(p, x), 1e-6), y)
        assert np.abs(crossed(name, (x,), y)(p) - exact).max() <= 0.5 + 2**-10


@given(
    st.sampled_from(["reciprocal", "rsqrt"]),
    st.sampled_from(["i16", "i32"]),
    st.sampled_from(["i8", "i16"]),
    st.sampled_from(ROUNDINGS),
    st.integers(-8, 8),
    st.floats(0.6, 1.6),
    seeds,
)
def test_fast_equals_reference(name, dtype_x, dtype_y, rounding, power, size, seed):
    size = 1.0 if rounding == "pot_shift" else size
    x = quantized(dtype_x, (50,), 2.0**-12)
    y = quantized(dtype_y, (50,), size * 2.0**power, 5 if dtype_y == "i8" else 0)
    crossed(name, (x,), y, rounding=rounding)(codes(x, seed))


@given(st.integers(1, 2**31))
def test_newton_leaves_27_bits(d):
    b, n = reciprocal_reference(d, reciprocal_table().tolist())
    assert abs(b * 2.0 ** (n - 30) * d - 1) <= 2**-27
    assert reciprocal_reference(-d, reciprocal_table().tolist()) == (-b, n)
    b, n = rsqrt_reference(d, reciprocal_root_table().tolist())
    assert abs(b * 2.0 ** (n - 30) * np.sqrt(d) - 1) <= 2**-27


@pytest.mark.parametrize("name", ["reciprocal", "rsqrt"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
def test_every_rank_and_empty_values(name, shape):
    x = quantized("i16", shape, 0.01)
    assert crossed(name, (x,), x)(codes(x, 0)).shape == shape


@pytest.mark.parametrize("name", ["reciprocal", "rsqrt"])
def test_torch_and_numpy_have_one_meaning(name):
    torch = pytest.importorskip("torch")
    x = np.linspace(0.1, 6, 20, dtype=np.float32)
    tensor = torch.tensor(x, requires_grad=True)
    (expected,), (found,) = lookup(name).real(np, {}, x), lookup(name).real(torch, {}, tensor)
    np.testing.assert_allclose(expected, function(name, x, 0.1), rtol=1e-6)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-6)
    found.sum().backward()
    power = -2.0 if name == "reciprocal" else -1.5
    slope = (-1.0 if name == "reciprocal" else -0.5) * x.astype(np.float64) ** power
    np.testing.assert_allclose(tensor.grad.numpy(), slope, rtol=1e-5)
