"""correct-bias: what rounding a weight adds to its sums on average goes into the bias.

    y = fully_connected(x, w.fq, b)
becomes
    y = fully_connected(x, w.fq, b')        b' = b + (w - w.fq) E[x]

and the mean of every sum over the recordings is again that of the real model, whatever the mean of x. A
bias that no other node reads keeps its name, others become `b.corrected`; a node without a bias gets one.
The weights of an lstm share its bias; those of a gru have one each. A projection has none and stays as it
is. Stands after everything that chooses codes of weights.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from nnaq.ir.graph import Graph, Node
from nnaq.ir.types import TensorType
from nnaq.kernels.boundary import dequantize_array, quantize_array
from nnaq.passes.error_feedback import original_of, rounded_weights
from nnaq.passes.manager import Keeps, Pass
from nnaq.quantize.moments import Moments

# operator -> position of a weight -> position of the bias that joins its sums
BIAS = {
    "fully_connected": {1: 2},
    "conv1d": {1: 2},
    "conv2d": {1: 2},
    "lstm": {3: 5, 4: 5},
    "gru": {2: 4, 3: 5},
}


@dataclass(frozen=True)
class CorrectBias(Pass):
    """Move the mean error of rounded weights into biases.

    originals: real weights before they were rounded, by constant. moments: of what meets them. A weight
    that is not in both stays without a correction.
    """

    name: ClassVar[str] = "correct-bias"
    keeps: ClassVar[Keeps] = "types"

    originals: Mapping[str, np.ndarray] = field(default_factory=dict)
    moments: Mapping[str, Moments] = field(default_factory=dict)

    def run(self, graph: Graph) -> Graph:
        """Raises PassError where an original has another shape than the graph's weight."""
        errors = {
            node.outputs[0]: self.mean_error(graph, name, kind)
            for node, name, kind in rounded_weights(graph)
            if name in self.originals and name in self.moments
        }
        constants, types = dict(graph.constants), dict(graph.types)
        own = {v for v, readers in graph.readers.items() if len(readers) == 1} - graph.results
        nodes = tuple(_corrected(node, errors, constants, types, own) for node in graph.nodes)
        return graph.rebuilt(nodes, constants=constants, types=types)

    def mean_error(self, graph: Graph, name: str, kind: TensorType) -> np.ndarray:
        """(w - w.fq) E[x], [O]."""
        rounded = dequantize_array(quantize_array(graph.constants[name], kind), kind)
        error = original_of(graph, self.originals, name).astype(np.float64) - rounded
        mean = self.moments[name].mean
        by_group = error.reshape(len(mean), -1, mean.shape[1])
        return np.asarray(np.einsum("gok,gk->go", by_group, mean).ravel())


def _corrected(
    node: Node,
    errors: Mapping[str, np.ndarray],
    constants: dict[str, np.ndarray],
    types: dict[str, TensorType],
    own: Collection[str],
) -> Node:
    """A node with its corrected biases, which join the constants; one whose bias is no constant stays.

    own: constants that one node reads; a bias among them keeps its name, and its gradient in training.
    """
    added: dict[int, np.ndarray] = {}
    for weight, bias in BIAS.get(node.op, {}).items():
        if weight < len(node.inputs) and node.inputs[weight] in errors:
            added[bias] = added.get(bias, 0) + errors[node.inputs[weight]]
    for position, error in added.items():
        inputs = [*node.inputs, *[""] * (position + 1 - len(node.inputs))]
        before = inputs[position]
        if before and before not in constants:
            continue
        array = (error + constants[before] if before else error).astype(np.float32)
        name = before if before in own else _fresh(f"{before or f'{node.name}.bias'}.corrected", types)
        inputs[position] = name
        constants[name], types[name] = array, TensorType("f32", array.shape)
        node = replace(node, inputs=tuple(inputs))
    return node


def _fresh(name: str, types: Mapping[str, TensorType]) -> str:
    """`name`, lengthened where it is taken: a bias may serve several nodes."""
    while name in types:
        name += "'"
    return name
