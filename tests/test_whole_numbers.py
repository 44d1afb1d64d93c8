"""Indices and flags among the reals: from the user's arrays through the whole road to codes."""

import numpy as np
import pytest
from export.runtimes import runtimes_agree
from hypothesis import given
from hypothesis import strategies as st

from nnaq import pipeline
from nnaq.errors import OpError
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import Quant, TensorType
from nnaq.ir.verify import verify
from nnaq.kernels.boundary import dequantize_array, quantize_array
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target

WORDS, WIDTH = 11, 6
WHOLE = TensorType("i32", (), Quant((1.0,)))
RULES = st.sampled_from(("half_even", "half_away"))


@given(st.lists(st.integers(-(2**24), 2**24), max_size=8), RULES)
def test_whole_numbers_are_exact_codes(values, rule):
    kind = WHOLE.with_shape((len(values),))
    found = quantize_array(np.array(values, np.float32), kind, rule)
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(dequantize_array(found, kind), np.array(values, np.float32))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=8), RULES)
def test_quantize_to_32_bits_is_the_reference_up_to_its_ends(values, rule):
    x = np.array([*values, 2.0**31, 2.0**31 - 128, -(2.0**31), 1e30, -1e30, 0.49999997], np.float32)
    kind = WHOLE.with_shape(x.shape)
    signature = Signature((TensorType("f32", x.shape),), (kind,), {"rounding": rule})
    op = lookup("quantize")
    np.testing.assert_array_equal(op.fast(signature, x)[0], op.reference(signature, x)[0])


def test_bodies_of_quantize_keep_the_ends_and_the_last_float_below_a_half(tmp_path):
    x = np.float32([2.0**31, 1e30, -1e30, 2.0**24 - 1, 2.0**23 + 1, 0.49999997, 0.5, 1.5, -0.5, -0.49999997])
    x /= 2  # scale 1 stands for whole numbers, which an input must be
    cases = []
    for dtype in ("i8", "i32"):
        for rule in ("half_even", "half_away"):
            build = Builder(f"{dtype}_{rule}")
            name = build.input("x", TensorType("f32", x.shape))
            kind = TensorType(dtype, x.shape, Quant((0.5,)))
            build.output(build.node("quantize", [name], {"rounding": rule}, types=(kind,))[0])
            cases.append((build.build(), {"x": x}, None))
    runtimes_agree(cases, tmp_path)


def embedding() -> Graph:
    """Words looked up in a table, then a layer."""
    random, build = np.random.default_rng(0), Builder("embedding")
    tokens = build.input("tokens", TensorType("f32", ("T", 2)), time_axis=0)
    table = build.constant("table", random.normal(0, 1, (WORDS, WIDTH)).astype(np.float32))
    (found,) = build.node("gather", [table, tokens], {"axis": 0}, ["embedded"])
    weight = build.constant("weight", random.normal(0, 1, (4, WIDTH)).astype(np.float32))
    (y,) = build.node("fully_connected", [found, weight], {"activation": "none"}, ["y"])
    build.output(y, time_axis=0)
    return pipeline.simplify(verify(build.build()))


def crossed(real: Graph, feeds) -> Graph:
    return pipeline.cross(real, calibrate(real, [feeds]), pipeline.Options(load_target("edge8"))).integer


def test_an_embedding_is_a_quantised_table_read_by_whole_numbers(tmp_path):
    real = embedding()
    feeds = {"tokens": np.random.default_rng(1).integers(-WORDS, WORDS, (40, 2))}
    integer = crossed(real, feeds)
    result = run(integer, feeds, keep=("embedded",))
    kind = integer.types["embedded"]
    table = quantize_array(real.constants["table"], kind)
    np.testing.assert_array_equal(result.values["embedded"], table[feeds["tokens"]])
    expected = run(real, feeds).outputs["y"]
    assert np.abs(result.outputs["y"] - expected).max() < 0.02 * np.abs(expected).max()
    floats = {"tokens": feeds["tokens"].astype(np.float32)}
    np.testing.assert_array_equal(run(integer, floats).outputs["y"], result.outputs["y"])
    np.testing.assert_array_equal(run(integer, feeds, chunk=3).outputs["y"], result.outputs["y"])
    runtimes_agree([(integer, floats, None)], tmp_path)


def test_a_word_that_the_table_does_not_have_is_named():
    real = embedding()
    integer = crossed(real, {"tokens": np.zeros((3, 2))})
    for graph in (real, integer):
        with pytest.raises(OpError, match="the index 11, but there are 11 entries: give -11 to 10"):
            run(graph, {"tokens": np.full((1, 2), WORDS)})


def test_positions_and_constant_indices_read_a_table_over_codes(tmp_path):
    """A positional embedding (arange, gather, add) and a fixed choice of channels (gather)."""
    random, build = np.random.default_rng(2), Builder("positions")
    x = build.input("x", TensorType("f32", ("T", WIDTH)), time_axis=0)
    table = build.constant("table", random.normal(0, 1, (WORDS, WIDTH)).astype(np.float32))
    (places,) = build.node("arange", [x], {"axis": 0, "start": -1, "step": -1}, ["places"])
    (found,) = build.node("gather", [table, places], {"axis": 0}, ["found"])
    (total,) = build.node("add", [x, found])
    channels = build.constant("channels", np.float32([5, 0, -1, 2]))
    (y,) = build.node("gather", [total, channels], {"axis": 1}, ["y"])
    build.output(y, time_axis=0)
    real = pipeline.simplify(verify(build.build()))
    feeds = {"x": random.normal(0, 1, (WORDS, WIDTH)).astype(np.float32)}
    integer = crossed(real, feeds)
    assert {node.op for node in integer.nodes} == {"quantize", "arange", "gather", "add", "dequantize"}
    result = run(integer, feeds, keep=("found", "places"))
    codes = quantize_array(real.constants["table"], integer.types["found"])
    np.testing.assert_array_equal(result.values["places"], -1 - np.arange(WORDS))
    np.testing.assert_array_equal(result.values["found"], codes[::-1])
    assert np.abs(result.outputs["y"] - run(real, feeds).outputs["y"]).max() < 0.05
    runtimes_agree([(integer, feeds, None)], tmp_path)
    longer = {"x": np.zeros((WORDS + 1, WIDTH), np.float32)}
    with pytest.raises(OpError, match="gather has the index -12"):
        run(integer, longer)


@pytest.mark.parametrize("indices", [np.array([[True, False]]), np.array([[1, 0]], np.uint8), [[1.0, 0.0]]])
def test_indices_may_be_of_any_dtype(indices):
    real = embedding()
    feeds = {"tokens": np.asarray(indices)}
    integer = crossed(real, {"tokens": np.arange(WORDS - 1).reshape(-1, 2)})
    expected = run(integer, {"tokens": np.int64([[1, 0]])}).outputs["y"]
    np.testing.assert_array_equal(run(integer, feeds).outputs["y"], expected)
