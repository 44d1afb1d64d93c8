"""Two roads, one graph: torch -> graph against torch -> ONNX -> graph, over the reals and over integers."""

import warnings

import numpy as np
import pytest
import torch
from frontends.torch_modules import OPTIONS, OUTPUTS, examples, noise, speech_graph
from frontends.torch_zoo import ZOO

from nnaq import pipeline
from nnaq.frontends.onnx import load
from nnaq.frontends.ports import ImportOptions
from nnaq.frontends.torch import load as load_module
from nnaq.interpret import run
from nnaq.quantize.calibrate import Ranges, calibrate
from nnaq.targets import load_target

INPUTS = ("x", "h", "c")


def exported(module, path, dynamo):
    """The module's ONNX file by torch's own exporter, new or old."""
    axes = {} if dynamo else {"dynamic_axes": {"x": {2: "frames"}, "y": {0: "frames"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its old exporter deprecated
        torch.onnx.export(
            module, examples(), str(path), input_names=INPUTS, output_names=OUTPUTS, dynamo=dynamo,
            external_data=False, verbose=False, **axes,
        )  # fmt: skip
    return path


@pytest.fixture(scope="module", params=[True, False], ids=["new exporter", "old exporter"])
def roads(request, tmp_path_factory):
    """The module and its graph by both roads; the new exporter fixes time to the example's 6 frames."""
    module, direct = speech_graph()
    path = exported(module, tmp_path_factory.mktemp("onnx") / "speech.onnx", request.param)
    return module, direct, load(path, OPTIONS).graph, 6 if request.param else 13


def test_both_graphs_mean_what_the_module_means(roads):
    module, direct, through_onnx, frames = roads
    x = noise(frames, seed=5)
    with torch.no_grad():
        expected = module(torch.tensor(x), *examples()[1:])
    for graph in (direct, through_onnx):
        found = run(graph, {"x": x})
        for name, tensor in zip(("y", "h", "c"), expected, strict=True):
            array = found.outputs[name] if name == "y" else found.states[name]
            np.testing.assert_allclose(array, tensor.numpy(), rtol=0, atol=1e-5)


def test_both_graphs_become_the_same_integers(roads):
    """Under the same ranges: values of both graphs are paired by their place among the computing nodes."""
    _, direct, through_onnx, frames = roads
    direct, through_onnx = pipeline.simplify(direct), pipeline.simplify(through_onnx)
    ranges = calibrate(direct, [{"x": noise(frames, seed)} for seed in range(4)])
    pairs = list(zip(computing(direct), computing(through_onnx), strict=True))
    assert [a.op for a, _ in pairs] == [b.op for _, b in pairs]
    twins = {v: w for a, b in pairs for v, w in zip(a.outputs, b.outputs, strict=True)}
    renamed = Ranges({twins.get(value, value): found for value, found in ranges.ranges.items()})
    options = pipeline.Options(load_target("edge8"))
    x = noise(frames, seed=5)
    found = run(pipeline.cross(direct, ranges, options).integer, {"x": x})
    other = run(pipeline.cross(through_onnx, renamed, options).integer, {"x": x})
    assert np.array_equal(found.outputs["y"], other.outputs["y"])
    for name in ("h", "c"):
        assert found.states[name].dtype == other.states[name].dtype
        assert np.array_equal(found.states[name], other.states[name])


def computing(graph):
    """Nodes that compute; those that only move values may stand elsewhere."""
    return [node for node in graph.nodes if node.op not in ("reshape", "transpose", "slice", "relu")]


@pytest.mark.parametrize("name", ["joiner", "scaled dot product", "gated prosody"])
def test_shapes_of_the_zoo_are_the_same_by_both_roads(name, tmp_path):
    """At the example's sizes, which the ONNX exporter fixes."""
    entry = ZOO[name]
    torch.manual_seed(7)
    module, inputs = entry.make().eval(), entry.inputs(2, 6)
    direct = load_module(module, inputs, ImportOptions(shapes=entry.shapes), entry.outputs).graph
    path = tmp_path / "zoo.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (), str(path), kwargs=inputs, input_names=list(inputs), output_names=entry.outputs,
            dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    arrays = {key: value.numpy().astype(np.float32) for key, value in inputs.items()}
    expected, found = (run(graph, arrays).outputs for graph in (direct, load(path, ImportOptions()).graph))
    for output in entry.outputs:
        np.testing.assert_allclose(found[output], expected[output], rtol=0, atol=1e-5)
