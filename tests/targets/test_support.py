"""What a target runs, and the sentence on what it does not."""

from dataclasses import replace

import pytest
from simulate.lowered import layer, recurrent

from nnaq.targets import load_target, refusal

EDGE8 = load_target("edge8")


@pytest.mark.parametrize("graph", [layer(), layer(x="i16"), layer(weight="i4"), recurrent()])
def test_integer_nodes_run_on_edge8_whatever_their_symbolic_sizes(graph):
    inside = [n for n in graph.nodes if n.op in ("fully_connected", "lstm")]
    assert [refusal(graph, node, EDGE8) for node in inside] == [None]


@pytest.mark.parametrize(
    ("graph", "changes", "reason"),
    [
        (layer(), {"exclude": ("fully_connected",)}, "target 'edge8' does not run 'fully_connected'"),
        (layer(x="i16"), {"widths": ("i8",)}, "'x' is i16; target 'edge8' holds activations of i8"),
        (layer(), {"widths": ("i16",)}, "'x' is i8; target 'edge8' holds activations of i16"),
        (
            layer(weight="i4"),
            {"array": replace(EDGE8.array, cycles_per_mac=(("i8", 1), ("i16", 2)))},
            "the array of target 'edge8' multiplies i8, i16, not i4",
        ),
    ],
)
def test_a_refusal_says_why(graph, changes, reason):
    assert refusal(graph, graph.nodes[0], replace(EDGE8, **changes)) == reason


def test_a_node_left_real_is_refused():
    graph = recurrent()
    reason = refusal(graph, graph.node("power"), EDGE8)
    assert reason == "it has no integer form in this graph: its operands and results are f32"
