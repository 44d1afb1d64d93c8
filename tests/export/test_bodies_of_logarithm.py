"""log and floor_divide: both runtimes give the interpreter's integers."""

import numpy as np
from export.integer_graphs import one_node, random_inputs
from export.runtimes import runtimes_agree

from nnaq import pipeline
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.numerics import ROUNDINGS
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target
from nnaq.tasks.metrics import sqnr_db

CORNERS = np.array([-(2**31), -7, -1, 0, 1, 2, 3, 7, 511, 2**16 - 1, 2**30 + 1, 2**31 - 1], np.int32)


def agree(graphs, folder, time=7):
    runtimes_agree(
        [(graph, random_inputs(graph, seed, time), None) for seed, graph in enumerate(graphs)], folder
    )


def logarithms():
    """Every form, every rounding; scales of the operand from tiny to large."""
    graphs = [one_node("log", ["i8[256]<0.03, 4>"], [f"i{bits}[]<0.05, 0>"]) for bits in (8, 16)]
    for rounding in ROUNDINGS:
        scale = 2.0**-10 if rounding == "pot_shift" else 0.00091
        graphs.append(one_node("log", ["i16[T,900]<0.0003, 0>"], [f"i16[]<{scale}, 0>"], rounding=rounding))
        graphs.append(
            one_node("log", ["i32[T,300]<1e-13, 0>"], [f"i8[]<{64 * scale}, 5>"], rounding=rounding)
        )
    return graphs


def test_log(tmp_path):
    agree(logarithms(), tmp_path)


def test_log_of_corners(tmp_path):
    cases = []
    for scale in ("1e-12", "1.0", "1e9"):
        graph = one_node("log", [f"i32[12]<{scale}, 0>"], ["i16[]<0.0011, 0>"])
        cases.append((graph, {"x0": CORNERS}, None))
    runtimes_agree(cases, tmp_path)


def test_floor_divide(tmp_path):
    whole = "i32[{}]<1.0, 0>"
    graph = one_node("floor_divide", [whole.format("12,1"), whole.format("12")], [whole.format("")])
    small = one_node("floor_divide", [whole.format("T,40"), whole.format("T,1")], [whole.format("")])
    random = np.random.default_rng(0)
    feeds = {"x0": random.integers(-30, 30, (6, 40)), "x1": np.arange(-3, 3)[:, None]}
    feeds = {name: array.astype(np.int32) for name, array in feeds.items()}
    runtimes_agree([(graph, {"x0": CORNERS[:, None], "x1": CORNERS}, None), (small, feeds, None)], tmp_path)


def power_spectrum() -> Graph:
    """The logarithm of re^2 + im^2, of bands that reach over seven decades."""
    build = Builder("spectrum")
    x = build.input("x", TensorType("f32", ("T", 16)), time_axis=0)
    (squares,) = build.node("square", [x])
    halves = [{"starts": (i,), "ends": (i + 8,), "axes": (1,), "steps": (1,)} for i in (0, 8)]
    (power,) = build.node("add", [build.node("slice", [squares], half)[0] for half in halves])
    (limited,) = build.node("clip", [power], {"low": 1e-5, "high": np.inf})
    build.output(build.node("log", [limited], outputs=["y"])[0], time_axis=0)
    return pipeline.simplify(verify(build.build()))


def test_a_power_spectrum_is_read_as_the_exact_32_bit_sums_that_it_is(tmp_path):
    """Through i16 codes all but the loudest bands would be one code: an SQNR of 4 dB."""
    random, real = np.random.default_rng(0), power_spectrum()
    x = random.normal(0, 1, (90, 16)) * 10.0 ** random.uniform(-2.5, 1, (90, 1))
    feeds = {"x": x.astype(np.float32)}
    options = pipeline.Options(load_target("edge8"), "i16")
    integer = pipeline.cross(real, calibrate(real, [feeds]), options).integer
    (node,) = (node for node in integer.nodes if node.op == "log")
    assert integer.types[node.inputs[0]].dtype == "i32"
    reached = sqnr_db(run(real, feeds).outputs["y"], run(integer, feeds).outputs["y"]).db
    assert reached is not None
    assert reached > 30
    runtimes_agree([(integer, feeds, 7)], tmp_path)


def test_positions_are_divided_and_what_is_left_is_exact(tmp_path):
    """k // 3 and k - 3 (k // 3) of positions choose from a table, on the accelerator from end to end."""
    build = Builder("positions")
    x = build.input("x", TensorType("f32", ("T", 2)), time_axis=0)
    (places,) = build.node("arange", [x], {"axis": 0, "start": -4, "step": 1})
    three = build.constant("three", np.float32(3))
    (groups,) = build.node("floor_divide", [places, three])
    (rest,) = build.node("sub", [places, *build.node("mul", [groups, three])])
    table = build.constant("table", np.arange(5, dtype=np.float32))
    for name, index in (("groups", groups), ("rest", rest)):
        build.output(build.node("gather", [table, index], {"axis": 0}, [name])[0], time_axis=0)
    real, feeds = pipeline.simplify(verify(build.build())), {"x": np.zeros((11, 2), np.float32)}
    crossing = pipeline.cross(real, calibrate(real, [feeds]), pipeline.Options(load_target("edge8")))
    assert not crossing.islands
    outputs, k = run(crossing.integer, feeds).outputs, np.arange(-4, 7)
    for name, index in (("groups", k // 3), ("rest", k % 3)):
        assert np.array_equal(np.rint(outputs[name]), np.arange(5)[index])
    runtimes_agree([(crossing.integer, feeds, None)], tmp_path)
