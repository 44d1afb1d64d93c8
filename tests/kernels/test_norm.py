"""Normalisations: equal bits in both kernels, and the stated distance from the correctly rounded result."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import (
    MOODS,
    assert_fast_is_reference,
    generators,
    integer_node,
    quantised,
    roundings,
    some_codes,
    zero_points,
)

from nnaq.errors import GraphError, LoweringError
from nnaq.ir.numerics import ROUNDINGS, Numerics
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import Quant, TensorType, bounds, storage
from nnaq.kernels.norm import GROUP, L2, LAYER, RMS
from nnaq.kernels.norm_rows import row_constants, row_numbers, row_reference
from nnaq.kernels.roots import reciprocal_root_table

ROWS = {"layer_norm": LAYER, "group_norm": GROUP, "rms_norm": RMS, "l2_normalize": L2}
PARAMETERS = {"layer_norm": 2, "group_norm": 2, "rms_norm": 1, "l2_normalize": 0, "batch_norm": 2}
TABLE = [int(entry) for entry in reciprocal_root_table()]
PAIRS = [(x, y) for x in ("i8", "i16") for y in ("i8", "i16")]


def node(name, kind, x, y, attrs, parameters=(), rounding="single"):
    """The integer node over codes `x` of type `kind`, its parameters absent where None."""
    given = [None if p is None else (TensorType("f32", p.shape), p) for p in parameters]
    return integer_node(name, [(kind, x), *given], y, attrs, rounding)


def result_of(*arguments, **options):
    op, signature, arrays = node(*arguments, **options)
    return assert_fast_is_reference(op, signature, arrays)


# --- fast equals reference


@st.composite
def cases(draw: st.DrawFn):  # type: ignore[no-untyped-def]
    """An operator in any form, rank and rounding, with or without each of its parameters."""
    name = draw(st.sampled_from(sorted(PARAMETERS)))
    generator, rounding = draw(generators), draw(roundings)
    size = st.integers(0, 5)
    epsilon = draw(st.sampled_from((0.0, 1e-12, 1e-5, 0.1, 7.0)))
    if name in ("group_norm", "batch_norm"):
        groups, parts = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        shape = (draw(st.integers(0, 2)), groups * parts, *draw(st.lists(size, max_size=2)))
        attrs = {"groups": groups, "epsilon": epsilon} if name == "group_norm" else {}
        expected = shape[1:2]
    else:
        shape = tuple(draw(st.lists(size, min_size=1, max_size=3)))
        axis = -1 if name == "l2_normalize" else -draw(st.integers(1, len(shape)))
        attrs, expected = {"axis": axis, "epsilon": epsilon}, shape[axis:]
    kind, y = (
        quantised(dtype, shape, draw(st.sampled_from((0.5, 0.013, 2.0**-9))), draw(zero_points(dtype)))
        for dtype in (draw(st.sampled_from(("i8", "i16"))) for _ in range(2))
    )
    there = [name == "batch_norm" or draw(st.booleans()) for _ in range(PARAMETERS[name])]
    spread = draw(st.sampled_from((0.0, 1e-6, 1.0, 30.0)))
    parameters = [generator.normal(0, spread, expected) if found else None for found in there]
    x = some_codes(generator, kind, draw(st.sampled_from(MOODS)))
    return name, kind, x, y, attrs, parameters, rounding


@settings(max_examples=150)
@given(cases())
def test_fast_equals_reference_in_every_form_and_rounding(case):
    *arguments, rounding = case
    result_of(*arguments, rounding=rounding)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_corners_under_every_rounding(name, rounding):
    for dtype, dtype_y in PAIRS:
        low, high = bounds(dtype)
        rows = [[low] * 6, [high] * 6, [0] * 6, [low, high] * 3, [low] * 5 + [high], [high] * 5 + [low]]
        x = np.array([*rows, [0, 0, 0, 0, 0, 1], [1, 0, -1, 1, 0, -1]], storage(dtype))
        kind = quantised(dtype, x.shape, 0.25, low if dtype == "i8" else 0)
        y = quantised(dtype_y, x.shape, 2.0**-6, 5 if dtype_y == "i8" else 0)
        attrs = {"groups": 2, "epsilon": 0.0} if name == "group_norm" else {"axis": -1, "epsilon": 0.0}
        parameters = [np.array([1.0, -1.0, 0.0, 1e-9, -300.0, 0.37])] * PARAMETERS[name]
        result_of(name, kind, x, y, attrs, parameters, rounding=rounding)


# --- against the reals


def exact_rows(name, codes, kind, epsilon):
    """The normalised rows [R, n] in float64, from exact integer sums."""
    rule, n = ROWS[name], codes.shape[1]
    rows = []
    for row in codes.astype(object):
        v = [int(q) - kind.zero_point for q in row]
        total = sum(v) if rule.centred else 0
        divisor = n if rule.counted else 1
        e = rule.square_of_epsilon(epsilon) / kind.scale**2 * divisor**2
        u = divisor * sum(q * q for q in v) - total * total
        root = math.sqrt(u + e if rule.counted else max(u, e))
        rows.append([(divisor * q - total) / root if root else 0.0 for q in v])
    return np.array(rows).reshape(codes.shape)


def varied_codes(kind, seed):
    """Rows of every magnitude, from less than one code to the whole range, on offsets of their own."""
    random = np.random.default_rng(seed)
    low, high = bounds(kind.dtype)
    spread = 2.0 ** random.uniform(-2, math.log2(high / 2), (kind.shape[0], 1))
    codes = random.normal(0, 1, kind.shape) * spread + random.normal(0, high / 20, (kind.shape[0], 1))
    return np.clip(np.rint(codes), low, high).astype(storage(kind.dtype))


def distances(name, dtype, dtype_y, n, epsilon, scale_x, weight, bias):
    """Measured: the share of codes that differ from the correctly rounded one, the largest difference,
    and the largest excess over the stated bound; over results that use the range of their codes."""
    kind = quantised(dtype, (max(60_000 // n, 2), n), scale_x, -5 if dtype == "i8" else 0)
    x = varied_codes(kind, n)
    normal = exact_rows(name, x, kind, epsilon)
    exact = normal * weight + bias
    scale_y = float(np.float32(np.abs(exact).max() / (127 if dtype_y == "i8" else 32767)))
    y = quantised(dtype_y, kind.shape, scale_y, 3 if dtype_y == "i8" else 0)
    parameters = [weight, bias][: PARAMETERS[name]]
    op, signature, arrays = node(name, kind, x, y, {"axis": -1, "epsilon": epsilon}, parameters)
    (found,) = op.fast(signature, *arrays)
    low, high = bounds(dtype_y)
    ideal = np.clip(exact / scale_y + y.zero_point, low, high)
    apart = np.abs(found - np.clip(np.floor(ideal + 0.5), low, high))
    step = 2.0 ** -(ROWS[name].fraction + 1)
    bound = 0.5 + 2**-10 + np.abs(weight) / scale_y * (step + np.abs(normal) * 2.0**-26)
    return (apart > 0).mean(), apart.max(), (np.abs(found - ideal) - bound).max()


@pytest.mark.parametrize("n", [3, 16, 256, 4096])
@pytest.mark.parametrize(("dtype", "dtype_y"), PAIRS)
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "l2_normalize"])
def test_at_most_one_code_from_the_correctly_rounded_result(name, dtype, dtype_y, n):
    random = np.random.default_rng(n)
    weight = random.normal(0.5, 0.6, n) if PARAMETERS[name] else np.ones(n)
    bias = random.normal(0, 0.5, n) if PARAMETERS[name] == 2 else np.zeros(n)
    scale_x = 0.02 if dtype == "i8" else 1e-4
    share, most, excess = distances(name, dtype, dtype_y, n, 1e-5, scale_x, weight, bias)
    assert most <= 1
    assert excess <= 0
    if name == "l2_normalize":
        assert share <= (0.0002 if dtype_y == "i8" else 0.01)
    elif n >= 16:
        assert share <= (0.0002 if dtype_y == "i8" else 0.03)


@pytest.mark.parametrize("epsilon", [0.0, 1e-9, 1e-6, 4e-4, 0.03, 10.0])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "l2_normalize"])
def test_epsilon_is_not_rounded_away_next_to_small_variances(name, epsilon):
    """epsilon around one squared code (4e-4 for i8): a whole number of codes would be far too coarse."""
    for dtype, scale_x in (("i8", 0.02), ("i16", 1e-4)):
        for n in (2, 7, 300):
            ones = np.ones(n)
            _, most, excess = distances(name, dtype, "i16", n, epsilon, scale_x, ones, 0 * ones)
            assert most <= 1
            assert excess <= 0


def exact_quotient(rule, row, e, bits=80):
    """d / sqrt(V) in Q.bits by the integer square root; e: epsilon in squared codes, a fraction over 2^30."""
    divisor = len(row) if rule.counted else 1
    total = sum(row) if rule.centred else 0
    u = (divisor * sum(v * v for v in row) - total * total) << 30
    joined = u + e * divisor**2 if rule.counted else max(u, e)
    root = math.isqrt(joined << (2 * bits - 30))  # sqrt(V) in Q.bits
    return [((divisor * v - total) << (2 * bits)) // root if root else 0 for v in row]


@given(
    st.sampled_from((LAYER, RMS, L2)),
    st.sampled_from(("i8", "i16")),
    st.sampled_from((1, 2, 3, 8, 100, 3000)),
    st.integers(0, 2**40),
    generators,
    st.sampled_from(MOODS),
)
@settings(max_examples=60)
def test_the_quotient_is_within_half_a_step_and_26_bits(rule, dtype, n, e, generator, mood):
    kind = quantised(dtype, (n,))
    row = [int(q) for q in some_codes(generator, kind, mood)]
    epsilon = e / 2**30 if rule.counted else math.sqrt(e / 2**30)
    constants = [int(c.value) for c in row_constants(rule, kind, epsilon)[1:]]
    found = row_reference(rule, row, TABLE, *row_numbers(rule, n, *constants))
    for z, exact in zip(found, exact_quotient(rule, row, e), strict=True):
        assert abs((z << (80 - rule.fraction)) - exact) <= (1 << (79 - rule.fraction)) + (abs(exact) >> 26)


@pytest.mark.parametrize("rounding", [r for r in ROUNDINGS if r not in ("floor", "truncate", "double_m16")])
def test_every_nearest_rounding_stays_within_a_code(rounding):
    kind = quantised("i16", (50, 64), 1e-4)
    x, weight = varied_codes(kind, 1), np.random.default_rng(2).normal(0, 1, 64)
    exact = exact_rows("layer_norm", x, kind, 1e-5) * weight
    for dtype in ("i8", "i16"):
        scale = float(np.abs(exact).max() / bounds(dtype)[1])
        y = quantised(dtype, kind.shape, scale)
        result = result_of(
            "layer_norm", kind, x, y, {"axis": -1, "epsilon": 1e-5}, [weight, None], rounding=rounding
        )
        assert np.abs(result - exact / scale).max() <= 1


@pytest.mark.parametrize(("dtype", "dtype_y"), PAIRS)
def test_batch_norm_is_the_nearest_code(dtype, dtype_y):
    kind = quantised(dtype, (2, 64, 300), 0.03 if dtype == "i8" else 1e-4, 9 if dtype == "i8" else 0)
    x = some_codes(np.random.default_rng(3), kind, "uniform")
    random = np.random.default_rng(4)
    factor, offset = random.normal(0, 1, 64) * 2.0 ** random.integers(-8, 3, 64), random.normal(0, 2, 64)
    exact = (x - float(kind.zero_point)) * kind.scale * factor[:, None] + offset[:, None]
    y = quantised(dtype_y, kind.shape, float(np.abs(exact).max() / bounds(dtype_y)[1]))
    op, signature, arrays = node("batch_norm", kind, x, y, {}, [factor, offset])
    (found,) = op.fast(signature, *arrays)
    assert np.abs(found - exact / y.scale).max() <= 0.5 + 2**-12
    assert (found != np.floor(exact / y.scale + 0.5)).mean() <= 0.0005


def test_group_norm_is_layer_norm_of_every_group():
    kind, y = quantised("i8", (2, 6, 5, 3), 0.05, 4), quantised("i16", (2, 6, 5, 3), 2.0**-12)
    x = some_codes(np.random.default_rng(5), kind, "uniform")
    random = np.random.default_rng(6)
    weight, bias = random.normal(0, 1, 6), random.normal(0, 1, 6)
    result = result_of("group_norm", kind, x, y, {"groups": 2, "epsilon": 1e-3}, [weight, bias])
    flat, flat_y = kind.with_shape((2, 45)), y.with_shape((2, 45))
    for g in range(2):
        chosen = slice(3 * g, 3 * g + 3)
        parameters = [np.repeat(part[chosen], 15) for part in (weight, bias)]
        rows = x[:, chosen].reshape(2, 45)
        alone = result_of("layer_norm", flat, rows, flat_y, {"axis": -1, "epsilon": 1e-3}, parameters)
        np.testing.assert_array_equal(result[:, chosen].reshape(2, 45), alone)


# --- corners with a meaning


@pytest.mark.parametrize("epsilon", [0.0, 1e-5, 1.0])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_equal_entries_become_the_bias(n, epsilon):
    kind, y = quantised("i8", (3, n), 0.1, -3), quantised("i8", (3, n), 0.25, 7)
    x = np.repeat(np.array([[-128], [-3], [127]], np.int8), n, axis=1)
    parameters = [np.full(n, 5.0), np.full(n, -1.5)]
    result = result_of("layer_norm", kind, x, y, {"axis": -1, "epsilon": epsilon}, parameters)
    assert (result == 7 - 6).all()


@pytest.mark.parametrize("name", ["rms_norm", "l2_normalize"])
def test_a_row_of_zeros_stays_zero_without_epsilon(name):
    kind, y = quantised("i8", (1, 4), 0.1, -3), quantised("i8", (1, 4), 0.01, 11)
    x = np.full((1, 4), -3, np.int8)
    assert (result_of(name, kind, x, y, {"axis": -1, "epsilon": 0.0}) == 11).all()


def test_a_norm_below_epsilon_is_divided_by_epsilon():
    kind, y = quantised("i8", (1, 2), 1.0), quantised("i8", (1, 2), 2.0**-7)
    x = np.array([[3, 4]], np.int8)
    for epsilon, expected in ((4.0, [77, 102]), (10.0, [38, 51])):
        result = result_of("l2_normalize", kind, x, y, {"axis": -1, "epsilon": epsilon})
        assert result.tolist() == [expected]


def test_a_negative_weight_mirrors_the_result():
    kind, y = quantised("i16", (40, 32), 1e-3), quantised("i16", (40, 32), 2.0**-11)
    x = some_codes(np.random.default_rng(7), kind, "uniform")
    weight = np.random.default_rng(8).uniform(0.1, 2, 32)
    attrs = {"axis": -1, "epsilon": 1e-5}
    up, down = (
        result_of("layer_norm", kind, x, y, attrs, [w, None], rounding="double") for w in (weight, -weight)
    )
    np.testing.assert_array_equal(down, -up)  # `double` rounds half away from zero


@pytest.mark.parametrize(("dtype", "size"), [("i16", 2**16 - 1), ("i8", 2**20)])
def test_the_longest_rows_do_not_wrap(dtype, size):
    low, high = bounds(dtype)
    x = np.where(np.arange(size) % 2, low, high).astype(storage(dtype))[None]
    x[0, : size // 3] = low
    kind, y = quantised(dtype, x.shape, 1e-3), quantised("i16", x.shape, 2.0**-13)
    op, signature, arrays = node("layer_norm", kind, x, y, {"axis": -1, "epsilon": 1e-5})
    (found,) = op.fast(signature, *arrays)
    exact = exact_rows("layer_norm", x, kind, 1e-5) / y.scale
    assert np.abs(found - exact).max() <= 0.5 + 2**-4 + 2**-10


def test_a_longer_row_is_refused():
    attrs = {"axis": -1, "epsilon": 1e-5}
    for name, dtype, size, limit in (
        ("layer_norm", "i16", 2**16, 2**16),
        ("layer_norm", "i8", 2**24, 2**24),
        ("rms_norm", "i8", 2**23, 2**23),
        ("rms_norm", "i16", 2**15, 2**15),
    ):
        kind = TensorType(dtype, (1, size), Quant((0.01,), 0 if dtype == "i16" else 127))
        signature = Signature((kind,), (kind,), attrs)
        message = f"over {size} entries can leave 64 bits, expected fewer than {limit} entries"
        with pytest.raises(LoweringError, match=message):
            lookup(name).prepare(signature, (None,), Numerics())
        kind = kind.with_shape((1, size - 1))
        lookup(name).prepare(Signature((kind,), (kind,), attrs), (None,), Numerics())


def test_a_group_that_grows_too_long_at_run_time_is_refused():
    op = lookup("group_norm")
    kind = TensorType("i16", (1, 1, "T"), Quant((0.01,)))
    signature = Signature((kind,), (kind,), {"groups": 1, "epsilon": 1e-5})
    constants = [p.value for p in op.prepare(signature, (None,), Numerics()).operands if p != 0]
    lowered = Signature(signature.inputs, signature.outputs, {**signature.attrs, "rounding": "single"})
    for kernel in (op.fast, op.reference):
        with pytest.raises(LoweringError, match="group_norm: the sums over 65536 entries"):
            kernel(lowered, np.zeros((1, 1, 2**16), np.int16), *constants)


def test_an_epsilon_beyond_every_code_is_refused():
    kind = quantised("i16", (1, 4), 1e-9)
    with pytest.raises(LoweringError, match="use a smaller epsilon or coarser codes"):
        node("layer_norm", kind, np.zeros((1, 4), np.int16), kind, {"axis": -1, "epsilon": 10.0})


def test_parameters_that_are_no_finite_constants_are_refused():
    kind, x = quantised("i8", (1, 2)), np.zeros((1, 2), np.int8)
    attrs = {"axis": -1, "epsilon": 1e-5}
    with pytest.raises(LoweringError, match="layer_norm: the weight holds nan, expected finite numbers"):
        node("layer_norm", kind, x, kind, attrs, [np.array([1.0, np.nan]), None])
    signature = Signature((kind, TensorType("f32", (2,))), (kind,), attrs)
    with pytest.raises(LoweringError, match="operand 1 is computed, expected a constant"):
        lookup("layer_norm").prepare(signature, (None, None), Numerics())


# --- shapes


def infer(name, attrs, *shapes):
    return lookup(name).infer(tuple(TensorType("f32", shape) for shape in shapes), attrs)


def test_shapes_that_do_not_fit_are_refused():
    last, groups = {"axis": -1, "epsilon": 1e-5}, {"groups": 4, "epsilon": 1e-5}
    assert infer("layer_norm", {"axis": -2, "epsilon": 1e-5}, ("T", 3, 4), (3, 4), (3, 4)) == (("T", 3, 4),)
    assert infer("group_norm", groups, ("N", 8, "T"), (8,)) == (("N", 8, "T"),)
    for name, attrs, shapes, message in (
        ("layer_norm", last, [(3, 4), (3,)], r"layer_norm: weight has shape \[3\], expected \[4\]"),
        ("layer_norm", last, [(3, 4), (4,), (2,)], r"bias has shape \[2\], expected \[4\]"),
        ("layer_norm", last, [(3, "T")], "must have whole sizes"),
        ("rms_norm", {**last, "axis": 2}, [(3, 4)], "axis must be from -2 to 1, found 2"),
        ("rms_norm", {**last, "epsilon": -1.0}, [(3, 4)], "epsilon must be a finite number from 0 up"),
        ("l2_normalize", {**last, "axis": 0}, [(3, 4)], "works along the last axis, found axis 0"),
        ("group_norm", groups, [(2, 6, 5)], "6 channels do not divide into 4 groups"),
        ("batch_norm", {}, [(2, 6, 5), (5,), (6,)], r"weight has shape \[5\], expected \[6\]"),
        ("batch_norm", {}, [("N", "C"), (5,), (6,)], "whole number of channels"),
    ):
        with pytest.raises(GraphError, match=message):
            infer(name, attrs, *shapes)


def test_work():
    kind = quantised("i8", (10, 64))
    found = lookup("layer_norm").work(Signature((kind,), (kind,), {"axis": -1, "epsilon": 1e-5}))
    assert (found.macs, found.elementwise, found.lookups) == (0, 3200, 10)
    found = lookup("batch_norm").work(Signature((kind,), (kind,), {}))
    assert (found.macs, found.elementwise, found.lookups) == (0, 1280, 0)


# --- over the reals

LAST = {"axis": -2, "epsilon": 1e-3}
GROUPS = {"groups": 3, "epsilon": 1e-3}
REAL = [
    ("layer_norm", LAST, (2, 6, 5), [(6, 5), (6, 5)]),
    ("rms_norm", LAST, (2, 6, 5), [(6, 5)]),
    ("group_norm", GROUPS, (2, 6, 5), [(6,), (6,)]),
    ("batch_norm", {}, (2, 6, 5), [(6,), (6,)]),
    ("l2_normalize", {"axis": -1, "epsilon": 1e-3}, (2, 6, 5), []),
]


@pytest.mark.parametrize(("name", "attrs", "shape", "parameters"), REAL)
def test_the_meaning_over_the_reals_is_that_of_torch(name, attrs, shape, parameters):
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(9)
    arrays = [random.normal(0, 1, size).astype(np.float32) for size in (shape, *parameters)]
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    functional = torch.nn.functional
    meaning = {
        "layer_norm": lambda x, w, b: functional.layer_norm(x, w.shape, w, b, 1e-3),
        "rms_norm": lambda x, w: functional.rms_norm(x, w.shape, w, 1e-3),
        "group_norm": lambda x, w, b: functional.group_norm(x, 3, w, b, 1e-3),
        "batch_norm": lambda x, w, b: functional.batch_norm(
            x, torch.zeros(6), torch.ones(6), w, b, False, 0.0, 0.0
        ),
        "l2_normalize": partial(functional.normalize, dim=-1, eps=1e-3),
    }
    expected = meaning[name](*tensors)
    (ours,) = lookup(name).real(torch, attrs, *tensors)
    (plain,) = lookup(name).real(np, attrs, *arrays)
    assert plain.dtype == np.float32
    np.testing.assert_allclose(plain, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.detach().numpy(), plain, rtol=1e-4, atol=1e-5)
    upstream = torch.tensor(random.normal(0, 1, shape).astype(np.float32))
    for ours_g, theirs in zip(
        torch.autograd.grad(ours, tensors, upstream),
        torch.autograd.grad(expected, tensors, upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours_g, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "l2_normalize"])
def test_zeros_without_epsilon_are_zeros_with_finite_gradients(name):
    torch = pytest.importorskip("torch")
    attrs = {"axis": -1, "epsilon": 0.0}
    assert not lookup(name).real(np, attrs, np.zeros((2, 4), np.float32))[0].any()
    x = torch.zeros((2, 4), requires_grad=True)
    lookup(name).real(torch, attrs, x)[0].sum().backward()
    assert torch.isfinite(x.grad).all()


def test_no_entries_over_the_reals():
    for name, attrs, _, _ in REAL[:2]:
        for shape in ((0, 6, 5), (2, 0, 5)):
            x = np.zeros(shape, np.float32)
            assert lookup(name).real(np, attrs, x)[0].shape == shape
