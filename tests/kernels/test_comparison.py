"""Comparisons and logic: exact on codes of every width, true is what differs from the zero_point."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import code_dtypes, codes, crossed, quantized, reals, seeds, shapes

from nnaq.ir.op import lookup

COMPARISONS = {
    "equal": np.equal,
    "less": np.less,
    "less_or_equal": np.less_equal,
    "greater": np.greater,
    "greater_or_equal": np.greater_equal,
}
LOGIC = {"logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor}


@st.composite
def broadcast_shapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    shape = draw(shapes)
    pair = [tuple(1 if draw(st.booleans()) else n for n in shape) for _ in range(2)]
    return pair[0], pair[1][draw(st.integers(0, len(shape))) :]


def flag_type(*pair: tuple[int, ...]):
    return quantized("i8", np.broadcast_shapes(*pair))


@given(st.sampled_from(sorted(COMPARISONS)), code_dtypes, broadcast_shapes(), seeds)
def test_codes_compare_like_their_reals(name, dtype, pair, seed):
    zero_point = 7 if dtype == "i8" else 0
    a, b = (quantized(dtype, shape, 0.3, zero_point) for shape in pair)
    p, q = codes(a, seed), codes(b, seed + 1)
    flags = crossed(name, (a, b), flag_type(*pair))(p, q)
    np.testing.assert_array_equal(flags, COMPARISONS[name](reals(p, a), reals(q, b)))


@pytest.mark.parametrize("name", sorted(COMPARISONS))
@pytest.mark.parametrize(("dtype", "low"), [("int8", -128), ("int16", -(2**15)), ("int32", -(2**31))])
def test_the_ends_of_the_range_against_each_other(name, dtype, low):
    ends = np.array([low, low + 1, -1, 0, 1, -(low + 2), -(low + 1)], dtype)
    kind = quantized(f"i{ends.itemsize * 8}", (7, 1))
    flags = crossed(name, (kind, kind.with_shape((7,))), quantized("i8", (7, 7)))(ends[:, None], ends)
    rank = np.arange(7)
    np.testing.assert_array_equal(flags, COMPARISONS[name](rank[:, None], rank))


@given(st.sampled_from(sorted(LOGIC)), broadcast_shapes(), st.sampled_from([0, -128, 1, 127]), seeds)
def test_logic_reads_any_code_but_the_zero_point_as_true(name, pair, zero_point, seed):
    a, b = quantized("i8", pair[0], 1.0, zero_point), quantized("i8", pair[1], 1.0, 0)
    p, q = codes(a, seed), codes(b, seed + 1)
    flags = crossed(name, (a, b), flag_type(*pair))(p, q)
    np.testing.assert_array_equal(flags, LOGIC[name](p != zero_point, q != 0))


@given(shapes, st.sampled_from([0, -128, 1]), seeds)
def test_not(shape, zero_point, seed):
    kind = quantized("i8", shape, 1.0, zero_point)
    x = codes(kind, seed)
    np.testing.assert_array_equal(crossed("logical_not", (kind,), quantized("i8", shape))(x), x == zero_point)


@pytest.mark.parametrize("name", sorted({**COMPARISONS, **LOGIC}))
def test_the_meaning_over_the_reals(name):
    torch = pytest.importorskip("torch")
    a, b = np.array([[0.0], [1.0], [-2.5]], np.float32), np.array([0.0, 1.0, -2.5], np.float32)
    expected = {**COMPARISONS, **LOGIC}[name](a, b).astype(np.float32)
    (array,), (tensor,) = (
        lookup(name).real(np, {}, a, b),
        lookup(name).real(torch, {}, torch.tensor(a), torch.tensor(b)),
    )
    assert array.dtype == np.float32
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(tensor.numpy(), expected)


def test_not_over_the_reals():
    torch = pytest.importorskip("torch")
    x = np.array([0.0, 1.0, -0.5], np.float32)
    (array,), (tensor,) = (
        lookup("logical_not").real(np, {}, x),
        lookup("logical_not").real(torch, {}, torch.tensor(x)),
    )
    assert array.tolist() == tensor.tolist() == [1.0, 0.0, 0.0]


def test_operands_are_tied_and_results_are_flags():
    for name in COMPARISONS:
        assert lookup(name).ties == ((0, 1),)
        assert lookup(name).demands == {~0: "flag"}
    assert lookup("logical_and").demands == {0: "flag", 1: "flag", ~0: "flag"}
