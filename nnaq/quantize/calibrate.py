"""Calibration: rolling the real graph over whole recordings to see the range of every value.

States start from their initial values at each recording and are carried through it, so that the
ranges of a recurrent state are those it has after seconds of speech, not after one frame.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from nnaq.errors import DataError
from nnaq.interpret import Interpreter, check_inputs, chunks
from nnaq.ir.graph import Graph
from nnaq.quantize.observers import Observer

CHUNK = 2048  # frames at a time: bounds the memory of a long recording


@dataclass(frozen=True)
class Ranges:
    """Lowest and highest real of each observed value."""

    ranges: Mapping[str, tuple[float, float]]

    def __getitem__(self, value: str) -> tuple[float, float]:
        return self.ranges[value]

    def union(self, values: Iterable[str]) -> tuple[float, float]:
        """The range that covers all of these values that were observed; it always holds 0."""
        seen = [self.ranges[v] for v in values if v in self.ranges]
        return min([0.0, *(low for low, _ in seen)]), max([0.0, *(high for _, high in seen)])


def observed_values(graph: Graph) -> list[str]:
    """Values whose range matters: all that are not constants."""
    made = [v for node in graph.nodes for v in node.outputs]
    return [port.name for port in graph.inputs] + made


def calibrate(
    graph: Graph,
    recordings: Iterable[Mapping[str, np.ndarray]],
    observer: str = "min_max",
    percentile: float = 0.9999,
) -> Ranges:
    """Ranges of every value of a real graph over the recordings (each a dict of inputs, time first).

    Raises DataError where a recording has other inputs than the graph or holds NaN or infinity, or the
    model makes one of it.
    """
    observers = {value: Observer(observer, percentile) for value in observed_values(graph)}
    interpreter = Interpreter(graph, keep=observers)
    count = 0
    for recording in recordings:
        interpreter.reset()
        for piece in chunks(graph, check_inputs(graph, recording), CHUNK):
            _observe(graph, observers, interpreter.step(piece).values)
        count += 1
    if count == 0:
        raise DataError("calibration needs at least one recording")
    constants = {name: (float(c.min()), float(c.max())) for name, c in graph.constants.items() if c.size}
    return Ranges({**{name: o.range() for name, o in observers.items()}, **constants})


def _observe(graph: Graph, observers: Mapping[str, Observer], values: Mapping[str, np.ndarray]) -> None:
    for name, array in values.items():
        if not np.isfinite(array).all():
            raise DataError(f"value {name!r} of model {graph.name!r} is not finite on the calibration data")
        observers[name].update(array)
