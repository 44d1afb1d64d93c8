"""Building a graph, printing it and reading it back: nothing is lost on the way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir.parts import small, types

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.errors import GraphError
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph, Node, Port
from nnaq.ir.text import parse_graph, print_graph
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify


def test_builder_infers_shapes_and_keeps_names_unique():
    build = Builder("b")
    x = build.input("x", TensorType("f32", (2, 3)))
    assert build.node("relu", (x,), outputs=("y",)) == ("y",)
    assert build.node("relu", (x,), outputs=("y",)) == ("y.1",)
    assert build.constant("x", np.zeros((2, 3), np.float32)) == "x.1"
    assert build.node("transpose", (x,), {"perm": (1, 0)}) == ("transpose_2",)
    graph = build.build()
    assert graph.types["transpose_2"] == TensorType("f32", (3, 2))
    assert verify(graph) is graph


def test_builder_types_constants_by_their_arrays():
    build = Builder("b")
    for dtype, word in (
        ("int8", "i8"),
        ("int16", "i16"),
        ("int32", "i32"),
        ("int64", "index"),
        ("bool", "bool"),
    ):
        name = build.constant("c", np.zeros((2,), dtype))
        assert build.types[name].dtype == word
    assert build.constants[build.constant("f", np.zeros((), np.float64))].dtype == np.float32


def test_a_graph_parses_as_it_prints():
    graph = small()
    text = print_graph(graph)
    assert parse_graph(text, graph.constants) == graph
    assert print_graph(parse_graph(text)) == text


attributes = st.dictionaries(
    st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
    st.one_of(
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.text(st.characters(codec="utf-8"), max_size=12),
        st.lists(st.integers(-9, 2**63 - 1), max_size=4).map(tuple),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3).map(tuple),
        st.lists(st.sampled_from(["a", 'b"c', "d, e"]), min_size=1, max_size=3).map(tuple),
    ),
    max_size=4,
)


@given(types, attributes, st.text(st.characters(codec="ascii", min_codepoint=32), max_size=10))
def test_every_attribute_and_type_survives_the_text(kind, attrs, source):
    ports = (Port("x", 0, 1), Port("z"))
    node = Node("relu", ("x", "", "z"), ("y", "w.1"), attrs, "named", source)
    graph = Graph("g", ports, (Port("y", None, 2),), (node,), {"x": kind, "z": kind, "y": kind, "w.1": kind})
    again = parse_graph(print_graph(graph))
    assert again == graph
    assert {k: type(v) for k, v in again.nodes[0].attrs.items()} == {k: type(v) for k, v in attrs.items()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "starts with 'graph NAME {'"),
        ("graph g {\n  input x: f32[1]", "ends with '}'"),
        ("graph g {\n  y f32[1] relu x\n}", "cannot be read: 'y f32"),
        ("graph g {\n  state h: a b c\n}", "cannot be read"),
    ],
)
def test_a_text_that_cannot_be_read_shows_its_line(text, message):
    with pytest.raises(GraphError, match=message):
        parse_graph(text)


def test_a_text_needs_the_arrays_it_names():
    with pytest.raises(GraphError, match=r"names a constant 'h\.initial' that the arrays do not hold"):
        parse_graph(print_graph(small()), {})
