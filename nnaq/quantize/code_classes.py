"""Which values share one code type.

A reshape cannot change a scale, a state must read what it writes, an LSTM returns hidden values in
the type it takes them: such values form a class, and a class has one scale and one zero_point.
"""

from collections.abc import Iterator

import networkx as nx

from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup


def value_at(node: Node, position: int) -> str:
    """The value at an operand position, or at a result position written as ~r."""
    if position < 0:
        return node.outputs[~position]
    return node.inputs[position] if position < len(node.inputs) else ""


def tied_groups(node: Node) -> Iterator[list[str]]:
    """Groups of values of a node that share one code type."""
    op = lookup(node.op)
    if op.moves:
        yield [v for v in (*node.inputs, *node.outputs) if v]
    for group in op.ties:
        yield [v for v in (value_at(node, position) for position in group) if v]


def code_classes(graph: Graph) -> dict[str, str]:
    """Every value's class, named by one of its members."""
    union = nx.utils.UnionFind(graph.types)
    for node in graph.nodes:
        for group in tied_groups(node):
            union.union(*group)
    for state in graph.states:
        union.union(state.input, state.output, state.initial)
    return {value: union[value] for value in graph.types}


def demands(graph: Graph) -> dict[str, str]:
    """What classes insist on (`i16`, `i16 power_of_two`), whatever the recipe says."""
    classes = code_classes(graph)
    found: dict[str, str] = {}
    for node in graph.nodes:
        for position, demand in lookup(node.op).demands.items():
            value = value_at(node, position)
            if value:
                found[classes[value]] = max(found.get(classes[value], ""), demand, key=len)
    return found
