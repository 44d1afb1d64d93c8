"""gather and one_hot: entries by their place, from either end, and never outside."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import IntegerNode, crossed, operands, quantized

from nnaq.errors import GraphError, OpError
from nnaq.ir.op import lookup
from nnaq.ir.types import TensorType


def whole(shape) -> TensorType:
    return quantized("i32", tuple(shape))


def gather(x: np.ndarray, indices: np.ndarray, axis: int) -> IntegerNode:
    dtype = {"int8": "i8", "int16": "i16", "int32": "i32"}[x.dtype.name]
    kinds = (quantized(dtype, x.shape, 0.5, 3 if dtype == "i8" else 0), whole(indices.shape))
    (shape,) = lookup("gather").infer(kinds, {"axis": axis})
    return crossed("gather", kinds, kinds[0].with_shape(shape), {"axis": axis})


def one_hot(indices: np.ndarray, depth: int, axis: int) -> IntegerNode:
    attrs = {"depth": depth, "axis": axis}
    (shape,) = lookup("one_hot").infer((whole(indices.shape),), attrs)
    return crossed("one_hot", (whole(indices.shape),), quantized("i8", shape), attrs)


@st.composite
def indices(draw: st.DrawFn, size: int) -> np.ndarray:
    """Whole numbers in [-size, size) in a small shape; none where there is nothing to point at."""
    shape = draw(st.lists(st.integers(0, 3), max_size=2)) if size else [0]
    values = st.integers(-size, max(size - 1, -size))
    count = int(np.prod(shape))
    found = draw(st.lists(values, min_size=count, max_size=count))
    return np.array(found, np.int32).reshape(shape)


@given(operands(), st.data())
def test_gather_is_numpy_take(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    places = data.draw(indices(x.shape[axis]))
    np.testing.assert_array_equal(gather(x, places, axis)(x, places), np.take(x, places, axis))


@given(st.integers(1, 5), st.data())
def test_one_hot(depth, data):
    places = data.draw(indices(depth))
    axis = data.draw(st.integers(-places.ndim - 1, places.ndim))
    found = one_hot(places, depth, axis)(places)
    np.testing.assert_array_equal(np.moveaxis(found, axis, -1), np.eye(depth, dtype=np.int8)[places])


OUTSIDE = st.one_of(st.sampled_from((-4, 3, -(2**31), 2**31 - 1)), st.integers(3, 99), st.integers(-99, -4))


@given(OUTSIDE, st.integers(0, 2))
def test_an_index_outside_is_named_before_anything_is_read(index, at):
    x, places = np.arange(6, dtype=np.int8).reshape(3, 2), np.zeros(3, np.int32)
    places[at] = index
    reals = places.astype(np.float32)
    for node, arrays, who in (
        (gather(x, places, 0), (x, places), "gather"),
        (one_hot(places, 3, 0), (places,), "one_hot"),
    ):
        for run in (node.op.fast, node.op.reference):
            with pytest.raises(OpError, match=f"{who} has the index .* 3 entries: give -3 to 2"):
                run(node.signature, *arrays)
        with pytest.raises(OpError, match=f"{who} has the index"):
            node.op.real(np, node.signature.attrs, *arrays[:-1], reals)


@pytest.mark.parametrize("index", [np.nan, np.inf, -np.inf, 2.51, -3.51])
def test_a_real_that_is_no_place_is_refused(index):
    with pytest.raises(OpError, match="but there are 3 entries"):
        lookup("gather").real(np, {"axis": 0}, np.zeros(3, np.float32), np.float32([index]))


def test_an_empty_table_has_no_places():
    x, none = np.zeros((0, 2), np.int8), np.zeros((0,), np.int32)
    assert gather(x, none, 0)(x, none).shape == (0, 2)
    with pytest.raises(OpError, match="the index 0, but there are 0 entries"):
        gather(x, np.zeros(1, np.int32), 0)(x, np.zeros(1, np.int32))


def test_reals_are_rounded_half_to_even_as_their_codes_are():
    (found,) = lookup("gather").real(
        np, {"axis": 0}, np.arange(4, dtype=np.float32), np.float32([0.5, 1.5, -0.6, 2.4])
    )
    np.testing.assert_array_equal(found, [0, 2, 3, 2])


def test_torch_and_numpy_have_one_meaning():
    torch = pytest.importorskip("torch")
    x, places = np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.float32([[2, -1], [0, 0]])
    for axis in (0, 1, -1):
        held = places if axis else places % 2
        table = torch.tensor(x, requires_grad=True)
        (found,) = lookup("gather").real(torch, {"axis": axis}, table, torch.tensor(held))
        np.testing.assert_array_equal(found.detach().numpy(), np.take(x, held.astype(int), axis))
        found.sum().backward()
        counts = np.array([np.count_nonzero(found.detach().numpy() == value) for value in x.flat])
        np.testing.assert_array_equal(table.grad.numpy().ravel(), counts)
        hot = {"depth": 3, "axis": axis}
        (expected,) = lookup("one_hot").real(np, hot, places)
        (flags,) = lookup("one_hot").real(torch, hot, torch.tensor(places))
        assert expected.dtype == np.float32
        np.testing.assert_array_equal(flags.numpy(), expected)


def test_shapes_may_be_open_and_nonsense_is_named():
    x, places = TensorType("f32", ("V", 8)), TensorType("f32", ("B", "T"))
    assert lookup("gather").infer((x, places), {"axis": 0}) == (("B", "T", 8),)
    assert lookup("gather").infer((x, places), {"axis": -1}) == (("V", "B", "T"),)
    assert lookup("one_hot").infer((places,), {"depth": 5, "axis": -1}) == (("B", "T", 5),)
    with pytest.raises(GraphError, match="gather names axis 2 of a tensor of rank 2"):
        lookup("gather").infer((x, places), {"axis": 2})
    with pytest.raises(GraphError, match="one_hot needs a depth of at least 1, found 0"):
        lookup("one_hot").infer((places,), {"depth": 0, "axis": 0})
    with pytest.raises(GraphError, match="one_hot names axis 3 of a tensor of rank 3"):
        lookup("one_hot").infer((places,), {"depth": 2, "axis": 3})
