"""The lowered file: what it holds, and that it reads back as the graph it was written from."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from export.integer_graphs import integer_node, one_node, random_inputs
from export.runtimes import runtimes_agree
from onnx import TensorProto, helper, numpy_helper

from nnaq.errors import ArtifactError
from nnaq.export.bodies import BODIES
from nnaq.export.check import differing, file_equals_simulator
from nnaq.export.onnx import export_model, save
from nnaq.export.read import read_lowered
from nnaq.ir.build import Builder
from nnaq.ir.op import table
from nnaq.ir.text import print_graph
from nnaq.ir.types import parse_type
from nnaq.kernels.boundary import quantize_attrs

X = "i8[T,8]<0.05, -3>"


def delay():
    """Reals in, two layers (palette and 4-bit weights), the operand of one frame earlier, reals out."""
    build, random = Builder("delay"), np.random.default_rng(5)
    real = build.input("x", parse_type("f32[T,8]"), time_axis=0)
    (codes,) = build.node("quantize", [real], {"rounding": "half_even"}, ("x.codes",), (parse_type(X),))
    build.value("before", parse_type("i8[1,8]<0.05, -3>"))
    kind = parse_type("i8[6,8]<0.02, 0> palette2(-90, -7, 11, 80)")
    weight = build.constant("weight", random.choice(kind.palette.tables[0], (6, 8)).astype(np.int8), kind)
    codes_4 = random.integers(-7, 8, (6, 8)).astype(np.int8)
    small = build.constant("small", codes_4, parse_type("i4[6,8]<0.02, 0>"))
    attrs = {"activation": "none"}
    (now,) = integer_node(build, "fully_connected", [codes, weight], ["i8[]<0.1, 5>"], attrs)
    (then,) = integer_node(build, "fully_connected", ["before", small], ["i8[]<0.1, 5>"], attrs)
    (both,) = build.node("concat", [then, now], {"axis": 0}, types=(parse_type("i8[T+1,6]<0.1, 5>"),))
    (y,) = build.node("dequantize", [both], types=(parse_type("f32[T+1,6]"),), source="model.out")
    nothing = {"pads": (0, 0, 0, 0), "mode": "edge"}
    (last,) = build.node("pad", ["before"], nothing, types=(build.types["before"],))
    build.output(y, time_axis=0)
    build.state("memory", "before", last, np.full((1, 8), 9, np.int8))
    return build.build()


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "model.onnx"
    save(delay(), path)
    return path


def test_both_runtimes_run_the_whole_file(tmp_path):
    graph = delay()
    runtimes_agree([(graph, random_inputs(graph, 1), None)], tmp_path)


def test_a_file_that_computes_something_else_is_counted():
    graph = delay()
    changed = dict(graph.constants, small=-graph.constants["small"])
    other = export_model(replace(graph, constants=changed))
    inputs = {"x": np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)}
    assert file_equals_simulator(export_model(graph), graph, inputs).mismatches == 0
    assert file_equals_simulator(other, graph, inputs).mismatches > 0


@pytest.mark.parametrize(
    ("found", "missing"),
    [
        (np.zeros((0,), np.int8), 3),
        (np.zeros((1,), np.int8), 3),
        (np.zeros((3,), np.int16), 3),
        (np.array([0, 0, 1], np.int8), 1),
        (np.zeros((3,), np.int8), 0),
    ],
)
def test_missing_values_and_other_dtypes_differ(found, missing):
    assert differing(found, np.zeros(3, np.int8)) == missing


def test_a_value_handed_through_gets_a_name_of_its_own(tmp_path):
    build = Builder("through")
    build.input("x", parse_type(X), time_axis=0)
    build.value("held", parse_type("i8[3]<0.1, 0>"))
    build.output("x", time_axis=0)
    build.state("s", "held", "held", np.array([1, -2, 3], np.int8))
    graph = build.build()
    runtimes_agree([(graph, random_inputs(graph, 0), 2)], tmp_path)
    assert [value.name for value in export_model(graph).graph.output] == ["x:out", "held:out"]


def test_reads_back_what_was_written(written):
    assert read_lowered(written) == delay()


def test_the_file_says_what_it_is(written):
    model = onnx.load(written)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["nnaq.graph"] == print_graph(delay())
    assert json.loads(properties["nnaq.states"]) == {
        "memory": {"input": "before", "output": "pad_5", "initial": "memory.initial"}
    }
    assert [value.name for value in model.graph.input] == ["x", "before"]
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert (kinds["weight:indices"], kinds["weight:table"]) == (TensorProto.UINT8, TensorProto.INT8)
    assert kinds["small"] == TensorProto.INT4
    assert {node.domain for node in model.graph.node} == {"ai.nnaq"}
    sources = {node.op_type: {p.key: p.value for p in node.metadata_props} for node in model.graph.node}
    assert sources["dequantize"] == {"source": "model.out"}


def test_equal_bodies_are_one_function_and_others_are_numbered(tmp_path):
    build = Builder("three")
    x = build.input("x", parse_type(X))
    for text in ("i8[]<0.1, 5>", "i8[]<0.2, 5>", "i8[]<0.1, 6>"):
        for name in integer_node(build, "rescale", [x], [text]):
            build.output(name)
    graph = build.build()
    model = export_model(graph)
    assert [f.name for f in model.functions] == ["rescale", "rescale__2"]
    assert [node.op_type for node in model.graph.node] == ["rescale", "rescale", "rescale__2"]
    runtimes_agree([(graph, random_inputs(graph, 0), None)], tmp_path)


def test_every_integer_operator_has_a_body():
    assert {name for name, op in table().items() if not op.is_host_only} == set(BODIES)


def test_what_has_no_body_is_refused_by_name():
    build = Builder("real")
    x = build.input("x", parse_type("f32[4]"))
    attrs = quantize_attrs(parse_type("i8[4]<0.1, 0>"))
    build.output(build.node("fake_quantize", [x], attrs, name="x.rounded")[0])
    with pytest.raises(ArtifactError, match=r"no body for fake_quantize 'x.rounded' \(real\)"):
        export_model(build.build())


def test_a_code_outside_its_palette_is_refused():
    graph = one_node(
        "fully_connected",
        ["i8[1,2]<0.1, 0>", "i8[1,2]<0.1, 0> palette1(-1, 1)"],
        ["i8[]<0.1, 0>"],
        {"activation": "none"},
        weights={1: np.array([[1, 2]], np.int8)},
    )
    with pytest.raises(ArtifactError, match="'w1' cannot be packed: the code 2 of row 0 is not in its table"):
        export_model(graph)


def change_clip(model):
    """Another bound inside a body."""
    for node in (node for function in model.functions for node in function.node):
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            array = numpy_helper.to_array(tensor)
            if array.shape == () and array == 122:
                tensor.CopyFrom(numpy_helper.from_array(np.array(121, np.int64), tensor.name))


def change_node(model):
    model.graph.node[-1].name = "other"


def change_text(model):
    entry = next(e for e in model.metadata_props if e.key == "nnaq.graph")
    entry.value = entry.value.replace("<0.1, 5>", "<0.1, 6>")


def drop_constant(model):
    del model.graph.initializer[0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (change_clip, "was written by another build of nnaq, or changed since"),
        (change_node, "was changed after nnaq wrote it"),
        (change_text, "was changed after nnaq wrote it"),
        (drop_constant, "was changed after nnaq wrote it"),
    ],
)
def test_a_changed_file_is_refused(written, change, told):
    model = onnx.load(written)
    change(model)
    onnx.save(model, written)
    with pytest.raises(ArtifactError, match=told):
        read_lowered(written)


def refused(model, path):
    onnx.save(model, path)
    with pytest.raises(ArtifactError) as caught:
        read_lowered(path)
    return str(caught.value).replace(str(path), "FILE")


def test_other_versions_are_refused(written):
    model = onnx.load(written)
    next(e for e in model.metadata_props if e.key == "nnaq.version").value = "0.0.1"
    assert refused(model, written).startswith("FILE was lowered by nnaq 0.0.1, this is")


def test_external_data_is_refused(written):
    model = onnx.load(written)
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere.bin")
    written.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="outside the file, which nnaq never reads"):
        read_lowered(written)


def test_foreign_models_are_refused(tmp_path):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    node = helper.make_node("Relu", ["x"], ["y"])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    model = helper.make_model(helper.make_graph([node], "g", [value], [result]))
    message = refused(model, tmp_path / "foreign.onnx")
    assert message == "FILE is not a lowered nnaq model; run `nnaq lower FILE` first"


@pytest.mark.parametrize("content", [b"no protobuf at all", b"\x08"])
def test_files_that_are_not_onnx_are_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="is not an ONNX file"):
        read_lowered(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"model\.onnx cannot be read: No such file"):
        read_lowered(tmp_path / "model.onnx")
