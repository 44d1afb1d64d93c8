"""Values that follow from constants and sizes alone, whatever a model hears.

The zeros from which a recurrent layer starts and the mask of an attention are such values: they are made by
nodes that read constants, positions, and of activations no more than their shapes.
"""

from collections.abc import Mapping

import numpy as np

from nnaq.interpret import kernel
from nnaq.ir.dims import bind
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import TensorType, storage

# Operators that move entries about without a change of them.
MOVEMENT = frozenset(("dequantize", "expand", "fake_quantize", "quantize", "rescale", "reshape", "transpose"))


class Known:
    """The known values of a graph, computed when they are asked for; `binding` gives open sizes."""

    def __init__(self, graph: Graph, binding: Mapping[str, int]) -> None:
        self.graph, self.binding = graph, binding
        self.values = dict(graph.constants)

    def __call__(self, value: str) -> np.ndarray | None:
        """The value, or None where an input or a state is behind it."""
        nodes = self._behind(value)
        if nodes is None:
            return None
        for node in (n for n in self.graph.nodes if n.name in nodes):
            operands = (
                None if not v else self._shape_of(v) if place in nodes[node.name] else self.values[v]
                for place, v in enumerate(node.inputs)
            )
            made = kernel(self.graph, node, "fast")(*operands)
            self.values.update(zip(node.outputs, made, strict=True))
        return self.values[value]

    def at_most(self, flags: str) -> np.ndarray | None:
        """Where flags can be true, bool; None where nothing is known.

        A flag that is not known can be true, unless the other of a logical_and is known to be false.
        """
        found, node = self(flags), self.graph.producer.get(flags)
        if found is not None:
            return np.asarray(found != self.graph.types[flags].zero_point)
        if node is None or node.op not in MOVEMENT | {"logical_and"}:
            return None
        if node.op == "logical_and":
            a, b = (self.at_most(value) for value in node.inputs)
            return a if b is None else b if a is None else a & b
        before = self.at_most(node.inputs[0])
        return None if before is None else self._moved(node, before)

    def _moved(self, node: Node, flags: np.ndarray) -> np.ndarray:
        kind = self.graph.types[node.inputs[0]]
        codes = flags.astype(storage(kind.dtype)) + kind.zero_point
        rest = (self.values.get(v, self._shape_of(v)) for v in node.inputs[1:])
        (moved,) = kernel(self.graph, node, "fast")(codes.astype(storage(kind.dtype)), *rest)
        return np.asarray(moved != self.graph.types[node.outputs[0]].zero_point)

    def _behind(self, value: str) -> dict[str, frozenset[int]] | None:
        """The nodes to run for a value, each with the operands of which it reads the shape only."""
        nodes, waiting = dict[str, frozenset[int]](), [value]
        while waiting:
            name = waiting.pop()
            node = self.graph.producer.get(name)
            if not name or name in self.values or (node is not None and node.name in nodes):
                continue
            if node is None:
                return None
            nodes[node.name] = self._shapes_read(node)
            waiting += (v for place, v in enumerate(node.inputs) if place not in nodes[node.name])
        return nodes

    def _shapes_read(self, node: Node) -> frozenset[int]:
        signature = self.graph.signature(node)
        inputs = tuple(None if kind is None else self._bound(kind) for kind in signature.inputs)
        whole = Signature(inputs, tuple(map(self._bound, signature.outputs)), node.attrs)
        reads = lookup(node.op).reads(whole)
        return frozenset(place for place, entries in reads.items() if entries == 0)

    def _bound(self, kind: TensorType) -> TensorType:
        return kind.with_shape(bind(kind.shape, self.binding))

    def _shape_of(self, value: str) -> np.ndarray:
        kind = self._bound(self.graph.types[value])
        return np.zeros(bind(kind.shape, {}), storage(kind.dtype))
