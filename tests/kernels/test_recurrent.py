"""The LSTM: compiled equals plain integers, chunks equal the whole, the fused node equals its graph."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnaq import interpret
from nnaq.errors import LoweringError, OpError
from nnaq.ir.numerics import ROUNDINGS, Numerics
from nnaq.ir.op import Prepared, Signature, Work, lookup
from nnaq.ir.types import Quant, TensorType, bounds, storage
from nnaq.ir.verify import verify
from nnaq.kernels import lstm_numbers, recurrent

LSTM = lookup("lstm")
Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Sizes:
    frames: int = 3
    batch: int = 2
    width: int = 4
    units: int = 3


@dataclass(frozen=True)
class Choice:
    """What a drawn node is made of; `gain` is the reach of weights and bias in real units."""

    sizes: Sizes = Sizes()
    x: str = "i8"
    h: str = "i8"
    weight: str = "i8"
    zero_points: tuple[int, int] = (0, 0)
    weight_zero_point: int = 0
    fraction: int = 11
    rounding: str = "single"
    gain: float = 1.0
    extreme: bool = False
    full_cell_table: bool = False
    seed: int = 0


def choices(**fixed: Any) -> st.SearchStrategy[Choice]:
    sizes = st.builds(
        Sizes, st.integers(0, 4), st.integers(1, 3), st.sampled_from([1, 2, 5, 9]), st.sampled_from([1, 2, 5])
    )
    drawn = {
        "sizes": sizes,
        "x": st.sampled_from(["i8", "i16"]),
        "h": st.sampled_from(["i8", "i16"]),
        "weight": st.sampled_from(["i8", "i4"]),
        "zero_points": st.tuples(*[st.sampled_from([-128, -7, 0, 127])] * 2),
        "weight_zero_point": st.sampled_from([0, 0, 3]),
        "fraction": st.integers(9, 15),
        "rounding": st.sampled_from(ROUNDINGS),
        "gain": st.sampled_from([0.25, 2.0, 12.0]),
        "extreme": st.booleans(),
        "full_cell_table": st.booleans(),
        "seed": st.integers(0, 2**32 - 1),
    }
    return st.builds(Choice, **{**drawn, **{name: st.just(value) for name, value in fixed.items()}})


def power_of_two(value: float) -> float:
    return float(2.0 ** np.round(np.log2(value)))


def activation(dtype: str, shape: tuple[int, ...], span: float, zero_point: int) -> TensorType:
    """Codes that span -span..span; i16 codes are symmetric."""
    low, high = bounds(dtype)
    scale = power_of_two(2 * span / (high - low))
    return TensorType(dtype, shape, Quant((scale,), zero_point if dtype == "i8" else 0))


def weight_type(
    random: np.random.Generator, choice: Choice, shape: tuple[int, int], operand: TensorType
) -> TensorType:
    """Per-channel scales under which full codes sum to about `gain` over a row.

    pot_shift knows no left shift, so there the products must not be coarser than the gates.
    """
    _, high = bounds(choice.weight)
    scales = choice.gain / (high * np.sqrt(shape[1])) * random.uniform(0.6, 1.6, shape[0])
    if choice.rounding == "pot_shift":
        scales = np.array([min(power_of_two(s), lstm_numbers.GATE_SCALE / operand.scale) for s in scales])
    return TensorType(choice.weight, shape, Quant(tuple(scales.tolist()), choice.weight_zero_point, 0))


def codes(random: np.random.Generator, kind: TensorType, extreme: bool) -> np.ndarray:
    """Codes of the whole range, or only its two ends."""
    low, high = bounds(kind.dtype)
    drawn = random.choice([low, high], kind.shape) if extreme else random.integers(low, high + 1, kind.shape)
    return drawn.astype(storage(kind.dtype))


def real_types(choice: Choice) -> Signature:
    """The signature that `prepare` is given."""
    random, sizes = np.random.default_rng(choice.seed), choice.sizes
    state = (sizes.batch, sizes.units)
    x = activation(choice.x, (sizes.frames, sizes.batch, sizes.width), 4.0, choice.zero_points[0])
    h = activation(choice.h, state, 1.0, choice.zero_points[1])
    c = TensorType("i16", state, Quant((2.0**-choice.fraction,)))
    rows = 4 * sizes.units
    layers = [weight_type(random, choice, (rows, operand.shape[-1]), operand) for operand in (x, h)]  # type: ignore[arg-type]
    kinds = (x, h, c, *layers, TensorType("f32", (rows,)))
    return Signature(kinds, (h.with_shape((sizes.frames, *state)), h, c))


def integer_node(choice: Choice) -> tuple[Signature, Arrays]:
    """An integer node and all its arrays, states anywhere in their range."""
    random, given_types = np.random.default_rng(choice.seed + 1), real_types(choice)
    arrays = [codes(random, kind, choice.extreme) for kind in given_types.inputs[:5] if kind is not None]
    bias = random.normal(0, choice.gain / 2, 4 * choice.sizes.units)
    prepared = LSTM.prepare(given_types, (None, None, None, *arrays[3:], bias), Numerics(choice.rounding))  # type: ignore[arg-type]
    return complete(choice, given_types, prepared, arrays)


def complete(
    choice: Choice, given_types: Signature, prepared: Prepared, arrays: list[np.ndarray]
) -> tuple[Signature, Arrays]:
    """The integer form out of what `prepare` made."""
    made = [operand for operand in prepared.operands if not isinstance(operand, int)]
    kinds, values = [constant.type for constant in made], [constant.value for constant in made]
    if choice.full_cell_table:
        reals = np.tanh(np.arange(-32768, 32768) * 2.0**-choice.fraction)
        values.append(np.clip(np.rint(reals * 32768), -32768, 32767).astype(np.int16))
        kinds.append(TensorType("i16", (65536,)))
    signature = Signature((*given_types.inputs[:5], *kinds), given_types.outputs, prepared.attrs)
    return signature, (*arrays, *values)


def assert_equal(found: Arrays, expected: Arrays) -> None:
    for name, one, other in zip(("y", "h", "c"), found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, name)


@given(choices())
def test_fast_equals_reference(choice: Choice) -> None:
    signature, arrays = integer_node(choice)
    before = [array.copy() for array in arrays]
    assert_equal(LSTM.fast(signature, *arrays), LSTM.reference(signature, *arrays))
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy, "a kernel wrote into its operand")


@pytest.mark.parametrize("fraction", range(9, 16))
@pytest.mark.parametrize("rounding", ["single", "double"])
def test_fast_equals_reference_at_every_cell_format(fraction: int, rounding: str) -> None:
    """Random weights of three gains, and all codes at the ends of their ranges."""
    for gain in (0.25, 2.0, 12.0):
        for extreme in (False, True):
            sizes = Sizes(6, 2, 5, 5)
            signature, arrays = integer_node(
                Choice(sizes, fraction=fraction, rounding=rounding, gain=gain, extreme=extreme)
            )
            assert_equal(LSTM.fast(signature, *arrays), LSTM.reference(signature, *arrays))


@given(choices(), st.integers(1, 3))
def test_chunks_equal_the_whole(choice: Choice, size: int) -> None:
    choice = replace(choice, sizes=replace(choice.sizes, frames=7))
    signature, (x, h, c, *constants) = integer_node(choice)
    whole = LSTM.fast(signature, x, h, c, *constants)
    pieces = []
    for start in range(0, len(x), size):
        y, h, c = LSTM.fast(signature, x[start : start + size], h, c, *constants)
        pieces.append(y)
    assert_equal((np.concatenate(pieces), h, c), whole)


@given(choices())
def test_rows_of_a_batch_are_independent(choice: Choice) -> None:
    signature, (x, h, c, *constants) = integer_node(choice)
    whole = LSTM.fast(signature, x, h, c, *constants)
    for b in range(choice.sizes.batch):
        one = LSTM.fast(signature, x[:, b : b + 1], h[b : b + 1], c[b : b + 1], *constants)
        assert_equal(one, (whole[0][:, b : b + 1], whole[1][b : b + 1], whole[2][b : b + 1]))


def test_no_frames_return_the_states() -> None:
    for call in (LSTM.fast, LSTM.reference):
        signature, arrays = integer_node(Choice(Sizes(frames=0)))
        y, h, c = call(signature, *arrays)
        assert y.shape == (0, 2, 3)
        np.testing.assert_array_equal(h, arrays[1])
        np.testing.assert_array_equal(c, arrays[2])
    assert recurrent.count_cell_saturations(signature, *arrays) == 0


# Its own graph of primitives


@given(choices())
def test_fused_equals_the_graph_of_primitives(choice: Choice) -> None:
    choice = replace(choice, sizes=replace(choice.sizes, frames=3))
    signature, (x, h, c, *constants) = integer_node(choice)
    graph = LSTM.primitives(signature)
    assert graph is not None
    names = [port.name for port in verify(graph).inputs]
    assert names[:6] == ["x", "h", "c", "w_input", "w_recurrent", "bias"]
    y, last_h, last_c = LSTM.fast(signature, x, h, c, *constants)
    for t in range(len(x)):
        values = dict(zip(names, (x[t], h, c, *constants), strict=True))
        step = interpret.run(graph, values, mode="reference").outputs
        h, c = step["h_next"], step["c_next"]
        np.testing.assert_array_equal(h, y[t])
    np.testing.assert_array_equal(h, last_h)
    np.testing.assert_array_equal(c, last_c)


def test_primitives_of_symbolic_batch_and_time_are_one_frame() -> None:
    signature, _ = integer_node(Choice())
    x, h, c, *rest = (kind for kind in signature.inputs if kind is not None)
    x, h, c = x.with_shape(("T", "B", 4)), h.with_shape(("B", 3)), c.with_shape(("B", 3))
    graph = LSTM.primitives(Signature((x, h, c, *rest), signature.outputs, signature.attrs))
    assert graph is not None
    verify(graph)
    assert graph.types["x"].shape == ("B", 4)
    assert graph.types["c_next"] == c


# Known answers


def still(fraction: int, rounding: str, c0: int, bias: tuple[float, float, float, float]) -> tuple[Any, ...]:
    """One unit with all weights 0: only the bias of its gates i, f, g, o speaks."""
    choice = Choice(Sizes(4, 1, 1, 1), fraction=fraction, rounding=rounding, zero_points=(9, -5))
    given_types = real_types(choice)
    weights = np.zeros((4, 1), np.int8)
    prepared = LSTM.prepare(
        given_types, (None, None, None, weights, weights, np.array(bias)), Numerics(rounding)  # type: ignore[arg-type]
    )  # fmt: skip
    arrays = [np.full((4, 1, 1), 9, np.int8), np.full((1, 1), -5, np.int8), np.full((1, 1), c0, np.int16)]
    return complete(choice, given_types, prepared, [*arrays, weights, weights])


@pytest.mark.parametrize(
    ("rounding", "c0", "halved"),
    [("single", 2001, 1001), ("single", -2001, -1000), ("double", 2001, 1001), ("double", -2001, -1001)],
)
def test_a_cell_of_zero_weights_halves(rounding: str, c0: int, halved: int) -> None:
    """f = 2^14 exactly, so f*c / 2^15 is a tie: half up under single, half away under double."""
    signature, arrays = still(11, rounding, c0, (0.0, 0.0, 0.0, 0.0))
    for call in (LSTM.fast, LSTM.reference):
        _, _, c = call(signature, arrays[0][:1], *arrays[1:])
        assert c.item() == halved


def test_h_of_a_still_cell_is_its_zero_point() -> None:
    signature, arrays = still(11, "single", 0, (0.0, 0.0, 0.0, 0.0))
    y, h, c = LSTM.fast(signature, *arrays)
    assert set(y.ravel().tolist()) == {-5}
    assert (h.item(), c.item()) == (-5, 0)


def test_saturations_of_the_cell_are_counted() -> None:
    """i, f, g near 1 and n = 15: the first frame fits (0.998), every later one does not."""
    signature, arrays = still(15, "single", 0, (7.9, 7.9, 7.9, 7.9))
    assert recurrent.count_cell_saturations(signature, *arrays) == 3
    signature, arrays = still(15, "single", 0, (7.9, 7.9, -7.9, 7.9))
    assert recurrent.count_cell_saturations(signature, *arrays) == 3
    signature, arrays = still(12, "single", 0, (7.9, 7.9, 7.9, 7.9))
    assert recurrent.count_cell_saturations(signature, *arrays) == 0


# Against the reals


def dequantised(signature: Signature, arrays: Arrays) -> list[np.ndarray]:
    """What the codes of x, h, c and both weights stand for, in float64."""
    kinds = [kind for kind in signature.inputs[:5] if kind is not None and kind.quant is not None]
    return [
        (array.astype(np.float64) - kind.zero_point) * kind.quant.scales(array.ndim)  # type: ignore[union-attr]
        for kind, array in zip(kinds, arrays, strict=False)
    ]


def error_bounds(choice: Choice, signature: Signature, reals: list[np.ndarray], bias: np.ndarray) -> Arrays:
    """Largest |integer - real| of h [T,B,H] and c [T,B,H], carried from frame to frame.

    Half a step per requantisation; tables within 1.3 and 3.8 of 2^-15 (contract, section 4), which
    the final rounding to Q0.15 is part of; a bias within half a step. Errors travel through
    sigmoid with slope 1/4, through tanh with slope 1, through products by both factors. Holds while
    nothing saturates.
    """
    x, h, c, w_input, w_recurrent = reals
    x_type, h_type, kind = signature.input(0), signature.input(1), signature.input(3)
    assert kind.quant is not None
    bias_error = x_type.scale * np.array(kind.quant.scale) / 2
    units, step = h.shape[1], 2.0**-choice.fraction
    h_error, c_error = np.zeros_like(h), np.zeros_like(c)
    found = []
    for frame in x:
        a = frame @ w_input.T + h @ w_recurrent.T + bias
        a_error = 2.0**-12 + bias_error + h_error @ np.abs(w_recurrent).T + 1e-6
        i, f, g, o = np.split(a, 4, axis=1)
        i, f, g, o = *(1 / (1 + np.exp(-v)) for v in (i, f)), np.tanh(g), 1 / (1 + np.exp(-o))
        slopes, tables = np.repeat([0.25, 0.25, 1, 0.25], units), np.repeat([1.3, 1.3, 3.8, 1.3], units)
        di, df, dg, do = np.split(a_error * slopes + tables * 2.0**-15, 4, axis=1)
        c_error = np.abs(c) * df + (f + df) * c_error + np.abs(g) * di + (i + di) * dg + step
        c = f * c + i * g
        d_error = c_error + (2.0**-13 if choice.fraction > 12 else 0) + 3.8 * 2.0**-15
        h_error = d_error * (o + do) + np.abs(np.tanh(c)) * do + h_type.scale / 2
        h = np.tanh(c) * o
        found.append((h_error, c_error))
    return tuple(np.stack(errors) for errors in zip(*found, strict=True))


@pytest.mark.parametrize("fraction", [12, 13, 14])
@pytest.mark.parametrize(("x", "h"), [("i8", "i8"), ("i16", "i16"), ("i16", "i8"), ("i8", "i16")])
def test_integers_stay_near_the_reals(x: str, h: str, fraction: int) -> None:
    """Eight frames from h0 = z_h, c0 = 0; the bound is that of `error_bounds`, value by value."""
    for seed in range(6):
        choice = Choice(Sizes(8, 2, 6, 5), x, h, zero_points=(-11, 4), fraction=fraction, gain=0.5, seed=seed)
        signature, (codes_x, *constants) = integer_node(choice)
        start = np.full((2, 5), signature.input(1).zero_point, storage(h)), np.zeros((2, 5), np.int16)
        constants[:2] = start
        reals = dequantised(signature, (codes_x, *constants))
        bias = np.random.default_rng(seed).normal(0, 0.25, 20)
        given_types = Signature((*signature.inputs[:5], TensorType("f32", (20,))), signature.outputs)
        values = (None, None, None, *constants[2:4], bias)
        prepared = LSTM.prepare(given_types, values, Numerics())
        node, arrays = complete(choice, given_types, prepared, [codes_x, *constants[:4]])
        assert recurrent.count_cell_saturations(node, *arrays) == 0
        y_codes, _, c_codes = LSTM.fast(node, *arrays)
        y, _, c = LSTM.real(np, {}, *reals, bias)
        h_error, c_error = error_bounds(choice, node, reals, bias)
        h_type = node.input(1)
        assert np.all(np.abs((y_codes.astype(int) - h_type.zero_point) * h_type.scale - y) <= h_error)
        assert np.all(np.abs(c_codes * 2.0**-fraction - c) <= c_error[-1])


# Over the reals


def real_operands(frames: int, seed: int = 0, dtype: type = np.float64) -> list[np.ndarray]:
    random, units = np.random.default_rng(seed), 5
    shapes = ((frames, 2, 3), (2, units), (2, units), (4 * units, 3), (4 * units, units), (4 * units,))
    return [random.normal(0, 0.7, shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("with_bias", [True, False])
def test_real_is_the_lstm_of_torch(with_bias: bool) -> None:
    torch = pytest.importorskip("torch")
    operands = real_operands(6)[: 6 if with_bias else 5]
    module = torch.nn.LSTM(3, 5, bias=with_bias).double()
    parts = [*operands[3:], *([np.zeros(20)] if with_bias else [])]
    for parameter, value in zip(module.parameters(), parts, strict=True):
        parameter.data = torch.from_numpy(value)
    x, h, c = (torch.from_numpy(v) for v in operands[:3])
    expected_y, (expected_h, expected_c) = module(x, (h[None], c[None]))
    expected = [v.detach().numpy() for v in (expected_y, expected_h[0], expected_c[0])]
    of_torch = LSTM.real(torch, {}, *map(torch.from_numpy, operands))
    of_numpy = LSTM.real(np, {}, *operands)
    for made, wanted in ((of_numpy, expected), ([v.numpy() for v in of_torch], expected)):
        for one, other in zip(made, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_real_has_a_gradient_in_torch() -> None:
    torch = pytest.importorskip("torch")
    operands = [torch.from_numpy(v).requires_grad_() for v in real_operands(3)]
    assert torch.autograd.gradcheck(lambda *v: LSTM.real(torch, {}, *v), operands)


def test_real_over_no_frames_returns_the_states() -> None:
    torch = pytest.importorskip("torch")
    operands = real_operands(0, dtype=np.float32)
    for y, h, c in (LSTM.real(np, {}, *operands), LSTM.real(torch, {}, *map(torch.from_numpy, operands))):
        assert tuple(y.shape) == (0, 2, 5)
        np.testing.assert_array_equal(np.asarray(h), operands[1])
        np.testing.assert_array_equal(np.asarray(c), operands[2])


def test_real_keeps_float32() -> None:
    assert {v.dtype.name for v in LSTM.real(np, {}, *real_operands(2, dtype=np.float32))} == {"float32"}


# Shapes, counts, refusals


def reals(*shapes: tuple[int | str, ...]) -> tuple[TensorType, ...]:
    return tuple(TensorType("f32", shape) for shape in shapes)


def test_infer_keeps_symbolic_time_and_batch() -> None:
    operands = reals(("T", "B", 7), ("B", 3), ("B", 3), (12, 7), (12, 3), (12,))
    assert LSTM.infer(operands, {}) == (("T", "B", 3), ("B", 3), ("B", 3))
    assert LSTM.infer(operands[:5], {}) == LSTM.infer((*operands[:5], None), {})


@pytest.mark.parametrize(
    ("position", "shape", "name"),
    [
        (1, (1, 3), "h0"),
        (2, ("B", 4), "c0"),
        (3, (12, 6), "w_input"),
        (4, (12, 4), "w_recurrent"),
        (5, (3,), "bias"),
    ],
)
def test_infer_names_the_operand_that_does_not_fit(position: int, shape: Any, name: str) -> None:
    operands = list(reals(("T", "B", 7), ("B", 3), ("B", 3), (12, 7), (12, 3), (12,)))
    operands[position] = TensorType("f32", shape)
    with pytest.raises(OpError, match=f"{name} has shape"):
        LSTM.infer(tuple(operands), {})


@pytest.mark.parametrize(
    ("operands", "message"),
    [
        (reals(("B", 7), ("B", 3), ("B", 3), (12, 7), (12, 3)), "takes x"),
        (reals(("T", "B", 7), ("B", "H"), ("B", "H"), (12, 7), (12, 3)), "whole number of units"),
        (reals(("T", "B", 7), ("B", 3), ("B", 3), (12, 7)), "w_recurrent is missing"),
    ],
)
def test_infer_refuses_what_is_no_lstm(operands: tuple[TensorType, ...], message: str) -> None:
    with pytest.raises(OpError, match=message):
        LSTM.infer(operands, {})


def test_work_counts_products_and_lookups() -> None:
    signature, _ = integer_node(Choice(Sizes(4, 2, 7, 3)))
    steps = 4 * 2 * 3
    assert LSTM.work(signature) == Work(steps * 4 * (7 + 3), 9 * steps, 5 * steps)


def prepare_with(choice: Choice = Choice(), **changes: Any) -> Prepared:
    """Prepare a node of full weight codes, some of its operand types changed by position."""
    kinds = list(real_types(choice).inputs)
    for position, kind in changes.pop("kinds", {}).items():
        kinds[position] = kind
    signature = replace(real_types(choice), inputs=tuple(kinds))
    rows = 4 * choice.sizes.units
    weights = [np.full((rows, n), 127, np.int8) for n in (choice.sizes.width, choice.sizes.units)]
    values = [None, None, None, *weights, np.zeros(rows)]
    for position, value in changes.pop("values", {}).items():
        values[position] = value
    return LSTM.prepare(signature, tuple(values), Numerics(choice.rounding))  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [2.0**-8, 2.0**-16, 0.7 * 2.0**-11])
def test_the_cell_scale_must_be_a_power_of_two_in_reach(scale: float) -> None:
    with pytest.raises(LoweringError, match="the cell must be i16"):
        prepare_with(kinds={2: TensorType("i16", (2, 3), Quant((scale,)))})


def test_results_must_keep_the_codes_of_their_states() -> None:
    coarse = TensorType("i16", (2, 3), Quant((2.0**-10,)))
    with pytest.raises(LoweringError, match="result c is i16"):
        prepare_with(kinds={2: coarse})
    with pytest.raises(LoweringError, match="result y is i8"):
        prepare_with(kinds={1: TensorType("i8", (2, 3), Quant((0.5,)))})


def test_weights_must_be_constants() -> None:
    with pytest.raises(LoweringError, match="must be constants"):
        prepare_with(values={4: None})


def test_an_accumulator_that_could_wrap_is_refused() -> None:
    """2^17 inputs of 127 * 255 reach beyond 2^31."""
    choice = Choice(Sizes(1, 1, 2**17, 1), zero_points=(127, 0))
    with pytest.raises(LoweringError, match="w_input"):
        prepare_with(choice)
    with pytest.raises(LoweringError, match="w_input"):
        prepare_with(values={5: np.full(12, 1e9)})


def test_a_gate_multiplier_beyond_two_is_exact() -> None:
    """s_x * s_w / 2^-12 of up to 2^6 needs a left shift; the accumulator leaves room for it."""
    x = TensorType("i8", (3, 2, 4), Quant((0.5,)))
    w_input = TensorType("i8", (12, 4), Quant(tuple(np.geomspace(1e-5, 0.03, 12).tolist()), 0, 0))
    made = {
        o.name: o.value for o in prepare_with(kinds={0: x, 3: w_input}).operands if not isinstance(o, int)
    }
    assert made["input_shift"].max() == 6
    stored = made["input_multiplier"] * 2.0 ** (made["input_shift"] - 31.0)
    np.testing.assert_allclose(stored, 0.5 * np.geomspace(1e-5, 0.03, 12) * 4096, rtol=2.0**-30)


def test_a_gate_multiplier_out_of_reach_is_refused() -> None:
    x = TensorType("i8", (3, 2, 4), Quant((0.5,)))
    w_input = TensorType("i8", (12, 4), Quant((9.0,)))
    with pytest.raises(LoweringError, match="left shift of 15"):
        prepare_with(kinds={0: x, 3: w_input})
    w_input = TensorType("i8", (12, 4), Quant((2.0**-10,)))
    with pytest.raises(LoweringError, match="at most 1 is exact"):
        prepare_with(Choice(rounding="pot_shift"), kinds={0: x, 3: w_input})


def test_one_scale_for_all_channels_is_admitted() -> None:
    w_input = TensorType("i8", (12, 4), Quant((0.01,)))
    made = {o.name: o.value for o in prepare_with(kinds={3: w_input}).operands if not isinstance(o, int)}
    assert made["input_multiplier"].shape == (12,)
    assert len(set(made["input_multiplier"].tolist())) == 1


def test_states_and_results_share_their_codes() -> None:
    assert LSTM.ties == ((1, ~0, ~1), (2, ~2))
    assert LSTM.demands == {2: "i16 power_of_two"}
    assert "i8 i8 i16 i8 i8 i32 i32 i8 i32 i8 i16 i16 i32 i8 -> i8 i8 i16" in LSTM.forms
    assert "i16 i16 i16 i8 i8 i48 i32 i8 i32 i8 i16 i16 i32 i8 -> i16 i16 i16" in LSTM.forms
