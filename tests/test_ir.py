"""Types, texts, verification, building, dimensions, orders and matching: the laws of nnaq/ir."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.errors import GraphError, OpError
from nnaq.ir import dims
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph, Node, Port, State
from nnaq.ir.match import chain
from nnaq.ir.op import lookup, register, table
from nnaq.ir.order import topological, without_dead_code
from nnaq.ir.text import parse_graph, print_graph
from nnaq.ir.types import DTYPES, Palette, Quant, TensorType, bits, bounds, parse_type, storage
from nnaq.ir.verify import form_of, is_real, ops_of, verify

# --- types

scales = st.floats(min_value=1e-30, max_value=1e30)
quants = st.one_of(
    st.builds(lambda s, z: Quant((s,), z), scales, st.integers(-(2**31), 2**31 - 1)),
    st.builds(
        lambda s, z, axis: Quant(tuple(s), z, axis),
        st.lists(scales, min_size=2, max_size=5),
        st.integers(-128, 127),
        st.integers(0, 3),
    ),
)
palettes = st.integers(1, 8).flatmap(
    lambda width: st.builds(
        lambda entries: Palette(width, tuple(entries)),
        st.lists(st.integers(-128, 127), min_size=1, max_size=min(2**width, 20)),
    )
)
sizes = st.one_of(st.integers(0, 999), st.sampled_from(["T", "batch", "T-2", "(T-3)//2+1", "2*(T)"]))
types = st.builds(
    TensorType,
    st.sampled_from(DTYPES),
    st.lists(sizes, max_size=4).map(tuple),
    st.none() | quants,
    st.none() | palettes,
)


@given(types)
def test_a_type_parses_as_it_prints(kind):
    assert parse_type(str(kind)) == kind


@pytest.mark.parametrize("text", ["", "i8", "i8[1", "i8[1]<0.5>", "i8[1]<0.5, x>", "i8[2]<[1, 2]@, 0>"])
def test_what_is_no_type_is_refused(text):
    with pytest.raises(GraphError, match="not a tensor type"):
        parse_type(text)


def test_types_hold_their_own_rules():
    with pytest.raises(GraphError, match="no dtype 'i7'; there are f32, i4"):
        TensorType("i7", (1,))
    for scale in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(GraphError, match="finite and positive"):
            Quant((scale,))
    with pytest.raises(GraphError, match="2 scales need an axis"):
        Quant((1.0, 2.0))
    with pytest.raises(GraphError, match="a 1-bit palette cannot hold 3 entries"):
        Palette(1, (0, 1, 2))
    with pytest.raises(GraphError, match="no single scale"):
        _ = TensorType("i8", (2,), Quant((1.0, 2.0), 0, 0)).scale
    with pytest.raises(GraphError, match="no integer bounds"):
        bounds("f32")


def test_bounds_are_those_of_the_bits():
    for dtype in ("i4", "i8", "i16", "i32", "i48"):
        assert bounds(dtype) == (-(2 ** (bits(dtype) - 1)), 2 ** (bits(dtype) - 1) - 1)
        held = np.iinfo(storage(dtype))
        assert held.min <= bounds(dtype)[0]
        assert bounds(dtype)[1] <= held.max


def test_scales_broadcast_along_their_axis():
    assert Quant((1.0, 2.0), 0, 1).scales(3).shape == (1, 2, 1)
    assert Quant((0.5,)).scales(2).tolist() == [[0.5]]


# --- dimensions


@given(st.integers(1, 60), st.integers(0, 5), st.integers(1, 6), st.integers(1, 4))
def test_a_window_over_a_symbol_is_the_window_over_its_size(size, padding, extent, stride):
    assume(size + padding >= extent)
    symbolic = dims.window("T", padding, extent, stride)
    assert dims.evaluate(symbolic, {"T": size}) == dims.window(size, padding, extent, stride)
    positions = range(0, size + padding - extent + 1, stride)
    assert dims.window(size, padding, extent, stride) == len(positions)


@given(st.lists(st.integers(1, 6), max_size=4), st.lists(st.integers(1, 6), max_size=3))
def test_a_quotient_divides(whole, parts):
    found = dims.quotient(whole, parts)
    top, bottom = int(np.prod(whole)), int(np.prod(parts))
    assert found == (top // bottom if top % bottom == 0 else None)


@given(st.lists(st.sampled_from(["T", "N", "T-1", 2, 3]), max_size=5), st.data())
def test_a_symbolic_quotient_divides_under_every_binding(whole, data):
    parts = data.draw(st.permutations(whole))[: data.draw(st.integers(0, len(whole)))]
    binding = {"T": data.draw(st.integers(2, 9)), "N": data.draw(st.integers(1, 9))}
    left = dims.quotient(whole, parts)
    assert left is not None
    product = np.prod(dims.bind(parts, binding)) * dims.evaluate(left, binding)
    assert product == np.prod(dims.bind(whole, binding))


@given(st.integers(0, 50), st.integers(-9, 9))
def test_add_commutes_with_binding(size, more):
    assert dims.evaluate(dims.add("T", more), {"T": size}) == dims.add(size, more)


def test_symbols_are_solved_and_checked():
    assert dims.symbols("(T-1)//2+N") == {"T", "N"}
    assert dims.symbols(7) == frozenset()
    assert dims.solve(("T", 4, "T-2"), (6, 4, 4), "x") == {"T": 6}
    for wrong in ((6, 5, 4), (6, 4, 3), (6, 4)):
        with pytest.raises(GraphError, match=r"x has shape .* expected \[T,4,T-2\]"):
            dims.solve(("T", 4, "T-2"), wrong, "x")
    with pytest.raises(GraphError, match="'T-1' cannot be evaluated"):
        dims.evaluate("T-1", {})


# --- building, printing and parsing


def small() -> Graph:
    """y = relu(x + h) with h a state, next to a transposed copy."""
    build = Builder("small")
    x = build.input("x", TensorType("f32", ("T", 4)), time_axis=0)
    h = build.value("h", TensorType("f32", (1, 4)))
    (total,) = build.node("add", (x, h), outputs=("sum",), source="net.add")
    (y,) = build.node("relu", (total,), outputs=("y",))
    (flipped,) = build.node("transpose", (y,), {"perm": (1, 0)}, name="flip")
    build.output(y, time_axis=0)
    build.output(flipped, time_axis=1)
    build.state("h", h, h, np.zeros((1, 4), np.float32))
    return build.build()


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


# --- graphs


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


# --- verification


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


# --- orders


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


# --- matching


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
