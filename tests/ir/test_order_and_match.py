"""Orders that respect edges, what nothing depends on, and chains of operators."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.errors import GraphError
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph, Node
from nnaq.ir.match import chain
from nnaq.ir.order import topological, without_dead_code
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify


@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    """A graph of up to a dozen relu and add nodes over earlier values, some of them dead."""
    build = Builder("random")
    values = [build.input("x", TensorType("f32", (2,)))]
    for _ in range(draw(st.integers(1, 12))):
        picks = draw(st.lists(st.sampled_from(values), min_size=1, max_size=2))
        values += build.node("relu" if len(picks) == 1 else "add", picks)
    for name in draw(st.sets(st.sampled_from(values[1:]), min_size=1)):
        build.output(name)
    return build.build()


@given(random_graphs(), st.randoms(use_true_random=False))
def test_topological_order_makes_any_order_sound(graph, random):
    nodes = list(graph.nodes)
    random.shuffle(nodes)
    ordered = topological(replace(graph, nodes=tuple(nodes)))
    verify(replace(graph, nodes=ordered))
    assert sorted(n.name for n in ordered) == sorted(n.name for n in nodes)
    assert topological(graph) == graph.nodes  # among equals the order they stood in


@given(random_graphs())
def test_dead_code_is_what_no_result_depends_on(graph):
    live = without_dead_code(graph)
    verify(live)
    needed = set(live.results)
    for node in reversed(graph.nodes):
        if needed & set(node.outputs):
            needed |= set(node.inputs)
    assert [n.name for n in live.nodes] == [n.name for n in graph.nodes if needed & set(n.outputs)]


def test_a_ring_is_shown():
    kind = TensorType("f32", (1,))
    nodes = (Node("relu", ("b",), ("a",)), Node("relu", ("a",), ("b",)))
    with pytest.raises(GraphError, match="cycle without a state: a -> b"):
        topological(Graph("ring", (), (), nodes, {"a": kind, "b": kind}))


def line(*ops: str, outputs: tuple[int, ...] = ()) -> Graph:
    """x -> ops[0] -> ops[1] -> …; the values of `outputs` are outputs besides the last."""
    build = Builder("line")
    value = build.input("x", TensorType("f32", (2,)))
    for position, op in enumerate(ops):
        (value,) = build.node(op, (value,), outputs=(f"v{position}",))
        if position in outputs:
            build.output(value)
    build.output(value)
    return build.build()


def names(graph: Graph, *ops: str) -> list[tuple[str, ...]]:
    return [tuple(node.name for node in found) for found in chain(graph, *ops)]


def test_a_chain_is_found_wherever_it_stands():
    graph = line("relu", "square", "relu", "square", "sqrt")
    assert names(graph, "relu", "square") == [("v0", "v1"), ("v2", "v3")]
    assert names(graph, "relu", "square", "sqrt") == [("v2", "v3", "v4")]
    assert names(graph, "sqrt", "relu") == []
    assert names(graph, "square") == [("v1",), ("v3",)]


def test_a_value_that_others_see_ends_a_chain():
    assert names(line("relu", "square", outputs=(0,)), "relu", "square") == []
    build = Builder("fork")
    x = build.input("x", TensorType("f32", (2,)))
    (y,) = build.node("relu", (x,), outputs=("y",))
    build.output(*build.node("square", (y,), outputs=("a",)))
    build.output(*build.node("sqrt", (y,), outputs=("b",)))
    assert names(build.build(), "relu", "square") == []


def test_a_chain_goes_through_operand_0_once():
    build = Builder("operands")
    x = build.input("x", TensorType("f32", (2,)))
    (y,) = build.node("relu", (x,), outputs=("y",))
    (z,) = build.node("relu", (x,), outputs=("z",))
    build.output(*build.node("add", (x, y), outputs=("second",)))
    build.output(*build.node("mul", (z, z), outputs=("twice",)))
    assert names(build.build(), "relu", "add") == []
    assert names(build.build(), "relu", "mul") == []
