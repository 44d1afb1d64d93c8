"""equalize-layers: neighbouring layers share the spread of their channels.

    h = relu(W1 x + b1);  y = W2 h
becomes
    h' = relu(W1/s x + b1/s);  y = (W2*s) h'        s_i = sqrt(r1_i / r2_i)

with r1_i the largest |w| of W1 in output channel i and r2_i that of W2 in input channel i: both then
reach sqrt(r1_i * r2_i). After Nagel, van Baalen, Blankevoort and Welling, Data-Free Quantization (2019).
relu(a / s) = relu(a) / s for s > 0, so over the reals nothing changes but the last bits.

Scales of weights are per output channel here, so W1 gains nothing; W2 gains where its input channels
differ, and h, whose codes have one scale for all channels, gains or loses by how its range follows r1.
Hence this is an option that is to be measured, model by model; of the Silero VAD, for one, it costs the
fake-quant graph 2 to 3 dB with 8-bit weights and 9 to 12 dB with palettes of 3 bits.

A pair is two fully_connected or two convolutions, also with groups, with nothing between them but relu,
leaky_relu and, for convolutions, pooling. Every value between is read once and is no output or next
state, and weights and bias are constants that nothing else reads. A channel of zeros stays. Chains of
layers are gone through ROUNDS times, as each pair moves the next.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nnaq.ir.graph import Graph, Node
from nnaq.passes.manager import Keeps, Pass

CHANNEL_AXIS = {"fully_connected": -1, "conv1d": 1, "conv2d": 1}
THROUGH = {  # f(x / s) = f(x) / s, channel by channel, by the axis of channels
    -1: ("relu", "leaky_relu"),
    1: ("relu", "leaky_relu", "max_pool", "average_pool"),
}
ROUNDS = 8


@dataclass(frozen=True)
class EqualizeLayers(Pass):
    """Scale the channels between layers so that both weights have the same range in each."""

    name: ClassVar[str] = "equalize-layers"
    keeps: ClassVar[Keeps] = "reals"

    def run(self, graph: Graph) -> Graph:
        pairs = layer_pairs(graph)
        constants = {name: value.astype(np.float64) for name, value in _touched(graph, pairs).items()}
        for _ in range(ROUNDS):
            for first, second in pairs:
                _equalize(first, second, constants)
        scaled = {name: value.astype(np.float32) for name, value in constants.items()}
        return replace(graph, constants={**graph.constants, **scaled})


def layer_pairs(graph: Graph) -> list[tuple[Node, Node]]:
    """Layers of which the second alone reads the first, in the order of the graph."""
    pairs = []
    for first in graph.nodes:
        second = _next_layer(graph, first) if _is_free(graph, first) else None
        if second is not None and _is_free(graph, second):
            pairs.append((first, second))
    return pairs


def _is_free(graph: Graph, node: Node) -> bool:
    """Whether a node is a layer whose constants are its own."""
    own = [name for name in node.inputs[1:] if name]
    return (
        node.op in CHANNEL_AXIS
        and node.attrs.get("activation", "none") in ("none", "relu")
        and len(set(own)) == len(own)
        and all(name in graph.constants and len(graph.readers[name]) == 1 for name in own)
        and not {state.initial for state in graph.states} & set(own)
    )


def _next_layer(graph: Graph, layer: Node) -> Node | None:
    """The layer that alone reads another one, or what it passes through on the way."""
    value, axis = layer.outputs[0], CHANNEL_AXIS[layer.op]
    while value not in graph.results and len(readers := graph.readers.get(value, ())) == 1:
        (reader,) = readers
        if reader.op in CHANNEL_AXIS:
            return reader if CHANNEL_AXIS[reader.op] == axis and reader.inputs[0] == value else None
        if reader.op not in THROUGH[axis]:
            return None
        value = reader.outputs[0]
    return None


def _touched(graph: Graph, pairs: list[tuple[Node, Node]]) -> dict[str, np.ndarray]:
    """The constants of paired layers."""
    names = {name for pair in pairs for node in pair for name in node.inputs[1:] if name}
    return {name: graph.constants[name] for name in names}


def _equalize(first: Node, second: Node, constants: dict[str, np.ndarray]) -> None:
    """Scale one pair in place."""
    own, bias = constants[first.inputs[1]], first.inputs[2] if len(first.inputs) > 2 else ""
    by_input = _by_input(second, constants[second.inputs[1]])
    r1 = np.abs(own.reshape(len(own), -1)).max(axis=1, initial=0)
    r2 = np.abs(by_input).max(axis=(1, 3), initial=0).ravel()
    alive = (r1 > 0) & (r2 > 0)
    s = np.sqrt(np.where(alive, r1, 1) / np.where(alive, r2, 1))
    constants[first.inputs[1]] = own / s.reshape(-1, *[1] * (own.ndim - 1))
    if bias:
        constants[bias] = constants[bias] / s
    scaled = by_input * s.reshape(by_input.shape[0], 1, -1, 1)
    constants[second.inputs[1]] = scaled.reshape(constants[second.inputs[1]].shape)


def _by_input(node: Node, weight: np.ndarray) -> np.ndarray:
    """A weight as [groups, outputs, inputs, taps]; inputs of the groups one after the other are channels."""
    groups = int(node.attrs.get("groups", 1)) if node.op != "fully_connected" else 1  # type: ignore[arg-type]
    return weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
