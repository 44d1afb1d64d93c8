"""log: the nearest code over 31 octaves, from 513 entries with quadratic interpolation."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import codes, crossed, ideal, quantized, reals, seeds

from nnaq.errors import LoweringError
from nnaq.ir.numerics import ROUNDINGS
from nnaq.ir.op import lookup
from nnaq.kernels.logarithm import logarithm_reference, logarithm_table

TOP = 2**31 - 1
EVERY_I16 = np.arange(-(2**15), 2**15).astype(np.int16)
TABLE = logarithm_table().tolist()
CORNERS = [-(2**31), -5, -1, 0, 1, 2, 3, 4, 511, 512, 513, 2**16 - 1, 2**30 - 1, 2**30, TOP - 1, TOP]


def sweep() -> np.ndarray:
    """Every small code, all edges of cells near the ends of an octave, and magnitudes between."""
    edges = [(512 + j) << 21 for j in range(512)]
    parts = [edge + offset for edge in edges for offset in (-1, 0, 1)]
    between = (2.0 ** np.random.default_rng(0).uniform(0, 31, 20000)).astype(np.int64)
    return np.clip(np.concatenate([np.arange(-5, 3000), parts, between, CORNERS]), -(2**31), TOP)


def exact(x, kind, y):
    """The logarithm in units of the result; what is not positive takes that of the smallest code."""
    return ideal(np.log(np.maximum(reals(x, kind), kind.scale)), y)


def bound(y):
    """What the module promises."""
    return 0.5 + 2**-15 + 2**-26 / y.scale


@pytest.mark.parametrize(
    ("scale_x", "scale_y", "dtype"),
    [
        (1.0, 22 / 2**15, "i16"),  # the logarithms of all codes over the whole range
        (1e-8, 20 / 2**15, "i16"),
        (2.0**-40, 30 / 2**15, "i16"),
        (1.0, 2.0**-14, "i16"),  # fine codes; large logarithms saturate
        (3e-5, 0.17, "i8"),
        (1e6, 0.31, "i8"),
    ],
)
def test_the_result_is_the_nearest_code_over_all_octaves(scale_x, scale_y, dtype):
    x = sweep().astype(np.int32)
    kind, y = (
        quantized("i32", x.shape, scale_x),
        quantized(dtype, x.shape, scale_y, -9 if dtype == "i8" else 0),
    )
    result = crossed("log", (kind,), y)(x)
    assert np.abs(result - exact(x, kind, y)).max() <= bound(y)


@pytest.mark.parametrize("scale_y", [12 / 2**15, 2.0**-17, 0.37])
def test_every_i16_code_is_the_nearest(scale_y):
    x, y = quantized("i16", EVERY_I16.shape, 0.00031), quantized("i16", EVERY_I16.shape, scale_y)
    assert np.abs(crossed("log", (x,), y)(EVERY_I16) - exact(EVERY_I16, x, y)).max() <= bound(y)


@pytest.mark.parametrize("zero_point", [0, -7, -128])
def test_i8_tables_are_correctly_rounded(zero_point):
    every = np.arange(-128, 128).astype(np.int8)
    x, y = quantized("i8", (256,), 0.031, zero_point), quantized("i8", (256,), 0.05, 4)
    assert np.abs(crossed("log", (x,), y)(every) - exact(every, x, y)).max() <= 0.5 + 1e-9


def test_what_is_not_positive_counts_as_the_smallest_positive_code():
    x = np.array([-(2**31), -1, 0, 1], np.int32)
    result = crossed("log", (quantized("i32", (4,), 0.01),), quantized("i8", (4,), 0.1))(x)
    assert result.tolist() == [round(math.log(0.01) / 0.1)] * 4


@given(st.integers(1, 2**32 - 1))
def test_the_logarithm_has_26_bits_behind_the_point(d):
    assert abs(logarithm_reference(d, TABLE) / 2.0**30 - math.log(d)) <= 2**-27


@pytest.mark.parametrize("power", range(32))
def test_powers_of_two_meet_no_interpolation(power):
    """The first entry is 0, and what an octave adds is ln 2 to 31 bits."""
    found = Fraction(logarithm_reference(2**power, TABLE), 2**30)
    assert abs(float(found) - power * math.log(2)) <= power * 2**-31


def test_the_logarithm_never_falls():
    values = [logarithm_reference(int(d), TABLE) for d in np.unique(sweep()) if d > 0]
    assert values == sorted(values)


@given(
    st.sampled_from(["i16", "i32"]),
    st.sampled_from(["i8", "i16"]),
    st.sampled_from(ROUNDINGS),
    st.integers(-30, 10),
    st.integers(-20, 8),
    st.floats(0.6, 1.6),
    seeds,
)
def test_fast_equals_reference(dtype_x, dtype_y, rounding, power_x, power_y, size, seed):
    size = 1.0 if rounding == "pot_shift" else size
    x = quantized(dtype_x, (50,), 1.3 * 2.0**power_x)
    y = quantized(dtype_y, (50,), size * 2.0**power_y, 5 if dtype_y == "i8" else 0)
    crossed("log", (x,), y, rounding=rounding)(codes(x, seed))


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_corners_under_every_rounding(rounding):
    x = np.array(CORNERS, np.int32)
    for scale in (2.0**-40, 1.0, 2.0**30):
        for scale_y in (2.0**-11, 2.0**-3, 2.0**7):  # the last is too coarse for any multiplier
            kinds = quantized("i32", x.shape, scale), quantized("i16", x.shape, scale_y)
            crossed("log", kinds[:1], kinds[1], rounding=rounding)(x)


def test_a_result_too_fine_for_64_bits_is_refused():
    with pytest.raises(LoweringError, match="left shift"):
        crossed("log", (quantized("i32", (1,)),), quantized("i16", (1,), 2.0**-42))


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
def test_every_rank_and_empty_values(shape):
    x = quantized("i32", shape, 0.01)
    assert crossed("log", (x,), quantized("i16", shape, 0.001))(codes(x, 0)).shape == shape


def test_torch_and_numpy_have_one_meaning():
    torch = pytest.importorskip("torch")
    x = np.array([-1.0, 0.0, 0.25, 2.0, 9.0], np.float32)
    tensor = torch.tensor(x, requires_grad=True)
    (expected,), (found,) = lookup("log").real(np, {}, x), lookup("log").real(torch, {}, tensor)
    assert expected.dtype == np.float32
    np.testing.assert_allclose(expected, [-np.inf, -np.inf, *np.log(x[2:])], rtol=1e-6)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-6)
    found[2:].sum().backward()
    np.testing.assert_allclose(tensor.grad.numpy(), [0.0, 0.0, *(1 / x[2:])], rtol=1e-6)
