"""What operators may do with time in a graph that is to run chunk by chunk.

A value streams if what a chunk gives is a stretch of what the whole recording gives. With time t0 … t0 + n in
a chunk, an axis of rate r and offset o (size r T + o) holds

    chunk[i] = whole[r t0 + i],  i < r n + o

o frames of the past stand in front: a causal layer pads them, the ones behind use them up. Every rule below
keeps this for the results of a node whose operands have it, or refuses the node. Three kinds of values
are more than frames, and a `Fact` tells of them:

    counts   positions made by `arange` begin anew in every chunk: chunk[i] = whole[r t0 + i] - k t0, with
             k by name of time. Differences and comparisons of equal k stream like any other value
    banded   attention weights are 0 outside of the stretch that the chunk has, along this axis, so that a
             product summed over it is the one over the whole
    last     what stands at the end of the chunk (the final state of an LSTM): right in the last chunk
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from nnaq.errors import StreamError
from nnaq.ir.dims import Dim, linear
from nnaq.ir.graph import Graph, Node
from nnaq.ir.time import time_axes
from nnaq.ir.types import TensorType
from nnaq.passes.known import MOVEMENT, Known

WHOLE = "over a chunk it is another function than over the recording; use a running or cached form"
POSITIONS = "positions begin anew in every chunk, only their differences and comparisons stay what they are"
COMPARISONS = frozenset(("equal", "greater", "greater_or_equal", "less", "less_or_equal"))


@dataclass(frozen=True)
class Fact:
    """What a value is beside frames; see the module."""

    counts: Mapping[str, int] = field(default_factory=dict)
    banded: int | None = None
    last: bool = False


class Extent(NamedTuple):
    """An axis of size rate * symbol + offset."""

    symbol: str
    rate: int
    offset: int


class Place:
    """A node as the rules see it: types of operands and results, facts of operands.

    names: those that stand for time; no other size of the graph is open.
    """

    def __init__(self, graph: Graph, node: Node, facts: Mapping[str, Fact], names: frozenset[str]) -> None:
        self.graph, self.node, self.names = graph, node, names
        self.operands = tuple(graph.types[v] if v else None for v in node.inputs)
        self.results = tuple(graph.types[v] for v in node.outputs)
        self.facts = tuple(facts.get(v, Fact()) for v in node.inputs)

    def refuse(self, why: str) -> StreamError:
        source = f" (from {self.node.source})" if self.node.source else ""
        return StreamError(f"{self.node.op} {self.node.name!r}{source} cannot stream: {why}")

    def kind(self, position: int = 0) -> TensorType:
        """The type of an operand that must be there."""
        found = self.operands[position]
        assert found is not None
        return found

    def time(self, kind: TensorType | None) -> dict[int, Extent]:
        """The axes of time, each with what it holds. Raises StreamError for sizes that no chunk has."""
        found = {} if kind is None else time_axes(kind, self.names)
        return {axis: self._extent(dim) for axis, dim in found.items()}

    def _extent(self, dim: Dim) -> Extent:
        parts = linear(str(dim))
        if parts is None or parts[1] + parts[2] < 0:
            raise self.refuse(f"a size of {dim} does not grow by whole frames from the first chunk on")
        return Extent(*parts)

    def axes(self, key: str) -> tuple[int, ...]:
        """Axes of operand 0 that an attribute names, from the front."""
        return tuple(axis % self.kind().rank for axis in self.numbers(key))

    def numbers(self, key: str) -> tuple[int, ...]:
        """The whole numbers of an attribute."""
        return numbers(self.node, key)

    def must_not_be_time(self, axes: Sequence[int], does: str, position: int = 0) -> None:
        """Raise StreamError where an operand's axis is time; does: what the node does along it."""
        if set(axes) & self.time(self.operands[position]).keys():
            raise self.refuse(f"it {does} time; {WHOLE}")

    def must_be_alone(self, axis: int, kind: TensorType) -> None:
        """Raise StreamError where the past along an axis of time would have another axis of time."""
        if time_axes(kind, self.names).keys() - {axis}:
            raise self.refuse(
                f"its past would have an open size, as {list(kind.shape)} has; a state has none"
            )

    def beginning(self, value: str) -> np.ndarray | None:
        """What a value holds that is known before a run and has no open size, else None."""
        return beginning(self.graph, value, self.names)

    def is_state(self, value: str) -> bool:
        """Whether a value is a state that the graph has already."""
        return is_state(self.graph, value)

    def counts(self) -> Mapping[str, int]:
        """What is left of positions when they are added, subtracted and compared."""
        op, given = self.node.op, [fact.counts for fact in self.facts[:2]]
        if not any(fact.counts for fact in self.facts):
            return {}
        if op in ("add", "sub"):
            sign = 1 if op == "add" else -1
            a, b = given
            both = {name: a.get(name, 0) + sign * b.get(name, 0) for name in {**a, **b}}
            return {name: count for name, count in both.items() if count}
        if op in COMPARISONS and given[0] == given[1]:
            return {}
        raise self.refuse(POSITIONS)


def numbers(node: Node, key: str) -> tuple[int, ...]:
    """The whole numbers of an attribute, which may be a single one."""
    value = node.attrs[key]
    return tuple(int(v) for v in (value if isinstance(value, tuple) else (value,)))


def beginning(graph: Graph, value: str, names: frozenset[str]) -> np.ndarray | None:
    """What a value holds that follows from constants and shapes alone; None for others and open sizes."""
    if not value or time_axes(graph.types[value], names):
        return None
    return Known(graph, dict.fromkeys(names, 1))(value)


def is_state(graph: Graph, value: str) -> bool:
    """Whether a value is a state of the graph, as it is or moved about."""
    while value in graph.producer and graph.producer[value].op in MOVEMENT:
        value = graph.producer[value].inputs[0]
    return any(value == state.input for state in graph.states)
