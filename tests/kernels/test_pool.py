"""max_pool and average_pool: fast equals reference; exact, and within half a code of the mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import codes, crossed, quantized, reals, seeds

from nnaq.errors import GraphError
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import TensorType


@st.composite
def pools(draw: st.DrawFn):  # type: ignore[no-untyped-def]
    """A shape [N, C, *spatial] and the attributes of a window over it."""
    axes = draw(st.integers(1, 2))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(axes))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    padding = tuple(draw(st.integers(0, k - 1)) for _ in range(2) for k in kernel)
    shape = (
        draw(st.integers(0, 2)),
        draw(st.integers(1, 3)),
        *(draw(st.integers(1, 7)) for _ in range(axes)),
    )
    return shape, {"kernel": kernel, "stride": stride, "padding": padding}


def pooled(name: str, kind: TensorType, attrs: dict, x: np.ndarray) -> np.ndarray:
    (shape,) = lookup(name).infer((kind,), attrs)
    result = crossed(name, (kind,), kind.with_shape(shape), attrs)(x)
    assert result.shape == shape
    return result


@given(pools(), st.sampled_from(["i8", "i16", "i32"]), seeds)
def test_max_pool_is_exact(pool, dtype, seed):
    shape, attrs = pool
    kind = quantized(dtype, shape, 0.25, -3 if dtype == "i8" else 0)
    x = codes(kind, seed)
    (exact,) = lookup("max_pool").real(np, attrs, reals(x, kind))
    np.testing.assert_array_equal(reals(pooled("max_pool", kind, attrs, x), kind), exact)


@given(pools(), st.sampled_from(["i8", "i16"]), st.booleans(), seeds)
def test_average_pool_is_the_nearest_code(pool, dtype, include, seed):
    shape, attrs = pool
    attrs["count_include_pad"] = include
    kind = quantized(dtype, shape, 0.25, -3 if dtype == "i8" else 0)
    x = codes(kind, seed)
    (exact,) = lookup("average_pool").real(np, attrs, reals(x, kind))
    result = reals(pooled("average_pool", kind, attrs, x), kind)
    assert np.abs(result - exact).max(initial=0.0) <= (0.5 + 2**-30) * kind.scale


def test_ties_of_the_mean_go_away_from_code_zero():
    x = np.array([[[1, 2, -1, -2, 127, 127, -128, -128, 0, 1, 0, -1]]], np.int8)
    attrs = {"kernel": (2,), "stride": (2,), "padding": (0, 0)}
    assert pooled("average_pool", quantized("i8", x.shape, 1.0, 5), attrs, x).tolist() == [
        [[2, -2, 127, -128, 1, -1]]
    ]


def test_padding_counts_as_zero_point_only_where_asked():
    x = np.array([[[10, 20]]], np.int8)
    kind, attrs = quantized("i8", x.shape, 1.0, -50), {"kernel": (2,), "stride": (2,), "padding": (1, 1)}
    assert pooled("average_pool", kind, attrs, x).tolist() == [[[10, 20]]]
    attrs["count_include_pad"] = True
    assert pooled("average_pool", kind, attrs, x).tolist() == [[[-20, -15]]]


def test_padding_never_wins_a_maximum():
    x = np.full((1, 1, 2, 2), -128, np.int8)
    attrs = {"kernel": (2, 2), "stride": (1, 1), "padding": (1, 1, 1, 1)}
    assert (pooled("max_pool", quantized("i8", x.shape, 1.0, 100), attrs, x) == -128).all()


def test_time_may_be_symbolic_and_empty():
    attrs = {"kernel": (1, 3), "stride": (1, 2), "padding": (0, 0, 0, 0)}
    infer = lookup("max_pool").infer
    assert infer((TensorType("f32", (1, 8, "T", 40)),), attrs) == ((1, 8, "T", 19),)
    attrs = {"kernel": (3,), "stride": (2,), "padding": (1, 0)}
    assert infer((TensorType("f32", (1, 8, "T")),), attrs) == ((1, 8, "(T-2)//2+1"),)
    for name in ("max_pool", "average_pool"):
        kind = quantized("i8", (1, 8, 0))
        assert crossed(name, (kind,), kind, attrs)(np.zeros((1, 8, 0), np.int8)).shape == (1, 8, 0)


@pytest.mark.parametrize(
    ("shape", "attrs", "message"),
    [
        ((1, 8), {}, r"max_pool takes \[N,C,L\] or \[N,C,H,W\], found a tensor of rank 2"),
        ((1, 8, 5), {"kernel": (2, 2), "stride": (1,), "padding": (0, 0)}, "1 whole numbers as 'kernel'"),
        ((1, 8, 5), {"kernel": (2,), "stride": (0,), "padding": (0, 0)}, "stride of at least 1"),
        ((1, 8, 5), {"kernel": (2,), "stride": (1,), "padding": (0, 2)}, "padding below the kernel"),
    ],
)
def test_windows_that_make_no_sense_are_named(shape, attrs, message):
    with pytest.raises(GraphError, match=message):
        lookup("max_pool").infer((TensorType("f32", shape),), attrs)


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [((3,), (2,), (1,)), ((2, 3), (1, 2), (1, 1)), ((4, 2), (3, 1), (0, 0))]
)
def test_the_meaning_is_that_of_torch(kernel, stride, pad, include):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = torch.randn(2, 3, *[9] * len(kernel), generator=torch.Generator().manual_seed(0), requires_grad=True)
    attrs = {"kernel": kernel, "stride": stride, "padding": pad + pad, "count_include_pad": include}
    largest, mean = (
        (functional.max_pool1d, functional.avg_pool1d)
        if len(kernel) == 1
        else (functional.max_pool2d, functional.avg_pool2d)
    )
    for name, expected in (
        ("max_pool", largest(x, kernel, stride, pad)),
        ("average_pool", mean(x, kernel, stride, pad, count_include_pad=include)),
    ):
        (found,) = lookup(name).real(torch, attrs, x)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        (gradient,), (wanted,) = (torch.autograd.grad(y.square().sum(), x) for y in (found, expected))
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-5)
        (array,) = lookup(name).real(np, attrs, x.detach().numpy())
        np.testing.assert_allclose(array, found.detach().numpy(), rtol=0, atol=1e-6)


def test_work_counts_every_value_under_a_window():
    x, y = TensorType("i8", (1, 4, 9)), TensorType("i8", (1, 4, 5))
    attrs = {"kernel": (3,), "stride": (2,), "padding": (1, 1)}
    assert lookup("max_pool").work(Signature((x,), (y,), attrs)).elementwise == 3 * 20
