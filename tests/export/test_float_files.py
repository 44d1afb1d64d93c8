"""QDQ and QONNX files: real graphs with their roundings, as other tools read them."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from export.runtimes import RUNNER
from frontends.onnx_models import normal
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from voice_models import FRAME, detector

from nnaq.crossing import lower_graph
from nnaq.errors import ArtifactError
from nnaq.export.qdq import qdq_model
from nnaq.export.qonnx import DOMAIN, even_step, qonnx_model
from nnaq.frontends import ImportOptions
from nnaq.frontends.onnx import load_model
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.types import parse_type
from nnaq.kernels.boundary import quantize_attrs
from nnaq.quantize.recipe import parse_recipe
from nnaq.targets import load_target

DATA = [{"x": normal(60, FRAME, seed=seed)} for seed in range(3)]
OPTIONS = ImportOptions(time={"x": 0, "score": 0}, states={"h": "hn", "c": "cn"})
RECIPE = parse_recipe('name = "tiny"\n[quantize]\nactivations = "8"')


def lowered(model, recipe=RECIPE):
    imported = load_model(model, "tiny", OPTIONS)
    target = load_target("edge8")
    return lower_graph(imported.graph, DATA[:2], DATA[2:], recipe, target, codes=imported.codes).crossing


@pytest.fixture(scope="module")
def crossing():
    return lowered(detector())


def feeds(crossing):
    first = {s.input: crossing.fake.constants[s.initial] for s in crossing.fake.states}
    return {"x": DATA[2]["x"], **first}


def names_of(model):
    return {node.op_type for node in model.graph.node}


# --- QDQ


@pytest.mark.parametrize("opset", [19, 21])
def test_both_runtimes_compute_the_rounded_graph(crossing, tmp_path, opset):
    """Without a reordering of sums nothing differs; a step here or there would be float's own."""
    model = qdq_model(crossing.fake, opset)
    onnx.checker.check_model(model, full_check=True)
    (tmp_path / "qdq.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "qdq.in.npz", **feeds(crossing))
    subprocess.run([sys.executable, str(RUNNER), str(tmp_path)], check=True)
    expected = run(crossing.fake, DATA[2])
    found = dict(
        zip(
            [o.name for o in model.graph.output],
            ReferenceEvaluator(model).run(None, feeds(crossing)),
            strict=True,
        )
    )
    with np.load(tmp_path / "qdq.out.npz") as ort:
        for name, array in (expected.outputs | {"hn": expected.states["h"]}).items():
            scale = crossing.integer.types["score.codes" if name == "score" else name].scale
            for made in (found[name], ort[name]):
                assert made.dtype == np.float32
                steps = np.rint((made - array) / scale)
                assert np.abs(steps).max() <= 1 and np.mean(steps != 0) < 0.02


def test_the_integers_are_near_what_the_file_says(crossing):
    """The simulator's gates have 16 bits and its tables round once more: a few steps of the score."""
    (score, *_) = ReferenceEvaluator(qdq_model(crossing.fake)).run(None, feeds(crossing))
    steps = (score - run(crossing.integer, DATA[2]).outputs["score"]) / crossing.integer.types[
        "score.codes"
    ].scale
    assert 0 < np.abs(steps).max() < 8


def test_only_standard_operators_are_in_the_file(crossing):
    for opset in (19, 21):
        model = qdq_model(crossing.fake, opset)
        assert {one.domain: one.version for one in model.opset_import} == {"": opset}
        assert not model.functions
        assert {"QuantizeLinear", "DequantizeLinear", "Conv", "LSTM", "MatMul", "Sigmoid"} <= names_of(model)
        assert ("Round" in names_of(model)) == (opset == 19)  # the cell state has 16 bits


def test_weights_rest_as_the_codes_of_the_integer_graph(crossing):
    arrays = {t.name: numpy_helper.to_array(t) for t in qdq_model(crossing.fake).graph.initializer}
    codes = crossing.integer.constants
    np.testing.assert_array_equal(arrays["w.fq.codes"], codes["w"])
    np.testing.assert_array_equal(arrays["v.fq.turned.codes"], codes["v"].T)
    i, f, g, o = np.split(codes["wx"], 4)
    np.testing.assert_array_equal(arrays["wx.fq.turned.codes"], np.concatenate([i, o, f, g])[None])


def test_a_file_read_back_is_lowered_to_the_same_integers(crossing):
    again = lowered(qdq_model(crossing.fake, 21))
    for one, two in zip(*(run(c.integer, DATA[2]).outputs.values() for c in (crossing, again)), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("opset", [19, 21])
def test_constants_of_16_bits_are_reals_before_opset_21(opset, tmp_path):
    build, kind = Builder("offset"), parse_type("i16[4]<0.01, 0>")
    x = build.input("x", parse_type("f32[T,4]"), time_axis=0)
    offset = build.constant("offset", normal(4, seed=3))
    (held,) = build.node(
        "fake_quantize", [offset], quantize_attrs(kind), ["offset.fq"], [parse_type("f32[4]")]
    )
    (y,) = build.node("add", [x, held], {}, ["y"], [parse_type("f32[T,4]")])
    build.output(y, time_axis=0)
    graph, feeds = build.build(), {"x": normal(3, 4, seed=1)}
    model = qdq_model(graph, opset)
    (tmp_path / "offset.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "offset.in.npz", **feeds)
    subprocess.run([sys.executable, str(RUNNER), str(tmp_path)], check=True)
    with np.load(tmp_path / "offset.out.npz") as found:
        np.testing.assert_array_equal(found["y"], run(graph, feeds).outputs["y"])
    kinds = {t.data_type for t in model.graph.initializer}
    assert (onnx.TensorProto.INT16 in kinds) == (opset == 21)


def test_four_bits_are_four_bits():
    text = '[quantize]\nactivations = "8"\nweight_bits = 4'
    model = qdq_model(lowered(detector(), parse_recipe(f'name = "tiny"\n{text}')).fake, 21)
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    assert kinds["w.fq.codes"] == onnx.TensorProto.INT4


# --- QONNX


class Quant(OpRun):
    """QONNX's Quant of signed codes, rounding half to even, in plain NumPy."""

    op_domain = DOMAIN

    def _run(self, x, scale, zero_point, bits, signed=1, narrow=0, rounding_mode="ROUND"):
        assert signed == 1 and rounding_mode == "ROUND"
        low, high = -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
        codes = np.rint(np.clip(x / scale + zero_point, low, high))
        return (((codes - zero_point) * scale).astype(np.float32),)


def test_quant_nodes_say_the_rounded_graph(crossing):
    model = qonnx_model(crossing.fake)
    onnx.checker.check_model(model)
    (score, *_) = ReferenceEvaluator(model, new_ops=[Quant]).run(None, feeds(crossing))
    expected = run(crossing.fake, DATA[2]).outputs["score"]
    steps = np.rint((score - expected) / crossing.integer.types["score.codes"].scale)
    assert np.abs(steps).max() <= 1 and np.mean(steps != 0) < 0.02


def layer(weight: str):
    """A fully connected layer of reals whose weight [3,4] is rounded to codes of a type."""
    build, kind = Builder("layer"), parse_type(weight)
    x = build.input("x", parse_type("f32[T,4]"), time_axis=0)
    entries = kind.palette.tables[0] if kind.palette else range(-127, 128)
    rows = np.random.default_rng(7).choice(entries, (3, 4)) * kind.quant.scales(2)
    w = build.constant("w", rows.astype(np.float32))
    (codes,) = build.node("fake_quantize", [w], quantize_attrs(kind), ["w.fq"], [parse_type("f32[3,4]")])
    attrs = {"activation": "none"}
    (y,) = build.node("fully_connected", [x, codes], attrs, ["y"], [parse_type("f32[T,3]")])
    build.output(y, time_axis=0)
    return build.build()


@pytest.mark.parametrize(
    ("palette", "width"),
    [
        ("", 8),
        (" palette3(-60, -20, 0, 40)", 3),
        (" palette5(-75, -15, 0, 5)", 5),
        (" palette3(-61, 0, 9)", 8),
    ],
)
def test_evenly_spaced_palettes_keep_their_width(palette, width):
    graph = layer(f"i8[3,4]<[0.01, 0.02, 0.03]@0, 0>{palette}")
    model, x = qonnx_model(graph), normal(5, 4, seed=1)
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert arrays["w.fq.turned.bits"] == width
    (found,) = ReferenceEvaluator(model, new_ops=[Quant]).run(None, {"x": x})
    np.testing.assert_allclose(found, run(graph, {"x": x}).outputs["y"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("palette3(-60, -20, 0, 40)", 20),
        ("palette2(-60, 0, 60)", 60),
        ("palette2(-120, 0, 60)", None),
        ("palette3(-61, -20, 0, 40)", None),
        ("palette1(-60, 60)", None),
        ("palette3@1(-60, 0 | -30, 0)", None),
        ("palette3(0)", None),
    ],
)
def test_an_even_palette_is_told_from_others(text, step):
    palette = parse_type(f"i8[2,4]<0.1, 0> {text}").palette
    assert even_step(palette) == step


def test_an_operator_without_a_body_is_named(crossing):
    strange = tuple(replace(n, op="quantize") if n.op == "sigmoid" else n for n in crossing.fake.nodes)
    with pytest.raises(ArtifactError, match="cannot be written as float ONNX: no body for quantize 'score'"):
        qdq_model(replace(crossing.fake, nodes=strange))
