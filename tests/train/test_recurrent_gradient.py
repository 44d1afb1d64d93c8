"""Gradients of recurrent layers over their integers: against primitives, reals, torch and known cases."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_nodes import GRU, LSTM, Arrays, Choice, Sizes, choices, dequantised, gru_node, lstm_node
from torch import Tensor, nn

from nnaq.interpret import kernel
from nnaq.ir.graph import Graph
from nnaq.ir.op import Op, Signature, lookup
from nnaq.ir.types import Palette
from nnaq.kernels import gru_numbers, lstm_numbers
from nnaq.kernels.recurrent import count_cell_saturations, run_with_sums
from nnaq.train import gru_trace, lstm_trace
from nnaq.train.codes import reals_of
from nnaq.train.nodes import Ran, results_of
from nnaq.train.recurrent import gradients, supports

NODES = {"lstm": lstm_node, "gru": gru_node}
OPS = {"lstm": LSTM, "gru": GRU}


pytestmark = pytest.mark.usefixtures("one_thread")


def named(op: str, signature: Signature, arrays: Arrays) -> dict[str, np.ndarray]:
    if op == "lstm":
        return lstm_numbers.by_name(signature.attrs, arrays)
    return {name: array for name, array in gru_numbers.by_name(arrays).items() if array is not None}


def meanings(op: str, signature: Signature, arrays: Arrays, dtype=torch.float32) -> list[Tensor | None]:
    """What the codes of a node stand for, by the positions of the real form; a bias in its own steps."""
    found = {p: torch.tensor(real, dtype=dtype) for p, real in dequantised(signature, arrays).items()}
    pairs = {5: (0, 3)} if op == "lstm" else {4: (0, 2), 5: (1, 3)}
    for position, (x, weight) in pairs.items():
        found[position] = torch.tensor(bias(signature, arrays[position], x, weight), dtype=dtype)
    return [found.get(position) for position in range(7 if op == "lstm" else 6)]


def bias(signature: Signature, codes: np.ndarray, x: int, weight: int) -> np.ndarray:
    steps = signature.input(x).scale * signature.input(weight).quant.scales(2)[:, 0]
    return codes.astype(np.float64) * steps


def upstream(made: Arrays, seed: int = 0, dtype=torch.float32) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(array.shape, generator=random, dtype=dtype) for array in made]


def assert_near(found: Tensor, expected: Tensor, relative: float, absolute: float, who: Any = "") -> None:
    """Within `relative` times the largest entry, and `absolute`."""
    assert found.shape == expected.shape
    if expected.numel():
        worst, largest = float((found - expected).abs().max()), float(expected.abs().max())
        assert worst <= relative * largest + absolute, (who, worst, largest)


def ran(op: str, choice: Choice, dtype=torch.float32) -> tuple[Any, ...]:
    """A node, the reals of its operands, its results and gradients for them; then what `gradients` makes."""
    signature, arrays = NODES[op](choice)
    operands, made = meanings(op, signature, arrays, dtype), OPS[op].fast(signature, *arrays)
    given = upstream(made, choice.seed, dtype)
    return signature, arrays, operands, made, given, gradients(op, signature, arrays, made, operands, given)


# The integers that the gradient is taken at


@given(choices(normed=False))
@settings(max_examples=60)
def test_the_trace_of_an_lstm_ends_at_the_codes_of_its_node(choice: Choice) -> None:
    signature, arrays = lstm_node(choice)
    y, _, c = LSTM.fast(signature, *arrays)
    found = lstm_trace.trace(signature, arrays, y)
    states = found.m if found.h is None else found.h
    np.testing.assert_array_equal(states.values, y)
    if len(y):
        np.testing.assert_array_equal(found.c.values[-1], c)
    assert found.c.clipped.sum() == count_cell_saturations(signature, *arrays)


@given(choices(normed=False))
@settings(max_examples=40)
def test_sums_that_an_lstm_kept_are_those_that_are_made_again(choice: Choice) -> None:
    signature, arrays, operands, made, given_, found = ran("lstm", choice)
    codes, sums = run_with_sums(signature, *arrays)
    for one, other in zip(codes, made, strict=True):
        np.testing.assert_array_equal(one, other)
    again = gradients("lstm", signature, arrays, made, operands, given_, sums)
    for one, other in zip(again, found, strict=True):
        assert one is other is None or torch.equal(one, other)


@given(choices())
@settings(max_examples=40)
def test_the_trace_of_a_gru_makes_the_codes_of_its_node(choice: Choice) -> None:
    signature, arrays = gru_node(choice)
    y, _ = GRU.fast(signature, *arrays)
    np.testing.assert_array_equal(gru_trace.trace(signature, arrays, y).h.values, y)


# Against the graph of primitives, node by node


def by_primitives(
    op: Op, signature: Signature, arrays: Arrays, operands: list[Tensor | None], given: list[Tensor]
) -> list[Tensor | None]:
    """The gradients of one frame's primitives, each emulated as any node is, frame after frame."""
    graph, state_count = op.primitives(signature), len(signature.outputs) - 1
    leaves = [None if o is None else o.detach().requires_grad_() for o in operands]
    states = [(arrays[1 + k], leaves[1 + k]) for k in range(state_count)]
    made = []
    for t in range(len(arrays[0])):
        frame = [(arrays[0][t], leaves[0][t]), *states]
        states = step(graph, op.name, signature, arrays, leaves, frame)
        made.append(states[0][1])
    last = [real for _, real in states]
    results = [torch.stack(made) if made else torch.zeros(given[0].shape), *last]
    asked = [leaf for leaf in leaves if leaf is not None]
    found = iter(torch.autograd.grad(results, asked, given, materialize_grads=True))
    return [None if leaf is None else next(found) for leaf in leaves]


def step(
    graph: Graph, op: str, signature: Signature, arrays: Arrays, leaves: list[Tensor | None], frame: list[Any]
) -> list[tuple[np.ndarray, Tensor]]:
    """The states after one frame, as codes and as reals with gradients."""
    codes = {**graph.constants, **named(op, signature, arrays)}
    reals = dict(
        zip(named(op, signature, arrays), (leaf for leaf in leaves if leaf is not None), strict=False)
    )
    for name, (array, real) in zip(("x", "h", "c"), frame, strict=False):
        codes[name], reals[name] = array, real
    for node in graph.nodes:
        made = kernel(graph, node, "fast")(*(codes[v] for v in node.inputs))
        count = len(node.inputs) if node.op == "concat" else len(lookup(node.op).operands)
        operands = [meaning(graph, value, reals) for value in node.inputs[:count]]
        attrs = {k: v for k, v in node.attrs.items() if k not in ("rounding",)}
        if node.op == "clip":  # its limits are codes
            attrs = {k: v * graph.types[node.inputs[0]].scale for k, v in attrs.items()}
        tensors = [tuple(map(torch.tensor, arrays)) for arrays in ((codes[v] for v in node.inputs), made)]
        emulated = Ran(node.op, attrs, graph.signature(node), *tensors)
        codes.update(zip(node.outputs, made, strict=True))
        found = results_of(emulated, operands, [None] * len(made))
        reals.update(zip(node.outputs, found, strict=True))
    return [(codes[port.name], reals[port.name]) for port in graph.outputs]


def meaning(graph: Graph, value: str, reals: dict[str, Tensor]) -> Tensor:
    """A value of the primitives; whole factors that only change a format, and absent biases, are 1 and 0."""
    if value in reals:
        return reals[value]
    if value == "state_factor":
        return torch.ones(())
    if graph.types[value].quant is None:
        assert not graph.constants[value].any()
        return torch.zeros(graph.types[value].shape)
    return reals_of(torch.tensor(graph.constants[value]), graph.types[value])


NEAREST = st.sampled_from(["single", "double", "half_even", "half_up_shift"])
SIZES = st.builds(
    Sizes, st.integers(1, 5), st.integers(1, 3), st.sampled_from([1, 2, 5, 9]), st.sampled_from([1, 2, 5])
)


@pytest.mark.parametrize("op", OPS)
@given(choices(normed=False), NEAREST, SIZES)
@settings(max_examples=25)
def test_the_gradient_is_that_of_the_primitives_node_by_node(
    op: str, choice: Choice, rounding: str, sizes: Sizes
) -> None:
    """The same slopes at the same values, in float32 both times; only sums are in another order.

    1 - tanh^2 of float32 is off by up to 2^-22, whatever its size; weights up to 19 (gain 12, one column)
    and gradients of about 3 make 1e-5 of it. Of a tanh that rounds to 1 the node by node way asks whether
    its code is the last, which directed roundings may miss: hence the roundings to nearest.
    """
    choice = replace(choice, sizes=sizes, rounding=rounding)
    signature, arrays, operands, _, given, found = ran(op, choice)
    expected = by_primitives(OPS[op], signature, arrays, operands, given)
    for position, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert (one is None) == (other is None)
        if one is not None:
            assert_near(one, other, 1e-4, 1e-5, position)


# Against the reals, on grids so fine that the integers follow them

FINE = Choice(Sizes(20, 3, 8, 6), x="i16", h="i16", fraction=12, contract=(("lut_entries", 65536),))
VARIANTS = {
    "lstm": ("lstm", FINE),
    "cifg": ("lstm", replace(FINE, cifg=True)),
    "projection": ("lstm", replace(FINE, projection=4)),
    "full cell table": ("lstm", replace(FINE, full_cell_table=True)),
    "gru": ("gru", FINE),
    "reset first": ("gru", replace(FINE, linear_before_reset=False)),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("op", "choice"), VARIANTS.values(), ids=VARIANTS)
def test_on_fine_grids_the_gradient_is_that_of_the_reals(op: str, choice: Choice, seed: int) -> None:
    """Gates are on a grid of 2^-12 and values on 2^-15: over 20 frames the gradients stay within 2%."""
    signature, _, operands, _, given, found = ran(op, replace(choice, seed=seed), torch.float64)
    leaves = [None if o is None else o.clone().requires_grad_() for o in operands]
    asked = [leaf for leaf in leaves if leaf is not None]
    expected = torch.autograd.grad(OPS[op].real(torch, signature.attrs, *leaves), asked, given)
    for one, other in zip([g for g in found if g is not None], expected, strict=True):
        assert one.dtype == torch.float64
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), 0) > 0.999
        assert (one - other).norm() <= 0.02 * other.norm()


@pytest.mark.parametrize("op", ["lstm", "gru"])
def test_on_fine_grids_the_gradient_is_that_of_torchs_own_layer(op: str) -> None:
    _, _, operands, _, given, found = ran(op, FINE)
    x, *states = operands[: 3 if op == "lstm" else 2]
    rest = operands[len(states) + 1 :]
    layer = (nn.LSTM if op == "lstm" else nn.GRU)(x.shape[2], states[0].shape[1])
    with torch.no_grad():
        layer.weight_ih_l0.copy_(rest[0])
        layer.weight_hh_l0.copy_(rest[1])
        layer.bias_ih_l0.copy_(rest[2])
        layer.bias_hh_l0.copy_(torch.zeros_like(rest[2]) if op == "lstm" else rest[3])
    first = tuple(state[None].contiguous() for state in states)
    y, last = layer(x.requires_grad_(), first if op == "lstm" else first[0])
    results = [y, *(state[0] for state in (last if op == "lstm" else (last,)))]
    torch.autograd.backward(results, given)
    expected = [x.grad, layer.weight_ih_l0.grad, layer.weight_hh_l0.grad, layer.bias_ih_l0.grad]
    start = 1 + len(states)
    for one, other in zip([found[0], *found[start : start + 3]], expected, strict=True):
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), 0) > 0.999


@pytest.mark.parametrize(("op", "choice"), VARIANTS.values(), ids=VARIANTS)
def test_the_gradient_tells_how_the_real_layer_changes(op: str, choice: Choice) -> None:
    """Along a random direction of all operands at once; central differences of the float64 layer.

    Their own error is of the order of the step squared, 1e-8; the 2% are those of the fine grids.
    """
    signature, _, operands, _, given, found = ran(op, choice, torch.float64)
    random = torch.Generator().manual_seed(1)
    for _ in range(4):
        ways = [None if o is None else torch.randn(o.shape, generator=random).double() for o in operands]
        ends = []
        for h in (1e-4, -1e-4):
            moved = [None if o is None else (o + h * w).numpy() for o, w in zip(operands, ways, strict=True)]
            results = OPS[op].real(np, signature.attrs, *moved)
            ends.append(sum(float((g.numpy() * r).sum()) for g, r in zip(given, results, strict=True)))
        pairs = [(g, w) for g, w in zip(found, ways, strict=True) if g is not None]
        told = sum(float((g * w).sum()) for g, w in pairs)
        size = sum(float(g.norm() ** 2) for g, _ in pairs) ** 0.5
        assert abs(told - (ends[0] - ends[1]) / 2e-4) <= 0.02 * size


# Known cases


@pytest.mark.parametrize("activations", ["i8", "i16"])
def test_a_gate_that_saturates_gets_no_gradient(activations: str) -> None:
    """Gate g's bias drives W_x x + b beyond 8, and so its sum with what h adds wherever that is positive."""
    types = Choice(Sizes(6, 2, 4, 3), x=activations, h=activations, weight="i8")
    signature, arrays = lstm_node(types)
    named_arrays = named("lstm", signature, arrays)
    steps = signature.input(0).scale * signature.input(3).quant.scales(2)[:, 0]
    driven = named_arrays["bias"].copy()
    rows = slice(6, 9)  # of g
    driven[rows] = np.rint(100.0 / steps[rows])
    arrays = (*arrays[:5], driven, *arrays[6:])
    operands, made = meanings("lstm", signature, arrays), LSTM.fast(signature, *arrays)
    found = gradients("lstm", signature, arrays, made, operands, upstream(made))
    inside = lstm_trace.trace(signature, arrays, made[0])
    assert inside.driven.clipped[..., rows].all()
    for position in (3, 5):
        assert (found[position][rows] == 0).all()
        assert (found[position][:6] != 0).any() and (found[position][9:] != 0).all()
    assert (inside.a.clipped[..., rows] == (inside.carried.values[..., rows] > 0)).all()


def test_a_cell_that_saturates_hands_no_gradient_on() -> None:
    """Frames of g = i = f = 1 carry c beyond ±1 (fraction 15): nothing before it has a gradient."""
    signature, arrays = lstm_node(Choice(Sizes(4, 1, 2, 1), fraction=15, seed=3))
    bias_codes = np.rint(7.9 / (signature.input(0).scale * signature.input(3).quant.scales(2)[:, 0]))
    zero_x, zero_h = (signature.input(p).zero_point for p in (0, 1))
    fixed = [np.full_like(arrays[0], zero_x), np.full_like(arrays[1], zero_h), np.full_like(arrays[2], 30000)]
    weights = [np.zeros_like(arrays[3]), np.zeros_like(arrays[4])]
    arrays = (*fixed, *weights, bias_codes.astype(arrays[5].dtype), *arrays[6:])
    operands, made = meanings("lstm", signature, arrays), LSTM.fast(signature, *arrays)
    given = [torch.zeros(made[0].shape), torch.zeros(made[1].shape), torch.ones(made[2].shape)]
    found = gradients("lstm", signature, arrays, made, operands, given)
    assert lstm_trace.trace(signature, arrays, made[0]).c.clipped.all()
    assert all((gradient == 0).all() for gradient in found if gradient is not None)


@pytest.mark.parametrize(("op", "span"), [("lstm", 0.1), ("gru", 0.1)])
def test_a_state_that_saturates_stops_the_gradient_there(op: str, span: float) -> None:
    """h reaches ±0.1 only: x of a frame whose states all saturate has no gradient but through the cell."""
    choice = Choice(Sizes(6, 2, 4, 2), h_span=span, gain=12.0, seed=5)
    signature, arrays, operands, made, _, _ = ran(op, choice)
    trace = (lstm_trace if op == "lstm" else gru_trace).trace(signature, arrays, made[0])
    clipped = (trace.m if op == "lstm" else trace.h).clipped
    assert clipped.any() and not clipped.all()
    given = [torch.zeros(array.shape) for array in made]
    given[0] = torch.from_numpy(clipped).float()  # asks for the saturated entries only
    found = gradients(op, signature, arrays, made, operands, given)
    assert all((gradient == 0).all() for gradient in found if gradient is not None)


@pytest.mark.parametrize(("op", "choice"), VARIANTS.values(), ids=VARIANTS)
def test_over_no_frames_gradients_of_states_are_handed_on(op: str, choice: Choice) -> None:
    choice = replace(choice, sizes=Sizes(frames=0))
    _, _, operands, _, given, found = ran(op, choice)
    states = len(given) - 1
    for one, other in zip(found[1 : 1 + states], given[1:], strict=True):
        assert torch.equal(one, other)
    for gradient, operand in list(zip(found, operands, strict=True))[1 + states :]:
        assert (gradient is None) == (operand is None)
        assert gradient is None or (gradient.shape == operand.shape and (gradient == 0).all())


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(("op", "choice"), VARIANTS.values(), ids=VARIANTS)
def test_stretches_of_time_chain(op: str, choice: Choice, extreme: bool) -> None:
    """The gradient over 7 frames is that over 3 given the gradients of the states before the last 4."""
    choice = replace(choice, sizes=Sizes(7, 2, 4, 3), x="i8", h="i8", gain=6.0, extreme=extreme)
    signature, arrays, operands, _, given, whole = ran(op, choice)
    states = len(given) - 1
    early = OPS[op].fast(signature, arrays[0][:3], *arrays[1:])
    middle = [torch.zeros(array.shape) for array in early[1:]]  # values are not read, codes are
    late_arrays = (arrays[0][3:], *early[1:], *arrays[1 + states :])
    late = OPS[op].fast(signature, *late_arrays)
    late_operands = [operands[0][3:], *middle, *operands[1 + states :]]
    second = gradients(op, signature, late_arrays, late, late_operands, [given[0][3:], *given[1:]])
    early_given = [given[0][:3], *second[1 : 1 + states]]
    first = gradients(
        op, signature, (arrays[0][:3], *arrays[1:]), early, [operands[0][:3], *operands[1:]], early_given
    )
    for position, one in enumerate(whole):
        if one is None:
            continue
        parts = first[position], second[position]
        joined = torch.cat(parts) if position == 0 else parts[0]
        assert_near(one, joined if position <= states else sum(parts), 1e-5, 1e-6, position)


def test_a_palette_changes_no_gradient() -> None:
    signature, arrays, operands, made, given, plain = ran("lstm", Choice())
    kinds = list(signature.inputs)
    table = tuple(sorted({int(code) for code in arrays[3].ravel()}))
    kinds[3] = replace(kinds[3], palette=Palette(8, (table,)))
    packed = Signature(tuple(kinds), signature.outputs, signature.attrs)
    for one, other in zip(gradients("lstm", packed, arrays, made, operands, given), plain, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


@pytest.mark.parametrize("op", OPS)
def test_narrow_accumulators_are_followed(op: str) -> None:
    """Their overflow changes the codes the gradient is taken at; the trace ends at them all the same."""
    contract = (("accumulator_bits", 12), ("overflow", "saturate"), ("array_depth", 2))
    choice = Choice(Sizes(4, 2, 5, 3), gain=6.0, contract=contract)
    wide = ran(op, replace(choice, contract=()))
    signature, arrays, _, made, _, found = ran(op, choice)
    trace = (lstm_trace if op == "lstm" else gru_trace).trace(signature, arrays, made[0])
    np.testing.assert_array_equal((trace.m if op == "lstm" else trace.h).values, made[0])
    assert not np.array_equal(made[0], wide[3][0])
    assert all(gradient is None or gradient.isfinite().all() for gradient in found)


def test_what_is_supported() -> None:
    assert supports("lstm", lstm_node(Choice())[0])
    assert supports("lstm", lstm_node(Choice(cifg=True, projection=2))[0])
    assert supports("gru", gru_node(Choice(linear_before_reset=False))[0])
    assert not supports("lstm", lstm_node(Choice(normed=True))[0])
    assert not supports("fully_connected", lstm_node(Choice())[0])
