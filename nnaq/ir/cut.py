"""The part of a graph between named values, as a graph of its own.

    x -> encoder -> f ┐
                      ├ joint -> logits         cut(graph, ["f", "g"], ["logits"], "joint")
    y -> predictor -> g ┘

What is cut has the nodes that lead from the given values to the wanted ones, with the constants, types and
states that belong to them, so that parts of one graph share the codes where they meet.
"""

from collections.abc import Iterable, Sequence

from nnaq.errors import GraphError
from nnaq.ir.graph import Graph, Node, Port, State
from nnaq.ir.time import time_axis
from nnaq.ir.verify import verify


def cut(graph: Graph, inputs: Sequence[str], outputs: Sequence[str], name: str) -> Graph:
    """The part of a graph that makes `outputs` of `inputs`, called `name`.

    inputs, outputs: names of values. A value that is no port of the graph becomes one of its own type,
    codes for codes: an i8 value is an i8 port. Its time axis is the one that follows the time of the graph's
    inputs. A state belongs to the part if a node of the part reads it; its next value is made there too.
    Raises GraphError for names that the graph does not have, a constant as an input, an input that nothing
    of the part reads, and an output or a state that needs an input of the graph which is not given.
    """
    _must_be_values(graph, inputs, outputs)
    nodes, states = _part(graph, frozenset(inputs), outputs)
    _must_be_complete(graph, inputs, outputs, nodes, states, name)
    ports = (tuple(_port(graph, value) for value in values) for values in (inputs, outputs))
    found = dict(zip(("inputs", "outputs"), ports, strict=True))
    return verify(graph.rebuilt(nodes, name=name, states=states, **found))


def _must_be_values(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    for value in (*inputs, *outputs):
        if value not in graph.types:
            raise GraphError(f"graph {graph.name!r} has no value {value!r} to cut at")
    for value in inputs:
        if value in graph.constants:
            raise GraphError(f"{value!r} of graph {graph.name!r} is a constant, which cannot be an input")


def _part(
    graph: Graph, given: frozenset[str], wanted: Iterable[str]
) -> tuple[tuple[Node, ...], tuple[State, ...]]:
    """The nodes behind `wanted`, as far as the values given, and the states that they read."""
    states = {state.input: state for state in graph.states}
    found, waiting = set[str](), list(wanted)
    while waiting:
        value = waiting.pop()
        if not value or value in found:
            continue
        found.add(value)
        if value in given:
            continue
        if value in states:
            waiting.append(states[value].output)
        elif value in graph.producer:
            waiting += (*graph.producer[value].inputs, *graph.producer[value].outputs)
    made = found - given
    nodes = tuple(node for node in graph.nodes if made.intersection(node.outputs))
    return nodes, tuple(state for state in graph.states if state.input in made)


def _must_be_complete(
    graph: Graph,
    inputs: Sequence[str],
    outputs: Sequence[str],
    nodes: Sequence[Node],
    states: Sequence[State],
    name: str,
) -> None:
    read = {v for node in nodes for v in node.inputs} | {*outputs} | {state.output for state in states}
    for port in graph.inputs:
        if port.name in read and port.name not in inputs:
            raise GraphError(
                f"{', '.join(map(repr, outputs))} cannot be cut from graph {graph.name!r} as {name!r}: the "
                f"part reads the input {port.name!r}, which is not given; give it, or a value in between"
            )
    for value in inputs:
        if value not in read:
            raise GraphError(f"part {name!r} of graph {graph.name!r} does not read its input {value!r}")


def _port(graph: Graph, value: str) -> Port:
    ports = {port.name: port for port in (*graph.inputs, *graph.outputs)}
    return ports.get(value) or Port(value, time_axis(graph, value))
