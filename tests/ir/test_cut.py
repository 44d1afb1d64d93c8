"""Parts of a graph: what belongs to them, and what they cannot be without."""

import numpy as np
import pytest

from nnaq.errors import GraphError
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.cut import cut
from nnaq.ir.graph import Graph, Port
from nnaq.ir.types import TensorType, parse_type
from nnaq.ir.verify import verify


def two_inputs() -> Graph:
    """f = running mean of relu(x), g = w y, z = f + g; the mean has states, f and g meet in z."""
    build = Builder("two")
    x = build.input("x", TensorType("f32", ("T", 1, 4)), time_axis=0)
    y = build.input("y", TensorType("f32", (1, 4)))
    total, count = (build.value(n, TensorType("f32", (1, s))) for n, s in (("total", 4), ("count", 1)))
    (loud,) = build.node("relu", [x], outputs=["loud"])
    f, after, counted = build.node("running_mean", [loud, total, count], outputs=["f", "after", "counted"])
    w = build.constant("w", np.arange(4, dtype=np.float32))
    (g,) = build.node("mul", [y, w], outputs=["g"])
    build.output(build.node("add", [f, g], outputs=["z"])[0], time_axis=0)
    build.state("total", total, after, np.zeros((1, 4), np.float32))
    build.state("count", count, counted, np.zeros((1, 1), np.float32))
    return verify(build.build())


INPUTS = {
    "x": np.random.default_rng(0).normal(size=(6, 1, 4)).astype(np.float32),
    "y": np.ones((1, 4), np.float32),
}


def test_a_part_has_what_belongs_to_it_and_nothing_else():
    part = cut(two_inputs(), ["x"], ["f"], "hearing")
    assert [node.name for node in part.nodes] == ["loud", "f"]
    assert [state.name for state in part.states] == ["total", "count"]
    assert set(part.constants) == {"total.initial", "count.initial"}
    assert (part.name, part.inputs, part.outputs) == ("hearing", (Port("x", 0),), (Port("f", 0),))
    other = cut(two_inputs(), ["y"], ["g"], "reading")
    assert (other.states, set(other.constants), other.outputs) == ((), {"w"}, (Port("g"),))


def test_parts_compose_to_the_whole():
    graph = two_inputs()
    whole = run(graph, INPUTS)
    f = run(cut(graph, ["x"], ["f"], "a"), {"x": INPUTS["x"]}, chunk=2)
    g = run(cut(graph, ["y"], ["g"], "b"), {"y": INPUTS["y"]}).outputs["g"]
    z = run(cut(graph, ["f", "g"], ["z"], "c"), {"f": f.outputs["f"], "g": g}, chunk=4).outputs["z"]
    np.testing.assert_array_equal(z, whole.outputs["z"])
    assert f.states.keys() == whole.states.keys()
    np.testing.assert_array_equal(f.states["total"], whole.states["total"])


def test_a_cut_through_codes_has_ports_of_codes():
    build = Builder("codes")
    x = build.input("x", TensorType("f32", ("T", 4)), time_axis=0)
    kind = parse_type("i8[T,4]<0.1, 3>")
    (codes,) = build.node("quantize", [x], {"rounding": "half_even"}, ["codes"], [kind])
    build.output(build.node("dequantize", [codes], outputs=["y"])[0], time_axis=0)
    graph, values = build.build(), np.linspace(-9, 9, 12).astype(np.float32).reshape(3, 4)
    first, second = cut(graph, ["x"], ["codes"], "first"), cut(graph, ["codes"], ["y"], "second")
    assert first.types["codes"] == second.types["codes"] == kind
    made = run(first, {"x": values}).outputs["codes"]
    assert made.dtype == np.int8
    found = run(second, {"codes": made}, chunk=2).outputs["y"]
    np.testing.assert_array_equal(found, run(graph, {"x": values}).outputs["y"])


@pytest.mark.parametrize(
    ("inputs", "outputs", "why"),
    [
        (["x"], ["z"], "'z' cannot be cut .* input 'y', which is not given"),
        (["x", "nothing"], ["f"], "has no value 'nothing'"),
        (["w"], ["g"], "'w' .* is a constant"),
        (["x", "y"], ["f"], "does not read its input 'y'"),
        (["after"], ["f"], "input 'x', which is not given"),
    ],
)
def test_what_cannot_be_cut(inputs, outputs, why):
    with pytest.raises(GraphError, match=why):
        cut(two_inputs(), inputs, outputs, "part")
