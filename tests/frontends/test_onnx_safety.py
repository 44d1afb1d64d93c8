"""What a file may not do, and the sentence a user reads when it does."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from frontends.onnx_models import model, normal
from onnx import TensorProto, helper, numpy_helper

from nnaq.errors import FrontendError
from nnaq.frontends.onnx import check, load, load_model
from nnaq.frontends.ports import ImportOptions
from nnaq.interpret import run

GEMM = "(float[T,4] x) => (float y) { y = MatMul(x, w) }"


def refusal(given: onnx.ModelProto, options: ImportOptions | None = None) -> str:
    with pytest.raises(FrontendError) as caught:
        load_model(given, "tiny", options)
    return str(caught.value)


def saved(tmp_path: Path, data: bytes, name: str = "tiny.onnx") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path, model(GEMM, {"w": normal(4, 3)}).SerializeToString())
    assert load(path).graph.name == "tiny"
    assert check(path) == ()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FrontendError, match=r"there is no model file '.*tiny.onnx'"):
        load(tmp_path / "tiny.onnx")


def test_a_truncated_file(tmp_path: Path) -> None:
    data = model(GEMM, {"w": normal(4, 3)}).SerializeToString()
    with pytest.raises(FrontendError, match=r"'tiny.onnx' is truncated or not an ONNX file"):
        load(saved(tmp_path, data[: len(data) // 2]))


@pytest.mark.parametrize("size", [1, 7, 50, 100])
def test_every_cut_of_a_file_is_a_sentence(tmp_path: Path, size: int) -> None:
    data = model(GEMM, {"w": normal(4, 3)}).SerializeToString()
    with pytest.raises(FrontendError):
        load(saved(tmp_path, data[:size]))


def test_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(FrontendError, match=r"'tiny.onnx' holds no ONNX graph"):
        load(saved(tmp_path, b""))


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x80\x02"])
def test_an_archive_or_a_pickle_is_never_opened(tmp_path: Path, head: bytes) -> None:
    with pytest.raises(FrontendError, match=r"'model.pt' is an archive or a pickle, not an ONNX file"):
        load(saved(tmp_path, head + b"\0" * 64, "model.pt"))


def test_external_data() -> None:
    given = model(GEMM, {"w": normal(4, 3)})
    tensor = given.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    expected = "the model refers to external data (tensor 'w'); re-save it with one file"
    assert refusal(given).startswith(expected)


def test_external_data_inside_a_branch() -> None:
    branch = helper.make_graph([helper.make_node("Constant", [], ["k"])], "branch", [], [])
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "hidden")
    tensor.data_location = TensorProto.EXTERNAL
    branch.node[0].attribute.append(helper.make_attribute("value", tensor))
    given = model("(float[2] x, bool[] c) => (float y) { y = Relu(x) }")
    given.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch))
    assert "external data (tensor 'hidden')" in refusal(given)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(value: float) -> None:
    weight = normal(4, 3)
    weight[1, 2] = value
    assert refusal(model(GEMM, {"w": weight})) == (
        "tensor 'w' holds NaN or infinity; a quantiser needs finite weights"
    )


def test_a_tensor_that_is_shorter_than_its_shape() -> None:
    given = model(GEMM, {"w": normal(4, 3)})
    given.graph.initializer[0].raw_data = b"\0" * 8
    assert "tensor 'w' does not hold what its shape [4, 3] says" in refusal(given)


def test_no_nodes() -> None:
    given = model("(float[2] x) => (float y) { y = Relu(x) }")
    del given.graph.node[:]
    assert "has no nodes" in refusal(given)


def test_a_model_that_breaks_the_rules_of_onnx() -> None:
    given = model("(float[2] x) => (float y) { y = Relu(x) }")
    given.graph.node[0].input[0] = "nowhere"
    assert refusal(given).startswith("ONNX model 'tiny' is not valid: ")


def test_shapes_that_contradict_each_other() -> None:
    given = model("(float[3,4] x) => (float y) { y = MatMul(x, w) }", {"w": normal(5, 3)})
    assert "MatMul" in refusal(given)


def test_a_constant_that_would_fill_the_memory_is_not_made() -> None:
    given = model(
        "(float[4] x) => (float y) { z = ConstantOfShape(s) r = ReduceMax<keepdims=0>(z) y = Add(x, r) }",
        {"s": np.array([2**20, 2**20])},
    )
    assert "it makes a constant of shape [1048576, 1048576] (at most" in refusal(given)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_become_float32(dtype: type) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    word = {np.float16: "float16", np.float64: "double"}[dtype]
    given = model(
        f"({word}[T,4] x) => ({word} y) {{ s = Cast<to={kind}>(x) y = MatMul(s, w) }}",
        {"w": normal(4, 3).astype(dtype)},
    )
    imported = load_model(given, "tiny")
    assert "2 tensors of other float types are read as float32" in imported.notes
    x = normal(5, 4)
    found = run(imported.graph, {"x": x}).outputs["y"]
    np.testing.assert_allclose(found, x @ normal(4, 3).astype(dtype).astype(np.float32), rtol=1e-5, atol=1e-5)


def test_a_double_beyond_float32() -> None:
    given = model("(double[T,1] x) => (double y) { y = MatMul(x, w) }", {"w": np.array([[1e300]])})
    assert "tensor 'w' holds NaN or infinity" in refusal(given)


def test_an_old_opset_is_raised() -> None:
    given = model("(float[T,1,4] x) => (float y) { s = Squeeze<axes=[1]>(x) y = Relu(s) }", opset=9)
    imported = load_model(given, "tiny")
    assert imported.notes == ("opset 9 is read as opset 18",)
    assert [node.op for node in imported.graph.nodes] == ["reshape", "relu"]


def test_weights_listed_among_the_inputs_are_weights() -> None:
    given = model("(float[T,4] x, float[4,3] w) => (float y) { y = MatMul(x, w) }", {"w": normal(4, 3)})
    graph = load_model(given, "tiny").graph
    assert [port.name for port in graph.inputs] == ["x"]


def test_all_that_is_missing_is_listed_at_once(tmp_path: Path) -> None:
    given = model(
        "(float[T,4] x, string[2] n) => (float y, float z) "
        "{ a = Hardmax(x) b = Hardmax(a) c = Hardmax(b) d = Hardmax(c) y = Relu(d) "
        "e = Sinh(y) u = Unsqueeze(e, zero) f, z = RNN<hidden_size=2>(u, w, r) }",
        {"zero": np.array([0]), "w": normal(1, 2, 4), "r": normal(1, 2, 2)},
    )
    assert refusal(given) == (
        "model 'tiny' has 7 nodes that cannot be imported: "
        "Input at 'n': it is string, not a number (pin it to a value); "
        "Hardmax at 'Hardmax_of_a', 'Hardmax_of_b', 'Hardmax_of_c' and 1 more: "
        "this operator is not supported; "
        "Sinh at 'Sinh_of_e': this operator is not supported (the nearest is Sin); "
        "RNN at 'RNN_of_f': this operator is not supported "
        "(a plain recurrence has no operator here; use an LSTM or a GRU)"
    )
    found = check(saved(tmp_path, given.SerializeToString()))
    assert [problem.op for problem in found] == ["Input", *["Hardmax"] * 4, "Sinh", "RNN"]


def test_an_operator_of_another_domain() -> None:
    given = model("(float[T,4] x) => (float y) { y = com.example.Relu(x) }")
    given.opset_import.append(helper.make_opsetid("com.example", 1))
    assert "this operator of domain 'com.example' is not supported" in refusal(given)


def test_a_reason_inside_a_node_is_listed_beside_unknown_operators() -> None:
    given = model("(float[T,4] x, float[T,4] z) => (float y) { a = Hardmax(x) y = Pow(a, z) }")
    assert "Hardmax" in refusal(given)
    assert "its exponent is not a constant" in refusal(given)


def test_names_that_are_not_text(tmp_path: Path) -> None:
    given = model("(float[2] x) => (float y) { y = Relu(x) }")
    given.graph.node[0].name = "relu_to_break"
    data = given.SerializeToString().replace(b"relu_to_break", b"relu_to_\xff\xff\xff\xff\xff")
    with pytest.raises(FrontendError):
        load(saved(tmp_path, data))


def test_a_tensor_of_a_dtype_that_does_not_exist() -> None:
    given = model(GEMM, {"w": normal(4, 3)})
    given.graph.initializer[0].data_type = 127
    assert "tensor 'w' does not hold what its shape [4, 3] says" in refusal(given)


def test_every_flipped_byte_is_read_or_refused_with_a_sentence(tmp_path: Path) -> None:
    data = model(GEMM, {"w": normal(4, 3)}).SerializeToString()
    refused = 0
    for position in range(len(data)):
        try:
            load(saved(tmp_path, data[:position] + b"\xff" + data[position + 1 :]))
        except FrontendError:
            refused += 1
    assert refused > len(data) // 4


def test_axes_that_no_tensor_has() -> None:
    """The shape inference of ONNX itself ends the process at the first of these."""
    for axis in (2**31, -(2**63)):
        given = model(
            "(float[3,4] x) => (float y) { y = LayerNormalization<axis=1>(x, w) }", {"w": normal(4)}
        )
        given.graph.node[0].attribute[0].i = axis
        assert refusal(given).startswith(
            f"LayerNormalization 'LayerNormalization_of_y' names the axis {axis}"
        )


def test_padding_that_would_fill_the_memory() -> None:
    given = model("(float[1,1,4] x) => (float y) { y = AveragePool<kernel_shape=[2],pads=[0,99999999]>(x) }")
    assert "its kernel, strides, dilations or pads are above 65536" in refusal(given)


def test_a_value_that_no_memory_holds() -> None:
    given = model("(float[1099511627776,4] x) => (float y) { y = Relu(x) }")
    assert "value 'x' has the shape [1099511627776, 4], 4398046511104 entries" in refusal(given)


@pytest.mark.parametrize("word", [b"\xff", b"NONSENSE"])
def test_a_word_that_onnx_does_not_have(word: bytes) -> None:
    given = model('(float[1,1,4] x) => (float y) { y = MaxPool<auto_pad="VALID",kernel_shape=[2]>(x) }')
    attribute = next(a for a in given.graph.node[0].attribute if a.name == "auto_pad")
    attribute.s = word
    refusal(given)
