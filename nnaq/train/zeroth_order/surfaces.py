"""What of a lowered graph is tuned: the codes of its weights, or the scales of its channels.

    Weights   int8 constants of fully_connected, conv1d and conv2d without a palette; their types stay
    Scales    the gain of every channel o of such a layer with codes as result, 1 to begin with:

                  s_w[o] <- gain[o] s_w[o]     multiplier[o], shift[o] <- s_x s_w[o] / s_y
                  1/2 <= gain[o] <= 2

              weights and biases keep their codes, so a gain is that of the whole accumulator. The type of
              the weight follows, so that the reals that the graph stands for stay true. A channel of gain
              1 keeps its constants.

A sum of products was proved to fit its accumulator for the weights that were there. Before weights are
tuned it is proved again with every kept weight at the end of its range; LoweringError where that cannot be
proved.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np

from nnaq.errors import DataError, LoweringError
from nnaq.ir.graph import Graph, Node
from nnaq.ir.types import Quant
from nnaq.ir.verify import is_real
from nnaq.kernels.accumulate import (
    accumulator,
    accumulator_bound,
    channel_multipliers,
    channel_scales,
    prove_wrap_free,
    shift_bound,
)
from nnaq.kernels.fixedpoint import largest_left_shift
from nnaq.kernels.narrow import narrow_of
from nnaq.train.zeroth_order.parameters import Codes, Parameters, Reals

LAYERS = ("fully_connected", "conv1d", "conv2d")
GAINS = (0.5, 2.0)


class Surface(Protocol):
    """Parameters, and the graph that has given arrays in their place."""

    @property
    def parameters(self) -> tuple[Parameters, ...]: ...

    def graph_of(self, arrays: list[np.ndarray]) -> Graph: ...


class Weights:
    """Weights by name, each with the mask of what is kept of it."""

    def __init__(self, graph: Graph, masks: Mapping[str, np.ndarray]) -> None:
        for name in masks:
            _must_be_tunable(graph, name)
        self.graph, self.names = graph, tuple(masks)
        self.parameters = tuple(Codes(graph.constants[name], mask) for name, mask in masks.items())
        for name, codes in zip(self.names, self.parameters, strict=True):
            for node in graph.readers[name]:
                _must_fit(graph, node, codes)

    def graph_of(self, arrays: list[np.ndarray]) -> Graph:
        found = dict(zip(self.names, arrays, strict=True))
        return replace(self.graph, constants={**self.graph.constants, **found})


class Scales:
    """Gains of the channels of layers, by the layers' names; masks say which channels are kept."""

    def __init__(self, graph: Graph, masks: Mapping[str, np.ndarray]) -> None:
        self.graph, self.nodes = graph, tuple(_scaled(graph, name) for name in masks)
        self.parameters = tuple(
            Reals(np.ones(len(graph.constants[node.inputs[1]])), mask, *GAINS)
            for node, mask in zip(self.nodes, masks.values(), strict=True)
        )

    def graph_of(self, arrays: list[np.ndarray]) -> Graph:
        types, constants = dict(self.graph.types), dict(self.graph.constants)
        for node, gains in zip(self.nodes, arrays, strict=True):
            _, weight, _, multiplier, shift = node.inputs
            kind = types[weight]
            scales = channel_scales(kind, len(gains)) * gains
            types[weight] = replace(kind, quant=Quant(tuple(scales.tolist()), kind.zero_point, 0))
            changed = gains != 1
            for name, array in zip((multiplier, shift), _multipliers(self.graph, node, scales), strict=True):
                constants[name] = np.where(changed, array, constants[name]).astype(constants[name].dtype)
        return replace(self.graph, types=types, constants=constants)


def tunable(graph: Graph) -> tuple[str, ...]:
    """The weights that `Weights` can tune, in the order of their first readers."""
    named = (node.inputs[1] for node in graph.nodes if node.op in LAYERS)
    return tuple(name for name in dict.fromkeys(named) if _is_tunable(graph, name))


def scalable(graph: Graph) -> tuple[str, ...]:
    """The layers whose channels `Scales` can tune, by name."""
    return tuple(node.name for node in graph.nodes if _is_scalable(graph, node))


def _is_tunable(graph: Graph, name: str) -> bool:
    if name not in graph.constants or name in graph.results:
        return False
    kind, readers = graph.types[name], graph.readers.get(name, ())
    return (kind.dtype, kind.palette) == ("i8", None) and all(_reads_weight(graph, n, name) for n in readers)


def _reads_weight(graph: Graph, node: Node, name: str) -> bool:
    """Whether a node is a layer of integers that reads a value as its weight, and as nothing else."""
    places = [place for place, value in enumerate(node.inputs) if value == name]
    return node.op in LAYERS and places == [1] and not is_real(graph, node)


def _is_scalable(graph: Graph, node: Node) -> bool:
    """Whether a node is a layer of integers with multipliers and a weight of its own."""
    if node.op not in LAYERS or is_real(graph, node) or len(node.inputs) != 5:
        return False
    own = (node.inputs[1], *node.inputs[3:])
    return all(name in graph.constants and len(graph.readers[name]) == 1 for name in own)


def _must_be_tunable(graph: Graph, name: str) -> None:
    if not _is_tunable(graph, name):
        there = ", ".join(tunable(graph)) or "none"
        raise DataError(
            f"graph {graph.name!r} has no weight {name!r} of int8 codes without a palette that only "
            f"{', '.join(LAYERS)} read; there are {there}"
        )


def _scaled(graph: Graph, name: str) -> Node:
    if name not in scalable(graph):
        there = ", ".join(scalable(graph)) or "none"
        raise DataError(
            f"graph {graph.name!r} has no layer {name!r} with multipliers and a weight of its own; "
            f"there are {there}"
        )
    return graph.node(name)


def _must_fit(graph: Graph, node: Node, codes: Codes) -> None:
    """Raise LoweringError where kept weights at their ends could overflow what the layer was prepared for."""
    x = graph.types[node.inputs[0]]
    if narrow_of(node.attrs, x) is not None:
        return  # its sums may overflow, by the rules of kernels/narrow.py
    worst = codes.value.copy()
    zero_point = graph.types[node.inputs[1]].zero_point
    ends = (codes.low, codes.high)
    worst.reshape(-1)[codes.mask()] = max(ends, key=lambda end: abs(end - zero_point))
    bound = accumulator_bound(worst, x, graph.constants[node.inputs[2]], zero_point)
    prove_wrap_free(f"{node.op} {node.name!r}", bound, accumulator(x))
    if len(node.inputs) == 5:
        shift = int(graph.constants[node.inputs[4]].max(initial=0))
        if shift > largest_left_shift(shift_bound(accumulator(x), bound)):
            raise LoweringError(
                f"{node.op} {node.name!r} moves its sums {shift} bits to the left, which is not exact "
                f"for sums up to {bound}; keep fewer weights of {node.inputs[1]!r}"
            )


def _multipliers(graph: Graph, node: Node, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers and shifts of a layer whose weight has these scales."""
    x, y = graph.types[node.inputs[0]], graph.types[node.outputs[0]]
    weight, bias = graph.constants[node.inputs[1]], graph.constants[node.inputs[2]]
    reach = accumulator_bound(weight, x, bias, graph.types[node.inputs[1]].zero_point)
    bound = min(shift_bound(accumulator(x), reach), 2**47)
    return channel_multipliers(x.scale, scales, y.scale, str(node.attrs["rounding"]), bound)
