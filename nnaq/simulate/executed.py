"""The planned step executed, and its integers beside those of the interpreter."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nnaq.interpret import Result, run
from nnaq.ir.graph import Graph
from nnaq.schedule import execute_plan
from nnaq.targets import Target


@dataclass(frozen=True)
class Executed:
    """Outputs and last states of both roads: entries compared, entries that differ."""

    values: int
    mismatches: int

    def show(self) -> str:
        """The comparison as a line of text."""
        return f"executed the plan: {self.values:,} values, {self.mismatches:,} differ"


def execute(
    graph: Graph, target: Target, inputs: Mapping[str, np.ndarray], chunk: int | None = None
) -> Executed:
    """Run a recording by the commands of the plan, inside its arena, and by the interpreter."""
    roads = execute_plan(graph, target, inputs, chunk=chunk), run(graph, inputs, chunk=chunk)
    found, expected = map(_arrays, roads)
    return Executed(
        sum(array.size for array in expected.values()),
        sum(_differ(found[name], array) for name, array in expected.items()),
    )


def _arrays(result: Result) -> dict[str, np.ndarray]:
    parts = {"output": result.outputs, "state": result.states}
    return {f"{part}:{name}": array for part, held in parts.items() for name, array in held.items()}


def _differ(found: np.ndarray, expected: np.ndarray) -> int:
    """Entries that are not the same; all of them where the shapes are not."""
    if found.shape != expected.shape:
        return expected.size
    return int(np.count_nonzero(found != expected))
