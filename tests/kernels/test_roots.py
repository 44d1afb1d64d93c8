"""sqrt: the nearest code over a sweep of all magnitudes, equal bits in both kernels."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import codes, crossed, ideal, quantized, reals, seeds

from nnaq.errors import LoweringError
from nnaq.ir.numerics import ROUNDINGS
from nnaq.ir.op import lookup
from nnaq.kernels.roots import reciprocal_root_table, root_reference

TOP = 2**31 - 1
CORNERS = [0, 1, 2, 3, 4, 5, 8, 15, 16, 17, 2**30 - 1, 2**30, 2**30 + 1, TOP - 1, TOP, -1, -(2**31)]


def sweep() -> np.ndarray:
    """Every small code, the neighbours of every power of two and every square, and magnitudes between."""
    powers = 2 ** np.arange(31, dtype=np.int64)
    squares = np.arange(0, 46341, 7, dtype=np.int64) ** 2
    between = 2.0 ** np.random.default_rng(0).uniform(0, 31, 30000)
    edges = [edge + offset for edge in (powers, squares) for offset in (-1, 0, 1)]
    parts = [np.arange(3000), *edges, between.astype(np.int64), CORNERS]
    return np.clip(np.concatenate(parts), -(2**31), TOP).astype(np.int32)


# (scale of the operand, scale of the result, dtype of the result)
SCALES = [
    (1.0, 46341 / 32767, "i16"),  # the whole range of roots over the whole range of codes
    (1.0, 1.0, "i16"),
    (3.1e-5, 7.3e-4, "i16"),
    (1.0, 1 / 3000.0, "i16"),  # small roots spread over many codes; large ones saturate
    (1.0, 46341 / 255, "i8"),
    (2.0**-20, 0.02, "i8"),
]


@pytest.mark.parametrize(("scale_x", "scale_y", "dtype"), SCALES)
def test_the_result_is_the_nearest_code(scale_x, scale_y, dtype):
    x = sweep()
    kind = quantized("i32", x.shape, scale_x)
    y = quantized(dtype, x.shape, scale_y, -128 if dtype == "i8" else 0)
    result = crossed("sqrt", (kind,), y)(x)
    exact = ideal(np.sqrt(np.maximum(reals(x, kind), 0.0)), y)
    assert np.abs(result - exact).max() <= 0.5 + 2**-10


def test_the_root_has_27_good_bits():
    table = [int(entry) for entry in reciprocal_root_table()]
    for x in [*range(1, 2000), *(int(v) for v in sweep() if v > 0), 2**31, 2**32 - 1]:
        root, k = root_reference(x, table)
        exact = math.isqrt(x << 120)  # in Q.60
        assert abs((root << (45 - k)) - exact) <= exact >> 27


def test_perfect_squares_have_exact_roots():
    x = (np.arange(1, 32768, dtype=np.int64) ** 2).astype(np.int32)
    result = crossed("sqrt", (quantized("i32", x.shape),), quantized("i16", x.shape))(x)
    np.testing.assert_array_equal(result, np.arange(1, 32768))


def test_negative_codes_and_zero_have_the_root_zero():
    x = np.array([-(2**31), -5, -1, 0, 1], np.int32)
    result = crossed("sqrt", (quantized("i32", x.shape, 1.0, 0),), quantized("i8", x.shape, 0.5, -100))(x)
    assert result.tolist() == [-100, -100, -100, -100, -98]


@pytest.mark.parametrize(("dtype", "zero_point"), [("i8", -128), ("i8", 5), ("i16", 0)])
def test_narrow_operands_take_the_same_road(dtype, zero_point):
    x = (
        np.arange(-128, 128).astype(np.int8)
        if dtype == "i8"
        else np.arange(-(2**15), 2**15, 13).astype(np.int16)
    )
    kind, y = quantized(dtype, x.shape, 0.01, zero_point), quantized("i16", x.shape, 2e-4)
    result = crossed("sqrt", (kind,), y)(x)
    exact = ideal(np.sqrt(np.maximum(reals(x, kind), 0.0)), y)
    assert np.abs(result - exact).max() <= 0.5 + 2**-10


@given(st.sampled_from(ROUNDINGS), st.sampled_from(["i8", "i16", "i32"]), st.integers(-12, 12), seeds)
def test_fast_equals_reference_under_every_rounding(rounding, dtype, exponent, seed):
    kind = quantized(dtype, (3, 40), 4.0**exponent, 7 if dtype == "i8" else 0)
    y = quantized("i16" if seed % 2 else "i8", (3, 40), 2.0**exponent)
    crossed("sqrt", (kind,), y, rounding=rounding)(codes(kind, seed))


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_corners_under_every_rounding(rounding):
    x = np.array(CORNERS, np.int32)
    for scale in (2.0**-10, 1.0, 2.0**16, 2.0**30):  # the last underflows to the zero_point
        crossed("sqrt", (quantized("i32", x.shape),), quantized("i16", x.shape, scale), rounding=rounding)(x)


def test_a_result_finer_than_one_root_in_2_to_the_16_codes_is_refused():
    with pytest.raises(LoweringError, match="left shift"):
        crossed("sqrt", (quantized("i32", (1,)),), quantized("i16", (1,), 2.0**-17))


@pytest.mark.parametrize("shape", [(), (0,), (2, 0)])
def test_every_rank_and_empty_values(shape):
    kind = quantized("i32", shape)
    crossed("sqrt", (kind,), quantized("i16", shape))(codes(kind, 0))


def test_torch_and_numpy_have_one_meaning():
    torch = pytest.importorskip("torch")
    x = np.array([-1.0, 0.25, 2.0, 9.0], np.float32)
    tensor = torch.tensor(x, requires_grad=True)
    (found,) = lookup("sqrt").real(torch, {}, tensor)
    np.testing.assert_array_equal(found.detach().numpy(), lookup("sqrt").real(np, {}, x)[0])
    found[1:].sum().backward()
    np.testing.assert_allclose(tensor.grad.numpy()[1:], 0.5 / np.sqrt(x[1:]), rtol=1e-6)
