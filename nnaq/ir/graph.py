"""Graphs as frozen values: nodes over named values, with ports, states, types and constants.

A pass takes a graph and returns a new one; nothing derived from a graph can go stale.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import networkx as nx
import numpy as np

from nnaq.errors import GraphError
from nnaq.ir.op import Attr, Signature
from nnaq.ir.types import TensorType


@dataclass(frozen=True)
class Port:
    """An input or output of the graph; `time_axis` and `batch_axis` say which axis is which."""

    name: str
    time_axis: int | None = None
    batch_axis: int | None = None


@dataclass(frozen=True)
class State:
    """A value carried from one step to the next: `input` is read, `output` is its next value.

    `initial` names a constant of the same type: what `input` is before the first step.
    """

    name: str
    input: str
    output: str
    initial: str


@dataclass(frozen=True)
class Node:
    """One operator applied to named values. An absent optional operand is the empty name.

    `name` is unique in the graph; `source` is where it came from (node or module path).
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    name: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attrs", MappingProxyType(dict(sorted(self.attrs.items()))))
        object.__setattr__(self, "name", self.name or self.outputs[0])

    def __reduce__(self) -> tuple[object, ...]:
        # A MappingProxyType cannot be pickled; jobs carry graphs to other processes.
        return Node, (self.op, self.inputs, self.outputs, dict(self.attrs), self.name, self.source)


@dataclass(frozen=True, eq=False)
class Graph:
    """A model. Nodes stand in a topological order; `types` covers every value and constant."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    states: tuple[State, ...] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        return (
            (self.name, self.inputs, self.outputs, self.nodes, self.states)
            == (other.name, other.inputs, other.outputs, other.nodes, other.states)
            and dict(self.types) == dict(other.types)
            and self.constants.keys() == other.constants.keys()
            and all(np.array_equal(v, other.constants[k]) for k, v in self.constants.items())
        )

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def producer(self) -> dict[str, Node]:
        """The node that makes each value."""
        return {value: node for node in self.nodes for value in node.outputs}

    @cached_property
    def readers(self) -> dict[str, tuple[Node, ...]]:
        """The nodes that read each value, in order; a node that reads twice stands once."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(filter(None, node.inputs)):
                found.setdefault(value, []).append(node)
        return {value: tuple(nodes) for value, nodes in found.items()}

    @cached_property
    def dag(self) -> nx.DiGraph:
        """The nodes' names as a frozen networkx graph; the node stands under key `node`."""
        dag = nx.DiGraph()
        for node in self.nodes:
            dag.add_node(node.name, node=node)
            dag.add_edges_from((self.producer[v].name, node.name) for v in node.inputs if v in self.producer)
        return nx.freeze(dag)

    @cached_property
    def sources(self) -> frozenset[str]:
        """Values that are there before any node runs: inputs, states and constants."""
        ports = {port.name for port in self.inputs} | {state.input for state in self.states}
        return frozenset(ports | self.constants.keys())

    @cached_property
    def results(self) -> frozenset[str]:
        """Values that must survive: outputs and next states."""
        return frozenset({p.name for p in self.outputs} | {s.output for s in self.states})

    def node(self, name: str) -> Node:
        """The node called `name`."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise GraphError(f"graph {self.name!r} has no node {name!r}")

    def signature(self, node: Node) -> Signature:
        """The types and attributes of a node, as its operator wants them."""
        inputs = tuple(self.types[v] if v else None for v in node.inputs)
        return Signature(inputs, tuple(self.types[v] for v in node.outputs), node.attrs)

    def rebuilt(self, nodes: tuple[Node, ...], **changes: object) -> "Graph":
        """A copy with other nodes; types and constants that nothing mentions any more are gone."""
        graph = replace(self, nodes=nodes, **changes)  # type: ignore[arg-type]
        used = {v for n in nodes for v in (*n.inputs, *n.outputs)}
        used |= {port.name for port in (*graph.inputs, *graph.outputs)}
        used |= {v for s in graph.states for v in (s.input, s.output, s.initial)}
        return replace(
            graph,
            types={v: t for v, t in graph.types.items() if v in used},
            constants={v: c for v, c in graph.constants.items() if v in used},
        )
