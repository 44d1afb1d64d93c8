"""slice, pad and concat: every result code is the operand's code it should be, on open axes too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import crossed, moved, operands, quantized

from nnaq.errors import DataError, GraphError, OpError
from nnaq.ir.dims import evaluate
from nnaq.ir.op import lookup
from nnaq.ir.types import TensorType

HUGE = 2**63 - 1


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


LIMITS = st.one_of(st.integers(-6, 6), st.sampled_from([HUGE, -HUGE, 2**31 - 1]))


@given(LIMITS, LIMITS, st.integers(1, 3), st.integers(0, 9), st.integers(0, 3))
def test_an_open_axis_keeps_the_promised_size_or_says_that_it_is_short(start, end, step, size, more):
    attrs = {"axes": (0,), "starts": (start,), "ends": (end,), "steps": (step,)}
    kind = quantized("i8", (f"T+{more}",), 0.5, 3)
    if -HUGE < start < 0 <= end < 2**31 - 1:
        with pytest.raises(GraphError, match=r"of the symbolic axis 'T.* has no size that is known"):
            lookup("slice").infer((kind,), attrs)
        return
    ((promised,),) = lookup("slice").infer((kind,), attrs)
    node = crossed("slice", (kind,), kind.with_shape((promised,)), attrs)
    x = np.arange(size + more, dtype=np.int8)
    if evaluate(promised, {"T": size}) != len(x[start:end:step]):
        for run in (node.op.fast, node.op.reference):
            with pytest.raises(OpError, match="in this run; feed a longer stretch"):
                run(node.signature, x)
    else:
        np.testing.assert_array_equal(node(x), x[start:end:step])


@pytest.mark.parametrize(
    ("dim", "part", "expected"),
    [
        ("T", (0, HUGE), "T"),
        ("T", (-HUGE, HUGE), "T"),
        ("T", (-3, HUGE), 3),
        ("T+3", (-3, HUGE), 3),
        ("T", (2, HUGE), "T-2"),
        ("T+2", (2, HUGE), "T"),
        ("T", (0, 4), 4),
        ("T+4", (0, -4), "T"),
        ("T", (-5, -2), 3),
        ("T", (1, -1), "T-2"),
        ("T", (5, 2), 0),
        ("T", (-1, -4), 0),
        ("T", (HUGE, HUGE), 0),
        ("2*T", (0, HUGE, 2), "T"),
        ("2*T", (1, HUGE, 2), "T"),
        ("T", (0, HUGE, 2), "(T-1)//2+1"),
        ("T", (-5, HUGE, 2), 3),
    ],
)
def test_sizes_of_slices_of_open_axes(dim, part, expected):
    assert cut((dim, 3), *part) == (expected, 3)


def test_an_open_axis_is_cut_forward_and_from_the_front_to_the_end():
    for start, end, step in ((-1, -HUGE, -1), (-3, 5, 1)):
        with pytest.raises(GraphError, match=r"of the symbolic axis 'T' .*reverse turns an axis round"):
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


def test_concat_of_open_axes():
    kinds = tuple(TensorType("f32", (1, dim)) for dim in (2, "T", "S", 3, "T-1"))
    assert lookup("concat").infer(kinds[:2], {"axis": 1}) == ((1, "T+2"),)
    assert lookup("concat").infer(kinds, {"axis": 1}) == ((1, "S+2*T+4"),)
    with pytest.raises(GraphError, match=r"agree elsewhere, found \[1,T\], \[1,S\]"):
        lookup("concat").infer(kinds[1:3], {"axis": 0})


def test_concat_names_the_shapes_that_do_not_agree():
    kinds = (TensorType("f32", (2, 3)), TensorType("f32", (3, 3)))
    with pytest.raises(GraphError, match=r"agree elsewhere, found \[2,3\], \[3,3\]"):
        lookup("concat").infer(kinds, {"axis": 1})
