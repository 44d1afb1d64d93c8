"""Moments of activations: for every kind of layer those that explain its sums."""

import numpy as np
import pytest
from frontends.onnx_models import normal

from nnaq.errors import DataError
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.op import lookup
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify
from nnaq.quantize import moments as module
from nnaq.quantize.moments import measure_moments

UNITS = 3


def layer(op: str, shape: tuple[int, ...], weight: np.ndarray, **attrs) -> Graph:
    """y = op(x, w) without a bias, time first."""
    build = Builder("layer")
    x = build.input("x", TensorType("f32", ("T", *shape)), time_axis=0)
    (y,) = build.node(op, [x, build.constant("w", weight)], attrs, ["y"])
    build.output(y, time_axis=0)
    return verify(build.build())


def recurrent(op: str, constants: dict[str, np.ndarray], width: int = UNITS, **attrs) -> Graph:
    """A recurrent layer with states; constants: its operands behind the states."""
    build = Builder("recurrent")
    x = build.input("x", TensorType("f32", ("T", 2, 4)), time_axis=0)
    states = {"h": width} | ({"c": UNITS} if op == "lstm" else {})
    values = [build.value(name, TensorType("f32", (2, size))) for name, size in states.items()]
    operands = [build.constant(name, array) for name, array in constants.items()]
    y, *after = build.node(op, [x, *values, *operands], attrs)
    build.output(y, time_axis=0)
    for (name, size), value, result in zip(states.items(), values, after, strict=True):
        build.state(name, value, result, normal(2, size, seed=9))
    return verify(build.build())


@pytest.mark.parametrize(
    ("op", "shape", "weight", "attrs"),
    [
        ("fully_connected", (5,), normal(4, 5), {}),
        ("fully_connected", (2, 5), normal(4, 5), {}),
        ("conv1d", (4, 9), normal(6, 4, 3), {"stride": 2, "padding": (2, 1)}),
        ("conv1d", (4, 9), normal(6, 2, 3), {"dilation": 2, "groups": 2}),
        ("conv1d", (4, 9), normal(4, 1, 3), {"groups": 4}),
        ("conv2d", (2, 5, 6), normal(4, 1, 3, 2), {"stride": (2, 1), "padding": (1, 0, 1, 1), "groups": 2}),
    ],
)
def test_mean_and_mean_square_of_every_output_follow_from_the_moments(op, shape, weight, attrs):
    graph = layer(op, shape, weight, **attrs)
    recordings = [{"x": normal(7, *shape, seed=s) + 0.5} for s in (1, 2)]
    found = measure_moments(graph, recordings, ["w"])["w"]
    made = np.concatenate([run(graph, r).outputs["y"] for r in recordings])
    by_output = np.moveaxis(made, -1 if op == "fully_connected" else 1, 0).reshape(len(weight), -1)
    assert found.count == by_output.shape[1]
    rows = weight.reshape(len(found.mean), -1, found.mean.shape[1]).astype(np.float64)
    mean = np.einsum("gok,gk->go", rows, found.mean).ravel()
    square = np.einsum("gok,gkl,gol->go", rows, found.second, rows).ravel()
    assert np.allclose(mean, by_output.mean(axis=1), atol=1e-5)
    assert np.allclose(square, (by_output.astype(np.float64) ** 2).mean(axis=1), rtol=1e-5)
    assert np.array_equal(found.diagonal(), np.stack([np.diagonal(s) for s in found.second]))


@pytest.mark.parametrize("attrs", [{}, {"cifg": True}])
@pytest.mark.parametrize("projected", [False, True])
def test_an_lstm_meets_its_inputs_and_its_own_past(attrs, projected, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 4)  # states pass from chunk to chunk
    gates, width = 3 if attrs else 4, 2 if projected else UNITS
    constants = {"w": normal(gates * UNITS, 4), "r": normal(gates * UNITS, width, seed=1)}
    if projected:
        constants |= {"b": normal(gates * UNITS, seed=2), "p": normal(width, UNITS, seed=3)}
    graph, x = recurrent("lstm", constants, width, **attrs), normal(10, 2, 4) + 0.3
    found = measure_moments(graph, [{"x": x}], list(constants))
    assert found.keys() == constants.keys() - {"b"}
    y = run(graph, {"x": x}).outputs[graph.outputs[0].name]
    before = np.concatenate([graph.constants["h.initial"][None], y[:-1]]).reshape(-1, width)
    for name, rows in {"w": x.reshape(-1, 4), "r": before}.items():
        assert found[name].count == 20
        assert np.allclose(found[name].mean, rows.mean(axis=0), atol=1e-6)
        assert np.allclose(found[name].second[0], rows.T @ rows / 20, atol=1e-5)
    if projected:
        assert np.allclose(found["p"].mean @ constants["p"].T, y.reshape(-1, width).mean(axis=0), atol=1e-6)
        mean_square = constants["p"] @ found["p"].second[0] @ constants["p"].T
        assert np.allclose(mean_square, y.reshape(-1, width).T @ y.reshape(-1, width) / 20, atol=1e-6)


@pytest.mark.parametrize("last", [True, False])
def test_a_gru_that_resets_first_has_three_groups_of_recurrent_rows(last):
    constants = {"w": normal(3 * UNITS, 4), "r": normal(3 * UNITS, UNITS, seed=1), "b": normal(3 * UNITS)}
    graph, x = recurrent("gru", constants, linear_before_reset=last), normal(8, 2, 4)
    found = measure_moments(graph, [{"x": x}], ["w", "r"])["r"]
    y = run(graph, {"x": x}).outputs[graph.outputs[0].name]
    before = np.concatenate([graph.constants["h.initial"][None], y[:-1]]).reshape(-1, UNITS)
    assert np.allclose(found.mean[0], before.mean(axis=0), atol=1e-6)
    assert len(found.mean) == (1 if last else 3)
    if last:
        return
    # Without the candidate's own weights n = tanh(R_n (r * h)): its mean by another road.
    reset = 1 / (1 + np.exp(-(x @ constants["w"][:UNITS].T + constants["b"][:UNITS]).reshape(-1, UNITS)
                            - before @ constants["r"][:UNITS].T))  # fmt: skip
    assert np.allclose(found.mean[2], (reset * before).mean(axis=0), atol=1e-6)
    assert np.array_equal(found.second[0], found.second[1])


def test_readers_that_share_a_weight_are_counted_together():
    build = Builder("shared")
    x = build.input("x", TensorType("f32", ("T", 3)), time_axis=0)
    w = build.constant("w", normal(3, 3))
    (y,) = build.node("fully_connected", [x, w], {}, ["y"])
    build.output(build.node("fully_connected", [y, w], {}, ["z"])[0], time_axis=0)
    graph, rows = verify(build.build()), normal(5, 3)
    found = measure_moments(graph, [{"x": rows}], ["w"])["w"]
    assert found.count == 10
    both = np.concatenate([rows, rows @ graph.constants["w"].T])
    assert np.allclose(found.mean, both.mean(axis=0), atol=1e-6)


def test_what_is_not_measured_is_absent():
    build = Builder("others")
    x = build.input("x", TensorType("f32", ("T", 3)), time_axis=0)
    (y,) = build.node("fully_connected", [x, build.constant("w", normal(4, 3))], {}, ["y"])
    build.output(build.node("mul", [y, build.constant("m", normal(4))], {}, ["z"])[0], time_axis=0)
    graph = verify(build.build())
    assert measure_moments(graph, [{"x": normal(2, 3)}], ["w", "m", "x", "unknown"]).keys() == {"w"}
    assert measure_moments(graph, [{"x": normal(0, 3)}], ["w"]) == {}
    with pytest.raises(DataError, match="takes x; found z"):
        measure_moments(graph, [{"z": normal(2, 3)}], ["w"])


def test_many_rows_are_thinned_evenly_and_wide_weights_keep_the_diagonal(monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 4)
    monkeypatch.setattr(module, "WIDEST", 2)
    graph, x = layer("fully_connected", (3,), normal(2, 3)), normal(11, 3)
    found = measure_moments(graph, [{"x": x}], ["w"])["w"]
    assert found.count == 4  # every third of eleven
    assert not found.is_full
    assert np.allclose(found.diagonal(), (x[::3] ** 2).mean(axis=0))


def test_every_measured_position_is_a_weight_of_its_operator():
    assert all(set(positions) <= lookup(op).weights.keys() for op, positions in module.MEASURED.items())
