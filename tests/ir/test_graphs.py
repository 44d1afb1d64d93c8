"""Graphs: their edges, their equality, and every rule that verification holds them to."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from ir.parts import small

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.errors import GraphError, OpError
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph, Port, State
from nnaq.ir.op import lookup, register, table
from nnaq.ir.types import TensorType
from nnaq.ir.verify import form_of, is_real, ops_of, verify


def test_graph_knows_its_edges():
    graph = small()
    assert graph.producer["y"].op == "relu"
    assert [node.name for node in graph.readers["y"]] == ["flip"]
    assert graph.sources == {"x", "h", "h.initial"}
    assert graph.results == {"y", graph.node("flip").outputs[0], "h"}
    assert list(graph.dag.edges) == [("sum", "y"), ("y", "flip")]
    with pytest.raises(GraphError, match="no node 'flop'"):
        graph.node("flop")


def test_a_node_that_reads_a_value_twice_stands_once():
    build = Builder("b")
    x = build.input("x", TensorType("f32", (2,)))
    build.output(*build.node("mul", (x, x), outputs=("y",)))
    assert len(build.build().readers["x"]) == 1


def test_graphs_compare_by_value_and_travel_between_processes():
    graph = small()
    assert pickle.loads(pickle.dumps(graph.nodes)) == graph.nodes
    other = replace(graph, constants={"h.initial": np.ones((1, 4), np.float32)})
    assert graph != other
    assert graph == replace(graph)
    with pytest.raises(TypeError):
        graph.nodes[0].attrs["new"] = 1  # type: ignore[index]


def test_rebuilding_forgets_what_nothing_mentions():
    graph = small()
    kept = graph.rebuilt(graph.nodes[:2], outputs=(Port("y", 0),))
    assert set(kept.types) == {"x", "h", "h.initial", "sum", "y"}
    verify(kept)


def broken(**changes: object) -> Graph:
    return replace(small(), **changes)  # type: ignore[arg-type]


def with_type(name: str, kind: TensorType) -> Graph:
    return broken(types={**small().types, name: kind})


FLIPPED = small().node("flip").outputs[0]
ADD, RELU, FLIP = small().nodes


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (broken(nodes=(RELU, ADD, FLIP)), "relu 'y' reads 'sum' before anything makes it"),
        (broken(nodes=(ADD, RELU, FLIP, replace(RELU, name="z"))), "relu 'z' makes 'y' a second time"),
        (broken(nodes=(ADD, RELU, replace(FLIP, name="y"))), "two nodes are called 'y'"),
        (broken(nodes=(ADD, replace(RELU, outputs=("x",), name="z"))), "makes 'x' a second time"),
        (
            with_type("y", TensorType("f32", ("T", 5))),
            r"'y' is f32\['T', 5\], but its operands make it \['T', 4\]",
        ),
        (with_type("sum", TensorType("i8", ("T", 4))), "has the form 'f32 f32 -> i8', which is none of"),
        (broken(outputs=(Port("nothing"),)), "output 'nothing' of graph 'small' is made by no node"),
        (broken(constants={"h.initial": np.zeros((1, 4))}), r"'h.initial' is float64\[1, 4\], its type says"),
        (broken(states=(State("h", "h", "y", "h.initial"),)), r"state 'h' is f32\[1,4\] when read but"),
        (broken(states=(State("h", "h", "h", "x"),)), "state 'h' needs an initial constant"),
        (broken(types={k: v for k, v in small().types.items() if k != "y"}), "no type for y"),
        (broken(nodes=(ADD, replace(RELU, op="rellu"), FLIP)), "no operator 'rellu'; did you mean 'relu'"),
    ],
)
def test_every_broken_rule_names_who_and_what(graph, message):
    with pytest.raises(GraphError, match=message):
        verify(graph)


def test_narrow_constants_must_fit_their_dtype():
    build = Builder("b")
    build.constant("w", np.array([7, -8], np.int8), TensorType("i4", (2,)))
    verify(build.build())
    build.constant("v", np.array([8], np.int8), TensorType("i4", (1,)))
    with pytest.raises(GraphError, match="constant 'v' does not fit i4"):
        verify(build.build())


def test_forms_and_operators_of_a_graph():
    graph = small()
    assert form_of(graph, ADD) == "f32 f32 -> f32"
    assert is_real(graph, ADD)
    assert not is_real(with_type("sum", TensorType("i8", ("T", 4))), ADD)
    assert [op.name for op in ops_of(graph)] == ["add", "relu", "transpose"]


def test_the_operator_table_takes_a_name_once():
    with pytest.raises(OpError, match="'add' is registered twice"):
        register(lookup("add"))
    assert list(table()) == sorted(table())
