"""assign-codebooks: weights whose codes come from a small table.

    w.fq = fake_quantize(w) {dtype="i8", …}
becomes
    w.fq = fake_quantize(w) {dtype="i8", palette=[-96, …, 101], palette_bits=4, …}

with every real of w moved to the nearest entry of the table. To the arithmetic the weight is i8.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from nnaq.codebooks.kmeans import nearest, optimal_palette
from nnaq.errors import PassError
from nnaq.ir.graph import Graph, Node
from nnaq.kernels.boundary import code_type, dequantize_array, quantize_array
from nnaq.passes.manager import Keeps, Pass


@dataclass(frozen=True)
class AssignCodebooks(Pass):
    """Give constants a palette of the given bits, found by optimal 1-D k-means on their codes."""

    name: ClassVar[str] = "assign-codebooks"
    keeps: ClassVar[Keeps] = "types"

    palettes: Mapping[str, int] = field(default_factory=dict)

    def run(self, graph: Graph) -> Graph:
        rounded = {n.inputs[0]: n for n in graph.nodes if n.op == "fake_quantize"}
        for name, bits in self.palettes.items():
            if name not in graph.constants or name not in rounded:
                raise PassError(f"palettes name {name!r}, which is no weight of graph {graph.name!r}")
            graph = self.with_palette(graph, rounded[name], bits)
        return graph

    def with_palette(self, graph: Graph, node: Node, bits: int) -> Graph:
        name = node.inputs[0]
        kind = code_type(node.attrs, graph.types[name].shape)
        codes = quantize_array(graph.constants[name], kind, str(node.attrs["rounding"]))
        palette = optimal_palette(codes, bits)
        constants = {**graph.constants, name: dequantize_array(nearest(codes, palette), kind)}
        attrs = {**node.attrs, "palette": palette.table, "palette_bits": palette.bits}
        nodes = tuple(replace(n, attrs=attrs) if n == node else n for n in graph.nodes)
        return graph.rebuilt(nodes, constants=constants)
