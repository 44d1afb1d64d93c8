"""The recogniser streams, keeps its layers' codes apart, and crosses to integers without islands."""

import numpy as np
import pytest
import torch
from torch import nn

from nnaq import pipeline
from nnaq.frontends import ImportOptions
from nnaq.frontends.torch import load as load_module
from nnaq.interpret import Interpreter, run
from nnaq.models.spoken_words import SpokenWords, StreamingWords
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target
from nnaq.train.emulate import Emulated

OPTIONS = ImportOptions(time={"x": 0}, shapes={"x": ("T", "N", 12)})


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return SpokenWords(12, 7, front=10, hidden=8, layers=3).eval()


@pytest.fixture(scope="module")
def graph(module):
    return pipeline.simplify(load_module(module, torch.zeros(3, 2, 12), OPTIONS).graph)


@pytest.fixture(scope="module")
def crossing(graph):
    return pipeline.cross(graph, calibrate(graph, RECORDINGS), pipeline.Options(load_target("edge8")))


def sound(steps, batch, seed=9):
    return np.random.default_rng(seed).normal(size=(steps, batch, 12)).astype(np.float32)


RECORDINGS = [{"x": sound(12, 1, seed)} for seed in range(6)]


def streaming_of(module):
    """A fresh one: its states are zeros."""
    made = StreamingWords(12, 7, front=10, hidden=8, layers=3)
    made.load_state_dict(module.state_dict())
    return made.eval()


def test_the_graph_is_the_module_for_any_length_and_batch(module, graph):
    for steps, batch in ((1, 1), (9, 3)):
        x = sound(steps, batch)
        with torch.no_grad():
            expected = module(torch.from_numpy(x)).numpy()
        assert expected.shape == (steps, batch, 7)
        np.testing.assert_allclose(run(graph, {"x": x}).outputs["output"], expected, rtol=1e-4, atol=1e-6)


def test_layers_stay_whole_and_activations_are_fused(graph):
    computing = [node.op for node in graph.nodes if node.op != "expand"]  # zeros for the batch
    assert computing == ["fully_connected", *["lstm"] * 3, "fully_connected"]


def test_everything_runs_in_integers_near_the_reals(graph, crossing):
    assert not crossing.islands
    real, integer = (run(g, RECORDINGS[0]).outputs["output"] for g in (graph, crossing.integer))
    noise = np.square(real - integer).sum() / np.square(real).sum()
    assert 0 < noise < 0.002  # 27 dB: 8-bit results behind three layers that are 8-bit too; found 36


def test_each_layer_has_codes_of_its_own(crossing):
    zeros = [node.inputs[0] for node in crossing.integer.nodes if node.op == "expand"]
    assert len(set(zeros)) == 6
    assert len({crossing.integer.types[name].quant for name in zeros}) > 2


def test_training_and_running_are_the_same_integers(crossing):
    x = sound(7, 3)
    with torch.no_grad():
        trained, _ = Emulated(crossing)({"x": torch.from_numpy(x)})
    assert np.array_equal(trained["output"].numpy(), run(crossing.integer, {"x": x}).outputs["output"])


def test_the_streaming_model_continues_where_it_stopped(module):
    streaming, x = streaming_of(module), torch.from_numpy(sound(9, 1))
    with torch.no_grad():
        pieces = [streaming(x[:1]), streaming(x[1:4]), streaming(x[4:])]
        torch.testing.assert_close(torch.cat(pieces), module(x))


def test_the_streaming_integers_are_those_that_were_trained(module, crossing):
    """Same codes and same results, though one hears a whole batch and the other keeps states."""
    graph = load_module(streaming_of(module), torch.zeros(3, 1, 12), ImportOptions(time={"x": 0})).graph
    graph = pipeline.simplify(graph)
    streamed = pipeline.cross(graph, calibrate(graph, RECORDINGS), crossing.options).integer
    assert len(streamed.states) == 6
    x = sound(11, 1)
    stream = Interpreter(streamed)
    steps = [stream.step({"x": x[t : t + 1]}).outputs["output"] for t in range(len(x))]
    assert np.array_equal(np.concatenate(steps), run(crossing.integer, {"x": x}).outputs["output"])


def test_dropout_is_for_training_only():
    torch.manual_seed(0)
    module, x = SpokenWords(12, 7, front=10, hidden=8, dropout=0.5), torch.from_numpy(sound(4, 1))
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))
    assert [type(layer) for layer in module.layers] == [nn.LSTM, nn.LSTM]
