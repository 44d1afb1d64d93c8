"""Running sums and means: fast equals reference, chunks equal the whole, within the stated bound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import reals
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
from nnaq.ir.op import Constant, Signature, Work, lookup
from nnaq.ir.types import TensorType, bounds, parse_type


@st.composite
def attributes(draw):
    shape = draw(st.lists(st.integers(0, 6), min_size=1, max_size=3).map(tuple))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return shape, {"axis": axis, "exclusive": draw(st.booleans()), "reverse": draw(st.booleans())}


@given(
    attributes(), roundings, st.sampled_from(("i8", "i16", "i32")), st.sampled_from(("i8", "i16")), st.data()
)
def test_running_sums_round_once(attributes, rounding, dtype, y_dtype, data):
    shape, attrs = attributes
    x = quantised(dtype, shape, 1.0, data.draw(zero_points(dtype)))
    scale = 2.0 ** data.draw(st.integers(0, 16)) * (1.0 if rounding == "pot_shift" else 0.8)
    scale = scale * 2.0**16 if dtype == "i32" else scale
    y = quantised(y_dtype, (), scale, data.draw(zero_points(y_dtype)))
    op, signature, arrays = integer_node("cumulative_sum", [(x, data.draw(codes(x)))], y, attrs, rounding)
    found = assert_fast_is_reference(op, signature, arrays)
    if rounding == "single":
        steps = op.real(np, attrs, reals(arrays[0], x))[0] / y.scale
        low, high = bounds(y_dtype)
        limited = np.clip(steps, low - y.zero_point, high - y.zero_point)
        allowed = 0.5 + np.abs(steps) * (2.0**-31 + 2.0**-50)
        assert (np.abs(found.astype(np.int64) - y.zero_point - limited) <= allowed).all()


@given(attributes(), st.sampled_from(("i8", "i16")), generators)
def test_running_sums_into_i32_are_exact(attributes, dtype, generator):
    shape, attrs = attributes
    x = quantised(dtype, shape, 0.25, 11 if dtype == "i8" else 0)
    array = some_codes(generator, x, "corners")
    (kind,) = lookup("cumulative_sum").follow(Signature((x,), (TensorType("f32", shape),), attrs))
    y = assert_fast_is_reference(*integer_node("cumulative_sum", [(x, array)], kind, attrs))
    np.testing.assert_array_equal(
        reals(y, kind), lookup("cumulative_sum").real(np, attrs, reals(array, x))[0]
    )


def test_the_four_directions():
    x = np.array([1.0, 2.0, 4.0])
    for exclusive, reverse, expected in (
        (False, False, [1, 3, 7]),
        (True, False, [0, 1, 3]),
        (False, True, [7, 6, 4]),
        (True, True, [6, 4, 0]),
    ):
        attrs = {"axis": 0, "exclusive": exclusive, "reverse": reverse}
        assert lookup("cumulative_sum").real(np, attrs, x)[0].tolist() == expected
        torch = pytest.importorskip("torch")
        assert lookup("cumulative_sum").real(torch, attrs, torch.from_numpy(x))[0].tolist() == expected


def test_sums_saturate_at_32_bits_entry_by_entry():
    x, array = quantised("i32", (4,)), np.array([2**31 - 1, 1, -(2**31), -(2**31)], np.int32)
    y = assert_fast_is_reference(
        *integer_node("cumulative_sum", [(x, array)], quantised("i32", ()), {"axis": 0})
    )
    assert y.tolist() == [2**31 - 1, 2**31 - 1, 0, -(2**31)]


# --- running_mean

MEAN = lookup("running_mean")


def mean_node(x, y, attrs=None, rounding="single"):
    """Signature and constants of a running mean of x[T,B,C]."""
    batch, channels = x.shape[1:]
    kinds = (x, quantised("i32", (batch, channels), x.scale), quantised("i32", (batch, 1)))
    outputs = (y.with_shape(x.shape), *kinds[1:])
    prepared = MEAN.prepare(Signature(kinds, outputs, attrs or {}), (None,) * 3, Numerics(rounding))
    made = [operand for operand in prepared.operands if isinstance(operand, Constant)]
    types = (*kinds, *(constant.type for constant in made))
    form = f"{' '.join(kind.dtype for kind in types)} -> {' '.join(kind.dtype for kind in outputs)}"
    assert form in MEAN.forms
    return Signature(types, outputs, prepared.attrs), tuple(constant.value for constant in made)


def both(signature, *arrays):
    """Results of the fast kernel, after they were found equal to the reference's."""
    fast, slow = MEAN.fast(signature, *arrays), MEAN.reference(signature, *arrays)
    for found, expected in zip(fast, slow, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    return fast


@st.composite
def means(draw, rounding=None):
    rounding = rounding or draw(roundings)
    dtype, y_dtype = draw(st.sampled_from(("i8", "i16"))), draw(st.sampled_from(("i8", "i16")))
    shape = tuple(draw(st.integers(least, 4)) for least in (0, 1, 1))
    x = quantised(dtype, (shape[0] * 4, *shape[1:]), 1.0, draw(zero_points(dtype)))
    scale = 2.0 ** draw(st.integers(-12, 4)) * (1.0 if rounding == "pot_shift" else 0.7)
    y = quantised(
        y_dtype, (), max(scale, 1.0) if rounding == "pot_shift" else scale, draw(zero_points(y_dtype))
    )
    signature, constants = mean_node(x, y, {"limit": draw(st.sampled_from((2, 3, 7, 2**15)))}, rounding)
    return signature, (draw(codes(x)), *constants)


def starts(signature, generator=None):
    total, count = (np.zeros(signature.input(i).shape, np.int32) for i in (1, 2))
    if generator is None:
        return total, count
    held = generator.integers(0, 2**15, count.shape)
    return (generator.integers(-255, 256, total.shape) * held).astype(np.int32), held.astype(np.int32)


@given(means(), generators)
def test_fast_is_reference(case, generator):
    signature, (x, *constants) = case
    both(signature, x, *starts(signature), *constants)
    both(signature, x, *starts(signature, generator), *constants)


@given(means(), generators, st.sampled_from((1, 3, 7)))
def test_chunks_are_the_whole(case, generator, length):
    signature, (x, *constants) = case
    total, count = starts(signature, generator)
    whole = MEAN.fast(signature, x, total, count, *constants)
    means = [np.empty((0, *x.shape[1:]), whole[0].dtype)]
    for start in range(0, len(x), length):
        mean, total, count = MEAN.fast(signature, x[start : start + length], total, count, *constants)
        means.append(mean)
    for found, expected in zip((np.concatenate(means), total, count), whole, strict=True):
        np.testing.assert_array_equal(found, expected)


@given(means("single"))
def test_means_stay_within_the_stated_bound(case):
    signature, (x, *constants) = case
    attrs = {**signature.attrs, "limit": 2**15}  # never reached: the exact mean of all frames
    signature = Signature(signature.inputs, signature.outputs, attrs)
    kind_x, kind = signature.input(0), signature.outputs[0]
    (mean, total, count) = both(signature, x, *starts(signature), *constants)
    zeros = (array.astype(float) for array in starts(signature))
    exact, exact_total, exact_count = MEAN.real(np, attrs, reals(x, kind_x), *zeros)
    np.testing.assert_array_equal(total * kind_x.scale, exact_total)
    np.testing.assert_array_equal(count, exact_count)
    low, high = bounds(kind.dtype)
    steps = exact / kind.scale
    limited = np.clip(steps, low - kind.zero_point, high - kind.zero_point)
    guard = 2.0 ** -(int(attrs["guard_bits"]) + 1) / np.arange(1, len(x) + 1).reshape(-1, 1, 1)
    allowed = 0.5 + guard + np.abs(steps) * (2.0**-31 + 2.0**-50)
    assert (np.abs(mean.astype(np.int64) - kind.zero_point - limited) <= allowed).all()


def test_at_the_limit_the_past_counts_half():
    x, y = quantised("i8", (6, 1, 1)), quantised("i16", (), 2.0**-4)
    signature, constants = mean_node(x, y, {"limit": 4})
    array = np.array([8, 8, 8, 7, 0, 0], np.int8).reshape(6, 1, 1)
    mean, total, count = both(signature, array, *starts(signature), *constants)
    # 8, 16, 24, 31 of 4; 31 >> 1 = 15 of 2 + 1; then of 4
    assert mean.ravel().tolist() == [128, 128, 128, 124, 80, 60]
    assert (total.item(), count.item()) == (15, 4)
    real, *_ = MEAN.real(np, {"limit": 4}, array.astype(float), *(s.astype(float) for s in starts(signature)))
    np.testing.assert_allclose(real.ravel(), [8, 8, 8, 7.75, 15.5 / 3, 15.5 / 4])


@given(st.integers(0, 12), st.sampled_from((2, 5, 100)), generators)
def test_the_meaning_is_the_same_in_torch(time, limit, generator):
    torch = pytest.importorskip("torch")
    arrays = [generator.normal(size=shape) for shape in ((time, 2, 3), (2, 3))]
    arrays.append(generator.integers(0, 5, (2, 1)).astype(float))
    tensors = map(torch.from_numpy, arrays)
    for found, expected in zip(
        MEAN.real(torch, {"limit": limit}, *tensors), MEAN.real(np, {"limit": limit}, *arrays), strict=True
    ):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_a_sum_that_could_wrap_is_refused():
    x, y = quantised("i16", (1, 1, 1)), quantised("i16", ())
    mean_node(x, y, {"limit": 2**16 - 1})
    with pytest.raises(LoweringError, match="65536 frames of i16 codes can sum to 2147483648"):
        mean_node(x, y, {"limit": 2**16})


def test_operands_that_do_not_fit_are_named():
    types = [parse_type(text) for text in ("f32[T,2,8]", "f32[2,8]", "f32[2,1]")]
    assert MEAN.infer(tuple(types), {}) == (("T", 2, 8), (2, 8), (2, 1))
    with pytest.raises(GraphError, match=r"running_mean takes x\[T,B,C\]"):
        MEAN.infer((types[0], types[1], types[1]), {})
    with pytest.raises(GraphError, match="a limit from 2"):
        MEAN.infer(tuple(types), {"limit": 1})


def test_work():
    x = parse_type("i8[5,2,8]")
    assert MEAN.work(Signature((x,), (x,), {})) == Work(elementwise=240)
    assert lookup("cumulative_sum").work(Signature((x,), (x,), {})) == Work(elementwise=80)
