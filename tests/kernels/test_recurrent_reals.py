"""LSTM and GRU over the reals: what torch computes, its gradients, and how near the integers stay."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from recurrent_nodes import (
    GRU,
    LSTM,
    Arrays,
    Choice,
    Sizes,
    complete,
    dequantised,
    gru_node,
    gru_types,
    lstm_node,
    lstm_types,
    prepared,
)

from nnaq.ir.op import Op, Signature
from nnaq.ir.types import storage
from nnaq.kernels import recurrent

# Integers against reals


def sigmoid(a: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-a)))


def quiet_node(op: Op, choice: Choice, biases: dict[int, np.ndarray]) -> tuple[Signature, Arrays, Any]:
    """A node from zero states with given real biases, its arrays, and the reals of its operands."""
    types = (lstm_types if op is LSTM else gru_types)(choice)
    _, arrays = (lstm_node if op is LSTM else gru_node)(choice)
    there = (i for i, kind in enumerate(types.inputs) if kind is not None and i not in op.reals)
    kept = {i: arrays[i] for i in there}
    kept[1] = np.full(kept[1].shape, types.input(1).zero_point, storage(choice.h))
    if op is LSTM:
        kept[2] = np.zeros(kept[2].shape, np.int16)
    made = prepared(op, types, {**kept, **biases}, choice.rounding)
    signature, operands = complete(types, made, {**kept, **biases})
    reals = {**dequantised(signature, operands[: len(types.inputs)]), **biases}
    return signature, operands, [reals.get(i) for i in range(len(types.inputs))]


def bias_error(signature: Signature, operand: int, weight: int) -> np.ndarray:
    """Half a step of an integer bias."""
    kind = signature.input(weight)
    assert kind.quant is not None
    return np.asarray(signature.input(operand).scale * np.array(kind.quant.scale) / 2)


def lstm_error(choice: Choice, signature: Signature, reals: list[np.ndarray]) -> Arrays:
    """Largest |integer - real| of h [T,B,P] and c [T,B,H], carried from frame to frame.

    Half a step per requantisation; tables within 1.3 and 3.8 of 2^-15 (contract, section 4), which
    the final rounding to Q0.15 is part of; a bias within half a step; 1 - f within 2^-15 more; before
    a projection half a step of the hidden value, which also ends half a step below 1. Errors travel
    through sigmoid with slope 1/4, through tanh with slope 1, through products by both factors.
    Holds while nothing saturates.
    """
    x, h, c, w_input, w_recurrent, bias, *optional = reals
    projection, *norm = optional or [None]
    count, units, step = (3 if choice.cifg else 4), choice.sizes.units, 2.0**-choice.fraction
    hidden = signature.input(1)
    h_error, c_error, found = np.zeros_like(h), np.zeros_like(c), []
    for frame in x:
        a = frame @ w_input.T + h @ w_recurrent.T + bias
        a_error = 2.0**-12 + bias_error(signature, 0, 3) + h_error @ np.abs(w_recurrent).T + 1e-6
        if norm:
            a, a_error = normed(a, a_error, count, *norm)
        *sharp, g, o = np.split(a, count, axis=1)
        *sharp_error, g_error, o_error = np.split(a_error, count, axis=1)
        levels, errors = (
            [sigmoid(v) for v in (*sharp, o)],
            [e / 4 + 1.3 * 2.0**-15 for e in (*sharp_error, o_error)],
        )
        (f, o), (df, do) = levels[-2:], errors[-2:]
        i, di = (1 - f, df + 2.0**-15) if choice.cifg else (levels[0], errors[0])
        g, dg = np.tanh(g), g_error + 3.8 * 2.0**-15
        c_error = np.abs(c) * df + (f + df) * c_error + np.abs(g) * di + (i + di) * dg + step
        c = f * c + i * g
        d_error = c_error + (2.0**-13 if choice.fraction > 12 else 0) + 3.8 * 2.0**-15
        m, m_error = np.tanh(c) * o, d_error * (o + do) + np.abs(np.tanh(c)) * do
        h, h_error = m, m_error + hidden.scale / 2
        if projection is not None:
            own = m_error + {"i8": 2.0**-8, "i16": 2.0**-16}[hidden.dtype]
            h, h_error = m @ projection.T, own @ np.abs(projection).T + hidden.scale / 2 + 1e-6
        found.append((h_error, c_error))
    assert units == c.shape[1]
    return tuple(np.stack(errors) for errors in zip(*found, strict=True))


def normed(
    a: np.ndarray, error: np.ndarray, count: int, weight: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The normalised gates, and what is left of the error of a.

    Errors up to E move the mean by E and the divisor by E at most, so that z moves by less than
    (2 + |z|) E / (divisor - E); the integer z has steps of 2^-16, the result steps of 2^-12.
    """
    rows, most = (v.reshape(len(a), count, -1) for v in (a, error))
    most = most.max(axis=2, keepdims=True)
    divisor = np.sqrt(rows.var(axis=2, keepdims=True) + 1e-5)
    z = (rows - rows.mean(axis=2, keepdims=True)) / divisor
    assert np.all(divisor > 2 * most)
    moved = ((2 + np.abs(z)) * most / (divisor - most) + 2.0**-16).reshape(a.shape)
    return z.reshape(a.shape) * weight + bias, np.abs(weight) * moved + 2.0**-12


@pytest.mark.parametrize(
    "choice",
    [
        *(
            Choice(x=x, h=h, fraction=fraction)
            for fraction in (12, 13, 14)
            for x, h in (("i8", "i8"), ("i16", "i16"), ("i16", "i8"), ("i8", "i16"))
        ),
        *(
            Choice(x=h, h=h, fraction=13, cifg=cifg, projection=3)
            for h in ("i8", "i16")
            for cifg in (False, True)
        ),
        Choice(x="i16", h="i16", fraction=13, cifg=True),
        Choice(x="i16", h="i16", fraction=12, normed=True),
        Choice(x="i8", h="i16", fraction=12, normed=True, cifg=True, projection=4),
    ],
)
def test_integers_of_an_lstm_stay_near_the_reals(choice: Choice) -> None:
    """Eight frames from h0 = z_h, c0 = 0; the bound is that of `lstm_error`, value by value.

    With a norm two frames: the bound on what a norm makes of an error grows from frame to frame.
    """
    for seed in range(6):
        choice = replace(
            choice, sizes=Sizes(2 if choice.normed else 8, 2, 6, 5), zero_points=(-11, 4), gain=0.5, seed=seed
        )
        bias = np.random.default_rng(seed).normal(0, 0.25, choice.rows)
        random = np.random.default_rng(seed)
        norm = (
            {position: random.normal(0.5, 0.2, choice.rows) for position in (7, 8)} if choice.normed else {}
        )
        node, arrays, reals = quiet_node(LSTM, choice, {5: bias, **norm})
        assert recurrent.count_cell_saturations(node, *arrays) == 0
        y_codes, _, c_codes = LSTM.fast(node, *arrays)
        y, _, c = LSTM.real(np, node.attrs, *reals)
        h_error, c_error = lstm_error(choice, node, reals)
        hidden = node.input(1)
        assert np.all(np.abs((y_codes.astype(int) - hidden.zero_point) * hidden.scale - y) <= h_error)
        assert np.all(np.abs(c_codes * 2.0**-choice.fraction - c) <= c_error[-1])


def gru_error(choice: Choice, signature: Signature, reals: list[np.ndarray]) -> np.ndarray:
    """Largest |integer - real| of h [T,B,H], carried from frame to frame.

    As for the LSTM; of h read in Q0.15 half a step, and half a step of h for the new state.
    """
    x, h, w_input, w_recurrent, bias, recurrent_bias = reals
    units, hidden = choice.sizes.units, signature.input(1)
    biases = bias_error(signature, 0, 2), bias_error(signature, 1, 3)
    error, found = np.zeros_like(h), []
    w_sharp, w_n = np.split(w_recurrent, [2 * units])
    for frame in x:
        driven = frame @ w_input.T + bias
        carried = h @ w_sharp.T + recurrent_bias[: 2 * units]
        sharp_error = 2.0**-12 + (biases[0] + biases[1])[: 2 * units] + error @ np.abs(w_sharp).T + 1e-6
        (r, z), (dr, dz) = (
            np.split(v, 2, axis=1)
            for v in (sigmoid(driven[:, : 2 * units] + carried), sharp_error / 4 + 1.3 * 2.0**-15)
        )
        own = 2.0**-13 + biases[0][2 * units :] + 1e-6
        if choice.linear_before_reset:
            inner = h @ w_n.T + recurrent_bias[2 * units :]
            inner_error = 2.0**-13 + biases[1][2 * units :] + error @ np.abs(w_n).T + 1e-6
            added, added_error = r * inner, np.abs(inner) * dr + (r + dr) * inner_error + 2.0**-13
        else:
            kept_error = np.abs(h) * dr + (r + dr) * error + hidden.scale / 2
            added = (r * h) @ w_n.T + recurrent_bias[2 * units :]
            added_error = 2.0**-13 + biases[1][2 * units :] + kept_error @ np.abs(w_n).T + 1e-6
        n, dn = np.tanh(driven[:, 2 * units :] + added), own + added_error + 3.8 * 2.0**-15
        error = np.abs(h - n) * dz + (1 - z + dz) * dn + (z + dz) * (error + 2.0**-16) + hidden.scale / 2
        h = (1 - z) * n + z * h
        found.append(error)
    return np.stack(found)


@pytest.mark.parametrize("linear_before_reset", [True, False])
@pytest.mark.parametrize("h_span", [1.0, 1.02])
@pytest.mark.parametrize(("x", "h"), [("i8", "i8"), ("i16", "i16"), ("i16", "i8"), ("i8", "i16")])
def test_integers_of_a_gru_stay_near_the_reals(
    x: str, h: str, h_span: float, linear_before_reset: bool
) -> None:
    """Eight frames from h0 = z_h; the bound is that of `gru_error`, value by value."""
    for seed in range(6):
        sizes, zero_points = Sizes(8, 2, 6, 5), (-11, 4)
        choice = Choice(
            sizes, x, h, zero_points=zero_points, gain=0.5, h_span=h_span, seed=seed,
            linear_before_reset=linear_before_reset,
        )  # fmt: skip
        random = np.random.default_rng(seed)
        biases = {position: random.normal(0, 0.25, 15) for position in (4, 5)}
        node, arrays, reals = quiet_node(GRU, choice, biases)
        y_codes, _ = GRU.fast(node, *arrays)
        y, _ = GRU.real(np, node.attrs, *reals)
        hidden = node.input(1)
        error = np.abs((y_codes.astype(int) - hidden.zero_point) * hidden.scale - y)
        assert np.all(error <= gru_error(choice, node, reals))


# Against torch


def lstm_operands(frames: int, cifg: bool = False, projection: int = 0, normed: bool = False) -> list[Any]:
    random, units, rows = np.random.default_rng(0), 5, 15 if cifg else 20
    state = projection or units
    shapes: list[tuple[int, ...]] = [
        (frames, 2, 3),
        (2, state),
        (2, units),
        (rows, 3),
        (rows, state),
        (rows,),
    ]
    shapes += [(projection, units)] if projection else []
    made: list[Any] = [random.normal(0, 0.7, shape) for shape in shapes]
    if normed:
        made += [*([] if projection else [None]), *(random.normal(0.5, 1, rows) for _ in range(2))]
    return made


def gru_operands(frames: int) -> list[Any]:
    random = np.random.default_rng(0)
    shapes = ((frames, 2, 3), (2, 5), (15, 3), (15, 5), (15,), (15,))
    return [random.normal(0, 0.7, shape) for shape in shapes]


def assert_close(found: Any, expected: Any) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=0, atol=1e-12)


@pytest.mark.parametrize("projection", [0, 4])
@pytest.mark.parametrize("with_bias", [True, False])
def test_real_is_the_lstm_of_torch(with_bias: bool, projection: int) -> None:
    torch = pytest.importorskip("torch")
    operands = lstm_operands(6, projection=projection)
    operands[5] = operands[5] if with_bias else None
    module = torch.nn.LSTM(3, 5, bias=with_bias, proj_size=projection).double()
    parts = [*operands[3:5], *([operands[5], np.zeros(20)] if with_bias else []), *operands[6:]]
    for parameter, value in zip(module.parameters(), parts, strict=True):
        parameter.data = torch.from_numpy(value)
    x, h, c = (torch.from_numpy(v) for v in operands[:3])
    y, (last_h, last_c) = module(x, (h[None], c[None]))
    expected = [v.detach().numpy() for v in (y, last_h[0], last_c[0])]
    of_torch = LSTM.real(torch, {}, *(v if v is None else torch.from_numpy(v) for v in operands))
    assert_close(of_torch, expected)
    assert_close(LSTM.real(np, {}, *operands), expected)


@pytest.mark.parametrize("projection", [0, 4])
def test_a_coupled_lstm_is_one_whose_input_gate_is_the_rest(projection: int) -> None:
    """1 - sigmoid(a) = sigmoid(-a): the four-gate LSTM with the negated rows of f for i."""
    operands = lstm_operands(6, cifg=True, projection=projection)
    four = [*operands]
    for position in (3, 4, 5):
        four[position] = np.concatenate([-operands[position][:5], operands[position]])
    assert_close(LSTM.real(np, {"cifg": True}, *operands), LSTM.real(np, {}, *four))


def test_a_normalised_lstm_follows_the_formula() -> None:
    """Layer norm by torch, gate by gate, with weight and bias of its own."""
    torch = pytest.importorskip("torch")
    operands = lstm_operands(4, projection=4, normed=True)
    x, h, c, w_input, w_recurrent, bias, w_projection, weight, norm_bias = map(torch.from_numpy, operands)
    states = []
    for frame in x:
        a = frame @ w_input.T + h @ w_recurrent.T + bias
        cuts = [slice(k, k + 5) for k in (0, 5, 10, 15)]
        norm = torch.nn.functional.layer_norm
        i, f, g, o = (norm(a[:, k], (5,), weight[k], norm_bias[k], 0.01) for k in cuts)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = (c.tanh() * o.sigmoid()) @ w_projection.T
        states.append(h)
    assert_close(LSTM.real(np, {"epsilon": 0.01}, *operands), (torch.stack(states), h, c))


@pytest.mark.parametrize("with_biases", [(True, True), (True, False), (False, True), (False, False)])
def test_real_is_the_gru_of_torch(with_biases: tuple[bool, bool]) -> None:
    torch = pytest.importorskip("torch")
    operands, zeros = gru_operands(6), np.zeros(15)
    biases = [b if given else zeros for b, given in zip(operands[4:], with_biases, strict=True)]
    module = torch.nn.GRU(3, 5).double()
    for parameter, value in zip(module.parameters(), [*operands[2:4], *biases], strict=True):
        parameter.data = torch.from_numpy(value)
    x, h = (torch.from_numpy(v) for v in operands[:2])
    y, last = module(x, h[None])
    expected = [y.detach().numpy(), last[0].detach().numpy()]
    given = [
        *operands[:4],
        *(b if is_there else None for b, is_there in zip(operands[4:], with_biases, strict=True)),
    ]
    attrs = {"linear_before_reset": True}
    assert_close(GRU.real(np, attrs, *given), expected)
    assert_close(GRU.real(torch, attrs, *(v if v is None else torch.from_numpy(v) for v in given)), expected)


def test_a_gru_that_resets_first_follows_the_formula() -> None:
    x, h, w_input, w_recurrent, bias, recurrent_bias = gru_operands(4)
    states = []
    for frame in x:
        a = [frame @ w_input[k : k + 5].T + bias[k : k + 5] for k in (0, 5, 10)]
        r, z = (
            sigmoid(a[k] + h @ w_recurrent[5 * k : 5 * k + 5].T + recurrent_bias[5 * k : 5 * k + 5])
            for k in (0, 1)
        )
        n = np.tanh(a[2] + (r * h) @ w_recurrent[10:].T + recurrent_bias[10:])
        h = (1 - z) * n + z * h
        states.append(h)
    assert_close(GRU.real(np, {"linear_before_reset": False}, *gru_operands(4)), (np.stack(states), h))


VARIANTS = [
    *((LSTM, {"cifg": cifg}, lstm_operands(3, cifg, n)) for cifg in (False, True) for n in (0, 4)),
    *((LSTM, {"epsilon": 0.01}, lstm_operands(3, False, n, True)) for n in (0, 4)),
    *((GRU, {"linear_before_reset": form}, gru_operands(3)) for form in (False, True)),
]


@pytest.mark.parametrize(("op", "attrs", "operands"), VARIANTS)
def test_real_has_a_gradient_in_torch(op: Op, attrs: Any, operands: list[np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    there = {i: torch.from_numpy(v).requires_grad_() for i, v in enumerate(operands) if v is not None}

    def call(*values: Any) -> Any:
        given = dict(zip(there, values, strict=True))
        return op.real(torch, attrs, *(given.get(i) for i in range(len(operands))))

    assert torch.autograd.gradcheck(call, list(there.values()), fast_mode=True)


@pytest.mark.parametrize(("op", "attrs", "operands"), VARIANTS)
def test_real_over_no_frames_returns_the_states(op: Op, attrs: Any, operands: list[np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    operands = [operands[0][:0], *operands[1:]]
    tensors = (None if v is None else torch.from_numpy(v) for v in operands)
    for made in (op.real(np, attrs, *operands), op.real(torch, attrs, *tensors)):
        y, *states = made
        assert tuple(y.shape) == (0, *operands[1].shape)
        for state, before in zip(states, operands[1:], strict=False):
            np.testing.assert_array_equal(np.asarray(state), before)


@pytest.mark.parametrize(("op", "attrs", "operands"), VARIANTS)
def test_real_keeps_float32(op: Op, attrs: Any, operands: list[np.ndarray]) -> None:
    narrow = [None if v is None else v.astype(np.float32) for v in operands]
    assert {v.dtype.name for v in op.real(np, attrs, *narrow)} == {"float32"}
