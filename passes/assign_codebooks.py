"""assign-codebooks: weights whose codes come from small tables.

    w.fq = fake_quantize(w) {dtype="i8", scale=[…], …}
becomes
    w.fq = fake_quantize(w) {dtype="i8", scale=[…], palette=[-96, …, 101], palette_bits=4, …}

with every real of w moved to a table entry times its channel's scale, and the scales fitted together
with the table where the choice says so. To the arithmetic the weight is i8. A weight whose codes a training
decided gets these instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from nnaq.codebooks.choice import PaletteChoice
from nnaq.codebooks.coded import Coded
from nnaq.codebooks.fit import fit_palette
from nnaq.errors import PassError
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels.boundary import code_type, dequantize_array, quantize_attrs
from nnaq.passes.manager import Keeps, Pass
from nnaq.quantize.scales import as_float32

GATED = {"lstm": ("w_input", "w_recurrent"), "gru": ("w_input", "w_recurrent")}


@dataclass(frozen=True)
class AssignCodebooks(Pass):
    """Give weights the palettes that were chosen for them.

    importance: what an error of each weight costs, by constant: [rows, rest] or what broadcasts to it,
    for the choices that are weighted by activations. coded: weights whose codes are decided, by constant;
    none of them has a choice.
    """

    name: ClassVar[str] = "assign-codebooks"
    keeps: ClassVar[Keeps] = "types"

    palettes: Mapping[str, PaletteChoice] = field(default_factory=dict)
    importance: Mapping[str, np.ndarray] = field(default_factory=dict)
    coded: Mapping[str, Coded] = field(default_factory=dict)

    def run(self, graph: Graph) -> Graph:
        """Raises PassError for a name that is no weight, or a granularity that it cannot have."""
        rounded = {n.inputs[0]: n for n in graph.nodes if n.op == "fake_quantize"}
        for name in (*self.palettes, *self.coded):
            if name not in graph.constants or name not in rounded:
                raise PassError(f"palettes name {name!r}, which is no weight of graph {graph.name!r}")
        for name, choice in self.palettes.items():
            graph = self.with_palette(graph, rounded[name], choice)
        for name, weight in self.coded.items():
            graph = on_codes(graph, rounded[name], weight.kind, weight.reals())
        return graph

    def with_palette(self, graph: Graph, node: Node, choice: PaletteChoice) -> Graph:
        """The graph with one weight on its palette."""
        name = node.inputs[0]
        kind, weight = code_type(node.attrs, graph.types[name].shape), graph.constants[name]
        axis = channel_axis(name, kind)
        rows, importance = shared_rows(graph, node, choice), None
        if choice.weighting == "activations":
            if name not in self.importance:
                raise PassError(
                    f"no activation of {name!r} was measured, by which its palette is to be weighted; choose "
                    "weighting = 'none' for it"
                )
            importance = self.importance[name]
        turned = np.moveaxis(weight.astype(np.float64), axis, 0)
        assert kind.quant is not None
        scale = np.broadcast_to(np.array(kind.quant.scale, np.float64), (len(turned),))
        if kind.quant.axis is None:  # one scale for the tensor stays one
            choice = replace(choice, scale="kept")
        fitted = fit_palette(turned, scale, choice, rows, importance)
        if choice.scale == "fitted":
            kind = replace(kind, quant=Quant(tuple(map(as_float32, fitted.scale)), 0, axis))
        kind = replace(kind, palette=fitted.palette)
        codes = np.ascontiguousarray(np.moveaxis(fitted.codes, 0, axis))
        return on_codes(graph, node, kind, dequantize_array(codes, kind))


def on_codes(graph: Graph, node: Node, kind: TensorType, reals: np.ndarray) -> Graph:
    """The graph with a rounded weight of these reals, which are codes of type `kind`."""
    attrs = quantize_attrs(kind, str(node.attrs["rounding"]))
    nodes = tuple(replace(n, attrs=attrs) if n == node else n for n in graph.nodes)
    return graph.rebuilt(nodes, constants={**graph.constants, node.inputs[0]: reals})


def channel_axis(name: str, kind: TensorType) -> int:
    """The axis of output channels of a weight's codes, the first where one scale is for all.

    Raises PassError for codes that no palette holds: other widths than 8 bits, a zero_point.
    """
    if kind.dtype != "i8" or kind.quant is None or kind.zero_point != 0:
        raise PassError(
            f"palettes name {name!r}, whose codes are {kind.dtype} with zero_point {kind.zero_point}: only "
            "8-bit codes with zero_point 0 rest as indices"
        )
    return kind.quant.axis or 0


def shared_rows(graph: Graph, node: Node, choice: PaletteChoice) -> int:
    """How many neighbouring rows of a rounded weight share a table; 0: all of them.

    Raises PassError where the weight has no gates, or its channels are not its first axis.
    """
    name = node.inputs[0]
    if choice.granularity == "per_tensor":
        return 0
    if node.attrs["axis"] not in (0, -1):
        raise PassError(
            f"the channels of {name!r} are axis {node.attrs['axis']}: it can only have a palette per_tensor"
        )
    if choice.granularity == "per_gate":
        return int(graph.types[name].shape[0]) // _gates(graph, node)
    return choice.group_size or 1


def _gates(graph: Graph, node: Node) -> int:
    """How many gates a recurrent weight holds one above the other."""
    for reader in graph.readers[node.outputs[0]]:
        op = lookup(reader.op)
        names = [name.rstrip("?") for name in op.operands]
        if names[reader.inputs.index(node.outputs[0])] in GATED.get(reader.op, ()):
            return 3 if reader.op == "gru" or reader.attrs.get("cifg") else 4
    raise PassError(f"{node.inputs[0]!r} has no gates; a palette per_gate is for weights of lstm and gru")
