"""Moments of activations: what meets each weight, over whole recordings with states rolled.

Seen as a matrix [O, K] a weight makes each of its sums from one row x of K reals, so an error D [O, K] of
its reals moves the sums by D x, on average over the rows by D E[x], and their mean square is the trace of
D E[x x^T] D^T. These two expectations are all that bias correction, error feedback, adaptive rounding and
weighted palettes want to know of the recordings. Zeros that a convolution reads outside of x count.

    weight of                     its rows x
    fully_connected               the entries of the last axis
    conv1d, conv2d                the windows, [C/G * taps] per group; outputs g*O/G … belong to group g
    lstm, gru      w_input        the frames of x
    lstm, gru      w_recurrent    h before each frame; of a gru with linear_before_reset = 0 in three groups,
                                  one per gate: h, h and r * h
    lstm           w_projection   tanh(c) * o

Absent from the result: weights of other operators (transposed convolutions, tables of embeddings), a
weight of which one reader is of another kind or sees another matrix, and a weight that met no row. Readers
that share a weight are counted together.

Memory    K^2 float64 per weight and group; a K above WIDEST keeps the diagonal only.
Time      one run of the model over the recordings, and 2 K^2 operations per row and group. Of every 2048
          frames at most MOST_ROWS rows count, evenly spread: every n-th with the least n that suffices.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from nnaq.interpret import Interpreter, check_inputs, chunks
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup
from nnaq.kernels.conv import geometry, windows_real
from nnaq.kernels.gru_numbers import resets_first
from nnaq.kernels.lstm_numbers import C0, H0, W_PROJECTION, W_RECURRENT
from nnaq.kernels.lut import sigmoid_function
from nnaq.quantize.calibrate import CHUNK

WIDEST = 4096  # K of the largest full matrix, 128 MiB
MOST_ROWS = 4096  # of a chunk
MEASURED = {
    "fully_connected": (1,),
    "conv1d": (1,),
    "conv2d": (1,),
    "lstm": (3, 4, W_PROJECTION),
    "gru": (2, 3),
}

Values = Mapping[str, np.ndarray]
Reader = tuple[Node, int]


@dataclass(frozen=True)
class Moments:
    """Expectations over `count` rows of activations, in float64.

    mean: E[x], [groups, K]. second: E[x x^T], [groups, K, K], or only its diagonal, [groups, K].
    """

    count: int
    mean: np.ndarray
    second: np.ndarray

    @property
    def is_full(self) -> bool:
        """Whether `second` holds whole matrices."""
        return self.second.ndim == 3

    def diagonal(self) -> np.ndarray:
        """E[x^2], [groups, K]: what a squared error of each weight costs."""
        return np.einsum("gkk->gk", self.second) if self.is_full else self.second


def measure_moments(
    real: Graph, recordings: Iterable[Values], weights: Collection[str]
) -> dict[str, Moments]:
    """Moments of what meets these weights of a real graph, by constant; see above for what is absent.

    Raises DataError where a recording has other inputs than the graph.
    """
    readers = {name: found for name in weights if (found := _readers(real, name))}
    sums: dict[str, Moments] = {}
    operands = {v for found in readers.values() for node, _ in found for v in (*node.inputs, *node.outputs)}
    interpreter = Interpreter(real, keep=operands)
    for recording in recordings if readers else ():
        interpreter.reset()
        for piece in chunks(real, check_inputs(real, recording), CHUNK):
            values = interpreter.step(piece).values
            for name, found in readers.items():
                for node, position in found:
                    _add(sums, name, _rows(node, position, values))
    return {
        name: replace(s, mean=s.mean / s.count, second=s.second / s.count)
        for name, s in sums.items()
        if s.count
    }


def _readers(graph: Graph, weight: str) -> list[Reader]:
    """Where a weight is read, if all of its readers see the same matrix; else nothing."""
    found = [
        (node, position)
        for node in graph.readers.get(weight, ())
        for position, value in enumerate(node.inputs)
        if value == weight
    ]
    known = all(position in MEASURED.get(node.op, ()) for node, position in found)
    seen = {_group_count(node, position) for node, position in found} if known else ()
    return found if len(seen) == 1 else []


def _group_count(node: Node, position: int) -> int:
    """How many groups of outputs see rows of their own."""
    if node.op == "gru":
        return 3 if position == 3 and resets_first(node.attrs) else 1
    return int(node.attrs.get("groups", 1)) if node.op.startswith("conv") else 1  # type: ignore[arg-type]


def _add(sums: dict[str, Moments], name: str, rows: np.ndarray) -> None:
    """Add rows [groups, number, K] to the sums of a weight; here moments are not yet divided by count."""
    thinned = rows[:, :: max(math.ceil(rows.shape[1] / MOST_ROWS), 1)].astype(np.float64)
    full = rows.shape[2] <= WIDEST
    second = thinned.swapaxes(1, 2) @ thinned if full else (thinned**2).sum(axis=1)
    count, mean = thinned.shape[1], thinned.sum(axis=1)
    if name in sums:
        before = sums[name]
        count, mean, second = before.count + count, before.mean + mean, before.second + second
    sums[name] = Moments(count, mean, second)


def _rows(node: Node, position: int, values: Values) -> np.ndarray:
    """The rows that meet the weight at a position of a node: [groups, number, K]."""
    if node.op.startswith("conv"):
        return _windows(node, values)
    groups, x = _group_count(node, position), values[node.inputs[0]]
    if position > MEASURED[node.op][0]:
        x = _unprojected(node, values) if position == W_PROJECTION else _before(node, values)
    rows = x.reshape(1, -1, x.shape[-1])
    if groups == 1:
        return rows
    kept = _reset(node, values, x).reshape(rows.shape)
    return np.concatenate([rows, rows, kept])


def _windows(node: Node, values: Values) -> np.ndarray:
    """What the windows of a convolution see, per group: [groups, number, C/G * taps]."""
    x, weight = values[node.inputs[0]], values[node.inputs[1]]
    shape = geometry(node.attrs, weight.shape[2:])
    image = x.reshape(*x.shape[:2], *(1, *x.shape[2:])[-2:])
    seen = windows_real(np, image, shape)  # [N, C, rows, columns, KH, KW]
    grouped = seen.reshape(len(x), shape.groups, weight.shape[1], *seen.shape[2:])
    depth = math.prod(weight.shape[1:])
    return np.asarray(np.moveaxis(grouped, (1, 2), (0, 4)).reshape(shape.groups, -1, depth))


def _before(node: Node, values: Values) -> np.ndarray:
    """h before each frame of a recurrent node: [T, B, H]."""
    h0, y = values[node.inputs[1]], values[node.outputs[0]]
    return np.concatenate([h0[None], y[:-1]])[: len(y)]


def _reset(node: Node, values: Values, h: np.ndarray) -> np.ndarray:
    """r * h of a gru, [T, B, H]: its first gate, from the states that are known by now."""
    x, _, w_input, w_recurrent, *biases = (values[v] if v else None for v in node.inputs)
    assert x is not None and w_input is not None and w_recurrent is not None
    units = h.shape[-1]
    gate = x @ w_input[:units].T + h @ w_recurrent[:units].T
    for bias in biases:
        gate = gate if bias is None else gate + bias[:units]
    return np.asarray(sigmoid_function(np, gate) * h)


def _unprojected(node: Node, values: Values) -> np.ndarray:
    """tanh(c) * o of an lstm, [T, B, H]: its result under a projection that hands it on beside h."""
    operands = [values[v] if v else None for v in node.inputs]
    h0, c0, recurrent, projection = (operands[i] for i in (H0, C0, W_RECURRENT, W_PROJECTION))
    assert h0 is not None and c0 is not None and recurrent is not None and projection is not None
    units = c0.shape[-1]
    operands[H0] = np.concatenate([h0, np.zeros_like(c0)], axis=1)
    operands[W_RECURRENT] = np.pad(recurrent, ((0, 0), (0, units)))
    operands[W_PROJECTION] = np.concatenate([projection, np.eye(units, dtype=projection.dtype)])
    y = lookup(node.op).real(np, node.attrs, *operands)[0]
    return np.asarray(y[..., h0.shape[-1] :])
