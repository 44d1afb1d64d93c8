"""add, sub, mul, square and relu: fast equals reference, and both stay close to the reals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import codes, crossed, ideal, quantized, reals, seeds, shapes

from nnaq.errors import GraphError, LoweringError
from nnaq.ir.numerics import ROUNDINGS
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import TensorType, bounds

SPAN = {"i8": 2.0**7, "i16": 2.0**15, "i32": 2.0**31}
BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


@st.composite
def broadcast_pairs(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Two shapes and the shape they broadcast to, empty axes included."""
    shape = draw(shapes)
    pair = []
    for _ in range(2):
        kept = shape[draw(st.integers(0, len(shape))) :]
        pair.append(tuple(1 if draw(st.booleans()) else size for size in kept))
    return pair[0], pair[1], np.broadcast_shapes(*pair)


@st.composite
def value_types(draw: st.DrawFn, dtype: str, shape: tuple[int, ...], exact: bool) -> TensorType:
    """A type whose codes span about [-1, 1]; `exact` keeps the scale a power of two."""
    factor = 1.0 if exact else draw(st.floats(0.7, 1.4))
    zero_point = draw(st.integers(-128, 127)) if dtype == "i8" else 0
    return quantized(dtype, shape, factor / SPAN[dtype], zero_point)


@st.composite
def binary_nodes(draw: st.DrawFn):  # type: ignore[no-untyped-def]
    """An operator of two operands in any of its rescaling forms, under any rounding."""
    name = draw(st.sampled_from(sorted(BINARY)))
    dtypes = ["i8", "i16"] if name == "mul" else ["i8", "i16", "i32"]
    rounding = draw(st.sampled_from(ROUNDINGS))
    exact = rounding == "pot_shift"
    shape_a, shape_b, shape_y = draw(broadcast_pairs())
    a = draw(value_types(draw(st.sampled_from(dtypes)), shape_a, exact))
    b = draw(value_types(draw(st.sampled_from(dtypes)), shape_b, exact))
    y = draw(value_types(draw(st.sampled_from(["i8", "i16"])), shape_y, exact))
    if exact and name != "mul":
        finest = max(a.scale, b.scale) / 2.0  # pot_shift has no left shift beyond one bit
        y = quantized(y.dtype, shape_y, max(y.scale, finest), y.zero_point)
    if exact and name == "mul":
        y = quantized(y.dtype, shape_y, max(y.scale, a.scale * b.scale / 2.0), y.zero_point)
    return name, a, b, y, rounding


@given(binary_nodes(), seeds)
def test_fast_equals_reference_in_every_form_and_rounding(node, seed):
    name, a, b, y, rounding = node
    result = crossed(name, (a, b), y, rounding=rounding)(codes(a, seed), codes(b, seed + 1))
    assert result.shape == y.shape


@pytest.mark.parametrize("rounding", [r for r in ROUNDINGS if r != "pot_shift"])
@pytest.mark.parametrize("name", sorted(BINARY))
@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_corners_of_the_range(name, dtype, rounding):
    low, high = bounds(dtype)
    ends = np.array([low, low + 1, -1, 0, 1, high - 1, high], np.int8 if dtype == "i8" else np.int16)
    shape = (ends.size, ends.size)
    a = quantized(dtype, (ends.size, 1), 1.3 / SPAN[dtype], low if dtype == "i8" else 0)
    b = quantized(dtype, (ends.size,), 0.9 / SPAN[dtype], high if dtype == "i8" else 0)
    y = quantized(dtype, shape, 0.5 / SPAN[dtype], 0)
    crossed(name, (a, b), y, rounding=rounding)(ends[:, None], ends)


EVERY_I8 = np.arange(-128, 128).astype(np.int8)


@pytest.mark.parametrize("name", sorted(BINARY))
def test_i8_is_the_nearest_code_for_every_pair(name):
    a, b = quantized("i8", (256, 1), 0.031, -7), quantized("i8", (256,), 0.017, 11)
    y = quantized("i8", (256, 256), 0.05, -3)
    result = crossed(name, (a, b), y)(EVERY_I8[:, None], EVERY_I8)
    exact = ideal(BINARY[name](reals(EVERY_I8[:, None], a), reals(EVERY_I8, b)), y)
    assert np.abs(result - exact).max() <= 0.5 + 2**-10


@pytest.mark.parametrize("name", ["add", "sub"])
@pytest.mark.parametrize(
    ("dtype_a", "dtype_b"), [("i16", "i16"), ("i8", "i16"), ("i32", "i16"), ("i8", "i8")]
)
@pytest.mark.parametrize("dtype_y", ["i16", "i8"])
def test_rescaled_sum_is_within_one_code(name, dtype_a, dtype_b, dtype_y):
    a = quantized(dtype_a, (4000,), 0.97 / SPAN[dtype_a], 5 if dtype_a == "i8" else 0)
    b = quantized(dtype_b, (4000,), 0.83 / SPAN[dtype_b], -9 if dtype_b == "i8" else 0)
    y = quantized(dtype_y, (4000,), 1.1 / SPAN[dtype_y])  # neither operand saturates on its own
    p, q = codes(a, 1), codes(b, 2)
    result = crossed(name, (a, b), y)(p, q)
    assert np.abs(result - ideal(BINARY[name](reals(p, a), reals(q, b)), y)).max() <= 1.0 + 2**-10


@pytest.mark.parametrize("dtype_y", ["i16", "i8"])
@pytest.mark.parametrize(("dtype_a", "dtype_b"), [("i16", "i16"), ("i8", "i16"), ("i8", "i8")])
def test_product_is_the_nearest_code(dtype_a, dtype_b, dtype_y):
    a, b = (
        quantized(dtype_a, (4000,), 0.97 / SPAN[dtype_a]),
        quantized(dtype_b, (4000,), 0.83 / SPAN[dtype_b]),
    )
    y = quantized(dtype_y, (4000,), 0.9 / SPAN[dtype_y])
    p, q = codes(a, 1), codes(b, 2)
    result = crossed("mul", (a, b), y)(p, q)
    assert np.abs(result - ideal(reals(p, a) * reals(q, b), y)).max() <= 0.5 + 2**-16


@given(broadcast_pairs(), seeds)
def test_i32_sum_of_one_scale_is_exact_and_saturates(pair, seed):
    shape_a, shape_b, shape_y = pair
    a, b, y = (quantized("i32", shape, 1e-6) for shape in (shape_a, shape_b, shape_y))
    p, q = codes(a, seed), codes(b, seed + 1)
    for name in ("add", "sub"):
        exact = BINARY[name](p.astype(np.int64), q.astype(np.int64))
        np.testing.assert_array_equal(crossed(name, (a, b), y)(p, q), np.clip(exact, -(2**31), 2**31 - 1))


def follow(name: str, *operands: TensorType) -> tuple[TensorType, ...] | None:
    op = lookup(name)
    (shape,) = op.infer(operands, {})
    return op.follow(Signature(operands, (TensorType("f32", shape),)))


def test_a_sum_of_i32_codes_keeps_their_scale():
    a, b = quantized("i32", (2, 3), 0.25), quantized("i32", (3,), 0.25)
    assert follow("add", a, b) == (a,)
    assert follow("sub", a, quantized("i32", (3,), 0.5)) is None
    assert follow("add", a, quantized("i16", (3,), 0.25)) is None


def test_whole_numbers_add_and_multiply_exactly_and_saturate():
    whole = quantized("i32", (4, 1))
    ends = np.array([[-(2**31)], [2**31 - 1], [-46341], [7]], np.int32)
    for name, function in BINARY.items():
        (result,) = follow(name, whole, whole.with_shape((4,)))  # type: ignore[misc]
        assert result == whole.with_shape((4, 4))
        exact = function(ends.astype(np.int64), ends.astype(np.int64).T)
        found = crossed(name, (whole, whole.with_shape((4,))), result)(ends, ends[:, 0])
        np.testing.assert_array_equal(found, np.clip(exact, -(2**31), 2**31 - 1))


def test_a_product_of_i32_codes_that_are_no_whole_numbers_is_refused():
    kind = quantized("i32", (2,), 0.5)
    assert follow("mul", kind, kind) is None
    with pytest.raises(LoweringError, match=r"whole numbers only \(scale 1\), found 0\.5, 0\.5 -> 0\.25"):
        crossed("mul", (kind, kind), quantized("i32", (2,), 0.25))


def test_a_sum_into_i32_of_two_scales_is_refused():
    a, b = quantized("i32", (2,), 0.25), quantized("i32", (2,), 0.5)
    with pytest.raises(LoweringError, match=r"one scale throughout, found 0\.25, 0\.5 -> 0\.25"):
        crossed("add", (a, b), a)


def test_more_left_shift_than_the_operand_leaves_free_is_refused():
    a = quantized("i16", (2,), 1.0)
    with pytest.raises(LoweringError, match="left shift"):
        crossed("add", (a, a), quantized("i16", (2,), 2.0**-15))
    crossed("add", (a, a), quantized("i16", (2,), 2.0**-13))(codes(a, 0), codes(a, 1))


@pytest.mark.parametrize(("dtype", "zero_point"), [("i8", -128), ("i8", 127), ("i16", 0)])
def test_square_is_exact(dtype, zero_point):
    low, high = bounds(dtype)
    x = np.arange(low, high + 1).astype(np.int8 if dtype == "i8" else np.int16)[:: 1 if dtype == "i8" else 97]
    kind = quantized(dtype, x.shape, 0.125, zero_point)
    (y,) = follow("square", kind)  # type: ignore[misc]
    assert (y.dtype, y.scale, y.zero_point) == ("i32", 0.125**2, 0)
    np.testing.assert_array_equal(reals(crossed("square", (kind,), y)(x), y), reals(x, kind) ** 2)


@pytest.mark.parametrize(
    ("dtype", "zero_point"), [("i8", -128), ("i8", 3), ("i8", 127), ("i16", 0), ("i32", 0)]
)
def test_relu_is_exact(dtype, zero_point):
    kind = quantized(dtype, (3, 50), 0.125, zero_point)
    x = codes(kind, 3)
    np.testing.assert_array_equal(
        reals(crossed("relu", (kind,), kind)(x), kind), np.maximum(reals(x, kind), 0.0)
    )


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (3,)])
def test_every_rank_and_empty_values(shape):
    kind = quantized("i8", shape, 0.5, 1)
    x = codes(kind, 0)
    assert crossed("relu", (kind,), kind)(x).shape == shape
    assert crossed("square", (kind,), quantized("i32", shape, 0.25))(x).shape == shape
    assert crossed("add", (kind, kind), kind)(x, x).shape == shape


def test_broadcasting_of_symbolic_shapes():
    infer = lookup("mul").infer
    time, one, other = (TensorType("f32", ("T", n)) for n in (4, 1, 3))
    assert infer((time, one), {}) == (("T", 4),)
    assert infer((time, TensorType("f32", (4,))), {}) == (("T", 4),)
    assert infer((TensorType("f32", (1, 4)), time), {}) == (("T", 4),)
    with pytest.raises(GraphError, match=r"mul needs shapes that broadcast, found \[T,4\] and \[T,3\]"):
        infer((time, other), {})
    with pytest.raises(GraphError, match="broadcast"):
        infer((time, TensorType("f32", (2, 4))), {})


@pytest.mark.parametrize("name", ["add", "sub", "mul", "square", "relu"])
def test_torch_and_numpy_have_one_meaning(name):
    torch = pytest.importorskip("torch")
    arrays = [np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4), np.full((4,), 1.5, np.float32)]
    arrays = arrays[: len(lookup(name).operands)]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    (expected,) = lookup(name).real(np, {}, *arrays)
    (found,) = lookup(name).real(torch, {}, *tensors)
    np.testing.assert_array_equal(found.detach().numpy(), expected)
    found.sum().backward()
    assert all(tensor.grad.shape == tensor.shape for tensor in tensors)
