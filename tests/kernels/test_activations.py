"""Activations by table: correctly rounded for i8, within measured bounds for i16, one meaning everywhere."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import codes, crossed, ideal, quantized, reals, seeds

from nnaq.errors import GraphError, LoweringError
from nnaq.ir.op import lookup

EVERY_I8 = np.arange(-128, 128).astype(np.int8)
EVERY_I16 = np.arange(-(2**15), 2**15).astype(np.int16)
SELU = (1.0507009873554805, 1.6732632423543772)
erf = np.vectorize(math.erf, otypes=[np.float64])


def softplus(x):
    return np.log1p(np.exp(x))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def bent(x, alpha, below):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / below))


# name, attributes, the function in float64, fraction bits of the i16 result, its largest error for Q3.12
CURVES = [
    ("silu", {}, lambda x: x / (1 + np.exp(-x)), 12, 1.1),
    ("gelu", {}, lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))), 12, 1.11),
    ("gelu", {"approximate": "tanh"}, gelu_tanh, 12, 1.2),
    ("mish", {}, lambda x: x * np.tanh(softplus(x)), 12, 1.24),
    ("softplus", {}, softplus, 11, 1.09),
    ("log_sigmoid", {}, lambda x: -softplus(-x), 11, 1.09),
    ("softsign", {}, lambda x: x / (1 + np.abs(x)), 15, 8.13),
    ("elu", {"alpha": 0.7}, lambda x: bent(x, 0.7, 1.0), 12, 1.06),
    ("celu", {"alpha": 0.7}, lambda x: bent(x, 0.7, 0.7), 12, 1.33),
    ("selu", {}, lambda x: SELU[0] * bent(x, SELU[1], 1.0), 11, 1.29),
    ("erf", {}, erf, 15, 4.67),
    ("sin", {}, np.sin, 15, 4.83),
    ("cos", {}, np.cos, 15, 4.99),
    ("power", {"exponent": 3.0}, lambda x: x**3, 6, 1.23),
]
names = [f"{name}_{attrs['approximate']}" if "approximate" in attrs else name for name, attrs, *_ in CURVES]
each = pytest.mark.parametrize(("name", "attrs", "function", "bits", "bound"), CURVES, ids=names)


@each
@pytest.mark.parametrize(("scale", "zero_point"), [(0.031, -7), (0.1, 0), (0.07, 126), (2.0**-5, -128)])
def test_i8_tables_are_correctly_rounded(name, attrs, function, bits, bound, scale, zero_point):
    x, y = quantized("i8", (256,), scale, zero_point), quantized("i8", (256,), 0.0213, -11)
    exact = ideal(function(reals(EVERY_I8, x)), y)
    assert np.abs(crossed(name, (x,), y, attrs)(EVERY_I8) - exact).max() <= 0.5 + 1e-9


@each
def test_i16_tables_stay_in_their_bound_over_all_codes(name, attrs, function, bits, bound):
    x, y = quantized("i16", EVERY_I16.shape, 2.0**-12), quantized("i16", EVERY_I16.shape, 2.0**-bits)
    error = np.abs(crossed(name, (x,), y, attrs)(EVERY_I16) - ideal(function(reals(EVERY_I16, x)), y))
    assert bound - 0.1 < error.max() <= bound  # tight on both sides: a better table should say so


@given(st.sampled_from(CURVES), st.sampled_from(["i8", "i16"]), st.sampled_from(["i8", "i16"]), seeds)
def test_fast_equals_reference(curve, dtype_x, dtype_y, seed):
    x = quantized(dtype_x, (3, 20), 0.03 if dtype_x == "i8" else 0.0001, 9 if dtype_x == "i8" else 0)
    y = quantized(dtype_y, (3, 20), 0.02 if dtype_y == "i8" else 0.0001)
    crossed(curve[0], (x,), y, curve[1])(codes(x, seed))


@each
def test_the_meaning_over_the_reals(name, attrs, function, bits, bound):
    torch = pytest.importorskip("torch")
    x = np.linspace(-6.03, 6.0, 50, dtype=np.float32)
    tensor = torch.tensor(x, requires_grad=True)
    (array,), (found,) = lookup(name).real(np, attrs, x), lookup(name).real(torch, attrs, tensor)
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, function(x.astype(np.float64)), rtol=3e-6, atol=1e-6)
    np.testing.assert_allclose(found.detach().numpy(), array, rtol=3e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(found.sum(), tensor)
    wide, step = x.astype(np.float64), 1e-5
    slope = (function(wide + step) - function(wide - step)) / (2 * step)
    np.testing.assert_allclose(gradient.numpy(), slope, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["silu", "mish", "softplus", "log_sigmoid", "elu", "celu", "selu", "softsign"]
)
def test_far_arguments_do_not_overflow(name):
    with np.errstate(over="raise", invalid="raise"):
        (found,) = lookup(name).real(np, {}, np.array([-1e4, 1e4], np.float32))
    assert np.isfinite(found).all()


def test_defaults_are_those_of_the_standard():
    x = np.array([-1.0, 2.0], np.float32)
    for name, attrs in (
        ("gelu", {"approximate": "none"}),
        ("elu", {"alpha": 1.0}),
        ("celu", {"alpha": 1.0}),
        ("selu", {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}),
    ):
        np.testing.assert_array_equal(lookup(name).real(np, {}, x), lookup(name).real(np, attrs, x))


def test_an_unknown_approximation_is_refused():
    with pytest.raises(GraphError, match="gelu: no approximation 'fast'"):
        lookup("gelu").real(np, {"approximate": "fast"}, np.zeros(1, np.float32))


def test_a_range_without_any_finite_value_is_refused():
    x, y = quantized("i8", (4,), 0.1, 127), quantized("i8", (4,), 0.1, 0)
    with pytest.raises(LoweringError, match="no code of the operand has a finite value"):
        crossed("power", (x,), y, {"exponent": -0.5})


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
def test_every_rank_and_empty_values(shape):
    x = quantized("i16", shape, 0.001)
    assert crossed("erf", (x,), quantized("i16", shape, 2.0**-15))(codes(x, 0)).shape == shape
    (found,) = lookup("erf").real(np, {}, np.zeros(shape, np.float32))
    assert found.shape == shape
