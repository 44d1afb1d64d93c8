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


def test_whole_numbers_among_reals_are_read_in_16_bits():
    builder = start()
    builder.node("arange", ["x"], {"axis": 0, "start": 0, "step": 1}, ["place"], name="place")
    builder.constant("step", np.array(0.05))
    builder.node("mul", ["place", "step"], {}, ["angle"], name="angle")
    builder.node("cos", ["angle"], {}, ["wave"], name="wave")
    builder.output("wave", 0)
    builder.constant("half", np.array(0.5))
    builder.node("add", ["place", "half"], {}, ["middle"], name="middle")
    builder.output("middle", 0)
    crossing = crossed(builder.build(), activations="i16")
    assert [n.op for n in crossing.integer.nodes].count("rescale") == 1  # one copy for both readers
    found, exact = (run(g, INPUTS).outputs for g in (crossing.integer, crossing.real))
    np.testing.assert_allclose(found["wave"], exact["wave"], atol=2e-3)
    np.testing.assert_allclose(found["middle"], exact["middle"], atol=2e-3)


def test_flags_are_counted_as_whole_numbers():
    builder = start()
    builder.constant("zero", np.zeros(()))
    builder.node("greater", ["x", "zero"], {}, ["flag"], name="flag")
    builder.node("one_hot", ["flag"], {"depth": 2, "axis": -1}, ["y"], name="y")
    builder.output("y", 0)
    crossing = crossed(builder.build())
    assert crossing.integer.types["flag"].dtype == "i8"
    made = run(crossing.integer, INPUTS).outputs["y"]
    sure = np.abs(INPUTS["x"]) > crossing.integer.types["x.fq"].scale  # nearer to 0 the sign is lost
    np.testing.assert_array_equal(made[..., 1][sure], (INPUTS["x"] > 0)[sure])


def test_a_constant_beside_32_bits_takes_them_too():
    builder = start()
    builder.node("square", ["x"], {}, ["power"], name="power")
    builder.constant("epsilon", np.array(1e-4))
    builder.node("add", ["power", "epsilon"], {}, ["lifted"], name="lifted")
    builder.node("log", ["lifted"], {}, ["y"], name="y")
    builder.output("y", 0)
    integer = crossed(builder.build(), activations="i16").integer
    kind = integer.types["lifted"]
    assert kind.dtype == "i32"
    assert integer.types[integer.node("lifted").inputs[1]] == kind.with_shape(())
    assert "rescale" not in {node.op for node in integer.nodes}


def test_whole_numbers_reach_an_output_exactly():
    builder = start()
    builder.node("arange", ["x"], {"axis": 0, "start": 0, "step": 1}, ["place"], name="place")
    builder.constant("one", np.array(1.0))
    builder.node("sub", ["place", "one"], {}, ["y"], name="y")
    builder.node("mul", ["x", "one"], {}, ["z"], name="z")  # the same constant among reals
    for port in ("y", "z"):
        builder.output(port, 0)
    made = run(crossed(builder.build()).integer, INPUTS).outputs
    np.testing.assert_array_equal(made["y"], np.arange(20) - 1)
    np.testing.assert_allclose(made["z"], INPUTS["x"], atol=0.05)
