"""Types and sizes: what they print and parse, their own rules, windows and quotients."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ir.parts import types

from nnaq.errors import GraphError
from nnaq.ir import dims
from nnaq.ir.types import Palette, Quant, TensorType, bits, bounds, parse_type, storage


@given(types)
def test_a_type_parses_as_it_prints(kind):
    assert parse_type(str(kind)) == kind


@pytest.mark.parametrize("text", ["", "i8", "i8[1", "i8[1]<0.5>", "i8[1]<0.5, x>", "i8[2]<[1, 2]@, 0>"])
def test_what_is_no_type_is_refused(text):
    with pytest.raises(GraphError, match="not a tensor type"):
        parse_type(text)


def test_types_hold_their_own_rules():
    with pytest.raises(GraphError, match="no dtype 'i7'; there are f32, i4"):
        TensorType("i7", (1,))
    for scale in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(GraphError, match="finite and positive"):
            Quant((scale,))
    with pytest.raises(GraphError, match="2 scales need an axis"):
        Quant((1.0, 2.0))
    with pytest.raises(GraphError, match="a 1-bit palette cannot hold 3 entries"):
        Palette(1, ((0, 1, 2),))
    with pytest.raises(GraphError, match="no single scale"):
        _ = TensorType("i8", (2,), Quant((1.0, 2.0), 0, 0)).scale
    with pytest.raises(GraphError, match="no integer bounds"):
        bounds("f32")


def test_bounds_are_those_of_the_bits():
    for dtype in ("i4", "i8", "i16", "i32", "i48"):
        assert bounds(dtype) == (-(2 ** (bits(dtype) - 1)), 2 ** (bits(dtype) - 1) - 1)
        held = np.iinfo(storage(dtype))
        assert held.min <= bounds(dtype)[0]
        assert bounds(dtype)[1] <= held.max


def test_scales_broadcast_along_their_axis():
    assert Quant((1.0, 2.0), 0, 1).scales(3).shape == (1, 2, 1)
    assert Quant((0.5,)).scales(2).tolist() == [[0.5]]


@given(st.integers(1, 60), st.integers(0, 5), st.integers(1, 6), st.integers(1, 4))
def test_a_window_over_a_symbol_is_the_window_over_its_size(size, padding, extent, stride):
    assume(size + padding >= extent)
    symbolic = dims.window("T", padding, extent, stride)
    assert dims.evaluate(symbolic, {"T": size}) == dims.window(size, padding, extent, stride)
    positions = range(0, size + padding - extent + 1, stride)
    assert dims.window(size, padding, extent, stride) == len(positions)


@given(st.lists(st.integers(1, 6), max_size=4), st.lists(st.integers(1, 6), max_size=3))
def test_a_quotient_divides(whole, parts):
    found = dims.quotient(whole, parts)
    top, bottom = int(np.prod(whole)), int(np.prod(parts))
    assert found == (top // bottom if top % bottom == 0 else None)


@given(st.lists(st.sampled_from(["T", "N", "T-1", 2, 3]), max_size=5), st.data())
def test_a_symbolic_quotient_divides_under_every_binding(whole, data):
    parts = data.draw(st.permutations(whole))[: data.draw(st.integers(0, len(whole)))]
    binding = {"T": data.draw(st.integers(2, 9)), "N": data.draw(st.integers(1, 9))}
    left = dims.quotient(whole, parts)
    assert left is not None
    product = np.prod(dims.bind(parts, binding)) * dims.evaluate(left, binding)
    assert product == np.prod(dims.bind(whole, binding))


@given(st.integers(0, 50), st.integers(-9, 9))
def test_add_commutes_with_binding(size, more):
    assert dims.evaluate(dims.add("T", more), {"T": size}) == dims.add(size, more)


def test_symbols_are_solved_and_checked():
    assert dims.symbols("(T-1)//2+N") == {"T", "N"}
    assert dims.symbols(7) == frozenset()
    assert dims.solve(("T", 4, "T-2"), (6, 4, 4), "x") == {"T": 6}
    for wrong in ((6, 5, 4), (6, 4, 3), (6, 4)):
        with pytest.raises(GraphError, match=r"x has shape .* expected \[T,4,T-2\]"):
            dims.solve(("T", 4, "T-2"), wrong, "x")
    with pytest.raises(GraphError, match="'T-1' cannot be evaluated"):
        dims.evaluate("T-1", {})


def test_a_multiple_of_a_symbol_is_solved_where_it_divides():
    assert dims.solve(("2*T", "T+1"), (6, 4), "x") == {"T": 3}
    assert dims.solve(("3*T-1",), (8,), "x") == {"T": 3}
    assert dims.solve(("T", "2*T"), (0, 0), "x") == {"T": 0}
    for shape, wrong, step in (
        (("2*T",), (3,), "2"),
        (("3*T-1",), (6,), "3 less 1"),
        (("T+4",), (3,), "1 plus 4"),
    ):
        with pytest.raises(
            GraphError, match=rf"axis 0 is {wrong[0]} long.* multiples of {step}; pad the last"
        ):
            dims.solve(shape, wrong, "x")
    for wrong in ((3, 5), (2, 6)):
        with pytest.raises(GraphError, match="x has shape"):
            dims.solve(("T", "2*T"), wrong, "x")
