"""Passes: what they are, and how they are run.

A pass is a frozen dataclass: its fields are its options, `run` takes a graph and returns a new
one. It says what it keeps, and the manager can hold it to that:

    bits    the integers of every output and state are the same, bit for bit
    reals   the outputs are the same real numbers, up to float32 rounding (relative 1e-4)
    types   ports and states keep their names, axes and shapes

No pass loses a state; one may add states of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from nnaq import interpret
from nnaq.errors import NnaqError, PassError
from nnaq.ir.graph import Graph
from nnaq.ir.text import print_graph
from nnaq.ir.verify import verify

Keeps = Literal["bits", "reals", "types"]


@dataclass(frozen=True)
class Pass(ABC):
    """One transformation of a graph. `name` is its word on the command line."""

    name: ClassVar[str]
    keeps: ClassVar[Keeps]

    @abstractmethod
    def run(self, graph: Graph) -> Graph:
        """The transformed graph; `graph` itself is never changed."""


def run(
    graph: Graph,
    passes: Iterable[Pass],
    check: Mapping[str, np.ndarray] | None = None,
    dump: Path | None = None,
) -> Graph:
    """Run passes in order; the graph is verified before the first and after each.

    check: inputs on which each pass is held to what it keeps. dump: an existing folder that
    receives every stage as text, `NN-name.txt`. Raises PassError naming pass, rule and node.
    """
    verify(graph)
    for step in passes:
        after = step.run(graph)
        if after is not graph:  # which is sound already
            _keeps_ports(step, graph, _verified(step, after))
        if check is not None and step.keeps != "types":
            _keeps_values(step, graph, after, check)
        if dump is not None:
            number = len(list(dump.glob("*.txt")))  # a lowering runs its passes in several stretches
            (dump / f"{number:02d}-{step.name}.txt").write_text(print_graph(after))
        graph = after
    return graph


def _verified(step: Pass, graph: Graph) -> Graph:
    try:
        return verify(graph)
    except NnaqError as error:
        raise PassError(f"pass {step.name!r} left an unsound graph: {error}") from error


def _keeps_ports(step: Pass, before: Graph, after: Graph) -> None:
    if (before.inputs, before.outputs) != (after.inputs, after.outputs):
        raise PassError(f"pass {step.name!r} changed the ports of graph {before.name!r}")
    lost = {s.name for s in before.states} - {s.name for s in after.states}
    if lost:
        raise PassError(f"pass {step.name!r} lost the states {sorted(lost)}")


def _keeps_values(step: Pass, before: Graph, after: Graph, inputs: Mapping[str, np.ndarray]) -> None:
    old, new = (interpret.run(graph, inputs) for graph in (before, after))
    pairs = [(n, old.outputs[n], new.outputs[n]) for n in old.outputs]
    if step.keeps == "bits":
        pairs += [(n, old.states[n], new.states[n]) for n in old.states]
    for name, left, right in pairs:
        if not _same(step.keeps, left, right):
            maker = after.producer.get(name)
            where = "" if maker is None else f" made by {maker.op} {maker.name!r}"
            moved = _difference(left, right)
            raise PassError(f"pass {step.name!r} keeps {step.keeps}, but {name!r}{where} {moved}")


def _same(keeps: Keeps, left: np.ndarray, right: np.ndarray) -> bool:
    """Equal to the last bit, or for `reals` up to the stated rounding; shape and dtype always."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    if keeps == "bits":
        return bool(np.array_equal(left, right, equal_nan=left.dtype.kind == "f"))
    return bool(np.allclose(left, right, rtol=0, atol=1e-4 * float(np.abs(left).max(initial=0))))


def _difference(left: np.ndarray, right: np.ndarray) -> str:
    if left.shape != right.shape or left.dtype != right.dtype:
        return f"was {left.dtype}{list(left.shape)} and is {right.dtype}{list(right.shape)}"
    return f"moved by {float(np.abs(left.astype(np.float64) - right).max()):g}"
