"""Slopes and curvatures of a lowered layer, from forward passes alone.

Noise p, whole numbers, is added to the accumulators of one layer, once with either sign. With the losses L+
and L- of an example b and L0 without noise, and v the variance of p:

    dL_b/dy_i   ~  mean over p of  (L+ - L-)/2 p_i / v_i
    d²L_b/dy_i² ~  mean over p of  (L+ + L- - 2 L0) (p_i² - v_i) / (2 v_i²)          (Stein's identity)

both in steps of the accumulator. The noise is the same for all examples of a pass, so it goes in by the
layer's bias, which is where an accumulator begins: no kernel knows of it. Each example's loss is read by
itself, so that its slope meets its own input x:

    gradient_ik = mean over b of dL_b/dy_i x_bk           x = q - zero_point, in codes

p is a normal number, rounded, of 1/8 of the standard deviation that the accumulator has over the examples:
wide enough to reach over the steps of the requantisation behind it. Per layer there are 2 queries + 1
forward passes.

This is our reconstruction; how MaZO's authors estimate their scores is not known to us. It takes layers
that see one row per example: fully_connected over x [N, K].
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from nnaq.errors import DataError
from nnaq.ir.graph import Graph, Node
from nnaq.ir.types import bounds
from nnaq.kernels.accumulate import accumulator, accumulator_bound, prove_wrap_free
from nnaq.kernels.narrow import narrow_of
from nnaq.train.zeroth_order.directions import Place, normal
from nnaq.train.zeroth_order.examples import Examples
from nnaq.train.zeroth_order.masks import merged
from nnaq.train.zeroth_order.scores import ScoreOptions, Sensitivity, task_score
from nnaq.train.zeroth_order.surfaces import tunable

NOISE = 1 / 8


@dataclass(frozen=True)
class Probe:
    """How noise is put in. queries: pairs of passes per layer and task; noise: see the module."""

    queries: int = 64
    noise: float = NOISE
    seed: int = 0


def mazo_masks(
    graph: Graph,
    weights: tuple[str, ...],
    tasks: Mapping[str, Examples],
    kept: float,
    options: ScoreOptions | None = None,
    probe: Probe | None = None,
) -> dict[str, np.ndarray]:
    """The mask of every weight, from the scores of all tasks on their examples.

    Raises DataError for a weight whose layer does not see one row per example.
    """
    return {
        name: merged(
            {
                task: task_score(
                    graph.constants[name],
                    sensitivity(graph, name, examples, probe or Probe(), number),
                    options or ScoreOptions(),
                )
                for task, examples in tasks.items()
            },
            kept,
        )
        for number, name in enumerate(weights)
    }


def sensitivity(
    graph: Graph, weight: str, examples: Examples, probe: Probe, parameter: int = 0
) -> Sensitivity:
    """What a loss makes of the layer that reads a weight. parameter: numbers the noise of this weight."""
    node = _layer(graph, weight)
    plain, values = examples.run(graph, (node.inputs[0],))
    x = values[node.inputs[0]].astype(np.float64) - graph.types[node.inputs[0]].zero_point
    spread = np.maximum(1.0, probe.noise * _deviation(graph, node, x))
    slopes, curvature = np.zeros((len(x), len(spread))), np.zeros(len(spread))
    for query in range(probe.queries):
        drawn = normal(Place(probe.seed, 0, query, parameter), len(spread), "noise")
        noise, variance = np.rint(spread * drawn), spread**2 + 1 / 12  # rounding adds a twelfth
        up, down = (examples.losses(_noisy(graph, node, sign * noise)) for sign in (1, -1))
        slopes += np.outer((up - down) / 2, noise / variance)
        curvature += (up + down - 2 * plain).mean() * (noise**2 - variance) / (2 * variance**2)
    return Sensitivity(slopes.T @ x / (len(x) * probe.queries), curvature / probe.queries, x.T @ x / len(x))


def scorable(graph: Graph, weights: Iterable[str]) -> tuple[str, ...]:
    """Those of some weights that have scores: one fully_connected over [examples, inputs] reads them."""
    return tuple(name for name in weights if _scored_layer(graph, name) is not None)


def _scored_layer(graph: Graph, weight: str) -> Node | None:
    readers = graph.readers[weight] if weight in tunable(graph) else ()
    node = readers[0] if len(readers) == 1 else None
    if node is None or node.op != "fully_connected" or graph.types[node.inputs[0]].rank != 2:
        return None
    return node


def _layer(graph: Graph, weight: str) -> Node:
    """The layer of a weight, which sees one row per example. Raises DataError for another."""
    node = _scored_layer(graph, weight)
    if node is None:
        raise DataError(
            f"weight {weight!r} of graph {graph.name!r} has no scores: they need one fully_connected over "
            "[examples, inputs] that reads it; mask it by its magnitude or at random"
        )
    return node


def _deviation(graph: Graph, node: Node, x: np.ndarray) -> np.ndarray:
    """The standard deviation of every accumulator over the examples, from the inputs' covariance."""
    kind, codes = graph.types[node.inputs[1]], graph.constants[node.inputs[1]]
    centred = (x - x.mean(axis=0)) @ (codes.astype(np.float64) - kind.zero_point).T
    deviation: np.ndarray = centred.std(axis=0)
    return deviation


def _noisy(graph: Graph, node: Node, noise: np.ndarray) -> Graph:
    """The graph with noise in the accumulators of a layer. Raises LoweringError where they cannot hold it."""
    x, weight, bias = node.inputs[:3]
    kind = graph.types[bias]
    low, high = bounds(kind.dtype)
    begun = np.clip(graph.constants[bias].astype(np.float64) + noise, low, high)
    begun = begun.astype(graph.constants[bias].dtype)
    if narrow_of(node.attrs, graph.types[x]) is None:
        reach = accumulator_bound(
            graph.constants[weight], graph.types[x], begun, graph.types[weight].zero_point
        )
        prove_wrap_free(f"{node.op} {node.name!r} with noise", reach, accumulator(graph.types[x]))
    name = f"{bias}.noisy"
    while name in graph.types:
        name += "+"
    changed = replace(node, inputs=(x, weight, name, *node.inputs[3:]))
    nodes = tuple(changed if one.name == node.name else one for one in graph.nodes)
    return replace(
        graph,
        nodes=nodes,
        types={**graph.types, name: kind},
        constants={**graph.constants, name: begun},
    )
