"""Which values share one code type.

A reshape cannot change a scale, a state must read what it writes, an LSTM returns hidden values in
the type it takes them: such values form a class, and a class has one scale and one zero_point.
"""

from collections.abc import Iterator
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Demand:
    """What a class insists on: a word of `Op.demands`; `of` is the value whose codes it accumulates."""

    word: str
    of: str = ""


STRENGTH = ("i16", "probability", "i16 power_of_two", "flag", "whole", "accumulates")
"""Words by strength: where two meet in one class, the later one holds."""


def demands(graph: Graph) -> dict[str, Demand]:
    """What classes insist on, whatever the recipe says, by class.

    What an operator makes counts before what others would like to read; those read a converted copy.
    """
    classes = code_classes(graph)
    read: dict[str, Demand] = {}
    made: dict[str, Demand] = {}
    for node in graph.nodes:
        for position, demand in lookup(node.op).demands.items():
            value = value_at(node, position)
            if value:
                found, wanted = made if position < 0 else read, _demand(node, demand)
                held = found.setdefault(classes[value], wanted)
                found[classes[value]] = max(held, wanted, key=lambda d: STRENGTH.index(d.word))
    return read | made


def _demand(node: Node, demand: str) -> Demand:
    if not demand.startswith("accumulates "):
        return Demand(demand)
    return Demand("accumulates", value_at(node, int(demand.split(" ")[1])))
