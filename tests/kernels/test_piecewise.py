"""Activations of straight pieces: exact at their bends in both widths, fast equal to reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import codes, crossed, ideal, quantized, reals, seeds

from nnaq.ir.numerics import ROUNDINGS
from nnaq.ir.op import lookup

EVERY = {"i8": np.arange(-128, 128).astype(np.int8), "i16": np.arange(-(2**15), 2**15).astype(np.int16)}


def leaky(alpha):
    return lambda x: np.where(x > 0, x, alpha * x)


def hard_sigmoid(alpha, beta):
    return lambda x: np.clip(alpha * x + beta, 0, 1)


# name, attributes, the function in float64, error bound for i16 operands
CURVES = [
    ("leaky_relu", {}, leaky(0.01), 0.501),
    ("leaky_relu", {"alpha": 0.3}, leaky(0.3), 0.501),
    ("leaky_relu", {"alpha": -0.3}, leaky(-0.3), 0.501),
    ("leaky_relu", {"alpha": 0.0}, leaky(0.0), 0.501),
    ("thresholded_relu", {}, lambda x: np.where(x > 1.0, x, 0.0), 0.501),
    ("thresholded_relu", {"alpha": -0.7}, lambda x: np.where(x > -0.7, x, 0.0), 0.501),
    ("thresholded_relu", {"alpha": 99.0}, lambda x: np.zeros_like(x), 0.0),
    ("hard_sigmoid", {}, hard_sigmoid(0.2, 0.5), 1.501),
    ("hard_sigmoid", {"alpha": 1 / 6, "beta": 0.4}, hard_sigmoid(1 / 6, 0.4), 1.501),
    ("hard_sigmoid", {"alpha": -0.5, "beta": 0.1}, hard_sigmoid(-0.5, 0.1), 1.501),
    ("hard_swish", {}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1), 1.001),
]
each = pytest.mark.parametrize(("name", "attrs", "function", "bound"), CURVES)


@each
@pytest.mark.parametrize("dtype_y", ["i8", "i16"])
@pytest.mark.parametrize("dtype_x", ["i8", "i16"])
def test_every_code_is_within_its_bound(name, attrs, function, bound, dtype_x, dtype_y):
    every = EVERY[dtype_x]
    x = quantized(dtype_x, every.shape, 0.051 if dtype_x == "i8" else 0.000203, 5 if dtype_x == "i8" else 0)
    y = quantized(dtype_y, every.shape, 0.023 if dtype_y == "i8" else 0.000103, -9 if dtype_y == "i8" else 0)
    error = np.abs(crossed(name, (x,), y, attrs)(every) - ideal(function(reals(every, x)), y))
    assert error.max() <= (bound if dtype_x == "i16" else 0.5 + 1e-9)


@given(
    st.sampled_from(CURVES),
    st.sampled_from([r for r in ROUNDINGS if r != "pot_shift"]),
    st.sampled_from(["i8", "i16"]),
    st.floats(0.00005, 0.0005),
    seeds,
)
def test_fast_equals_reference(curve, rounding, dtype_y, scale, seed):
    x, y = quantized("i16", (2, 40), scale), quantized(dtype_y, (2, 40), 0.0003, 3 if dtype_y == "i8" else 0)
    crossed(curve[0], (x,), y, curve[1], rounding)(codes(x, seed))


def test_powers_of_two_need_no_multiplier():
    x, y = quantized("i16", (65536,), 2.0**-12), quantized("i16", (65536,), 2.0**-11)
    result = crossed("leaky_relu", (x,), y, {"alpha": 0.125}, "pot_shift")(EVERY["i16"])
    assert np.abs(result - ideal(leaky(0.125)(reals(EVERY["i16"], x)), y)).max() == 0.5


@pytest.mark.parametrize("dtype_slope", ["i8", "i16"])
@pytest.mark.parametrize(("dtype_x", "dtype_y"), [("i8", "i8"), ("i8", "i16"), ("i16", "i8"), ("i16", "i16")])
def test_prelu_broadcasts_its_slope_and_is_the_nearest_code(dtype_x, dtype_y, dtype_slope):
    span = {"i8": 2.0**7, "i16": 2.0**15}
    x = quantized(dtype_x, (5, 3, 60), 2.9 / span[dtype_x], 5 if dtype_x == "i8" else 0)
    slope = quantized(dtype_slope, (3, 1), 0.7 / span[dtype_slope], -3 if dtype_slope == "i8" else 0)
    y = quantized(dtype_y, (5, 3, 60), 3.1 / span[dtype_y], 7 if dtype_y == "i8" else 0)
    p, q = codes(x, 1), codes(slope, 2)
    for rounding in (r for r in ROUNDINGS if r != "pot_shift"):
        result = crossed("prelu", (x, slope), y, rounding=rounding)(p, q)
        if rounding == "single":
            a = reals(p, x)
            exact = ideal(np.where(a > 0, a, a * reals(q, slope)), y)
            assert np.abs(result - exact).max() <= 0.5 + 2**-10


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
@pytest.mark.parametrize("name", ["leaky_relu", "hard_sigmoid", "hard_swish", "thresholded_relu"])
def test_every_rank_and_empty_values(name, shape):
    kind = quantized("i16", shape, 0.001)
    assert crossed(name, (kind,), kind)(codes(kind, 0)).shape == shape
    assert crossed("prelu", (kind, kind), kind)(codes(kind, 0), codes(kind, 1)).shape == shape


@each
def test_the_meaning_over_the_reals(name, attrs, function, bound):
    torch = pytest.importorskip("torch")
    x = np.linspace(-6.03, 6.0, 50, dtype=np.float32)
    tensor = torch.tensor(x, requires_grad=True)
    (array,), (found,) = lookup(name).real(np, attrs, x), lookup(name).real(torch, attrs, tensor)
    np.testing.assert_allclose(array, function(x.astype(np.float64)), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.detach().numpy(), array)
    (gradient,) = torch.autograd.grad(found.sum(), tensor)
    wide, step = x.astype(np.float64), 1e-5
    slope = (function(wide + step) - function(wide - step)) / (2 * step)
    np.testing.assert_allclose(gradient.numpy(), slope, atol=1e-4)


def test_prelu_over_the_reals():
    torch = pytest.importorskip("torch")
    x, slope = np.array([[-2.0, 3.0]], np.float32), np.array([[0.5], [0.25]], np.float32)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, slope)]
    (found,) = lookup("prelu").real(torch, {}, *tensors)
    assert lookup("prelu").real(np, {}, x, slope)[0].tolist() == [[-1.0, 3.0], [-0.5, 3.0]]
    assert found.tolist() == [[-1.0, 3.0], [-0.5, 3.0]]
    found.sum().backward()
    assert tensors[1].grad.tolist() == [[-2.0], [-2.0]]
