"""What takes several operators to say: recurrences in both directions, masks, attention, loops.

Each meaning is held against the ONNX project's own evaluator, with open axes where they matter.
"""

import numpy as np
import onnx
import pytest
from frontends.onnx_models import evaluate, inputs_of, model, normal
from onnx import helper, numpy_helper

from nnaq.errors import FrontendError
from nnaq.frontends.onnx import load_model
from nnaq.interpret import run

NEVER = np.float32(-np.inf)
LOW = np.float32(-1e9)
HELD = {
    "gw": normal(1, 9, 4, seed=1),
    "gr": normal(1, 9, 3, seed=2),
    "gb": normal(1, 18, seed=3),
    "gw2": normal(2, 9, 4, seed=4),
    "gr2": normal(2, 9, 3, seed=5),
    "gb2": normal(2, 18, seed=6),
    "lw2": normal(2, 12, 4, seed=7),
    "lr2": normal(2, 12, 3, seed=8),
    "lb2": normal(2, 24, seed=9),
    "h2": normal(2, 2, 3, seed=10),
    "minus_inf": NEVER,
    "low": LOW,
    "zero": np.float32(0),
    "one": np.float32(1),
    "triangle": np.where(np.tril(np.ones((5, 5))) > 0, 0, NEVER).astype(np.float32),
    "deep": np.where(np.tril(np.ones((5, 5))) > 0, 0.5, -1e5).astype(np.float32),
    "upper": np.triu(np.ones((5, 5)), 1) > 0,
    "axis_one": np.array([1]),
    "limit": np.float32(0.5),
}


def built(text: str, opset: int = 18) -> onnx.ModelProto:
    words = set("".join(c if c.isalnum() or c == "_" else " " for c in text[text.index("{") :]).split())
    return model(text, {name: array for name, array in HELD.items() if name in words}, opset)


def same_meaning(given: onnx.ModelProto, inputs: dict[str, np.ndarray] | None = None) -> list[str]:
    """The operators of the graph, after its results were found to be those of the evaluator."""
    graph = load_model(given, "tiny").graph
    inputs = inputs or inputs_of(given)
    found, expected = run(graph, inputs).outputs, evaluate(given, inputs)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)
    return [node.op for node in graph.nodes]


RECURRENT = {
    "GRU": ("(float[T,B,4] x) => (float y, float h) { y, h = GRU<hidden_size=3>(x, gw, gr) }", "expand gru"),
    "GRU of torch": (
        "(float[T,2,4] x) => (float y) { y = GRU<hidden_size=3, linear_before_reset=1>(x, gw, gr, gb) }",
        "gru",
    ),
    "GRU of both directions": (
        "(float[T,2,4] x) => (float y, float h) { y, h = GRU<hidden_size=3, direction="
        '"bidirectional", linear_before_reset=1>(x, gw2, gr2, gb2, "", h2) }',
        "gru reverse gru reverse concat concat",
    ),
    "LSTM of both directions": (
        "(float[T,2,4] x) => (float y, float h, float c) "
        '{ y, h, c = LSTM<hidden_size=3, direction="bidirectional">(x, lw2, lr2, lb2, "", h2) }',
        "lstm reverse lstm reverse concat concat concat",
    ),
    "LSTM of computed states": (
        "(float[T,2,4] x, float[2,2,3] s) => (float y, float h) "
        '{ y, h = LSTM<hidden_size=3, direction="bidirectional">(x, lw2, lr2, lb2, "", s, s) }',
        "slice slice lstm reverse slice slice lstm reverse concat concat",
    ),
}


@pytest.mark.parametrize("case", RECURRENT)
def test_recurrences(case):
    text, ops = RECURRENT[case]
    assert [op for op in same_meaning(built(text)) if op != "reshape"] == ops.split()


def test_a_backward_lstm_is_reversed_twice():
    text = '(float[T,2,4] x) => (float y) { y = LSTM<hidden_size=3, direction="reverse">(x, lw, lr) }'
    given = model(text, {"lw": normal(1, 12, 4), "lr": normal(1, 12, 3)})
    assert [op for op in same_meaning(given) if op != "reshape"] == ["reverse", "lstm", "reverse"]


def test_coupled_gates_are_an_attribute():
    """The forget gate becomes 1 - i, as ONNX Runtime has it; onnx.reference leaves the attribute alone."""
    text = "(float[T,2,4] x) => (float y) { y = LSTM<hidden_size=3, input_forget=1>(x, lw, lr, lb) }"
    w, r, b = normal(1, 12, 4), normal(1, 12, 3), normal(1, 24)
    graph = load_model(model(text, {"lw": w, "lr": r, "lb": b}), "tiny").graph
    assert [dict(node.attrs) for node in graph.nodes if node.op == "lstm"] == [{"cifg": True}]
    x = normal(5, 2, 4)
    h = c = np.zeros((2, 3))
    for frame in x:
        sums = frame @ w[0].T + h @ r[0].T + b[0, :12] + b[0, 12:]
        i, o, _, g = np.split(sums, 4, axis=1)
        i, o, g = 1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-o)), np.tanh(g)
        c = (1 - i) * c + i * g
        h = o * np.tanh(c)
    np.testing.assert_allclose(run(graph, {"x": x}).outputs["y"][-1, 0], h, rtol=1e-4, atol=1e-5)


# --- masks

MASKS = {
    "constant": ("(float[B,5,5] x) => (float y) { s = Add(x, triangle) y = Softmax(s) }", "softmax"),
    "constant and low": ("(float[B,5,5] x) => (float y) { s = Add(x, deep) y = Softmax(s) }", "add softmax"),
    "where": (
        "(float[B,5,5] x) => (float y) { s = Where(upper, minus_inf, x) y = Softmax(s) }",
        "softmax",
    ),
    "computed": (
        "(float[B,5,5] x, float[B,1,5] z) => (float y) "
        "{ k = Less(z, limit) s = Where(k, x, minus_inf) y = Softmax(s) }",
        "less softmax",
    ),
    "added": (
        "(float[B,5,5] x, float[B,5] z) => (float y) { k = Less(z, limit) m = Where(k, zero, low) "
        "u = Unsqueeze(m, axis_one) s = Add(x, u) y = Softmax(s) }",
        "less reshape softmax",
    ),
    "two": (
        "(float[B,5,5] x, float[B,1,5] z) => (float y) "
        "{ k = Less(z, limit) s = Where(k, x, minus_inf) t = Add(s, triangle) y = Softmax(t) }",
        "less logical_and softmax",
    ),
    "complement": (
        "(float[B,5,5] x, float[B,1,5] z) => (float y) { k = Less(z, limit) f = Cast<to=1>(k) "
        "c = Sub(one, f) m = Mul(c, low) s = Add(x, m) y = Softmax(s) }",
        "less softmax",
    ),
    "another axis": (
        "(float[B,5,5] x) => (float y) { s = Add(x, triangle) y = Softmax<axis=1>(s) }",
        "reshape transpose transpose softmax transpose",
    ),
}


@pytest.mark.parametrize("case", MASKS)
def test_masks_are_flags_of_the_softmax(case):
    text, ops = MASKS[case]
    given = built(text)
    inputs = inputs_of(given)
    if "z" in inputs:
        inputs["z"] = np.linspace(-1, 1, inputs["z"].size, dtype=np.float32).reshape(inputs["z"].shape)
        inputs["z"][..., 0] = 0  # a score is left in every row
    assert sorted(same_meaning(given, inputs)) == sorted(ops.split())
    graph = load_model(given, "tiny").graph
    assert [len(node.inputs) for node in graph.nodes if node.op == "softmax"] == [2]


def test_a_row_without_scores_gets_zeros():
    text = (
        "(float[2,5] x) => (float y) { s = Add(x, none) p = Softmax(s) n = IsNaN(p) y = Where(n, zero, p) }"
    )
    given = model(text, {"none": np.array([[NEVER] * 5, [0] * 5], np.float32), "zero": HELD["zero"]})
    with np.errstate(invalid="ignore"):
        assert same_meaning(given) == ["softmax", "reshape"]


def test_a_low_number_that_is_not_for_a_softmax_stays_a_number():
    text = "(float[5] x, float[5] z) => (float y) { k = Less(z, limit) y = Where(k, x, low) }"
    assert same_meaning(built(text)) == ["less", "where"]


def test_minus_infinity_without_a_softmax_is_refused():
    text = (
        "(float[5] x, float[5] z) => (float y) { k = Less(z, limit) s = Where(k, x, minus_inf) y = Relu(s) }"
    )
    with pytest.raises(FrontendError, match="'s' is -infinity in places, which only Softmax reads"):
        load_model(built(text), "tiny")


# --- attention over open time


@pytest.mark.parametrize("attributes", ["is_causal=1", "is_causal=0", "softcap=2.0", "scale=0.3"])
def test_attention_over_open_time(attributes):
    text = (
        "(float[B,4,T,8] q, float[B,2,T,8] k, float[B,2,T,6] v) => (float y) "
        f"{{ y = Attention<{attributes}>(q, k, v) }}"
    )
    assert same_meaning(built(text, 24)).count("matmul") == 2


def test_softmax_before_opset_13_takes_all_axes_from_its_own():
    given = built("(float[2,3,4] x) => (float y) { y = Softmax<axis=1>(x) }", 11)
    graph = load_model(given, "tiny").graph
    x = normal(2, 3, 4)
    found = run(graph, {"x": x}).outputs["y"]
    shares = np.exp(x) / np.exp(x).sum((1, 2), keepdims=True)
    np.testing.assert_allclose(found, shares, rtol=1e-5)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
        ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("bld,dh->bhl", [(2, 3, 4), (4, 5)]),
        ("...ij,...jk->...ik", [(2, 3, 4), (2, 4, 5)]),
        ("ij,kj", [(3, 4), (5, 4)]),
        ("i,j->ji", [(3,), (4,)]),
        ("ij,ij->i", [(3, 4), (3, 4)]),
        ("ijk,j->ik", [(2, 3, 4), (3,)]),
        ("ijk->ki", [(2, 3, 4)]),
        ("ij->", [(2, 3)]),
    ],
)
def test_einsum(equation, shapes):
    ports = ", ".join(f"float[{','.join(map(str, s))}] x{i}" for i, s in enumerate(shapes))
    names = ", ".join(f"x{i}" for i in range(len(shapes)))
    given = model(f'({ports}) => (float y) {{ y = Einsum<equation="{equation}">({names}) }}')
    arrays = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    graph = load_model(given, "tiny").graph
    found = run(graph, {f"x{i}": array for i, array in enumerate(arrays)}).outputs["y"]
    np.testing.assert_allclose(found, np.einsum(equation, *arrays), rtol=1e-4, atol=1e-5)


def test_a_diagonal_in_einsum_is_refused():
    given = model('(float[3,3] x) => (float y) { y = Einsum<equation="ii->i">(x) }')
    with pytest.raises(FrontendError, match="a letter twice in one term"):
        load_model(given, "tiny")


# --- whole numbers and flags


def test_whole_numbers_and_flags_ride_as_reals():
    given = model("(int64[T] i, bool[T] k) => (float y) { g = Gather(w, i) f = Cast<to=1>(k) y = Mul(g, f) }")
    given.graph.initializer.append(numpy_helper.from_array(normal(7), "w"))
    imported = load_model(given, "tiny")
    assert imported.notes == (
        "input i: whole numbers, as float32 (the file says int64)",
        "input k: truth values 0 and 1, as float32 (the file says bool)",
    )
    places, keep = np.array([6.0, 0, 3], np.float32), np.array([1.0, 0, 1], np.float32)
    found = run(imported.graph, {"i": places, "k": keep}).outputs["y"]
    np.testing.assert_array_equal(found, normal(7)[[6, 0, 3]] * keep)


def test_a_division_of_whole_numbers_is_cut_towards_zero():
    given = model("(int64[T] i, int64[T] k) => (float y) { d = Div(i, k) y = Cast<to=1>(d) }")
    numbers = {"i": np.array([7, -7, 9, -1.0]), "k": np.array([2, 2, -3, 3.0])}
    found = run(load_model(given, "tiny").graph, numbers).outputs["y"]
    np.testing.assert_array_equal(found, [3, -3, -3, 0])


def test_texts_are_refused():
    given = model("(string[T] t, float[T] x) => (float y) { y = Relu(x) }")
    with pytest.raises(FrontendError, match="Input at 't': it is string, not a number"):
        load_model(given, "tiny")


# --- bodies

LOOP = (
    "(float[4] x) => (float y, float p) {{ y, p = Loop (trips, {start}, x) <body = b "
    "(int64 i, bool c, float[4] s) => (bool d, float[4] u, float[4] v) "
    "{{ d = Identity(c) t = Cast<to=1>(i) u = Add(s, t) v = Tanh(u) }}> }}"
)


def test_a_loop_of_constant_length_is_unrolled():
    given = model(LOOP.format(start="go"), {"trips": np.array(3), "go": np.array(True)})
    ops = same_meaning(given)
    assert ops.count("tanh") == 3
    assert "concat" in ops


def test_a_loop_of_computed_length_is_refused_with_the_way_out():
    given = model(LOOP.format(start="go"), {"trips": np.array(3)})
    given.graph.input.append(helper.make_tensor_value_info("go", onnx.TensorProto.BOOL, []))
    with pytest.raises(FrontendError, match="only loops of a constant length are read"):
        load_model(given, "tiny")


def test_a_scan_over_a_whole_axis_is_unrolled():
    text = (
        "(float[4] h, float[3,4] x) => (float g, float y) { g, y = Scan<num_scan_inputs=1, body = b "
        "(float[4] s, float[4] z) => (float[4] u, float[4] v) { u = Add(s, z) v = Relu(u) }>(h, x) }"
    )
    assert same_meaning(model(text)).count("relu") == 3


def test_functions_are_put_in_line():
    given = model("(float[T,4] x) => (float y) { y = own.Twice(x) }")
    given.opset_import.append(helper.make_opsetid("own", 1))
    node = helper.make_node("Add", ["a", "a"], ["b"])
    given.functions.append(
        helper.make_function("own", "Twice", ["a"], ["b"], [node], [helper.make_opsetid("", 18)])
    )
    assert same_meaning(given) == ["add"]


def test_an_operator_that_onnx_defines_by_others_is_read_as_those():
    text = "(float[1,3,4,4] x) => (float y) { y = CenterCropPad<axes=[2,3]>(x, s) }"
    given = model(text, {"s": np.array([2, 3])})
    assert "slice" in same_meaning(given)


OLD = {
    "slice": "(float[T,6] x) => (float y) { y = Slice<axes=[1], starts=[1], ends=[4]>(x) }",
    "clip": "(float[T,6] x) => (float y) { y = Clip<min=-0.5, max=0.5>(x) }",
    "pad": "(float[T,6] x) => (float y) { y = Pad<pads=[0,1,0,2], value=0.5>(x) }",
    "squeeze": "(float[T,1,6] x) => (float y) { y = Squeeze<axes=[1]>(x) }",
    "split": "(float[T,6] x) => (float y, float z) { y, z = Split<axis=1, split=[2,4]>(x) }",
    "mean": "(float[T,6] x) => (float y) { y = ReduceMean<axes=[1], keepdims=0>(x) }",
    "upsample": '(float[1,2,3,4] x) => (float y) { y = Upsample<mode="nearest">(x, scales) }',
    "batch": "(float[T,6] x) => (float y) { y = BatchNormalization(x, w, w, w, w) }",
}


def first_output(given: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return run(load_model(given, "tiny").graph, {"x": x}).outputs["y"]


@pytest.mark.parametrize("case", OLD)
@pytest.mark.parametrize("raised", [True, False], ids=["raised", "as it is"])
def test_opset_9_is_read_in_its_own_spelling(case, raised, monkeypatch):
    """Where the converter cannot raise a model, the handlers read the old attributes themselves."""
    if not raised:

        def refuse(*_):
            raise RuntimeError("no adapter")

        monkeypatch.setattr("nnaq.frontends.onnx_model.version_converter.convert_version", refuse)
    given = model(OLD[case], opset=9)
    weights = {"w": np.abs(normal(6)) + 0.5, "scales": np.array([1, 1, 2, 2], np.float32)}
    read = {value for node in given.graph.node for value in node.input}
    held = (numpy_helper.from_array(array, name) for name, array in weights.items() if name in read)
    given.graph.initializer.extend(held)
    x = normal(*(d.dim_value or 5 for d in given.graph.input[0].type.tensor_type.shape.dim))
    w = weights["w"]
    meanings = {
        "slice": lambda: x[:, 1:4],
        "clip": lambda: np.clip(x, -0.5, 0.5),
        "pad": lambda: np.pad(x, ((0, 0), (1, 2)), constant_values=0.5),
        "squeeze": lambda: x[:, 0],
        "split": lambda: x[:, :2],
        "mean": lambda: x.mean(1),
        "upsample": lambda: x.repeat(2, 2).repeat(2, 3),
        "batch": lambda: (x - w) / np.sqrt(w + 1e-5) * w + w,
    }
    np.testing.assert_allclose(first_output(given, x), meanings[case](), rtol=1e-5, atol=1e-5)
