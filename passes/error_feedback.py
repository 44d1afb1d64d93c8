"""error-feedback: weights rounded column by column, each error carried by the columns that follow.

The constant of a rounded weight is replaced by other reals that lie on the same grid, or on entries of
the same palette, and that lose less on the activations the weight met: see codebooks/error_feedback.py.
Types, scales and tables stay; of a palette with a zero map the number of zeros follows the codes. Codes
with a zero_point, which only imported weights have, stay as they were imported: tables here are centred.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from nnaq.codebooks.error_feedback import error_feedback
from nnaq.errors import PassError
from nnaq.ir.graph import Graph, Node
from nnaq.ir.types import TensorType
from nnaq.kernels.boundary import code_bounds, code_type, dequantize_array, quantize_attrs
from nnaq.passes.manager import Keeps, Pass
from nnaq.quantize.moments import Moments

# (weight [O, K], scale [O], tables, rows, second moments [G, K, K]) -> codes [O, K]
Rounder = Callable[[np.ndarray, np.ndarray, Sequence[Sequence[int]], int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ErrorFeedback(Pass):
    """Round weights anew by error feedback.

    originals: real weights before they were rounded, by constant. moments: of what meets them. A weight
    that is not in both, or has only the diagonal of its moments, stays as it is.
    """

    name: ClassVar[str] = "error-feedback"
    keeps: ClassVar[Keeps] = "types"

    originals: Mapping[str, np.ndarray] = field(default_factory=dict)
    moments: Mapping[str, Moments] = field(default_factory=dict)

    def run(self, graph: Graph) -> Graph:
        """Raises PassError where an original has another shape than the graph's weight."""
        return rounded_anew(graph, self.originals, self.moments, error_feedback)


def rounded_anew(
    graph: Graph, originals: Mapping[str, np.ndarray], moments: Mapping[str, Moments], rounder: Rounder
) -> Graph:
    """The fake-quant graph with the codes that a rounder finds for its weights."""
    constants, attrs = dict(graph.constants), {}
    for node, name, kind in rounded_weights(graph):
        if name not in originals or name not in moments or not moments[name].is_full:
            continue
        if kind.dtype not in ("i8", "i4") or kind.quant is None or kind.quant.axis != 0 or kind.zero_point:
            continue
        weight = original_of(graph, originals, name)
        matrix, scale = weight.reshape(len(weight), -1).astype(np.float64), np.array(kind.quant.scale)
        rows = 0 if kind.palette is None else kind.palette.rows
        codes = rounder(matrix, scale, tables_of(kind), rows, moments[name].second).reshape(weight.shape)
        if kind.palette is not None and kind.palette.zeros is not None:
            palette = replace(kind.palette, zeros=int(np.count_nonzero(codes == 0)))
            kind = replace(kind, palette=palette)
        constants[name] = dequantize_array(codes, kind)
        attrs[node.name] = quantize_attrs(kind, str(node.attrs["rounding"]))
    nodes = tuple(replace(n, attrs=attrs[n.name]) if n.name in attrs else n for n in graph.nodes)
    return graph.rebuilt(nodes, constants=constants)


def rounded_weights(graph: Graph) -> list[tuple[Node, str, TensorType]]:
    """The constants that one fake_quantize alone reads: that node, the constant, the type of its codes."""
    return [
        (node, node.inputs[0], code_type(node.attrs, graph.types[node.inputs[0]].shape))
        for node in graph.nodes
        if node.op == "fake_quantize"
        and node.inputs[0] in graph.constants
        and len(graph.readers[node.inputs[0]]) == 1
    ]


def original_of(graph: Graph, originals: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The real weight. Raises PassError where its shape is not the graph's."""
    found, wanted = originals[name], graph.constants[name]
    if found.shape != wanted.shape:
        raise PassError(
            f"the original of {name!r} has shape {list(found.shape)}, graph {graph.name!r} has "
            f"{list(wanted.shape)}; give the weights of the graph before it was rounded"
        )
    return found


def tables_of(kind: TensorType) -> tuple[tuple[int, ...], ...]:
    """The codes that weights of this type may have, as tables by row: its palette's, or the whole grid."""
    if kind.palette is None:
        low, high = code_bounds(kind)
        return (tuple(range(low, high + 1)),)
    if kind.palette.zeros is None:
        return kind.palette.tables
    return tuple(tuple(sorted({0, *table})) for table in kind.palette.tables)
