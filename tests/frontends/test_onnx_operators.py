"""Every operator that is read: the graph's meaning over the reals equals the ONNX project's evaluator."""

import numpy as np
import pytest
from frontends.onnx_models import evaluate, inputs_of, model, normal

from nnaq.errors import FrontendError
from nnaq.frontends.onnx import load_model
from nnaq.frontends.ports import ImportOptions
from nnaq.interpret import run
from nnaq.ir.text import parse_graph, print_graph

W = {
    "w": normal(6, 4, seed=11),
    "v": normal(4, 6, seed=12),
    "b": normal(6, seed=13),
    "row": normal(1, 6, seed=14),
    "block": normal(5, 6, seed=15),
    "c1": normal(8, 4, 3, seed=16),
    "c1b": normal(8, seed=17),
    "group": normal(8, 2, 3, seed=18),
    "c2": normal(5, 3, 3, 2, seed=19),
    "channel": normal(8, 1, seed=20),
    "lw": normal(1, 12, 4, seed=21),
    "lr": normal(1, 12, 3, seed=22),
    "lb": normal(1, 24, seed=23),
    "h0": normal(1, 2, 3, seed=24),
    "scale": normal(4, seed=25),
    "shift": normal(4, seed=26),
    "mean": normal(4, seed=27),
    "variance": np.abs(normal(4, seed=28)) + 0.1,
    "two": np.float32(2.0),
    "half": np.float32(0.5),
    "one": np.ones((1, 1), np.float32),
    "zero": np.float32(0.0),
    "divisor": np.abs(normal(4, seed=29)) + 0.5,
    "scalar": np.float32(0.75),
    "i_one": np.array([1]),
    "i_last": np.array([-1]),
    "i_two": np.array(2),
    "i_strided": np.array([0, 2, 4]),
    "i_zero_two": np.array([0, 2]),
    "starts": np.array([1, -3]),
    "ends": np.array([2**63 - 1, -1]),
    "back": np.array([-1]),
    "front": np.array([-(2**63)]),
    "minus": np.array([-1]),
    "pads": np.array([0, 1, 2, 0, 2, 1]),
    "pads_of_one": np.array([2, 1]),
    "sizes": np.array([1, 3]),
    "copy_rest": np.array([0, -1]),
    "flat": np.array([-1]),
    "c_four": np.array([4]),
}

CASES = {
    "Add": ("(float[T,4] x, float[4] y0) => (float y) { y = Add(x, y0) }", "add"),
    "Sub constant": ("(float[T,6] x) => (float y) { y = Sub(row, x) }", "sub"),
    "Mul": ("(float[T,1,4] x, float[3,4] z) => (float y) { y = Mul(x, z) }", "mul"),
    "Div": ("(float[T,4] x) => (float y) { y = Div(x, divisor) }", "mul"),
    "Relu": ("(float[T,4] x) => (float y) { y = Relu(x) }", "relu"),
    "Clip": ("(float[T,4] x) => (float y) { y = Clip(x, zero) }", "relu"),
    "Sigmoid": ("(float[T,4] x) => (float y) { y = Sigmoid(x) }", "sigmoid"),
    "Tanh": ("(float[T,4] x) => (float y) { y = Tanh(x) }", "tanh"),
    "Exp": ("(float[T,4] x) => (float y) { y = Exp(x) }", "exp"),
    "Log": ("(float[T,4] x) => (float y) { s = Sigmoid(x) y = Log(s) }", "sigmoid log"),
    "Pow 2": ("(float[T,4] x) => (float y) { y = Pow(x, two) }", "square"),
    "Pow 1/2": ("(float[T,4] x) => (float y) { s = Pow(x, two) y = Pow(s, half) }", "square sqrt"),
    "Pow 1": ("(float[T,4] x) => (float y) { s = Pow(x, one) y = Relu(s) }", "relu"),
    "Sqrt": ("(float[T,4] x) => (float y) { s = Sigmoid(x) y = Sqrt(s) }", "sigmoid sqrt"),
    "Identity": ("(float[T,4] x) => (float y) { y = Identity(x) }", "reshape"),
    "Dropout": ("(float[T,4] x) => (float y) { s = Dropout(x) y = Relu(s) }", "relu"),
    "Cast": ("(float[T,4] x) => (float y) { s = Cast<to=1>(x) y = Relu(s) }", "relu"),
    "MatMul": ("(float[T,2,4] x) => (float y) { y = MatMul(x, v) }", "fully_connected"),
    "MatMul Add": ("(float[T,4] x) => (float y) { s = MatMul(x, v) y = Add(b, s) }", "fully_connected"),
    "MatMul Add row": ("(float[T,4] x) => (float y) { s = MatMul(x, v) y = Add(s, row) }", "fully_connected"),
    "MatMul Add scalar": (
        "(float[T,4] x) => (float y) { s = MatMul(x, v) y = Add(s, scalar) }",
        "fully_connected",
    ),
    "MatMul Add block": (
        "(float[5,4] x) => (float y) { s = MatMul(x, v) y = Add(s, block) }",
        "fully_connected add",
    ),
    "MatMul Add twice": (
        "(float[T,4] x) => (float y, float s) { s = MatMul(x, v) y = Add(s, b) }",
        "fully_connected add",
    ),
    "MatMul left": (
        "(float[2,4,T] x) => (float y) { y = MatMul(w, x) }",
        "transpose fully_connected transpose",
    ),
    "MatMul two": ("(float[2,T,4] x, float[2,4,3] z) => (float y) { y = MatMul(x, z) }", "matmul"),
    "Gemm": ("(float[T,4] x) => (float y) { y = Gemm<transB=1>(x, w, b) }", "fully_connected"),
    "Gemm scaled": (
        "(float[T,4] x) => (float y) { y = Gemm<alpha=0.5, beta=2.0>(x, v, row) }",
        "fully_connected",
    ),
    "Gemm transposed": (
        "(float[4,T] x) => (float y) { y = Gemm<transA=1>(x, v) }",
        "transpose fully_connected",
    ),
    "Gemm block": (
        "(float[5,4] x) => (float y) { y = Gemm<transB=1, beta=0.5>(x, w, block) }",
        "fully_connected mul add",
    ),
    "Gemm of two": (
        "(float[T,4] x, float[3,4] z) => (float y) { y = Gemm<transB=1, alpha=3.0>(x, z) }",
        "transpose matmul",
    ),
    "Conv": ("(float[N,4,9] x) => (float y) { y = Conv<pads=[1,2], strides=[2]>(x, c1, c1b) }", "conv1d"),
    "Conv of open time": ("(float[1,4,T] x) => (float y) { y = Conv<pads=[2,0]>(x, c1) }", "conv1d"),
    "Conv Add": ("(float[N,4,9] x) => (float y) { s = Conv(x, c1) y = Add(s, channel) }", "conv1d"),
    "Conv dilated": ("(float[N,4,9] x) => (float y) { y = Conv<dilations=[2]>(x, c1) }", "conv1d"),
    "Conv grouped": ("(float[N,4,9] x) => (float y) { y = Conv<group=2>(x, group) }", "conv1d"),
    "Conv same upper": (
        '(float[N,4,8] x) => (float y) { y = Conv<auto_pad="SAME_UPPER", strides=[2]>(x, c1) }',
        "conv1d",
    ),
    "Conv same lower": (
        '(float[N,4,8] x) => (float y) { y = Conv<auto_pad="SAME_LOWER", strides=[2]>(x, c1) }',
        "conv1d",
    ),
    "Conv valid": ('(float[N,4,8] x) => (float y) { y = Conv<auto_pad="VALID">(x, c1) }', "conv1d"),
    "Conv 2d": (
        "(float[N,3,7,6] x) => (float y) { y = Conv<pads=[1,0,2,1], strides=[1,2], dilations=[2,1]>(x, c2) }",
        "conv2d",
    ),
    "BatchNormalization": (
        "(float[N,4,5] x) => (float y) "
        "{ y = BatchNormalization<epsilon=0.01>(x, scale, shift, mean, variance) }",
        "batch_norm",
    ),
    "MaxPool": (
        "(float[N,3,8] x) => (float y) { y = MaxPool<kernel_shape=[3], strides=[2], pads=[1,0]>(x) }",
        "max_pool",
    ),
    "MaxPool 2d": (
        "(float[N,3,6,8] x) => (float y) { y = MaxPool<kernel_shape=[2,3], strides=[2,1]>(x) }",
        "max_pool",
    ),
    "AveragePool": (
        "(float[N,3,8] x) => (float y) { y = AveragePool<kernel_shape=[3], strides=[2], pads=[1,1]>(x) }",
        "average_pool",
    ),
    "AveragePool padded": (
        "(float[N,3,8] x) => (float y) "
        "{ y = AveragePool<kernel_shape=[3], pads=[1,1], count_include_pad=1>(x) }",
        "average_pool",
    ),
    "GlobalAveragePool": ("(float[N,3,4,5] x) => (float y) { y = GlobalAveragePool(x) }", "reduce_mean"),
    "ReduceMean": (
        "(float[N,3,4] x) => (float y) { y = ReduceMean<keepdims=0>(x, back) }",
        "reduce_mean",
    ),
    "ReduceMean of one": (
        "(float[T,1,4] x) => (float y) { y = ReduceMean<keepdims=0>(x, i_one) }",
        "reshape",
    ),
    "LSTM": (
        "(float[T,2,4] x, float[1,2,3] h, float[1,2,3] c) => (float y, float a, float d) "
        '{ y, a, d = LSTM<hidden_size=3>(x, lw, lr, lb, "", h, c) }',
        "reshape reshape lstm reshape reshape reshape",
    ),
    "LSTM from zeros": (
        "(float[T,2,4] x) => (float a) { y, a = LSTM<hidden_size=3>(x, lw, lr) }",
        "lstm reshape",
    ),
    "LSTM from a constant": (
        '(float[T,2,4] x) => (float y) { y = LSTM<hidden_size=3>(x, lw, lr, lb, "", h0) }',
        "lstm reshape",
    ),
    "Reshape": ("(float[T,2,4] x) => (float y) { y = Reshape(x, copy_rest) }", "reshape"),
    "Squeeze": ("(float[T,1,4] x) => (float y) { y = Squeeze(x, i_one) }", "reshape"),
    "Squeeze all": ("(float[1,T,1] x) => (float y) { y = Squeeze(x) }", "reshape"),
    "Unsqueeze": ("(float[T,4] x) => (float y) { y = Unsqueeze(x, i_zero_two) }", "reshape"),
    "Flatten": ("(float[T,2,4] x) => (float y) { y = Flatten(x) }", "reshape"),
    "Flatten time": ("(float[T,2,4] x) => (float y) { y = Flatten<axis=2>(x) }", "reshape"),
    "Transpose": ("(float[T,2,4] x) => (float y) { y = Transpose<perm=[2,0,1]>(x) }", "transpose"),
    "Transpose all": ("(float[T,2,4] x) => (float y) { y = Transpose(x) }", "transpose"),
    "Slice": ("(float[5,6] x) => (float y) { y = Slice(x, starts, ends) }", "slice"),
    "Slice backwards": (
        "(float[T,6] x) => (float y) { y = Slice(x, back, front, i_one, minus) }",
        "slice",
    ),
    "Gather one": ("(float[T,6] x) => (float y) { y = Gather<axis=1>(x, i_two) }", "slice reshape"),
    "Gather some": ("(float[T,6] x) => (float y) { y = Gather<axis=1>(x, i_strided) }", "slice"),
    "Gather last": ("(float[3,T] x) => (float y) { y = Gather(x, i_last) }", "slice"),
    "Split": (
        "(float[T,4] x) => (float y, float z) { y, z = Split<axis=1>(x, sizes) }",
        "slice slice",
    ),
    "Split evenly": (
        "(float[T,5] x) => (float y, float z) { y, z = Split<axis=1, num_outputs=2>(x) }",
        "slice slice",
    ),
    "Pad constant": ("(float[T,3,4] x) => (float y) { y = Pad(x, pads) }", "pad"),
    "Pad reflect": ('(float[5,3,4] x) => (float y) { y = Pad<mode="reflect">(x, pads) }', "pad"),
    "Pad one axis": (
        '(float[T,3,4] x) => (float y) { y = Pad<mode="edge">(x, pads_of_one, "", i_last) }',
        "pad",
    ),
    "Concat": ("(float[T,4] x, float[T,3] z) => (float y) { y = Concat<axis=-1>(x, z) }", "concat"),
    "Shape": (
        "(float[T,N,4] x) => (float y) { s = Shape(x) n = Gather(s, i_one) "
        "z = Concat<axis=0>(flat, n, c_four) t = Relu(x) y = Reshape(t, z) }",
        "relu reshape",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_meaning_equals_the_onnx_evaluator(case: str) -> None:
    text, ops = CASES[case]
    given = model(text, {name: array for name, array in W.items() if f"{name}" in _words(text)})
    imported = load_model(given, "tiny", ImportOptions())
    assert [node.op for node in imported.graph.nodes] == ops.split()
    inputs = inputs_of(given)
    expected, found = evaluate(given, inputs), run(imported.graph, inputs).outputs
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)
    assert print_graph(parse_graph(print_graph(imported.graph))) == print_graph(imported.graph)


def _words(text: str) -> set[str]:
    body = text[text.index("{") :]
    return set("".join(c if c.isalnum() or c == "_" else " " for c in body).split())


def test_constants_are_shared_and_keep_their_names() -> None:
    text = "(float[T,4] x, float[T,4] z) => (float y, float u) { y = MatMul(x, v) u = MatMul(z, v) }"
    graph = load_model(model(text, {"v": W["v"]}), "tiny").graph
    assert list(graph.constants) == ["v"]
    assert graph.constants["v"].shape == (6, 4)


def test_batch_normalization_behind_a_convolution_is_folded_into_it() -> None:
    text = (
        "(float[N,3,7,6] x) => (float y) "
        "{ s = Conv(x, c2) y = BatchNormalization(s, scale, shift, mean, variance) }"
    )
    weights = {name: normal(5, seed=i) for i, name in enumerate(("scale", "shift", "mean"))}
    weights |= {"c2": W["c2"], "variance": np.abs(normal(5)) + 0.5}
    given = model(text, weights)
    graph = load_model(given, "tiny").graph
    assert [node.op for node in graph.nodes] == ["conv2d"]
    inputs = inputs_of(given)
    np.testing.assert_allclose(
        run(graph, inputs).outputs["y"], evaluate(given, inputs)["y"], rtol=1e-4, atol=1e-5
    )


REFUSED = {
    "Pow": ("(float[T,4] x, float[T,4] z) => (float y) { y = Pow(x, z) }", "its exponent is not a constant"),
    "RNN": ("(float[T,2,4] x) => (float y) { y = RNN<hidden_size=3>(x, lw, lr) }", "use an LSTM or a GRU"),
    "LSTM": (
        "(float[T,2,4] x) => (float y) { y = LSTM<hidden_size=3, clip=1.0>(x, lw, lr) }",
        "clipped cells (it reads LSTMs",
    ),
    "MaxPool": (
        "(float[N,3,8] x) => (float y, int64 i) { y, i = MaxPool<kernel_shape=[3]>(x) }",
        "its result 'i' is read: pooling here makes no indices",
    ),
    "LSTM of a stray bias": (
        "(float[T,2,4] x) => (float y) { y = LSTM<hidden_size=3>(x, lw, lr, block) }",
        "its bias B has the shape [5, 6]",
    ),
    "Conv": (
        "(float[T,4,9] x, float[8,4,3] z) => (float y) { y = Conv(x, z) }",
        "its weight is not a constant",
    ),
    "Split of open time": (
        "(float[T,4] x) => (float y, float z) { y, z = Split<num_outputs=2>(x) }",
        "open axis 'T'",
    ),
    "two open axes": (
        "(float[T,4] x, float[N,M] z) => (float y) { s = Shape(z) y = Reshape(x, s) }",
        "two open axes",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_the_reason(case: str) -> None:
    text, reason = REFUSED[case]
    weights = {name: array for name, array in W.items() if name in _words(text)}
    with pytest.raises(FrontendError) as caught:
        load_model(model(text, weights), "tiny")
    assert reason in str(caught.value)
