"""fuse-activation: a relu that alone reads a convolution or matrix product becomes its activation.

    c = conv1d(x, w, b) {activation="none"}
    y = relu(c)
becomes
    y = conv1d(x, w, b) {activation="relu"}

The product then never needs codes for its negative half: one bit more for what is kept.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from nnaq.ir.graph import Graph
from nnaq.ir.match import chain
from nnaq.passes.manager import Keeps, Pass

FUSABLE = ("conv1d", "conv2d", "fully_connected")


@dataclass(frozen=True)
class FuseActivation(Pass):
    """Move relu into the operator that feeds it."""

    name: ClassVar[str] = "fuse-activation"
    keeps: ClassVar[Keeps] = "reals"

    def run(self, graph: Graph) -> Graph:
        fused, gone = {}, set()
        for op in FUSABLE:
            for product, relu in chain(graph, op, "relu"):
                if product.attrs.get("activation", "none") == "none":
                    attrs = {**product.attrs, "activation": "relu"}
                    fused[product.name] = replace(product, outputs=relu.outputs, attrs=attrs)
                    gone.add(relu.name)
        nodes = (fused.get(node.name, node) for node in graph.nodes if node.name not in gone)
        return graph.rebuilt(tuple(nodes))
