"""Inputs with labels, and what a graph of integers loses on them.

The loss of an example is the cross-entropy of its logits, (q - zero_point) * scale in float64, read from
the codes before the graph turns them into reals. A result that is i32 (the sums of the last layer as they
are) has no last requantisation, whose steps would hide small changes of the loss from an estimator.

An example with positions (time, say) has a label at each; its loss is their mean. A label below 0 is left
out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from nnaq.errors import DataError
from nnaq.interpret import Interpreter, Values
from nnaq.ir.graph import Graph


@dataclass(frozen=True, eq=False)
class Examples:
    """The data of one task.

    inputs  by port, with examples along the port's batch axis (the first, where it names none)
    labels  whole numbers [N] or [N, positions…], where the logits are [N, …, classes]
    output  the port whose last axis are the logits
    """

    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray
    output: str

    def __len__(self) -> int:
        return len(self.labels)

    def some(self, graph: Graph, chosen: np.ndarray) -> "Examples":
        """Those examples of a graph's inputs, in that order."""
        axes = {port.name: port.batch_axis or 0 for port in graph.inputs}
        taken = {name: np.take(array, chosen, axes[name]) for name, array in self.inputs.items()}
        return Examples(taken, self.labels[chosen], self.output)

    def losses(self, graph: Graph) -> np.ndarray:
        """The loss of every example, float64 [N]: one forward pass from the initial states."""
        return self.run(graph)[0]

    def run(self, graph: Graph, keep: Iterable[str] = ()) -> tuple[np.ndarray, Values]:
        """The losses, and values of the pass by name."""
        logits = logits_of(graph, self.output)
        values = Interpreter(graph, keep=(logits, *keep)).step(self.inputs).values
        return _cross_entropy(_reals(graph, logits, values[logits]), self.labels), values

    def correct(self, graph: Graph) -> float:
        """The fraction of labels that have the largest logit."""
        name = logits_of(graph, self.output)
        codes = Interpreter(graph, keep=(name,)).step(self.inputs).values[name]
        counted = self.labels >= 0
        best = _reals(graph, name, codes).argmax(axis=-1)
        return float((best == self.labels)[counted].mean())


def logits_of(graph: Graph, output: str) -> str:
    """The codes behind an output: what its `dequantize` reads. Raises DataError where there is none."""
    if output not in {port.name for port in graph.outputs}:
        there = ", ".join(port.name for port in graph.outputs)
        raise DataError(f"graph {graph.name!r} has no output {output!r}; there are {there}")
    made = graph.producer.get(output)
    return made.inputs[0] if made is not None and made.op == "dequantize" else output


def _reals(graph: Graph, name: str, codes: np.ndarray) -> np.ndarray:
    kind = graph.types[name]
    if kind.quant is None:
        return codes.astype(np.float64)
    reals: np.ndarray = (codes.astype(np.float64) - kind.zero_point) * kind.quant.scales(kind.rank)
    return reals


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Per example; raises DataError where labels and logits do not fit."""
    classes = logits.shape[-1]
    if labels.dtype.kind not in "iu" or labels.shape != logits.shape[:-1] or labels.max(initial=0) >= classes:
        raise DataError(
            f"labels are whole numbers below {classes} of shape {list(logits.shape[:-1])}, found "
            f"{labels.dtype} of shape {list(labels.shape)} up to {labels.max(initial=0)}"
        )
    high = logits.max(axis=-1, keepdims=True)
    total = np.log(np.exp(logits - high).sum(axis=-1)) + high[..., 0]
    label = np.maximum(labels, 0)
    lost = total - np.take_along_axis(logits, label[..., None], -1)[..., 0]
    counted = (labels >= 0).reshape(len(labels), -1)
    sums = (lost.reshape(counted.shape) * counted).sum(axis=1)
    mean: np.ndarray = sums / np.maximum(counted.sum(axis=1), 1)
    return mean
