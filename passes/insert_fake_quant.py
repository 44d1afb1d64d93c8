"""insert-fake-quant: explicit rounding to the codes every value will have.

    y = conv1d(x, w, b)
becomes
    w.fq  = fake_quantize(w) {dtype="i8", axis=0, …}
    y.raw = conv1d(x, w.fq, b)
    y     = fake_quantize(y.raw) {dtype="i8", …}

The result is still a graph over the reals: runnable, comparable, trainable. Values that only move
(reshape, slice, relu) and exact results (a square, a sum of squares in i32) need no rounding.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup
from nnaq.ir.types import TensorType
from nnaq.kernels.boundary import quantize_attrs
from nnaq.passes.manager import Keeps, Pass
from nnaq.quantize.code_types import Choice, CodeTypes, choose_types


@dataclass(frozen=True)
class InsertFakeQuant(Pass):
    """Give every value codes and mark with fake_quantize where they are rounded.

    choice: what decides the codes. rounding: tie rule of the graph's input quantisers.
    """

    name: ClassVar[str] = "insert-fake-quant"
    keeps: ClassVar[Keeps] = "types"

    choice: Choice
    rounding: str = "half_even"

    def run(self, graph: Graph) -> Graph:
        return _Inserter(graph, choose_types(graph, self.choice), self.rounding).graph()


class _Inserter:
    """Copies the graph with fake_quantize nodes; `.raw` is a result before it is rounded."""

    def __init__(self, graph: Graph, chosen: CodeTypes, rounding: str) -> None:
        self.before, self.kinds, self.rounding = graph, chosen.types, rounding
        self.left, self.converted = chosen.unrounded | chosen.host, chosen.converted
        self.types = dict(graph.types)
        self.nodes: list[Node] = []
        self.renamed: dict[str, str] = {}
        self.copies: dict[tuple[str, TensorType], str] = {}

    def graph(self) -> Graph:
        for port in self.before.inputs:
            self.quantized(port.name, self.rounding)
        for node in self.before.nodes:
            self.copy(node)
        return self.before.rebuilt(tuple(self.nodes), types=self.types)

    def copy(self, node: Node) -> None:
        op = lookup(node.op)
        for position, value in enumerate(node.inputs):
            if value not in self.before.constants or position in op.reals or value in self.renamed:
                continue
            if (node.name, position) not in self.converted:
                self.quantized(value, "half_even")
        inputs = tuple(self.operand(node, i, v) for i, v in enumerate(node.inputs))
        rounded = [v for v in node.outputs if not op.moves and v not in self.left]
        raw = tuple(f"{v}.raw" if v in rounded else v for v in node.outputs)
        self.nodes.append(replace(node, inputs=inputs, outputs=raw))
        for value in rounded:
            self.types[f"{value}.raw"] = self.types[value]
            self.round(f"{value}.raw", value, self.kinds[value], "half_even")

    def operand(self, node: Node, position: int, value: str) -> str:
        """What the node reads: the rounded copy of an input or constant, or a copy in other codes."""
        source, kind = self.renamed.get(value, value), self.converted.get((node.name, position))
        if kind is None:
            return source
        if value in self.before.constants:
            source = value  # its own codes may be coarser
        if (value, kind) not in self.copies:
            copy = self.copies[value, kind] = f"{value}.{kind.dtype}.{len(self.copies)}"
            self.types[copy] = self.types[value]
            self.round(source, copy, kind, "half_even")
        return self.copies[value, kind]

    def quantized(self, value: str, rounding: str) -> None:
        """Round an input or a constant; its readers will read the rounded copy."""
        self.renamed[value] = f"{value}.fq"
        self.types[f"{value}.fq"] = self.types[value]
        self.round(value, f"{value}.fq", self.kinds[value], rounding)

    def round(self, source: str, result: str, kind: TensorType, rounding: str) -> None:
        name = f"{result}.fake_quantize"
        self.nodes.append(Node("fake_quantize", (source,), (result,), quantize_attrs(kind, rounding), name))
