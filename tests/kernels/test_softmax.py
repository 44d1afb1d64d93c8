"""softmax: tflite-micro's bits, equal bits in both kernels, the stated bound, masks and empty rows."""

import numpy as np
import pytest
from comparisons import KERNELS, Measured, keys_of, measure
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import IntegerNode, codes, crossed, quantized, seeds

from nnaq.errors import GraphError, LoweringError, OpError
from nnaq.ir.graph import Node
from nnaq.ir.numerics import ROUNDINGS, Numerics
from nnaq.ir.op import Signature, Work, lookup
from nnaq.ir.types import TensorType
from nnaq.targets import exclusion, load_target

SOFTMAX, LOG_SOFTMAX = lookup("softmax"), lookup("log_softmax")
# dtype of the result -> scale, zero_point, bits, largest probability in codes
RESULTS = {"i8": (2.0**-8, -128, 8, 255), "i16": (2.0**-15, 0, 15, 2**15 - 1)}
PAIRS = [(x, y) for x in RESULTS for y in RESULTS]
pairs = st.sampled_from(PAIRS)
FLAGS = (1.0, 0)


def node(x, y, shape, scale, zero_point=0, mask=None, rounding="single") -> IntegerNode:
    """The integer form for operands of dtype and shape, with a mask of shape `mask` or without one."""
    kinds = [quantized(x, shape, scale, zero_point)]
    if mask is not None:
        kinds.append(quantized("i8", mask, *FLAGS))
    return crossed("softmax", tuple(kinds), quantized(y, shape, *RESULTS[y][:2]), rounding=rounding)


def shares(y, found):
    """Probabilities in units of the result."""
    return found.astype(np.int64) - RESULTS[y][1]


def probabilities(x, scale):
    """p and S in float64."""
    powers = np.exp((x.astype(np.float64) - x.max(-1, keepdims=True)) * scale)
    total = powers.sum(-1, keepdims=True)
    return powers / total, total


def bound(x, y, n, p, total):
    """The bound of the module's head."""
    bits = RESULTS[y][2]
    if x == "i8":
        return 0.5 + 2.0**-12 + 2.0 ** (bits - 20) * p * (1 + 1.01 * n / total)
    return 0.5 + 2.0 ** (bits - 15) * (5 + (3 + 5 * n) * p)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("key", keys_of("softmax"), ids=str)
def test_golden_vectors(key, kernel):
    found = measure(key, kernel=kernel)
    assert found == Measured(found.values, 0)


@st.composite
def calls(draw):
    """A node with codes and, mostly, flags; some rows are flat, some have one high entry."""
    x, y = draw(pairs)
    shape = draw(st.sampled_from([(5, 7), (2, 3, 4), (3, 1), (1, 60), (4, 0), (0, 3), (6,)]))
    masks = [None, shape, shape[-1:], (*shape[:-1], 1), (1,) * len(shape), ()]
    mask = draw(st.sampled_from(masks))
    scale = 2.0 ** draw(st.integers(-34, 20)) * draw(st.sampled_from((1.0, 1.37)))
    made = node(x, y, shape, scale, draw(st.sampled_from((0, -128, 5))) if x == "i8" else 0, mask)
    seed = draw(seeds)
    arrays = [codes(made.signature.input(0), seed) >> draw(st.integers(0, 8))]
    if mask is not None:
        random = np.random.default_rng(seed)
        keep = random.random(mask) < draw(st.sampled_from((0.0, 0.3, 1.0)))
        arrays.append((keep * random.choice([1, -128, 127], mask)).astype(np.int8))
    return made, arrays


@given(calls())
def test_fast_equals_reference(call):
    made, arrays = call
    made(*arrays)


@pytest.mark.parametrize(("x", "y"), PAIRS)
@given(st.integers(-30, 3), st.integers(0, 15), st.sampled_from((1, 2, 9, 300)), seeds)
def test_the_stated_bound_holds(x, y, exponent, spread, width, seed):
    random = np.random.default_rng(seed)
    scale, lowest = 2.0**exponent * (1 + random.random()), -128 if x == "i8" else -(2**15)
    made = node(x, y, (4, width), scale)
    offsets = random.integers(0, 2**spread, (4, width))
    offsets[:, 0] = 0  # one entry at the maximum of the codes
    x_codes = np.maximum(-1 - lowest - offsets, lowest).astype(
        made.signature.inputs[0].dtype.replace("i", "int")
    )
    p, total = probabilities(x_codes, scale)
    _, _, bits, top = RESULTS[y]
    error = np.abs(shares(y, made(x_codes)) - np.minimum(p * 2.0**bits, top))
    assert (error <= bound(x, y, width, p, total)).all()


@pytest.mark.parametrize(("x", "y"), PAIRS)
@pytest.mark.parametrize("near", [31.0 / 127, 10.0 / 3e4, 0.05])
def test_many_small_exponentials_beside_one_of_1_stay_in_the_bound(x, y, near):
    # Terms of about 2^-20 or 2^-16, all rounded the same way, are the worst for the sum.
    lowest = -128 if x == "i8" else -(2**15)
    scale = near if x == "i8" else near / 64
    depth = np.arange(1, -lowest, 1 if x == "i8" else 997)
    rows = np.repeat(-depth[:, None], 1000, axis=1)
    rows[:, 0] = 0
    x_codes = rows.astype(np.int8 if x == "i8" else np.int16)
    made = node(x, y, x_codes.shape, scale)
    (found,) = made.op.fast(made.signature, x_codes, *made.constants)
    p, total = probabilities(x_codes, scale)
    error = np.abs(shares(y, found) - np.minimum(p * 2.0 ** RESULTS[y][2], RESULTS[y][3]))
    assert (error <= bound(x, y, 1000, p, total)).all()


@pytest.mark.parametrize(("x", "y"), PAIRS)
@given(st.integers(-12, 0), seeds)
def test_a_mask_takes_entries_away_as_if_they_were_not_there(x, y, exponent, seed):
    random = np.random.default_rng(seed)
    keep = random.random(12) < 0.5
    made = node(x, y, (3, 12), 2.0**exponent, mask=(12,))
    row = codes(made.signature.input(0), seed)
    found = made(row, keep.astype(np.int8))
    alone = node(x, y, (3, int(keep.sum())), 2.0**exponent)(np.ascontiguousarray(row[:, keep]))
    np.testing.assert_array_equal(found[:, keep], alone)
    assert (found[:, ~keep] == RESULTS[y][1]).all()


@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_a_row_without_kept_entries_is_zero(x, y):
    made = node(x, y, (2, 3), 0.1, mask=(2, 1))
    found = made(
        np.array([[1, 2, 3], [1, 2, 3]]).astype(made.signature.inputs[0].dtype.replace("i", "int")),
        np.array([[0], [1]], np.int8),
    )
    assert (shares(y, found)[0] == 0).all()
    assert (shares(y, found)[1] > 0).all()


@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_only_differences_count(x, y):
    made, moved = node(x, y, (1, 50), 0.01), node(x, y, (1, 50), 0.01, 9 if x == "i8" else 0)
    low = codes(quantized("i8", (1, 50)), 3) >> 1
    kind = np.int8 if x == "i8" else np.int16
    np.testing.assert_array_equal(made(low.astype(kind)), moved((low + 31).astype(kind)))


@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_a_single_entry_and_one_far_above_the_others_saturate(x, y):
    kind = np.int8 if x == "i8" else np.int16
    assert shares(y, node(x, y, (1, 1), 0.1)(np.array([[-7]], kind))).tolist() == [[RESULTS[y][3]]]
    for scale in (40.0, 1e9, 1e30):  # scales beyond what a multiplier holds are limited, not refused
        found = shares(y, node(x, y, (1, 3), scale)(np.array([[0, 1, 0]], kind)))
        assert found[0, 1] >= RESULTS[y][3] - 3
        assert found[0, [0, 2]].max() <= 2


@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_codes_too_fine_to_tell_apart_share_evenly(x, y):
    kind = np.int8 if x == "i8" else np.int16
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    found = shares(y, node(x, y, (1, 4), 1e-30)(np.array([[low, high, 0, 1]], kind)))
    assert (np.abs(found - 2 ** RESULTS[y][2] // 4) <= 1).all()


@pytest.mark.parametrize(
    ("x", "y", "width", "most"), [("i8", "i8", 5000, 0), ("i8", "i16", 5000, 8), ("i16", "i16", 70000, 0)]
)
def test_rows_whose_sum_saturates_have_small_probabilities(x, y, width, most):
    made = node(x, y, (1, width), 0.1)
    found = shares(y, made(np.full((1, width), 17, np.int8 if x == "i8" else np.int16)))
    assert found.min() == found.max() == most


@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_the_roundings_are_its_own(x, y):
    kind = quantized(x, (3, 20), 0.02)
    found = [node(x, y, (3, 20), 0.02, rounding=rounding)(codes(kind, 5)).tobytes() for rounding in ROUNDINGS]
    assert len(set(found)) == 1


def test_a_flag_is_whatever_is_not_the_zero_point_of_the_mask():
    made = node("i8", "i8", (1, 4), 0.1, mask=(4,))
    row = np.array([[1, 2, 3, 4]], np.int8)
    first = made(row, np.array([1, 0, 1, 1], np.int8))
    np.testing.assert_array_equal(first, made(row, np.array([-128, 0, 127, 5], np.int8)))


@pytest.mark.parametrize(
    "y", [("i8", 2.0**-8, 0), ("i8", 2.0**-7, -128), ("i16", 2.0**-14, 0), ("i32", 1.0, 0)]
)
def test_other_results_than_probabilities_are_refused(y):
    x = quantized("i8", (2, 2), 0.1)
    with pytest.raises(LoweringError, match=r"the result must be i8 with scale 2\^-8 and zero_point -128"):
        SOFTMAX.prepare(Signature((x,), (quantized(y[0], (2, 2), *y[1:]),)), (None,), Numerics())


def test_operands_of_32_bits_are_refused():
    with pytest.raises(LoweringError, match="softmax: x must be i8 or i16, found i32"):
        node("i32", "i8", (2, 2), 0.1)


@pytest.mark.parametrize("mask", [None, (), ("T",), (1, 4, 1, "T"), (4, "T", "T"), ("B", 4, "T", "T")])
def test_shapes_may_be_symbolic(mask):
    shape = ("B", 4, "T", "T")
    kinds = tuple(TensorType("f32", s) for s in (shape, mask) if s is not None)
    assert SOFTMAX.infer(kinds, {}) == (shape,)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((),), "has no axis"),
        (((2, 3), (2, 2)), "shapes that broadcast"),
        (((1, 3), (2, 3)), "the mask .* is larger than x"),
        (((3,), (1, 3)), "the mask .* is larger than x"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes, words):
    with pytest.raises(GraphError, match=words):
        SOFTMAX.infer(tuple(TensorType("f32", shape) for shape in shapes), {})


def test_work_counts_one_exponential_per_entry():
    kind = quantized("i8", (3, 4, 5))
    assert SOFTMAX.work(Signature((kind,), (kind,))) == Work(elementwise=240, lookups=60)


# --- over the reals


def test_torch_and_numpy_have_one_meaning():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    x, keep = random.normal(0, 5, (4, 3, 6)).astype(np.float32), random.random((3, 1, 6)) < 0.5
    keep[1] = False
    for mask in (None, keep[:, 0].astype(np.float32), np.float32(1), np.float32(0)):
        arrays = (x,) if mask is None else (x, mask)
        (ours,) = SOFTMAX.real(np, {}, *arrays)
        (theirs,) = SOFTMAX.real(torch, {}, *(torch.as_tensor(a) for a in arrays))
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-9)
        if mask is not None:
            assert (ours[np.broadcast_to(mask == 0, x.shape)] == 0).all()
            assert np.isfinite(ours).all()


def test_the_meaning_is_that_of_torch_with_masked_fill():
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(1)
    x, keep = torch.randn(5, 8, generator=generator), torch.rand(5, 8, generator=generator) < 0.7
    expected = torch.softmax(x.masked_fill(~keep, -torch.inf), -1)
    torch.testing.assert_close(SOFTMAX.real(torch, {}, x, keep.float())[0], expected)
    torch.testing.assert_close(SOFTMAX.real(torch, {}, x)[0], torch.softmax(x, -1))


def test_gradients_exist_in_rows_without_kept_entries():
    torch = pytest.importorskip("torch")
    x = torch.tensor([[1.0, 2.0, -3e38], [0.5, 3e38, 1.0]], dtype=torch.float32, requires_grad=True)
    mask = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    (y,) = SOFTMAX.real(torch, {}, x, mask)
    (y * torch.arange(6.0).reshape(2, 3)).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad[mask == 0] == 0).all()
    assert (x.grad[mask == 1] != 0).all()
    small = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: SOFTMAX.real(torch, {}, v, (v > -1).double())[0], [small])


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3), (2, 1)])
def test_reals_of_empty_and_single_rows(shape):
    (y,) = SOFTMAX.real(np, {}, np.zeros(shape, np.float32))
    assert y.shape == shape
    assert (y == 1 / max(shape[-1], 1)).all()


# --- log_softmax


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_log_softmax_is_that_of_torch(axis):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(2).normal(0, 30, (3, 4, 5)).astype(np.float32)
    expected = torch.log_softmax(torch.as_tensor(x), axis).numpy()
    np.testing.assert_allclose(LOG_SOFTMAX.real(np, {"axis": axis}, x)[0], expected, rtol=1e-5, atol=1e-6)
    (found,) = LOG_SOFTMAX.real(torch, {"axis": axis}, torch.as_tensor(x))
    np.testing.assert_array_equal(found.numpy(), expected)


def test_log_softmax_stays_on_the_host():
    assert LOG_SOFTMAX.is_host_only
    kinds = (quantized("i8", (2, 3)),), (quantized("i8", (2, 3)),)
    with pytest.raises(LoweringError, match="log_softmax has no integer form; it stays on the host"):
        LOG_SOFTMAX.prepare(Signature(*kinds), (None,), Numerics())
    for kernel in (LOG_SOFTMAX.fast, LOG_SOFTMAX.reference):
        with pytest.raises(OpError, match="log_softmax has no integer form"):
            kernel(Signature(*kinds), np.zeros((2, 3), np.int8))
    why = exclusion(Node("log_softmax", ("x",), ("y",), {}, "y"), load_target("edge8"))
    assert why == "'log_softmax' has no integer form: it always runs on the host"


def test_log_softmax_needs_its_axis():
    kind = TensorType("f32", ("T", 5))
    assert LOG_SOFTMAX.infer((kind,), {"axis": -2}) == (("T", 5),)
    with pytest.raises(GraphError, match=r"x \[T,5\] has no axis 2"):
        LOG_SOFTMAX.infer((kind,), {"axis": 2})
    (y,) = LOG_SOFTMAX.real(np, {"axis": -1}, np.zeros((2, 0), np.float32))
    assert y.shape == (2, 0)
