"""Values that must share one code type form a class; what an operator insists on holds for its class."""

import numpy as np
from frontends.onnx_models import normal

from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify
from nnaq.quantize.code_classes import Demand, code_classes, demands, value_at


def recurrent() -> Graph:
    """tanh -> lstm with states -> reshape -> relu | sigmoid; two operands joined."""
    b = Builder("recurrent")
    x = b.input("x", TensorType("f32", ("T", 1, 3)), time_axis=0)
    (t,) = b.node("tanh", [x], outputs=["t"])
    h, c = (b.value(name, TensorType("f32", (1, 2))) for name in ("h", "c"))
    weights = [b.constant("w_input", normal(8, 3)), b.constant("w_recurrent", normal(8, 2))]
    y, h2, c2 = b.node("lstm", [t, h, c, *weights], outputs=["y", "h2", "c2"])
    (flat,) = b.node("reshape", [y], {"shape": (-1, 2)}, ["flat"])
    (kept,) = b.node("relu", [flat], outputs=["kept"])
    (score,) = b.node("sigmoid", [flat], outputs=["score"])
    b.output(b.node("concat", [kept, score], {"axis": 1}, ["both"])[0], time_axis=0)
    for name, before, after in (("h", h, h2), ("c", c, c2)):
        b.state(name, before, after, np.zeros((1, 2)))
    return verify(b.build())


def members(graph: Graph) -> set[frozenset[str]]:
    found: dict[str, set[str]] = {}
    for value, group in code_classes(graph).items():
        found.setdefault(group, set()).add(value)
    return {frozenset(group) for group in found.values() if len(group) > 1}


def test_values_that_move_and_states_share_their_codes():
    assert members(recurrent()) == {
        frozenset({"h", "h2", "h.initial", "y", "flat", "kept", "score", "both"}),
        frozenset({"c", "c2", "c.initial"}),
    }


def test_every_value_has_a_class():
    graph = recurrent()
    assert code_classes(graph).keys() == graph.types.keys()
    assert set(code_classes(graph).values()) <= graph.types.keys()


def test_a_demand_holds_for_its_whole_class():
    graph = recurrent()
    found = demands(graph)
    assert found == {code_classes(graph)["c"]: Demand("i16 power_of_two")}


def test_positions_count_operands_then_results():
    node = recurrent().node("y")
    assert [value_at(node, position) for position in (0, 2, 5, ~0, ~2)] == ["t", "c", "", "y", "c2"]
