"""Large weights wait while ONNX's tools run: the graph is the same, and the weights are never copied."""

import numpy as np
import onnx
import pytest
from frontends.onnx_models import model, normal
from onnx import helper
from voice_models import detector

from nnaq.frontends import onnx_weights
from nnaq.frontends.onnx import load_model
from nnaq.frontends.onnx_weights import put_aside
from nnaq.frontends.ports import ImportOptions
from nnaq.ir.text import print_graph

TURNED = """(float[T,4] x) => (float y) {
    t = Transpose<perm=[1,0]>(w)
    a = MatMul(x, t)
    y = Gemm<transB=1>(a, v, b)
}"""
CASES = {
    "detector": (detector(), ImportOptions(time={"x": 0})),
    "turned": (model(TURNED, {"w": normal(3, 4), "v": normal(2, 3), "b": normal(2)}), ImportOptions()),
}


def put_all_aside(monkeypatch):
    monkeypatch.setattr(onnx_weights, "LARGE", 1)


@pytest.mark.parametrize("name", CASES)
def test_weights_that_wait_make_the_same_graph(monkeypatch, name):
    given, options = CASES[name]
    before = given.SerializeToString()
    whole = load_model(given, "tiny", options).graph
    put_all_aside(monkeypatch)
    apart = load_model(given, "tiny", options).graph
    assert print_graph(apart) == print_graph(whole)
    for constant, array in whole.constants.items():
        np.testing.assert_array_equal(apart.constants[constant], array)
    assert given.SerializeToString() == before


def test_a_weight_listed_among_the_inputs_waits_too(monkeypatch):
    put_all_aside(monkeypatch)
    given = model("(float[T,4] x, float[4,3] w) => (float y) { y = MatMul(x, w) }", {"w": normal(4, 3)})
    assert [port.name for port in load_model(given, "tiny").graph.inputs] == ["x"]


def test_the_rest_of_a_model_is_copied_whole(monkeypatch):
    put_all_aside(monkeypatch)
    given = detector()
    helper.set_model_props(given, {"who": "me"})
    rest, weights = put_aside(given)
    assert set(weights) == {"w", "b", "wx", "wh", "wb", "v"}  # the others are no floats
    del rest.graph.input[3:]
    rest.graph.ClearField("initializer")
    del given.graph.initializer[:]
    assert rest == given


@pytest.mark.parametrize("change", ["short", "twice", "external"])
def test_what_is_wrong_with_a_weight_stays_in_sight(monkeypatch, change):
    put_all_aside(monkeypatch)
    given = model("(float[T,4] x) => (float y) { y = MatMul(x, w) }", {"w": normal(4, 3)})
    tensor = given.graph.initializer[0]
    if change == "short":
        tensor.raw_data = bytes(8)
    elif change == "twice":
        given.graph.initializer.append(tensor)
    else:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../w")
    assert put_aside(given)[1] == {}
