"""Inputs with labels, and what a graph of integers loses on them.

The loss of an example is the cross-entropy of its logits, (q - zero_point) * scale in float64, read from
the codes before the graph turns them into reals. A result that is i32 (the sums of the last layer as they
are) has no last requantisation, whose steps would hide small changes of the loss from an estimator.

An example with positions (time, say) has a label at each; its loss is their mean. A label below 0 is left
out.

    Examples    go through the graph together, along its batch axis
    Recordings  go through one by one, each from the initial states: of graphs without a batch axis
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from nnaq.errors import DataError
from nnaq.interpret import Interpreter, Values
from nnaq.ir.graph import Graph

TOGETHER = 64  # examples that go through a graph at once, which bounds memory and changes no bit


class Readout:
    """A graph made ready once, for the logits of one or several outputs."""

    def __init__(self, graph: Graph, outputs: Iterable[str], keep: Iterable[str] = ()) -> None:
        self.graph, self.names = graph, {output: logits_of(graph, output) for output in outputs}
        self.interpreter = Interpreter(graph, keep=(*self.names.values(), *keep))

    def __call__(self, inputs: Mapping[str, np.ndarray], output: str) -> tuple[np.ndarray, Values]:
        """Logits in float64 of one pass from the initial states, and the values kept."""
        self.interpreter.reset()
        values, name = self.interpreter.step(inputs).values, self.names[output]
        return _reals(self.graph, name, values[name]), values


class Task(Protocol):
    """What `mean_loss` takes: examples of one task that can be counted, picked and judged."""

    @property
    def output(self) -> str:
        """The port whose last axis are the logits."""

    def __len__(self) -> int: ...

    def some(self, graph: Graph, chosen: np.ndarray) -> Self:
        """Those examples, in that order."""

    def read(self, readout: Readout) -> tuple[np.ndarray, float]:
        """The loss of every example, float64 [N], and the fraction of labels with the largest logit."""


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

    def pieces(self, graph: Graph, size: int = TOGETHER) -> Iterator["Examples"]:
        """All of them in order, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield self.some(graph, np.arange(start, min(start + size, len(self))))

    def losses(self, graph: Graph) -> np.ndarray:
        """The loss of every example, float64 [N], from the initial states."""
        return self.read(Readout(graph, [self.output]))[0]

    def correct(self, graph: Graph) -> float:
        """The fraction of labels that have the largest logit."""
        return self.read(Readout(graph, [self.output]))[1]

    def run(self, graph: Graph, keep: Iterable[str] = ()) -> tuple[np.ndarray, Values]:
        """The losses, and values by name, of one pass over all examples together."""
        logits, values = Readout(graph, [self.output], keep)(self.inputs, self.output)
        return _cross_entropy(logits, self.labels), values

    def read(self, readout: Readout) -> tuple[np.ndarray, float]:
        logits = [readout(some.inputs, self.output)[0] for some in self.pieces(readout.graph)]
        return _judged(np.concatenate(logits), self.labels)


@dataclass(frozen=True, eq=False)
class Recordings:
    """The data of one task, each example by itself: as `Examples`, without an axis over examples."""

    parts: tuple[Examples, ...]

    @property
    def output(self) -> str:
        return self.parts[0].output

    def __len__(self) -> int:
        return len(self.parts)

    def some(self, graph: Graph, chosen: np.ndarray) -> "Recordings":
        return Recordings(tuple(self.parts[number] for number in chosen))

    def read(self, readout: Readout) -> tuple[np.ndarray, float]:
        found = [
            _judged(readout(part.inputs, self.output)[0][None], part.labels[None]) for part in self.parts
        ]
        counted = np.array([(part.labels >= 0).sum() for part in self.parts])
        correct = sum(count * fraction for count, (_, fraction) in zip(counted, found, strict=True) if count)
        return np.concatenate([lost for lost, _ in found]), float(correct / max(counted.sum(), 1))


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


def _judged(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Losses, and the fraction of counted labels that have the largest logit; 0 where none counts."""
    lost, counted = _cross_entropy(logits, labels), labels >= 0
    right = (logits.argmax(axis=-1) == labels)[counted]
    return lost, float(right.mean()) if right.size else 0.0


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
