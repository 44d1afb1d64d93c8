"""arange and relative_shift: counted positions, and scores by distance brought to positions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import code_dtypes, codes, crossed, moved, quantized, seeds

from nnaq.errors import GraphError, OpError
from nnaq.ir.op import lookup
from nnaq.ir.types import TensorType


@given(code_dtypes, st.lists(st.integers(0, 6), min_size=1, max_size=3), st.data())
def test_arange(dtype, shape, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    start, step = data.draw(st.integers(-99, 99)), data.draw(st.integers(-9, 9))
    like, attrs = quantized(dtype, tuple(shape)), {"axis": axis, "start": start, "step": step}
    assert lookup("arange").infer((like,), attrs) == ((shape[axis],),)
    node = crossed("arange", (like,), quantized("i32", (shape[axis],)), attrs)
    expected = start + step * np.arange(shape[axis])
    np.testing.assert_array_equal(node(codes(like, 0)), expected)
    (real,) = lookup("arange").real(np, attrs, np.zeros(shape, np.float32))
    assert real.dtype == np.float32
    np.testing.assert_array_equal(real, expected)


@pytest.mark.parametrize(("start", "step"), [(2**31, 0), (2**31 - 3, 1), (-(2**31) + 2, -1)])
def test_arange_fills_32_bits_and_no_more(start, step):
    for size in (3, 4):
        like, attrs = quantized("i8", (size,)), {"axis": 0, "start": start, "step": step}
        node = crossed("arange", (like,), quantized("i32", (size,)), attrs)
        if size == 3 and step:
            assert node(np.zeros(3, np.int8))[-1] in (-(2**31), 2**31 - 1)
            continue
        for run in (node.op.fast, node.op.reference):
            with pytest.raises(OpError, match="which 32 bits do not hold"):
                run(node.signature, np.zeros(size, np.int8))


@given(code_dtypes, st.lists(st.integers(0, 2), max_size=2), st.integers(0, 5), st.integers(-1, 5), seeds)
def test_relative_shift(dtype, batch, queries, more, seed):
    distances = max(queries + more, 0)
    kind = quantized(dtype, (*batch, queries, distances))
    x = codes(kind, seed)
    found = moved("relative_shift", {}, x)
    for i in range(queries):
        np.testing.assert_array_equal(
            found[..., i, :], x[..., i, queries - 1 - i : queries - 1 - i + found.shape[-1]]
        )
    assert found.shape == (*batch, queries, distances - queries + 1)


def test_relative_shift_is_the_padded_reshape_of_transformer_xl():
    """Pad one column on the left, read the rows as columns, drop the first: the usual way to write it."""
    x = np.arange(2 * 4 * 7, dtype=np.int16).reshape(2, 4, 7)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0))).reshape(2, 8, 4)[:, 1:].reshape(2, 4, 7)
    np.testing.assert_array_equal(moved("relative_shift", {}, x), padded[..., :4])


def test_sizes_may_be_open():
    infer = lookup("relative_shift").infer
    for dims, left in (
        (("B", "T", "2*T-1"), "T"),
        (("B", "T", "2*T+S-1"), "S+T"),
        (("T", 9), "10-T"),
        ((3, 2), 0),
    ):
        assert infer((TensorType("f32", dims),), {}) == ((*dims[:-1], left),)
    counted = lookup("arange").infer((TensorType("f32", ("B", "S+T")),), {"axis": 1, "start": 0, "step": 1})
    assert counted == (("S+T",),)


def test_nonsense_is_named():
    with pytest.raises(GraphError, match=r"relative_shift needs \[.., queries, distances\], found \[3\]"):
        lookup("relative_shift").infer((TensorType("f32", (3,)),), {})
    with pytest.raises(GraphError, match="at least 2 distances for 3 queries, found 1"):
        lookup("relative_shift").infer((TensorType("f32", (3, 1)),), {})
    like = (TensorType("f32", (3,)),)
    with pytest.raises(GraphError, match="2 whole numbers as 'start and step'"):
        lookup("arange").infer(like, {"axis": 0, "start": 0.5, "step": 1})
    with pytest.raises(GraphError, match="arange names axis 1 of a tensor of rank 1"):
        lookup("arange").infer(like, {"axis": 1, "start": 0, "step": 1})


def test_torch_and_numpy_have_one_meaning():
    torch = pytest.importorskip("torch")
    x = np.arange(30, dtype=np.float32).reshape(2, 3, 5)
    held = torch.tensor(x, requires_grad=True)
    (expected,), (found,) = (lookup("relative_shift").real(xp, {}, v) for xp, v in ((np, x), (torch, held)))
    np.testing.assert_array_equal(found.detach().numpy(), expected)
    found.sum().backward()
    np.testing.assert_array_equal(held.grad.numpy().ravel(), np.isin(x.ravel(), expected))
    attrs = {"axis": 1, "start": -2, "step": 3}
    (counted,) = lookup("arange").real(torch, attrs, held)
    assert counted.dtype == torch.float32
    np.testing.assert_array_equal(counted.numpy(), [-2, 1, 4])
