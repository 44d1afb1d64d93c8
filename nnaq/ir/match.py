"""Finding patterns in a graph."""

from collections.abc import Iterator

from nnaq.ir.graph import Graph, Node


def chain(graph: Graph, *ops: str) -> Iterator[tuple[Node, ...]]:
    """Straight lines of nodes with these operators: each feeds only the next, through operand 0.

    A value that is an output or a next state of the graph ends a line.
    """
    for node in graph.nodes:
        line = _follow(graph, node, ops)
        if line is not None:
            yield line


def _follow(graph: Graph, node: Node, ops: tuple[str, ...]) -> tuple[Node, ...] | None:
    if node.op != ops[0]:
        return None
    if len(ops) == 1:
        return (node,)
    value = node.outputs[0]
    readers = graph.readers.get(value, ())
    if value in graph.results or len(readers) != 1 or readers[0].inputs.count(value) != 1:
        return None
    if readers[0].inputs[0] != value:
        return None
    rest = _follow(graph, readers[0], ops[1:])
    return None if rest is None else (node, *rest)
