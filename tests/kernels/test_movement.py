"""reshape, transpose, slice, pad and concat: every result code is the operand's code it should be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import code_dtypes, codes, moved, quantized, seeds

from nnaq.errors import DataError, GraphError
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import TensorType

HUGE = 2**63 - 1


@st.composite
def operands(draw: st.DrawFn, low: int = 0, max_rank: int = 4) -> np.ndarray:
    """Codes of any admitted dtype and a small shape."""
    shape = tuple(draw(st.lists(st.integers(low, 4), min_size=1, max_size=max_rank)))
    return codes(quantized(draw(code_dtypes), shape), draw(seeds))


@given(operands(low=1), st.data())
def test_reshape(x, data):
    sizes = data.draw(st.permutations(x.shape))
    shape = [0 if size == x.shape[axis] else size for axis, size in enumerate(sizes)]
    shape[data.draw(st.integers(0, len(sizes) - 1))] = -1
    np.testing.assert_array_equal(moved("reshape", {"shape": tuple(shape)}, x), x.reshape(sizes))
    np.testing.assert_array_equal(moved("reshape", {"shape": tuple(sizes)}, x), x.reshape(sizes))


@pytest.mark.parametrize(
    ("dims", "shape", "expected"),
    [
        (("T", 4, 8), (0, -1), ("T", 32)),
        (("T", 4, 8), (-1, 16), ("2*(T)", 16)),
        (("T", 32), (1, -1, 4, 8), (1, "T", 4, 8)),
        (("T", 4, 8), (0, 8, 4), ("T", 8, 4)),
        (("(T-3)//2+1", 6), (-1, 6), ("(T-3)//2+1", 6)),
        ((0, 4), (0, -1), (0, 4)),
        ((0, 4, 2), (-1,), (0,)),
        ((), (1, 1), (1, 1)),
        ((1,), (), ()),
    ],
)
def test_reshape_of_symbolic_and_empty_axes(dims, shape, expected):
    assert lookup("reshape").infer((TensorType("f32", dims),), {"shape": shape}) == (expected,)


def test_an_empty_stretch_of_time_keeps_its_other_axes():
    empty = np.zeros((0, 4, 8), np.int8)
    assert moved("reshape", {"shape": (0, -1)}, empty).shape == (0, 32)


@given(operands(), st.data())
def test_transpose(x, data):
    perm = tuple(data.draw(st.permutations(range(x.ndim))))
    np.testing.assert_array_equal(moved("transpose", {"perm": perm}, x), np.transpose(x, perm))


@given(operands(), st.data())
def test_slice(x, data):
    axes = data.draw(st.permutations(range(x.ndim)))[: data.draw(st.integers(0, x.ndim))]
    ends = st.one_of(st.integers(-6, 6), st.sampled_from([HUGE, -HUGE, 2**31 - 1]))
    cuts = [(data.draw(ends), data.draw(ends), data.draw(st.sampled_from([-3, -1, 1, 2]))) for _ in axes]
    signs = [data.draw(st.sampled_from([0, x.ndim])) for _ in axes]
    attrs = {
        "axes": tuple(axis - sign for axis, sign in zip(axes, signs, strict=True)),
        "starts": tuple(cut[0] for cut in cuts),
        "ends": tuple(cut[1] for cut in cuts),
        "steps": tuple(cut[2] for cut in cuts),
    }
    index = [slice(None)] * x.ndim
    for axis, cut in zip(axes, cuts, strict=True):
        index[axis] = slice(*cut)
    np.testing.assert_array_equal(moved("slice", attrs, x), x[tuple(index)])


def cut(dims: tuple[int | str, ...], start: int, end: int, step: int = 1) -> tuple[int | str, ...]:
    attrs = {"axes": (0,), "starts": (start,), "ends": (end,), "steps": (step,)}
    return lookup("slice").infer((TensorType("f32", dims),), attrs)[0]


def test_a_symbolic_axis_is_sliced_in_full_only():
    assert cut(("T", 3), 0, HUGE) == ("T", 3)
    for start, end, step in ((1, HUGE, 1), (0, 5, 1), (0, -1, 1), (0, HUGE, 2), (-1, -HUGE, -1)):
        with pytest.raises(GraphError, match=r"of the symbolic axis 'T' has no size .* slice it in full"):
            cut(("T", 3), start, end, step)


@given(operands(low=1, max_rank=3), st.sampled_from(["constant", "reflect", "edge"]), st.data())
def test_pad(x, mode, data):
    widths = [(data.draw(st.integers(0, 6)), data.draw(st.integers(0, 6))) for _ in x.shape]
    zero_point = data.draw(st.integers(-128, 127)) if x.dtype == np.int8 else 0
    pads = tuple(begin for begin, _ in widths) + tuple(end for _, end in widths)
    fill = {"constant_values": zero_point} if mode == "constant" else {}
    result = moved("pad", {"pads": pads, "mode": mode}, x, zero_point=zero_point)
    np.testing.assert_array_equal(result, np.pad(x, widths, mode, **fill))


def test_pad_of_empty_and_symbolic_axes():
    empty = np.zeros((0, 2), np.int16)
    np.testing.assert_array_equal(
        moved("pad", {"pads": (1, 0, 2, 0), "mode": "constant"}, empty), np.zeros((3, 2), np.int16)
    )
    assert moved("pad", {"pads": (0, 1, 0, 0), "mode": "reflect"}, empty).shape == (0, 3)
    with pytest.raises(DataError, match="pad mode 'edge' repeats entries of an axis that has none"):
        moved("pad", {"pads": (1, 0, 0, 0), "mode": "edge"}, empty)
    infer = lookup("pad").infer
    assert infer((TensorType("f32", ("T", 2)),), {"pads": (1, 0, 2, 0), "mode": "edge"}) == (("T+3", 2),)


@given(operands(), st.data())
def test_concat(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    pieces = [x]
    for _ in range(data.draw(st.integers(0, 7))):
        size = data.draw(st.integers(0, 3))
        pieces.append(np.take(x, np.zeros(size, int), axis) if x.shape[axis] else x)
    np.testing.assert_array_equal(moved("concat", {"axis": axis}, *pieces), np.concatenate(pieces, axis))


def test_concat_of_a_symbolic_axis():
    kinds = (TensorType("f32", (1, 2)), TensorType("f32", (1, "T")))
    assert lookup("concat").infer(kinds, {"axis": 1}) == ((1, "T+2"),)
    with pytest.raises(GraphError, match="one symbolic size with whole ones, found T, T"):
        lookup("concat").infer((kinds[1], kinds[1]), {"axis": 1})


@pytest.mark.parametrize(
    ("name", "attrs", "message"),
    [
        ("reshape", {"shape": (-1, -1)}, "at most one -1"),
        ("reshape", {"shape": (2, 2)}, "the sizes do not divide"),
        ("reshape", {"shape": 6}, "whole numbers as 'shape'"),
        ("reshape", {"shape": (4, 0)}, r"\[2,3\] cannot be reshaped to \[4, 0\]"),
        ("reshape", {"shape": (-1, 4)}, "the sizes do not divide"),
        ("reshape", {"shape": (2, 3, 0)}, "copies a dimension"),
        ("transpose", {"perm": (0, 0)}, "each of 2 axes once"),
        ("transpose", {"perm": (0,)}, "2 whole numbers as 'perm'"),
        ("slice", {"axes": (0,), "starts": (0,), "ends": (1,), "steps": (0,)}, "no step of 0"),
        ("slice", {"axes": (0, -2), "starts": (0, 0), "ends": (1, 1), "steps": (1, 1)}, "distinct axes"),
        (
            "slice",
            {"axes": (2,), "starts": (0,), "ends": (1,), "steps": (1,)},
            "axis 2 of a tensor of rank 2",
        ),
        ("pad", {"pads": (0, -1, 0, 0), "mode": "edge"}, "no negative widths"),
        ("pad", {"pads": (0, 1, 0, 0), "mode": "wrap"}, "no pad mode 'wrap'"),
        ("concat", {"axis": 2}, "axis 2 of a tensor of rank 2"),
    ],
)
def test_attributes_that_make_no_sense_are_named(name, attrs, message):
    with pytest.raises(GraphError, match=message):
        lookup(name).infer((TensorType("f32", (2, 3)),), attrs)


def test_concat_names_the_shapes_that_do_not_agree():
    kinds = (TensorType("f32", (2, 3)), TensorType("f32", (3, 3)))
    with pytest.raises(GraphError, match=r"agree elsewhere, found \[2,3\], \[3,3\]"):
        lookup("concat").infer(kinds, {"axis": 1})


CASES = [
    ("reshape", {"shape": (0, -1)}, 1),
    ("transpose", {"perm": (2, 0, 1)}, 1),
    ("slice", {"axes": (2, 0), "starts": (3, 0), "ends": (-HUGE, 1), "steps": (-2, 1)}, 1),
    ("pad", {"pads": (0, 1, 2, 0, 3, 0), "mode": "constant"}, 1),
    ("pad", {"pads": (0, 1, 2, 0, 1, 0), "mode": "reflect"}, 1),
    ("pad", {"pads": (0, 1, 2, 0, 3, 0), "mode": "edge"}, 1),
    ("concat", {"axis": 1}, 3),
]


@pytest.mark.parametrize(("name", "attrs", "count"), CASES)
def test_torch_and_numpy_have_one_meaning(name, attrs, count):
    torch = pytest.importorskip("torch")
    arrays = [np.arange(24, dtype=np.float32).reshape(2, 3, 4) + 100 * i for i in range(count)]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    (expected,) = lookup(name).real(np, attrs, *arrays)
    (found,) = lookup(name).real(torch, attrs, *tensors)
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(found.detach().numpy(), expected)
    found.sum().backward()
    for tensor, array in zip(tensors, arrays, strict=True):  # the gradient counts how often each entry went
        counts = np.array([np.count_nonzero(expected == value) for value in array.flat])
        if name != "pad" or attrs["mode"] != "constant":
            np.testing.assert_array_equal(tensor.grad.numpy().ravel(), counts)


def test_movement_costs_one_vector_operation_per_value_and_reshape_none():
    kind = TensorType("i8", (2, 6))
    assert lookup("transpose").work(Signature((kind,), (kind,))).elementwise == 12
    assert lookup("reshape").work(Signature((kind,), (kind,))).elementwise == 0
