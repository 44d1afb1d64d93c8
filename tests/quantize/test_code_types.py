"""Code types that calibration does not choose: probabilities, whole numbers, flags, sums, a file's own."""

import numpy as np
import pytest

from nnaq import pipeline
from nnaq.errors import PassError
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.types import Quant, TensorType
from nnaq.quantize.calibrate import calibrate
from nnaq.quantize.code_types import Choice, choose_types
from nnaq.targets import load_target

EDGE8 = load_target("edge8")
INPUTS = {"x": np.random.default_rng(0).normal(0, 1, (20, 8)).astype(np.float32)}


def f32(*shape) -> TensorType:
    return TensorType("f32", shape)


def start(name: str = "g") -> Builder:
    builder = Builder(name)
    builder.input("x", f32("T", 8), time_axis=0)
    builder.constant("w", np.random.default_rng(1).normal(0, 0.3, (5, 8)))
    return builder


def decoder() -> Graph:
    """x -> fully_connected -> log_softmax on the host."""
    builder = start()
    builder.node("fully_connected", ["x", "w"], {"activation": "none"}, ["logits"], name="logits")
    builder.node("log_softmax", ["logits"], {"axis": -1}, ["y"], name="y")
    builder.output("y", 0)
    return builder.build()


def attention() -> Graph:
    """Softmax over the products of x with itself."""
    builder = start()
    builder.node("fully_connected", ["x", "w"], {"activation": "none"}, ["k"], name="k")
    builder.node("softmax", ["k"], {}, ["p"], name="p")
    builder.node("sigmoid", ["p"], {}, ["y"], name="y")
    builder.output("y", 0)
    return builder.build()


def crossed(graph: Graph, **options) -> pipeline.Crossing:
    real = pipeline.simplify(graph)
    return pipeline.cross(real, calibrate(real, [INPUTS]), pipeline.Options(EDGE8, **options))


def test_logits_that_only_the_host_reads_keep_their_sums():
    crossing = crossed(decoder())
    kind = crossing.integer.types["logits"]
    assert kind.dtype == "i32"
    assert kind.quant is not None and kind.quant.axis == 1 and len(kind.quant.scale) == 5
    assert list(crossing.islands) == ["y"]
    assert [n.op for n in crossing.integer.nodes] == [
        "quantize", "fully_connected", "dequantize", "log_softmax",
    ]  # fmt: skip
    found, real = (run(g, INPUTS).outputs["y"] for g in (crossing.integer, crossing.real))
    np.testing.assert_allclose(found, real, atol=0.05)  # the codes of x and w alone are rounded


def test_a_result_of_the_host_is_not_rounded():
    crossing = crossed(decoder())
    made = run(crossing.integer, INPUTS).outputs["y"]
    np.testing.assert_allclose(np.exp(made.astype(np.float64)).sum(-1), 1, atol=1e-6)


def test_logits_at_an_output_keep_their_sums_where_asked():
    builder = start()
    builder.node("fully_connected", ["x", "w"], {"activation": "none"}, ["logits"], name="logits")
    builder.output("logits", 0)
    kinds = {
        dtype: crossed(builder.build(), dtypes=chosen).integer.types["logits.codes"].dtype
        for dtype, chosen in (("i32", {"logits": "i32"}), ("i8", {}))
    }
    assert kinds == {"i32": "i32", "i8": "i8"}


def test_sums_are_no_choice_for_a_value_that_is_no_product():
    with pytest.raises(PassError, match="value 'y' cannot be i32: only the result of a product"):
        crossed(attention(), dtypes={"y": "i32"})


@pytest.mark.parametrize(("dtype", "quant"), [("i8", Quant((2**-8,), -128)), ("i16", Quant((2**-15,)))])
def test_probabilities_have_fixed_codes(dtype, quant):
    chosen = {"p": dtype, "k": dtype}
    assert crossed(attention(), dtypes=chosen).integer.types["p"] == TensorType(dtype, ("T", 5), quant)


def test_whole_numbers_and_flags_have_scale_one():
    builder = start()
    builder.constant("table", np.random.default_rng(2).normal(0, 1, (4, 3)))
    builder.input("token", f32("T"), time_axis=0)
    builder.input("keep", f32("T", 3), time_axis=0)
    builder.node("gather", ["table", "token"], {"axis": 0}, ["row"], name="row")
    builder.constant("zero", np.zeros((1, 3)))
    builder.node("where", ["keep", "row", "zero"], {}, ["y"], name="y")
    builder.output("y", 0)
    real = pipeline.simplify(builder.build())
    inputs = {
        **INPUTS,
        "token": np.arange(20, dtype=np.float32) % 4,
        "keep": np.arange(60, dtype=np.float32).reshape(20, 3) % 2,
    }
    crossing = pipeline.cross(real, calibrate(real, [inputs]), pipeline.Options(EDGE8))
    kinds = pipeline.value_types(crossing)
    assert kinds["token"] == TensorType("i32", ("T",), Quant((1.0,)))
    assert kinds["keep"] == TensorType("i8", ("T", 3), Quant((1.0,)))
    step = kinds["y"].scale
    found, exact = (run(g, inputs).outputs["y"] for g in (crossing.integer, crossing.real))
    assert np.abs(found - exact).max() <= step / 2 * 1.0001


def test_codes_of_a_file_stand_whatever_calibration_saw():
    held = {
        "x": TensorType("i8", (), Quant((0.05,), 3)),
        "w": TensorType("i8", (), Quant((0.01,) * 5, 0, 0)),
    }
    real = pipeline.simplify(attention())
    chosen = choose_types(real, Choice(calibrate(real, [INPUTS]), codes=held))
    assert chosen.types["x"] == held["x"].with_shape(("T", 8))
    assert chosen.types["w"] == held["w"].with_shape((5, 8))
    crossing = crossed(attention(), codes=held)
    assert crossing.integer.types["x.fq"].quant == held["x"].quant
    assert crossing.integer.types["w"].quant == held["w"].quant
