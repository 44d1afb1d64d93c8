"""Building graphs node by node; result types come from the operators."""

from collections.abc import Mapping, Sequence

import numpy as np

from nnaq.ir.graph import Graph, Node, Port, State
from nnaq.ir.op import Attr, lookup
from nnaq.ir.types import TensorType, storage


class Builder:
    """Collects values and nodes, then makes a Graph.

    Names are made unique by a running number where they are taken already.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.states: list[State] = []
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        self.constants: dict[str, np.ndarray] = {}

    def fresh(self, name: str) -> str:
        """`name`, or `name.1`, `name.2`, … where it is taken."""
        if name not in self.types:
            return name
        number = 1
        while f"{name}.{number}" in self.types:
            number += 1
        return f"{name}.{number}"

    def value(self, name: str, kind: TensorType) -> str:
        """Declare a value that no node makes (a state's input)."""
        self.types[name] = kind
        return name

    def input(
        self, name: str, kind: TensorType, time_axis: int | None = None, batch_axis: int | None = None
    ) -> str:
        self.inputs.append(Port(name, time_axis, batch_axis))
        return self.value(name, kind)

    def constant(self, name: str, array: np.ndarray, kind: TensorType | None = None) -> str:
        """Add a constant; without a type it is f32 (or the integer dtype of the array)."""
        if kind is None:
            names = {"int8": "i8", "int16": "i16", "int32": "i32", "int64": "index", "bool": "bool"}
            kind = TensorType(names.get(array.dtype.name, "f32"), array.shape)
        name = self.fresh(name)
        self.constants[name] = np.ascontiguousarray(array, storage(kind.dtype)).reshape(array.shape)
        return self.value(name, kind)

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        attrs: Mapping[str, Attr] | None = None,
        outputs: Sequence[str] | None = None,
        types: Sequence[TensorType] | None = None,
        name: str = "",
        source: str = "",
    ) -> tuple[str, ...]:
        """Add a node and return the names of its results.

        Without `types` the results are f32 of the inferred shapes.
        """
        attrs = dict(attrs or {})
        if types is None:
            operands = tuple(self.types[v] if v else None for v in inputs)
            types = [TensorType("f32", shape) for shape in lookup(op).infer(operands, attrs)]
        names = [self.fresh(v) for v in (outputs or [f"{op}_{len(self.nodes)}"] * len(types))]
        for position, (value, kind) in enumerate(zip(names, types, strict=True)):
            names[position] = self.value(self.fresh(value), kind)
        self.nodes.append(Node(op, tuple(inputs), tuple(names), attrs, name, source))
        return tuple(names)

    def output(self, name: str, time_axis: int | None = None, batch_axis: int | None = None) -> None:
        self.outputs.append(Port(name, time_axis, batch_axis))

    def state(self, name: str, input: str, output: str, initial: np.ndarray) -> None:
        """Pair a value with its next value; `initial` is what it holds before the first step."""
        kind = self.types[input]
        self.states.append(State(name, input, output, self.constant(f"{name}.initial", initial, kind)))

    def build(self) -> Graph:
        return Graph(
            self.name,
            tuple(self.inputs),
            tuple(self.outputs),
            tuple(self.nodes),
            self.types,
            self.constants,
            tuple(self.states),
        )
