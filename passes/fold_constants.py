"""fold-constants: a node whose operands are all constants becomes a constant.

    w2 = transpose(w)               constant w2
    y = matmul(x, w2)   becomes     y = matmul(x, w2)

A fake_quantize of a constant stays: it is where the constant's codes are decided.
"""

from dataclasses import dataclass
from typing import ClassVar

from nnaq.interpret import kernel
from nnaq.ir.graph import Graph, Node
from nnaq.passes.manager import Keeps, Pass


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Compute at compile time what no input and no state reaches."""

    name: ClassVar[str] = "fold-constants"
    keeps: ClassVar[Keeps] = "reals"

    def run(self, graph: Graph) -> Graph:
        constants, nodes = dict(graph.constants), list[Node]()
        for node in graph.nodes:
            if node.op != "fake_quantize" and all(v in constants for v in node.inputs if v):
                arrays = kernel(graph, node, "fast")(*(constants[v] if v else None for v in node.inputs))
                constants.update(zip(node.outputs, arrays, strict=True))
            else:
                nodes.append(node)
        return graph.rebuilt(tuple(nodes), constants=constants)
