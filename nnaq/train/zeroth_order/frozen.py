"""What does not move is computed once: a graph parted in front of everything that tuned constants reach.

    x -> frozen -> f -> moving -> logits        frozen: no tuned constant behind it

`part` gives both parts, `through` sends the examples of a task through the first one. The second one is
then tuned on what came out, codes for codes: the same integers flow into the same kernels, so losses, log
and tuned weights are those of the whole graph, bit for bit. What a state carries is frozen only if nothing
of what makes its next value moves.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from nnaq.interpret import Interpreter
from nnaq.ir.cut import cut
from nnaq.ir.dims import symbols
from nnaq.ir.graph import Graph, Port
from nnaq.train.zeroth_order.examples import Examples, Recordings

Data = Examples | Recordings


class Parts(NamedTuple):
    """A graph in two: what the first makes the second takes. frozen: None where everything moves."""

    frozen: Graph | None
    moving: Graph


def part(graph: Graph, constants: Iterable[str], outputs: Sequence[str]) -> Parts:
    """A graph parted for the tuning of some constants on some outputs."""
    moving = _reached(graph, constants)
    leading = cut(graph, _needed(graph, outputs), outputs, graph.name).nodes
    nodes = [node for node in leading if moving.intersection(node.outputs)]
    read = {value for node in nodes for value in node.inputs} | {*outputs}
    states = {state.input: state.output for state in graph.states}
    read = {states.get(value, value) if value not in moving else value for value in read}
    border = [value for value in (*(p.name for p in graph.inputs), *graph.producer) if value in read - moving]
    if not set(border).intersection(graph.producer) or not _are_apart(graph, border):
        return Parts(None, graph)
    frozen = cut(graph, _needed(graph, border), border, f"{graph.name}.frozen")
    return Parts(
        _batched(graph, frozen), _batched(graph, cut(graph, border, outputs, f"{graph.name}.moving"))
    )


def through(frozen: Graph | None, data: Data) -> Data:
    """A task's examples as the second part takes them: each goes through the first one once."""
    if frozen is None:
        return data
    interpreter = Interpreter(frozen)
    if isinstance(data, Recordings):
        return Recordings(tuple(_passed(interpreter, one) for one in data.parts))
    made = [_passed(interpreter, some).inputs for some in data.pieces(frozen)]
    axes = {port.name: port.batch_axis or 0 for port in frozen.outputs}
    joined = {name: np.concatenate([piece[name] for piece in made], axis) for name, axis in axes.items()}
    return Examples(joined, data.labels, data.output)


def _passed(interpreter: Interpreter, some: Examples) -> Examples:
    interpreter.reset()
    needed = {port.name: some.inputs[port.name] for port in interpreter.graph.inputs}
    return Examples(interpreter.step(needed).outputs, some.labels, some.output)


def _reached(graph: Graph, constants: Iterable[str]) -> frozenset[str]:
    """The constants and every value that depends on them, through states too."""
    found, states = set(constants), {state.output: state.input for state in graph.states}
    while True:
        before = len(found)
        for node in graph.nodes:
            if found.intersection(node.inputs):
                found.update(node.outputs)
        found |= {states[value] for value in found & states.keys()}
        if len(found) == before:
            return frozenset(found)


def _needed(graph: Graph, wanted: Iterable[str]) -> list[str]:
    """The graph's inputs that some values depend on, in order."""
    return [port.name for port in graph.inputs if _reached(graph, [port.name]).intersection(wanted)]


def _are_apart(graph: Graph, border: Iterable[str]) -> bool:
    """Whether every value of the border has an axis over the examples, if the inputs have one."""
    names = _batch_symbols(graph)
    return not names or all(_batch_axis(graph, value, names) is not None for value in border)


def _batched(whole: Graph, piece: Graph) -> Graph:
    """A part whose ports say which axis is over the examples."""
    names = _batch_symbols(whole)

    def port(one: Port) -> Port:
        return Port(one.name, one.time_axis, _batch_axis(piece, one.name, names))

    return piece.rebuilt(
        piece.nodes, inputs=tuple(map(port, piece.inputs)), outputs=tuple(map(port, piece.outputs))
    )


def _batch_symbols(graph: Graph) -> frozenset[str]:
    """The names of open sizes that count examples."""
    shapes = [(graph.types[port.name].shape, port.batch_axis) for port in graph.inputs]
    return frozenset[str]().union(*(symbols(shape[axis]) for shape, axis in shapes if axis is not None))


def _batch_axis(graph: Graph, value: str, names: frozenset[str]) -> int | None:
    """The axis of a value whose size is the number of examples itself."""
    shape = graph.types[value].shape
    return next((axis for axis, dim in enumerate(shape) if isinstance(dim, str) and {dim} <= names), None)
