"""TFLite files of lowered models: nnaq's reader, itself held to tflite-micro, finds the same integers."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from export.integer_graphs import integer_node, one_node, random_inputs
from frontends.onnx_models import normal
from oracles.generate import python_of
from voice_models import FRAME, detector

from nnaq.codebooks.choice import PaletteChoice
from nnaq.crossing import lower_graph
from nnaq.errors import ArtifactError
from nnaq.export.tflite import tflite_model
from nnaq.frontends import ImportOptions, load
from nnaq.frontends.onnx import load_model
from nnaq.interpret import Interpreter
from nnaq.ir.build import Builder
from nnaq.ir.types import parse_type
from nnaq.quantize.recipe import parse_recipe
from nnaq.targets import load_target

DATA = [{"x": normal(60, FRAME, seed=seed)} for seed in range(3)]
RUNNER = Path(__file__).parents[1] / "oracles" / "tflm_runs.py"


def lowered(target="tflite-micro", palettes=None, last="score = Sigmoid(logit)"):
    options = ImportOptions(time={"x": 0, "score": 0}, states={"h": "hn", "c": "cn"})
    real = load_model(detector(last), "tiny", options).graph
    recipe = parse_recipe('name = "tiny"\n[quantize]\nactivations = "8"')
    recipe = recipe.with_palettes(palettes) if palettes else recipe
    return lower_graph(real, DATA[:2], DATA[2:], recipe, load_target(target)).crossing.integer


def frames(graph, feeds, count):
    """The results of `count` frames, a frame a step, states kept."""
    interpreter = Interpreter(graph)
    for n in range(count):
        cut = {
            port.name: feeds[port.name]
            if port.time_axis is None
            else feeds[port.name].take([n], port.time_axis)
            for port in graph.inputs
        }
        yield cut, interpreter.step(cut).outputs


def read_back(data, folder):
    (folder / "model.tflite").write_bytes(data)
    return load(folder / "model.tflite").graph


def same_when_read(graph, feeds, count, folder):
    """Every frame of a graph equals what the reader makes of its file, in every value of every output."""
    again = Interpreter(read_back(tflite_model(graph), folder))
    values = 0
    for cut, expected in frames(graph, feeds, count):
        found = again.step({p.name: a for p, a in zip(again.graph.inputs, cut.values(), strict=True)}).outputs
        for one, two in zip(found.values(), expected.values(), strict=True):
            np.testing.assert_array_equal(one, two)
            assert one.dtype == two.dtype
            values += one.size
    return values


# --- whole models


@pytest.fixture(scope="module")
def stream():
    return lowered()


def test_a_stream_read_back_has_the_same_integers(stream, tmp_path):
    assert same_when_read(stream, DATA[2], 60, tmp_path) == 60


def test_a_stream_of_palettes_has_the_same_integers(tmp_path):
    graph = lowered(palettes=PaletteChoice(3, scale="kept"))
    assert same_when_read(graph, DATA[2], 20, tmp_path) == 20


def test_curves_of_tflite_have_its_codes(stream):
    node = next(node for node in stream.nodes if node.op == "lstm")
    (scores,) = (stream.types[n.outputs[0]] for n in stream.nodes if n.op == "sigmoid")
    assert str(scores) == "i8[T,1]<0.00390625, -128>"
    for position in (3, 4):
        scales = np.array(stream.types[node.inputs[position]].quant.scale).reshape(4, -1)
        assert (scales == scales[:, :1]).all()
        assert (
            np.abs(stream.constants[node.inputs[position]].reshape(4, -1)).max(axis=1).tolist() == [127] * 4
        )


def delay():
    """A layer over two frames, the one before kept as a state."""
    build = Builder("delay")
    x = build.input("x", parse_type("i8[T,4]<0.05, -3>"), time_axis=0)
    build.value("before", parse_type("i8[1,4]<0.05, -3>"))
    weight = np.random.default_rng(3).integers(-127, 128, (5, 4)).astype(np.int8)
    w = build.constant("w", weight, parse_type("i8[5,4]<0.02, 0>"))
    (both,) = build.node("concat", ["before", x], {"axis": 0}, types=(parse_type("i8[T+1,4]<0.05, -3>"),))
    (y,) = integer_node(
        build, "fully_connected", [both, w], ["i8[]<0.1, 5>"], {"activation": "none"}, "double"
    )
    last = {"axes": (0,), "starts": (1,), "ends": (2,), "steps": (1,)}
    (after,) = build.node("slice", [both], last, types=(build.types["before"],))
    build.output(y, time_axis=0)
    build.state("memory", "before", after, np.full((1, 4), -3, np.int8))
    return build.build()


def test_other_states_are_variables_of_the_file(tmp_path):
    graph = delay()
    assert same_when_read(graph, random_inputs(graph, 1), 5, tmp_path) == 50
    other = {**graph.constants, graph.states[0].initial: np.zeros((1, 4), np.int8)}
    with pytest.raises(
        ArtifactError, match="state 'memory': it starts with other codes than its zero_point -3"
    ):
        tflite_model(replace(graph, constants=other))


# --- operators

X = "i8[2,6,7]<0.05, -3>"
IMAGE = "i8[1,6,7,9]<0.05, -3>"
SCORE = "i8[]<0.00390625, -128>"
CASES = {
    "add": (["i8[2,5]<0.05, -3>", "i8[2,5]<0.011, 9>"], ["i8[]<0.06, 5>"], {}, {}),
    "sub": (["i8[2,5]<0.05, -3>", "i8[1,5]<0.05, 9>"], ["i8[]<0.1, 5>"], {}, {}),
    "mul": (["i8[2,5]<0.05, -3>", "i8[5]<0.02, 9>"], ["i8[]<0.03, 5>"], {}, {}),
    "maximum": (["i8[2,5]<0.05, -3>", "i8[2,5]<0.05, -3>"], ["i8[]<0.05, -3>"], {}, {}),
    "minimum": (["i8[2,5]<0.05, -3>", "i8[2,5]<0.05, -3>"], ["i8[]<0.05, -3>"], {}, {}),
    "relu": ([X], ["i8[]<0.05, -3>"], {}, {}),
    "sigmoid": ([X], [SCORE], {}, {}),
    "tanh": ([X], ["i8[]<0.0078125, 0>"], {}, {}),
    "softmax": (["i8[3,7]<0.05, -3>"], [SCORE], {}, {}),
    "rescale": ([X], ["i8[]<0.031, 7>"], {}, {}),
    "reshape": ([X], ["i8[]<0.05, -3>"], {"shape": (6, 14)}, {}),
    "transpose": ([X], ["i8[]<0.05, -3>"], {"perm": (2, 0, 1)}, {}),
    "slice": (
        [X], ["i8[]<0.05, -3>"], {"axes": (2, 1), "starts": (1, -4), "ends": (9, -1), "steps": (2, 1)}, {},
    ),
    "concat": ([X, X], ["i8[]<0.05, -3>"], {"axis": 1}, {}),
    "pad": ([X], ["i8[]<0.05, -3>"], {"mode": "constant", "pads": (0, 1, 0, 0, 2, 3)}, {}),
    "fully_connected": (
        [X, "i8[4,7]<[0.01, 0.02, 0.03, 0.04]@0, 0>"], ["i8[]<0.3, 5>"], {"activation": "relu"}, {1},
    ),
    "conv1d": (
        [X, "i8[4,6,3]<[0.01, 0.02, 0.03, 0.04]@0, 0>"], ["i8[]<0.3, 5>"],
        {"activation": "none", "padding": (2, 0), "stride": 2, "dilation": 1, "groups": 1}, {1},
    ),
    "conv2d": (
        [IMAGE, "i8[4,6,3,3]<0.02, 0>"], ["i8[]<0.3, 5>"],
        {"activation": "relu", "padding": (1, 1, 1, 1), "stride": (1, 1), "dilation": (1, 1), "groups": 1},
        {1},
    ),
    "conv2d depthwise": (
        [IMAGE, "i8[6,1,3,2]<[0.01, 0.02, 0.03, 0.04, 0.05, 0.06]@0, 0>"], ["i8[]<0.2, 5>"],
        {"activation": "none", "padding": (0, 0, 0, 0), "stride": (2, 1), "dilation": (1, 2), "groups": 6},
        {1},
    ),
    "average_pool": (
        [IMAGE], ["i8[]<0.05, -3>"], {"kernel": (2, 3), "stride": (2, 1), "padding": (0, 0, 0, 0)}, {},
    ),
    "max_pool": ([X], ["i8[]<0.05, -3>"], {"kernel": (2,), "stride": (2,), "padding": (0, 0)}, {}),
}  # fmt: skip


def case(name, seed=0):
    inputs, outputs, attrs, held = CASES[name]
    random = np.random.default_rng(seed)
    kinds = [parse_type(text) for text in inputs]
    weights = {i: random.integers(-127, 128, kinds[i].shape).astype(np.int8) for i in held}
    reals = {2: random.normal(0, 2, kinds[1].shape[0])} if held else {}
    graph = one_node(name.split()[0], inputs, outputs, attrs, "double", weights, reals)
    return graph, random_inputs(graph, seed)


@pytest.mark.parametrize("name", CASES)
def test_an_operator_read_back_has_the_same_integers(name, tmp_path):
    graph, feeds = case(name)
    assert same_when_read(graph, feeds, 1, tmp_path) > 0


# --- refusals


def test_another_target_s_integers_are_refused_with_the_way_out():
    with pytest.raises(ArtifactError) as refused:
        tflite_model(lowered("edge8"))
    said = str(refused.value)
    assert "conv1d 'made' rounds by single; lower for a target with rounding = \"double\"" in said
    assert said.count("rounds by single") == 3


def test_every_operator_that_cannot_be_written_is_named():
    graph = lowered("ethos-u55-128", PaletteChoice(4))
    with pytest.raises(ArtifactError) as refused:
        tflite_model(graph)
    said = str(refused.value)
    assert "lstm 'y.y': its curves are not TFLite's" in said
    assert "sigmoid 'score': its result has the codes" in said
    strange = replace(
        graph, nodes=tuple(replace(n, op="expand") if n.op == "sigmoid" else n for n in graph.nodes)
    )
    with pytest.raises(ArtifactError, match=r"expand 'score' has no form with the same integers$"):
        tflite_model(strange)


def test_rows_of_a_gate_with_several_scales_are_refused():
    with pytest.raises(ArtifactError, match=r"rows of a gate of 'wx' have several scales.*scale = \"kept\""):
        tflite_model(lowered(palettes=PaletteChoice(3, scale="fitted")))


# --- the runtime itself


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["stream", "delay", *CASES])
def test_tflite_micro_computes_the_same_integers(name, tmp_path):
    if name == "stream":
        graph, feeds, count = lowered(), DATA[2], 60
    elif name == "delay":
        graph, count = delay(), 5
        feeds = random_inputs(graph, 1)
    else:
        (graph, feeds), count = case(name, 1), 1
    (tmp_path / "model.tflite").write_bytes(tflite_model(graph))
    steps = list(frames(graph, feeds, count))
    arrays = {f"{n}:{i}": a for n, (cut, _) in enumerate(steps) for i, a in enumerate(cut.values())}
    np.savez(tmp_path / "in.npz", **arrays)
    places = [tmp_path / name for name in ("model.tflite", "in.npz", "out.npz")]
    command = [python_of("tflm"), RUNNER, *places, len(graph.outputs)]
    subprocess.run(list(map(str, command)), check=True)
    with np.load(tmp_path / "out.npz") as found:
        for n, (_, expected) in enumerate(steps):
            for i, array in enumerate(expected.values()):
                np.testing.assert_array_equal(found[f"{n}:{i}"], array)
