"""Names, time axes, states, pins and shapes: what the user says about the edges of a model."""

import numpy as np
import pytest
from frontends.onnx_models import evaluate, model, normal

from nnaq.errors import FrontendError
from nnaq.frontends.onnx import load_model
from nnaq.frontends.ports import ImportOptions, Names, next_names, pair_states
from nnaq.interpret import run
from nnaq.ir.graph import Port, State
from nnaq.ir.types import TensorType, parse_type

STEP = "(float[frames,4] x, float[1,4] h) => (float y, float hn) { y = Add(x, h) hn = Tanh(h) }"
CARRY = "(float[2,4] h, float[2,4] x) => (float[2,4] h_out) { h_out = Add(h, x) }"


def refusal(text: str, **options: object) -> str:
    with pytest.raises(FrontendError) as caught:
        load_model(model(text), "tiny", ImportOptions(**options))  # type: ignore[arg-type]
    return str(caught.value)


def test_the_time_axis_is_called_t() -> None:
    imported = load_model(model(STEP), "tiny", ImportOptions(time={"x": 0}))
    graph = imported.graph
    assert graph.inputs == (Port("x", time_axis=0),)
    assert graph.outputs == (Port("y", time_axis=0),)
    assert graph.types["x"].shape == ("T", 4)
    assert "port y: axis 0 is time (it depends on T)" in imported.notes


def test_without_a_time_axis_symbols_keep_clean_names() -> None:
    text = "(float[batch_size,class,4] x) => (float y) { y = Relu(x) }"
    given = model(text)
    given.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch size"
    graph = load_model(given, "tiny").graph
    assert graph.types["x"].shape == ("batch_size", "dclass", 4)
    assert graph.outputs == (Port("y"),)


def test_axes_without_a_name_get_one() -> None:
    given = model("(float[A,B,4] x) => (float y) { y = Relu(x) }")
    for dim in given.graph.input[0].type.tensor_type.shape.dim[:2]:
        dim.Clear()
    graph = load_model(given, "tiny", ImportOptions(time={"x": 1}, batch={"x": 0})).graph
    assert graph.types["x"].shape == ("x_0", "T", 4)
    assert graph.inputs == (Port("x", time_axis=1, batch_axis=0),)


def test_two_inputs_that_share_a_symbol_share_their_time() -> None:
    text = "(float[n,4] x, float[n,4] z) => (float y) { y = Add(x, z) }"
    graph = load_model(model(text), "tiny", ImportOptions(time={"x": 0})).graph
    assert graph.inputs == (Port("x", 0), Port("z", 0))


def test_a_symbol_called_t_makes_room_for_time() -> None:
    text = "(float[n,T] x) => (float y) { y = Relu(x) }"
    graph = load_model(model(text), "tiny", ImportOptions(time={"x": 0})).graph
    assert graph.types["x"].shape == ("T", "T_")


def test_time_survives_strides_and_padding() -> None:
    text = "(float[1,4,n] x) => (float y) { y = Conv<strides=[2], pads=[2,0]>(x, w) }"
    given = model(text, {"w": normal(3, 4, 3)})
    graph = load_model(given, "tiny", ImportOptions(time={"x": 2})).graph
    assert graph.types["y"].shape == (1, 3, "(T-1)//2+1")
    assert graph.outputs == (Port("y", time_axis=2),)


def test_given_shapes_hold_throughout_the_model() -> None:
    text = "(float[n,4] x, float[n,4] z) => (float y) { y = Add(x, z) }"
    graph = load_model(model(text), "tiny", ImportOptions(shapes={"x": (3, 4)})).graph
    assert graph.types["z"].shape == (3, 4)


def test_an_output_that_claims_a_fixed_size_is_told() -> None:
    """What torch's exporter does when an LSTM has specialised time."""
    given = model("(float[n,4] x) => (float[20,4] y) { y = Relu(x) }")
    assert "output y: the file says [20, 4], the graph makes ['n', 4]" in load_model(given, "tiny").notes


def test_a_pinned_input_is_gone() -> None:
    text = "(float[n,4] x, int64 rate) => (float y) { g = Cast<to=1>(rate) y = Mul(x, g) }"
    given = model(text)
    graph = load_model(given, "tiny", ImportOptions(pins={"rate": 3})).graph
    x = normal(2, 4)
    assert [port.name for port in graph.inputs] == ["x"]
    np.testing.assert_array_equal(run(graph, {"x": x}).outputs["y"], x * 3)


def test_a_pin_decides_an_if() -> None:
    text = (
        "(float[n,4] x, int64 rate) => (float y) { c = Equal(rate, two) y = If (c) "
        "<then_branch = a () => (float[n,4] u) { u = Relu(x) }, "
        "else_branch = b () => (float[n,4] v) { v = Tanh(x) }> }"
    )
    given = model(text, {"two": np.array(2)})
    for rate, op in ((2, "relu"), (3, "tanh")):
        graph = load_model(given, "tiny", ImportOptions(pins={"rate": rate})).graph
        assert [node.op for node in graph.nodes] == [op]
    assert "If at 'If_of_y': this operator is not supported (pin the input" in (
        refusal_of_model(given, ImportOptions())
    )


def refusal_of_model(given: object, options: ImportOptions) -> str:
    with pytest.raises(FrontendError) as caught:
        load_model(given, "tiny", options)  # type: ignore[arg-type]
    return str(caught.value)


def test_states_are_paired_by_name() -> None:
    imported = load_model(model(STEP), "tiny")
    assert imported.graph.states == (State("h", "h", "hn", "h.initial"),)
    assert "state h: next value hn (paired by name)" in imported.notes
    np.testing.assert_array_equal(imported.graph.constants["h.initial"], np.zeros((1, 4)))


def test_states_advance() -> None:
    graph = load_model(model(CARRY), "tiny").graph
    x = normal(2, 4)
    assert run(graph, {"x": x}).outputs == {}
    np.testing.assert_array_equal(run(graph, {"x": x}).states["h"], x)


def test_given_states_are_taken_as_they_are() -> None:
    imported = load_model(model(STEP), "tiny", ImportOptions(states={"h": "hn"}))
    assert imported.graph.states == (State("h", "h", "hn", "h.initial"),)
    assert imported.notes == ()


@pytest.mark.parametrize("after", ["xn", "xN", "x_out", "new_x", "next_x"])
def test_names_of_next_values(after: str) -> None:
    assert after in next_names("x")
    kind = TensorType("f32", (1, 8))
    assert pair_states(ImportOptions(), {"x": kind}, {after: kind})[0] == {"x": after}


def test_pairs_by_name_need_one_type() -> None:
    inputs = {"h": parse_type("f32[1,8]"), "cell_in": parse_type("f32[1,8]")}
    outputs = {"hn": parse_type("f32[1,9]"), "cell_out": parse_type("f32[1,8]")}
    assert pair_states(ImportOptions(), inputs, outputs)[0] == {"cell_in": "cell_out"}


def test_an_output_is_the_next_value_of_one_state() -> None:
    kind = parse_type("f32[1,8]")
    assert pair_states(ImportOptions(), {"h": kind, "h_in": kind}, {"h_out": kind})[0] == {"h": "h_out"}


def test_a_state_of_two_types_is_refused() -> None:
    assert refusal(STEP, states={"h": "y"}) == (
        "state 'h' is f32[1,4] but its next value 'y' is f32[frames,4]"
    )


def test_a_state_of_open_shape_is_refused() -> None:
    text = "(float[N,4] h) => (float y, float hn) { y = Relu(h) hn = Tanh(h) }"
    assert refusal(text) == "state 'h' has the open shape ['N', 4]; give it whole sizes with the input shapes"


def test_options_name_ports_that_exist() -> None:
    assert refusal(STEP, states={"hh": "hn"}) == "the model has no input 'hh'; did you mean 'h'?"
    assert refusal(STEP, states={"h": "q"}) == "the model has no output 'q'; it has y, hn"
    assert refusal(STEP, pins={"k": 1}) == "the model has no input to pin 'k'; it has x, h"
    assert refusal(STEP, shapes={"k": (1,)}) == "the model has no input to give a shape 'k'; it has x, h"
    assert "no port with a time axis 'k'" in refusal(STEP, time={"k": 0})
    assert "no port with a batch axis 'k'" in refusal(STEP, batch={"k": 0})


def test_axes_and_shapes_fit_their_port() -> None:
    assert refusal(STEP, time={"x": 2}) == "port 'x' has axes 0 to 1, not 2"
    assert refusal(STEP, time={"y": 2}) == "port 'y' has axes 0 to 1, not 2"
    assert refusal(STEP, shapes={"x": (1,)}) == "input 'x' has 2 axes, but its given shape is [1]"
    assert refusal(STEP, shapes={"x": (3, 5)}) == "input 'x' has a fixed axis of 4, not 5"
    text = "(float[n,4] x, float[n,4] z) => (float y) { y = Add(x, z) }"
    assert refusal(text, shapes={"x": (1, 4), "z": (2, 4)}) == "axis 'n' is given two sizes, 1 and 2"
    assert "cannot be pinned while its shape is open" in refusal(STEP, pins={"x": 0.0})


def test_names_are_cleaned_and_stay_distinct() -> None:
    names = Names()
    assert [names.fresh(n) for n in ("a:b", "a b", "a_b", "")] == ["a_b", "a_b.1", "a_b.2", "value"]


def test_results_keep_their_source() -> None:
    given = model("(float[n,4] x) => (float y) { t = Relu(x) y = Tanh(t) }")
    given.graph.node[0].name = "block (1): relu"
    given.graph.node[0].output[0] = given.graph.node[1].input[0] = "t, of block:1"
    node = load_model(given, "tiny").graph.nodes[0]
    assert (node.name, node.source) == ("t_of_block_1", "block (1): relu")


def test_outputs_that_are_one_value_are_two_ports() -> None:
    given = model(
        "(float[n,4] x) => (float y, float z, float u) { y = Relu(x) z = Identity(y) u = Identity(x) }"
    )
    graph = load_model(given, "tiny").graph
    inputs = {"x": normal(3, 4)}
    found, expected = run(graph, inputs).outputs, evaluate(given, inputs)
    assert list(found) == ["y", "z", "u"]
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_what_no_output_needs_is_not_in_the_graph() -> None:
    given = model("(float[n,4] x, float[n,4] z) => (float y) { y = Relu(x) k = Softmax(z) }")
    graph = load_model(given, "tiny").graph
    assert [node.op for node in graph.nodes] == ["relu"]
    assert [port.name for port in graph.inputs] == ["x", "z"]
