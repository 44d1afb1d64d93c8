"""Slopes and curvatures of a lowered layer, from forward passes alone.

Noise n, whole numbers, is added to the accumulators of one layer, once with either sign. With the losses
L+ and L- of an example b and L0 without noise, and v the variance of n:

    dL_b/dy_bti   ~  mean over n of  (L+ - L-)/2 n_bti / v_i
    d²L_b/dy_bti² ~  mean over n of  (L+ + L- - 2 L0) (n_bti² - v_i) / (2 v_i²)      (Stein's identity)

both in steps of the accumulator, for output i at position t (none, one or several axes) of example b. Each
example's loss is read by itself, so that its slopes meet its own inputs x:

    gradient_ik = mean over b of Σ_t dL_b/dy_bti x_btk        x = q - zero_point, in codes
    curvature_i = mean over b of Σ_t d²L_b/dy_bti²            second_moment = mean over b, t of x x'

Every accumulator of every example has a number of its own. No kernel knows of it: the layer reads one more
input per output, a code p of its own,

    acc_i + w_i (p_i - z_x) + w_i z_x  =  acc_i + w_i p_i        p = round(32 normal), within -127 .. 127

by a weight w_i that makes w_i p_i about 1/8 of the standard deviation that the accumulator has over the
examples, wide enough to reach over the steps of the requantisation behind it; w_i z_x goes into the bias.
Per layer there are 2 queries + 1 forward passes of what lies behind it, and one of what lies before.

This is our reconstruction; how MaZO's authors estimate their scores is not known to us. It takes layers
fully_connected over x [N, …, K] whose inputs do not depend on their own results.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from nnaq.errors import DataError
from nnaq.ir.graph import Graph, Node, Port
from nnaq.kernels.accumulate import accumulator, accumulator_bound, prove_wrap_free
from nnaq.kernels.narrow import narrow_of
from nnaq.train.zeroth_order.directions import Place, normal
from nnaq.train.zeroth_order.examples import Examples, Readout
from nnaq.train.zeroth_order.frozen import part, through
from nnaq.train.zeroth_order.masks import merged
from nnaq.train.zeroth_order.scores import ScoreOptions, Sensitivity, task_score
from nnaq.train.zeroth_order.surfaces import tunable

NOISE = 1 / 8
NOISY = "input with noise"
SPREAD = 32.0  # the standard deviation of noise, in steps
VARIANCE = SPREAD**2 + 1 / 12  # rounding adds a twelfth; clipping at four deviations takes next to nothing


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

    Raises DataError for a weight whose layer has no scores.
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
    frozen, moving = part(graph, [weight], [examples.output])
    if examples.output in {port.name for port in moving.inputs}:  # nothing of the weight comes there
        rows, columns = graph.constants[weight].shape
        return Sensitivity(np.zeros((rows, columns)), np.zeros(rows), np.eye(columns))
    given = through(frozen, examples)
    assert isinstance(given, Examples)
    codes = given.inputs[node.inputs[0]]
    x = (codes.astype(np.float64) - graph.types[node.inputs[0]].zero_point).reshape(-1, codes.shape[-1])
    steps = _steps(graph, node, x, probe.noise)
    noisy = Readout(_noisy(moving, node, steps), [examples.output])

    def losses(drawn: np.ndarray) -> np.ndarray:
        wide = np.concatenate([codes, drawn.reshape(*codes.shape[:-1], -1).astype(codes.dtype)], -1)
        inputs = {**given.inputs, NOISY: wide}
        there = {port.name: inputs[port.name] for port in noisy.graph.inputs}
        return Examples(there, examples.labels, examples.output).read(noisy)[0]

    shape = (len(examples), len(x) // len(examples), len(steps))
    plain, slopes, curvature = losses(np.zeros(shape)), np.zeros(shape), np.zeros(len(steps))
    for query in range(probe.queries):
        drawn = normal(Place(probe.seed, 0, query, parameter), math.prod(shape), "noise").reshape(shape)
        noise, variance = np.rint(SPREAD * drawn).clip(-127, 127), steps**2 * VARIANCE
        up, down = losses(noise), losses(-noise)
        slopes += ((up - down) / 2)[:, None, None] * (noise * steps / variance)
        bent = (up + down - 2 * plain)[:, None, None] * ((noise * steps) ** 2 - variance)
        curvature += bent.sum(axis=(0, 1)) / (2 * variance**2) / len(examples)
    gradient = slopes.reshape(-1, len(steps)).T @ x / (len(examples) * probe.queries)
    return Sensitivity(gradient, curvature / probe.queries, x.T @ x / len(x))


def scorable(graph: Graph, weights: Iterable[str]) -> tuple[str, ...]:
    """Those of some weights that have scores."""
    return tuple(name for name in weights if _scored_layer(graph, name) is not None)


def _scored_layer(graph: Graph, weight: str) -> Node | None:
    """The only reader of a weight, where it is a layer whose accumulators can take noise."""
    readers = graph.readers[weight] if weight in tunable(graph) else ()
    node = readers[0] if len(readers) == 1 else None
    if node is None or node.op != "fully_connected" or graph.types[weight].zero_point != 0:
        return None
    x, first = node.inputs[0], graph.types[node.inputs[0]].shape[0]
    axes = {port.batch_axis for port in graph.inputs}
    moving = part(graph, [weight], list(node.outputs)).moving
    ports = {port.name: port.batch_axis for port in moving.inputs}
    return node if None not in axes and ports.get(x) == 0 and isinstance(first, str) else None


def _layer(graph: Graph, weight: str) -> Node:
    """The layer of a weight. Raises DataError for one without scores."""
    node = _scored_layer(graph, weight)
    if node is None:
        raise DataError(
            f"weight {weight!r} of graph {graph.name!r} has no scores: they need one fully_connected over "
            "[examples, …, inputs] that reads it; mask it by its magnitude or at random"
        )
    return node


def _steps(graph: Graph, node: Node, x: np.ndarray, noise: float) -> np.ndarray:
    """What a step of the noise is worth in every accumulator: 1 to 127. x: [positions, K]."""
    codes = graph.constants[node.inputs[1]].astype(np.float64)
    deviation = ((x - x.mean(axis=0)) @ codes.T).std(axis=0)
    steps: np.ndarray = np.rint(noise * deviation / SPREAD).clip(1, 127)
    return steps


def _noisy(graph: Graph, node: Node, steps: np.ndarray) -> Graph:
    """The graph whose layer reads one more input per output. Raises LoweringError where sums may overflow."""
    x, weight, bias = node.inputs[:3]
    kind, wide = graph.types[weight], len(steps)
    codes = np.concatenate([graph.constants[weight], np.diag(steps).astype(np.int8)], axis=1)
    begun = graph.constants[bias] + (steps * graph.types[x].zero_point).astype(graph.constants[bias].dtype)
    if narrow_of(node.attrs, graph.types[x]) is None:
        reach = accumulator_bound(codes, graph.types[x], begun, kind.zero_point)
        prove_wrap_free(f"{node.op} {node.name!r} with noise", reach, accumulator(graph.types[x]))
    changed = replace(node, inputs=(NOISY, f"{weight}.noisy", f"{bias}.noisy", *node.inputs[3:]))
    read = graph.types[x]
    types = {NOISY: read.with_shape((*read.shape[:-1], codes.shape[1]))}
    types |= {f"{weight}.noisy": kind.with_shape((wide, codes.shape[1])), f"{bias}.noisy": graph.types[bias]}
    nodes = tuple(changed if one.name == node.name else one for one in graph.nodes)
    used = {value for one in nodes for value in one.inputs} | graph.results
    ports = tuple(port for port in graph.inputs if port.name in used)
    whole = replace(
        graph,
        types={**graph.types, **types},
        constants={**graph.constants, f"{weight}.noisy": codes, f"{bias}.noisy": begun},
    )
    return whole.rebuilt(nodes, inputs=(*ports, Port(NOISY, None, 0)))
