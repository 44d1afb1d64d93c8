"""canonicalize: a topological order without dead code.

    b = relu(a)                     b = relu(a)
    c = sigmoid(a)      becomes     output b
    output b

Among nodes that could run next, the one that stood first runs first: the order is deterministic.
"""

from dataclasses import dataclass
from typing import ClassVar

from nnaq.ir.graph import Graph
from nnaq.ir.order import topological, without_dead_code
from nnaq.passes.manager import Keeps, Pass


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Put the nodes in a deterministic topological order and drop what nobody reads."""

    name: ClassVar[str] = "canonicalize"
    keeps: ClassVar[Keeps] = "reals"

    def run(self, graph: Graph) -> Graph:
        return without_dead_code(graph.rebuilt(topological(graph)))
