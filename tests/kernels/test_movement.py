"""reshape and transpose; and what all operators that move codes share: their errors, torch, their work."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import moved, operands

from nnaq.errors import GraphError
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import TensorType

HUGE = 2**63 - 1


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
        (("T", 4, 8), (-1, 16), ("2*T", 16)),
        (("T", 32), (1, -1, 4, 8), (1, "T", 4, 8)),
        (("B", "T", 32), (0, 0, 4, -1), ("B", "T", 4, 8)),
        (("T", "B", 32), (0, -1, 8), ("T", "4*B", 8)),
        (("T", "4*B", 8), (0, -1, 32), ("T", "B", 32)),
        (("T", "4*B", 8), (-1, 8), ("4*B*T", 8)),
        (("4*B*T", 8), (-1, 4, 8), ("B*T", 4, 8)),
        (("T+2", 6), (-1, 3), ("2*T+4", 3)),
        (("2*T+4", 3), (-1, 6), ("T+2", 6)),
        (("T", 4, 8), (0, 8, 4), ("T", 8, 4)),
        (("(T-3)//2+1", 6), (-1, 6), ("(T-3)//2+1", 6)),
        ((0, 4), (0, -1), (0, 4)),
        ((0, 4, 2), (-1,), (0,)),
        ((1, 0, 36), (0, -1, 72), (1, 0, 72)),
        ((0, 3), (-1, 2), (0, 2)),
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
