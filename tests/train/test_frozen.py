"""The frozen part of a graph is computed once, and not a bit is another."""

from dataclasses import replace

import numpy as np
import pytest
from train.small_layers import WEIGHTS, network, task

from nnaq.export.read import read_lowered
from nnaq.interpret import Interpreter, run
from nnaq.ir.graph import Port
from nnaq.train.zeroth_order.estimator import Estimator
from nnaq.train.zeroth_order.examples import Recordings
from nnaq.train.zeroth_order.frozen import part, through
from nnaq.train.zeroth_order.surfaces import LAYERS, Weights
from nnaq.train.zeroth_order.tuning import Tuning, mean_loss, tune

HOW = Tuning(Estimator(seed=7, amplitude=2), rate=150.0, steps=4)


def test_a_run_behind_the_frozen_part_is_the_run_of_the_whole(tmp_path):
    graph, tasks = network(), {"one": task(1, 100), "two": task(2, 100)}
    masks = {WEIGHTS[1]: np.ones(graph.constants[WEIGHTS[1]].shape, bool)}
    whole = tune(Weights(graph, masks), mean_loss(tasks, 16), HOW, tmp_path / "whole")
    parts = part(graph, masks, ["second.y"])
    assert [node.name for node in parts.frozen.nodes] == ["first"]
    cached = {name: through(parts.frozen, data) for name, data in tasks.items()}
    moved = tune(Weights(parts.moving, masks), mean_loss(cached, 16), HOW, tmp_path / "parts")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()
    np.testing.assert_array_equal(moved.constants[WEIGHTS[1]], whole.constants[WEIGHTS[1]])
    assert cached["one"].losses(moved).tolist() == tasks["one"].losses(whole).tolist()


def test_nothing_is_frozen_behind_the_first_weight():
    graph, one = network(), task(1, 8)
    parts = part(graph, WEIGHTS, ["second.y"])
    assert parts == (None, graph)
    assert through(parts.frozen, one) is one


@pytest.fixture(scope="module")
def stream(lowered):
    return read_lowered(lowered / "model.onnx")


@pytest.mark.parametrize("number", [0, -1])
def test_a_stream_is_parted_with_its_states(stream, number):
    """Behind the convolution everything moves but the quantiser; behind the last layer the LSTM is frozen."""
    layers = [node for node in stream.nodes if node.op in LAYERS]
    parts = part(stream, [layers[number].inputs[1]], ["score"])
    assert ("lstm" in {node.op for node in parts.frozen.nodes}) == (number == -1)
    assert len(parts.frozen.nodes) + len(parts.moving.nodes) == len(stream.nodes)
    x = {"x": np.random.default_rng(1).uniform(-1, 1, (40, 16)).astype(np.float32)}
    made = Interpreter(parts.moving).step(Interpreter(parts.frozen).step(x).outputs).outputs["score"]
    np.testing.assert_array_equal(made, run(stream, x).outputs["score"])


def test_recordings_lose_what_examples_lose():
    graph, one = network(), task(3, 6)
    alone = Recordings(tuple(one.pieces(graph, 1)))
    assert len(alone) == 6
    assert mean_loss({"one": alone}, 4)(graph, 0) == mean_loss({"one": one}, 4)(graph, 0)


def test_outputs_that_nothing_moves_are_frozen_whole():
    graph = network()
    both = replace(graph, outputs=(Port("first.y", None, 0), *graph.outputs))
    parts = part(both, [WEIGHTS[1]], ["first.y"])
    assert (len(parts.frozen.nodes), len(parts.moving.nodes)) == (1, 0)
