"""expand, tile and reverse: repeated and turned codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import code_dtypes, codes, crossed, moved, operands, quantized

from nnaq.errors import GraphError
from nnaq.ir.op import lookup
from nnaq.ir.types import TensorType


@given(operands(max_rank=3), st.data())
def test_tile(x, data):
    counts = tuple(data.draw(st.integers(0, 3)) for _ in x.shape)
    np.testing.assert_array_equal(moved("tile", {"repeats": counts}, x), np.tile(x, counts))


@given(operands(), st.data())
def test_reverse(x, data):
    axes = data.draw(st.permutations(range(x.ndim)))[: data.draw(st.integers(0, x.ndim))]
    axes = tuple(axis - data.draw(st.sampled_from((0, x.ndim))) for axis in axes)
    np.testing.assert_array_equal(moved("reverse", {"axes": axes}, x), np.flip(x, axes))


@given(operands(max_rank=3), code_dtypes, st.data())
def test_expand(x, like_dtype, data):
    """Sizes come from the attribute, from `like`, or stay; the result is NumPy's broadcast."""
    new = data.draw(st.lists(st.integers(0, 3), max_size=1))
    shape = [*new, *(data.draw(st.integers(0, 3)) if n == 1 else n for n in x.shape)]
    origins = [data.draw(st.sampled_from(("sizes", "like", "own"))) for _ in shape]
    like_shape = tuple(data.draw(st.permutations(shape)))
    sizes, axes = [], []
    own = (1,) * len(new) + x.shape
    for n, mine, origin in zip(shape, own, origins, strict=True):
        keeps = origin == "own" and n == mine
        sizes.append(-1 if keeps or origin == "like" else n)
        axes.append(like_shape.index(n) if origin == "like" else -1)
    attrs = {"sizes": tuple(sizes), "like_axes": tuple(axes)}
    like = codes(quantized(like_dtype, like_shape), 0)
    dtype = {"int8": "i8", "int16": "i16", "int32": "i32"}[x.dtype.name]
    kinds = (quantized(dtype, x.shape, 0.5), quantized(like_dtype, like_shape))
    if "like" not in origins:
        assert moved("expand", attrs, x).shape == tuple(shape)
    node = crossed("expand", kinds, kinds[0].with_shape(tuple(shape)), attrs)
    assert lookup("expand").infer(kinds, attrs) == (tuple(shape),)
    np.testing.assert_array_equal(node(x, like), np.broadcast_to(x, shape))


def test_sizes_may_be_open():
    x, like = TensorType("f32", ("B", 1, 4)), TensorType("f32", ("T", "2*T"))
    attrs = {"sizes": (-1, -1, -1, 4), "like_axes": (1, -1, 0, -1)}
    assert lookup("expand").infer((x, like), attrs) == (("2*T", "B", "T", 4),)
    assert lookup("tile").infer((like,), {"repeats": (3, 1)}) == (("3*T", "2*T"),)
    assert lookup("reverse").infer((like,), {"axes": (0,)}) == (("T", "2*T"),)


@pytest.mark.parametrize(
    ("name", "attrs", "message"),
    [
        ("expand", {"sizes": (4, 3), "like_axes": (-1, -1)}, r"cannot broadcast \[2,3\] to \[4,3\]"),
        ("expand", {"sizes": (3,), "like_axes": (-1,)}, r"cannot broadcast \[2,3\] to \[3\]"),
        ("expand", {"sizes": (-1, -1), "like_axes": (0, -1)}, "from no operand `like`"),
        ("expand", {"sizes": (-1, -1), "like_axes": (0,)}, "2 whole numbers as 'like_axes'"),
        ("tile", {"repeats": (2,)}, "2 whole numbers as 'repeats'"),
        ("tile", {"repeats": (2, -1)}, "0 times or more often"),
        ("reverse", {"axes": (0, -2)}, "names an axis twice"),
        ("reverse", {"axes": (2,)}, "axis 2 of a tensor of rank 2"),
        ("reverse", {"axes": 0}, "whole numbers as 'axes'"),
    ],
)
def test_attributes_that_make_no_sense_are_named(name, attrs, message):
    with pytest.raises(GraphError, match=message):
        lookup(name).infer((TensorType("f32", (2, 3)),), attrs)


def test_axes_that_like_does_not_have_are_named():
    kinds = (TensorType("f32", (1, 3)), TensorType("f32", ("T", 3)))
    with pytest.raises(GraphError, match=r"axes \[2, -1\] from `like` of shape \[T,3\]"):
        lookup("expand").infer(kinds, {"sizes": (-1, -1), "like_axes": (2, -1)})


@pytest.mark.parametrize(
    ("name", "attrs"),
    [
        ("expand", {"sizes": (2, -1, 4, 3), "like_axes": (-1,) * 4}),
        ("tile", {"repeats": (2, 3, 1)}),
        ("reverse", {"axes": (0, -1)}),
    ],
)
def test_torch_and_numpy_have_one_meaning(name, attrs):
    torch = pytest.importorskip("torch")
    x = np.arange(6, dtype=np.float32).reshape(2, 1, 3)
    held = torch.tensor(x, requires_grad=True)
    (expected,), (found,) = lookup(name).real(np, attrs, x), lookup(name).real(torch, attrs, held)
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(found.detach().numpy(), expected)
    found.sum().backward()
    np.testing.assert_array_equal(
        held.grad.numpy().ravel(), [np.count_nonzero(expected == v) for v in x.flat]
    )
