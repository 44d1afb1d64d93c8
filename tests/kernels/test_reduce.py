"""Reductions: fast equals reference; within the stated bound of the reals, known counts and open ones."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import moved, reals
from strategies import (
    assert_fast_is_reference,
    codes,
    generators,
    integer_node,
    quantised,
    roundings,
    some_codes,
    zero_points,
)

from nnaq.errors import GraphError, LoweringError
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Signature, Work, lookup
from nnaq.ir.types import Quant, TensorType, bounds, parse_type

REDUCTIONS = ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min")


@st.composite
def reductions(draw):
    """A shape and the attributes of a reduction over some of its axes."""
    shape = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple))
    axes = draw(st.sets(st.integers(0, len(shape) - 1)))
    signs = [axis - len(shape) if draw(st.booleans()) else axis for axis in sorted(axes)]
    return shape, {"axes": tuple(signs), "keepdims": draw(st.booleans())}


@st.composite
def scaled(draw, op, rounding=None, dtypes=("i8", "i16", "i32")):
    """A rescaling reduction in integer form, its entries counted when prepared or, half of the time, open."""
    rounding = rounding or draw(roundings)
    shape, attrs = draw(reductions())
    dtype, y_dtype = draw(st.sampled_from(dtypes)), draw(st.sampled_from(("i8", "i16")))
    plain = rounding == "pot_shift" or draw(st.booleans())
    # A mean over a known number of entries has that number in its multiplier.
    counted = np.prod([shape[axis] for axis in attrs["axes"]] or [1])
    known = plain and int(counted) & (int(counted) - 1) == 0
    y_scale = 2.0 ** draw(st.integers(0 if dtype != "i32" else 8, 20)) * (1 if plain else 0.7)
    x = quantised(dtype, shape, 1.0, draw(zero_points(dtype)))
    y = quantised(y_dtype, (), y_scale, draw(zero_points(y_dtype)))
    array = draw(codes(x))
    is_open = draw(st.booleans()) or (op == "reduce_mean" and rounding == "pot_shift" and not known)
    return node(op, x, array, y, attrs, rounding, is_open)


def node(op, x, array, y, attrs, rounding="single", is_open=False):
    """The integer node, prepared for open axes where asked."""
    if not is_open:
        return integer_node(op, [(x, array)], y, attrs, rounding)
    kind = replace(x, shape=tuple(f"D{axis}" for axis in range(x.rank)))
    made, signature, arrays = integer_node(op, [(kind, array)], y, attrs, rounding)
    (shape,) = made.infer((x,), attrs)
    inputs = (x, *signature.inputs[1:])
    return made, replace(signature, inputs=inputs, outputs=(y.with_shape(shape),)), arrays


@given(st.sampled_from(("reduce_sum", "reduce_mean")).flatmap(scaled))
def test_fast_is_reference(reduction):
    assert_fast_is_reference(*reduction)


@given(st.sampled_from(("reduce_sum", "reduce_mean")).flatmap(partial(scaled, rounding="single")))
def test_integers_stay_within_the_stated_bound_of_the_reals(reduction):
    op, signature, arrays = reduction
    (y,) = op.fast(signature, *arrays)
    x, kind = signature.input(0), signature.outputs[0]
    (exact,) = op.real(np, signature.attrs, reals(arrays[0], x))
    steps = exact / kind.scale
    low, high = bounds(kind.dtype)
    limited = np.clip(steps, low - kind.zero_point, high - kind.zero_point)
    guard = 2.0 ** -(int(signature.attrs["guard_bits"]) + 1) if "guard_bits" in signature.attrs else 0
    # 2^-31 from the multiplier, 2^-50 from this float64 quotient.
    allowed = 0.5 + guard + np.abs(steps) * (2.0**-31 + 2.0**-50)
    assert (np.abs(y.astype(np.int64) - kind.zero_point - limited) <= allowed).all()


@given(reductions(), st.sampled_from(("i8", "i16")), generators)
def test_a_sum_into_i32_is_exact(reduction, dtype, generator):
    shape, attrs = reduction
    x = quantised(dtype, shape, 0.25, -7 if dtype == "i8" else 0)
    array = some_codes(generator, x, "corners")
    f32 = TensorType("f32", lookup("reduce_sum").infer((x,), attrs)[0])
    (followed,) = lookup("reduce_sum").follow(Signature((x,), (f32,), attrs))
    assert followed.dtype == "i32"
    assert followed.quant == Quant((0.25,))
    y = assert_fast_is_reference(*integer_node("reduce_sum", [(x, array)], followed, attrs))
    np.testing.assert_array_equal(
        reals(y, followed), lookup("reduce_sum").real(np, attrs, reals(array, x))[0]
    )


@given(reductions(), st.sampled_from(("i8", "i16", "i32")), generators)
def test_extremes_are_exact(reduction, dtype, generator):
    shape, attrs = reduction
    x = quantised(dtype, shape)
    array = some_codes(generator, x, "uniform")
    for op in ("reduce_max", "reduce_min"):
        (exact,) = lookup(op).real(np, attrs, array.astype(np.float64))
        np.testing.assert_array_equal(moved(op, attrs, array), np.clip(exact, *bounds(dtype)))


@pytest.mark.parametrize("is_open", [False, True])
def test_nothing_at_all_is_zero_or_the_end_of_the_range(is_open):
    x, attrs = quantised("i8", (2, 0), 1.0, 9), {"axes": (1,), "keepdims": False}
    empty, y = np.zeros((2, 0), np.int8), quantised("i8", (), 1.0, 3)
    for op in ("reduce_sum", "reduce_mean"):
        assert assert_fast_is_reference(*node(op, x, empty, y, attrs, is_open=is_open)).tolist() == [3, 3]
    assert moved("reduce_max", attrs, empty).tolist() == [-128, -128]
    assert moved("reduce_min", attrs, empty).tolist() == [127, 127]


@pytest.mark.parametrize("is_open", [False, True])
def test_ties_of_a_mean(is_open):
    array = np.array([[1, 2], [-1, -2], [3, 4], [-3, -4], [127, 126], [-128, -127]], np.int8)
    x, attrs = quantised("i8", array.shape), {"axes": (1,), "keepdims": False}
    y = assert_fast_is_reference(*node("reduce_mean", x, array, quantised("i8", ()), attrs, is_open=is_open))
    # `single` rounds halves up, the division by an open count away from zero.
    assert y.tolist() == ([2, -2, 4, -4, 127, -128] if is_open else [2, -1, 4, -3, 127, -127])


def test_sums_saturate_at_the_end_and_never_on_the_way():
    array = np.array([2**31 - 1] * 3 + [-(2**31)] * 2, np.int32)
    x, attrs = quantised("i32", (5,)), {"axes": (0,), "keepdims": False}
    y = assert_fast_is_reference(*integer_node("reduce_sum", [(x, array)], quantised("i32", ()), attrs))
    assert y == 3 * (2**31 - 1) - 2 * 2**31
    over = np.full(5, 2**31 - 1, np.int32)
    assert (
        assert_fast_is_reference(*integer_node("reduce_sum", [(x, over)], quantised("i32", ()), attrs))
        == 2**31 - 1
    )


@pytest.mark.parametrize(
    ("text", "follows"),
    [("i8[T,4]<0.5, 3>", True), ("i16[T,4]<0.5, 0>", False), ("i16[65535]<0.5, 0>", True),
     ("i16[65536]<0.5, 0>", False), ("i8[8421504]<0.5, -128>", True), ("i8[8421505]<0.5, -128>", False),
     ("i32[2]<0.5, 0>", False)],
)  # fmt: skip
def test_a_sum_is_i32_where_that_is_proved(text, follows):
    x = parse_type(text)
    signature = Signature((x,), (TensorType("f32", x.shape[1:]),), {"axes": (0,), "keepdims": False})
    assert (lookup("reduce_sum").follow(signature) is not None) == follows


def test_a_sum_into_i32_keeps_its_scale():
    x, y = quantised("i8", (3,), 0.5), quantised("i32", (), 0.25)
    with pytest.raises(LoweringError, match="keeps the scale of its operand"):
        lookup("reduce_sum").prepare(Signature((x,), (y,), {"axes": (0,)}), (None,), Numerics())


@pytest.mark.parametrize(
    ("attrs", "message"),
    [({"axes": (2,)}, "reduce_max names axis 2 of a tensor of rank 2"), ({"axes": (0, -2)}, "an axis twice"),
     ({}, "needs a tuple of whole numbers as 'axes'")],
)  # fmt: skip
def test_axes_that_are_not_there_are_named(attrs, message):
    with pytest.raises(GraphError, match=message):
        lookup("reduce_max").infer((TensorType("f32", (2, 3)),), attrs)


def test_shapes_may_be_symbolic():
    for op in REDUCTIONS:
        infer = partial(lookup(op).infer, (TensorType("f32", ("B", 8, "T")),))
        assert infer({"axes": (-1,), "keepdims": True}) == (("B", 8, 1),)
        assert infer({"axes": (2, 0), "keepdims": False}) == ((8,),)


@given(reductions(), st.sampled_from(REDUCTIONS))
def test_the_meaning_is_that_of_torch(reduction, name):
    torch = pytest.importorskip("torch")
    shape, attrs = reduction
    array = np.random.default_rng(len(shape)).integers(-9, 10, shape).astype(np.float64)
    (ours,), (numpys,) = (
        lookup(name).real(xp, attrs, v) for xp, v in ((torch, torch.from_numpy(array)), (np, array))
    )
    np.testing.assert_array_equal(ours.numpy(), numpys)
    entries = np.prod([shape[axis] for axis in attrs["axes"]])
    if not attrs["axes"] or entries == 0:
        return
    call = {
        "reduce_sum": torch.sum,
        "reduce_mean": torch.mean,
        "reduce_max": torch.amax,
        "reduce_min": torch.amin,
    }
    expected = call[name](torch.from_numpy(array), dim=attrs["axes"], keepdim=attrs["keepdims"])
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


def test_work_counts_what_is_read():
    x, y = TensorType("i8", (3, 4)), TensorType("i8", (3,))
    assert lookup("reduce_max").work(Signature((x,), (y,), {"axes": (1,)})) == Work(elementwise=12)
