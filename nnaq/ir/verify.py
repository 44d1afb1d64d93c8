"""The rules every graph keeps. `verify` runs between passes; a broken rule names node and value."""

import numpy as np

from nnaq.errors import GraphError
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import Op, lookup
from nnaq.ir.types import TensorType, bounds, storage


def verify(graph: Graph) -> Graph:
    """Return `graph` if it is sound, else raise GraphError: rule, node, found, expected."""
    _values_are_made_once(graph)
    for node in graph.nodes:
        _node_is_sound(graph, node)
    for port in graph.outputs:
        if port.name not in graph.producer and port.name not in graph.sources:
            raise GraphError(f"output {port.name!r} of graph {graph.name!r} is made by no node")
    _constants_fit(graph)
    _states_fit(graph)
    return graph


def _values_are_made_once(graph: Graph) -> None:
    made = set(graph.sources)
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise GraphError(f"two nodes are called {node.name!r} in graph {graph.name!r}")
        names.add(node.name)
        for value in filter(None, node.inputs):
            if value not in made:
                raise GraphError(f"{node.op} {node.name!r} reads {value!r} before anything makes it")
        for value in node.outputs:
            if value in made:
                raise GraphError(f"{node.op} {node.name!r} makes {value!r} a second time")
            made.add(value)
    missing = sorted(made - graph.types.keys())
    if missing:
        raise GraphError(f"graph {graph.name!r} has no type for {', '.join(missing)}")


def _node_is_sound(graph: Graph, node: Node) -> None:
    op, signature = lookup(node.op), graph.signature(node)
    shapes = op.infer(signature.inputs, node.attrs)
    for value, shape in zip(node.outputs, shapes, strict=True):
        found = graph.types[value].shape
        if found != shape:
            raise GraphError(
                f"{node.op} {node.name!r}: {value!r} is {graph.types[value].dtype}{list(found)}, "
                f"but its operands make it {list(shape)}"
            )
    form = form_of(graph, node)
    if not is_real(graph, node) and form not in op.forms:
        raise GraphError(
            f"{node.op} {node.name!r} has the form '{form}', which is none of: {'; '.join(op.forms)}"
        )


def form_of(graph: Graph, node: Node) -> str:
    """`i8 i8 i32 -> i8`: the dtypes of a node's operands and results; `_` where one is absent."""
    left = " ".join(graph.types[v].dtype if v else "_" for v in node.inputs)
    return f"{left} -> {' '.join(graph.types[v].dtype for v in node.outputs)}"


def is_real(graph: Graph, node: Node) -> bool:
    """Whether a node stands in its real form: every operand and result is f32."""
    return all(graph.types[v].dtype == "f32" for v in (*filter(None, node.inputs), *node.outputs))


def is_real_graph(graph: Graph) -> bool:
    """Whether no node of a graph computes in integers."""
    return all(is_real(graph, node) for node in graph.nodes)


def _constants_fit(graph: Graph) -> None:
    for name, value in graph.constants.items():
        kind = graph.types[name]
        if value.dtype != storage(kind.dtype) or value.shape != kind.shape:
            raise GraphError(f"constant {name!r} is {value.dtype}{list(value.shape)}, its type says {kind}")
        if kind.dtype in ("i4", "i48") and value.size:
            low, high = bounds(kind.dtype)
            if value.min() < low or value.max() > high:
                raise GraphError(f"constant {name!r} does not fit {kind.dtype}")
        if kind.palette is not None:
            _palette_fits(name, value, kind)


def _palette_fits(name: str, codes: np.ndarray, kind: TensorType) -> None:
    """Raise GraphError where codes are not all entries of their row's table."""
    palette = kind.palette
    assert palette is not None
    if kind.dtype != "i8" or not palette.admits(codes.shape):
        raise GraphError(
            f"constant {name!r} is {kind.dtype}{list(codes.shape)}, which {palette} does not fit"
        )
    if palette.zeros is not None and palette.zeros != codes.size - np.count_nonzero(codes):
        raise GraphError(f"constant {name!r} has not the {palette.zeros} zeros that its palette says")
    step = palette.rows or max(1, len(codes) if codes.ndim else 1)
    rows = codes.reshape(len(codes) if codes.ndim else 1, -1)
    for number, table in enumerate(palette.tables):
        entries = table if palette.zeros is None else (*table, 0)
        foreign = np.setdiff1d(rows[number * step : (number + 1) * step], entries)
        if foreign.size:
            raise GraphError(f"constant {name!r} holds the code {foreign[0]}, which is not in its palette")


def _states_fit(graph: Graph) -> None:
    for state in graph.states:
        before, after = graph.types[state.input], graph.types.get(state.output)
        if after is None or before != after:
            raise GraphError(f"state {state.name!r} is {before} when read but {after} when written")
        if state.initial not in graph.constants or graph.types[state.initial] != before:
            raise GraphError(f"state {state.name!r} needs an initial constant of type {before}")


def ops_of(graph: Graph) -> tuple[Op, ...]:
    """The operators a graph uses, each once, in order of first use."""
    return tuple(lookup(name) for name in dict.fromkeys(node.op for node in graph.nodes))
