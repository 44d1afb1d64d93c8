"""minimum, maximum, clip and where: codes are chosen, never changed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import code_dtypes, codes, crossed, ideal, quantized, reals, seeds, shapes

from nnaq.errors import GraphError
from nnaq.ir.op import lookup
from nnaq.ir.types import TensorType


@given(st.sampled_from(["minimum", "maximum"]), code_dtypes, shapes, seeds)
def test_extremes_are_those_of_the_reals(name, dtype, shape, seed):
    a = quantized(dtype, shape, 0.3, 7 if dtype == "i8" else 0)
    b = a.with_shape(shape[1:])
    p, q = codes(a, seed), codes(b, seed + 1)
    result = crossed(name, (a, b), a)(p, q)
    np.testing.assert_array_equal(reals(result, a), getattr(np, name)(reals(p, a), reals(q, b)))


LIMITS = st.one_of(st.sampled_from([-math.inf, math.inf, 0.0]), st.floats(-60, 60))


@given(code_dtypes, LIMITS, LIMITS, shapes, seeds)
def test_clip_is_within_half_a_code(dtype, low, high, shape, seed):
    kind = quantized(dtype, shape, 0.3, 7 if dtype == "i8" else 0)
    x = codes(kind, seed)
    result = crossed("clip", (kind,), kind, {"low": low, "high": high})(x)
    exact = ideal(np.minimum(np.maximum(reals(x, kind), low), high), kind)
    assert np.abs(result - exact).max(initial=0) <= 0.5


def test_limits_become_codes():
    kind = quantized("i8", (3,), 0.5, -2)
    node = crossed("clip", (kind,), kind, {"low": -math.inf, "high": 3.25})
    assert node.signature.attrs == {"low": -128, "high": 5}  # 6.5 goes away from zero, to 7
    node = crossed("clip", (kind,), kind, {"low": -3.25, "high": 1e9})
    assert node.signature.attrs == {"low": -9, "high": 127}


def test_crossed_limits_give_the_higher_one():
    kind = quantized("i8", (3,), 1.0)
    x = np.array([-9, 0, 9], np.int8)
    attrs = {"low": 5.0, "high": -3.0}
    assert crossed("clip", (kind,), kind, attrs)(x).tolist() == [-3, -3, -3]
    assert lookup("clip").real(np, attrs, x.astype(np.float32))[0].tolist() == [-3, -3, -3]


@given(code_dtypes, shapes, st.sampled_from([0, -128, 1]), seeds)
def test_where_takes_the_first_where_the_flag_is_not_its_zero_point(dtype, shape, zero_point, seed):
    condition = quantized("i8", shape[1:], 1.0, zero_point)
    a, b = quantized(dtype, shape, 0.3), quantized(dtype, shape[:1] + (1,) * (len(shape) - 1), 0.3)
    c, p, q = codes(condition, seed), codes(a, seed + 1), codes(b, seed + 2)
    np.testing.assert_array_equal(
        crossed("where", (condition, a, b), a)(c, p, q), np.where(c != zero_point, p, q)
    )


def test_where_infers_the_common_shape():
    flag, a, b = (TensorType("f32", s) for s in (("T", 1), (4,), (1, 1)))
    assert lookup("where").infer((flag, a, b), {}) == (("T", 4),)
    with pytest.raises(GraphError, match="where needs shapes that broadcast"):
        lookup("where").infer((flag, a, TensorType("f32", (3,))), {})


@pytest.mark.parametrize("name", ["minimum", "maximum", "where", "clip"])
def test_torch_and_numpy_have_one_meaning(name):
    torch = pytest.importorskip("torch")
    a, b = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4), np.full((4,), 0.5, np.float32)
    operands = {"where": [(a > 0).astype(np.float32), a, b], "clip": [a]}.get(name, [a, b])
    attrs = {"low": -1.0, "high": math.inf} if name == "clip" else {}
    tensors = [torch.tensor(v, requires_grad=True) for v in operands]
    (expected,), (found,) = lookup(name).real(np, attrs, *operands), lookup(name).real(torch, attrs, *tensors)
    np.testing.assert_array_equal(found.detach().numpy(), expected)
    found.sum().backward()
    assert tensors[-1].grad.shape == tensors[-1].shape
