"""Write a pass, run it, and see it held to its promise.

A pass is a frozen dataclass: `name` is its word, `keeps` its promise ("bits", "reals" or "types"),
`run` takes a graph and returns a new one. The manager verifies the graph after every pass and,
given inputs, runs both graphs and compares what the pass promised to keep.

    python examples/write_a_pass.py
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

import nnaq
from nnaq import passes
from nnaq.errors import PassError
from nnaq.ir.match import chain
from nnaq.ir.text import parse_graph, print_graph
from nnaq.passes.manager import Keeps


@dataclass(frozen=True)
class CancelTransposes(nnaq.Pass):
    """Drop two transposes in a row that put every axis back: exporters leave many of them."""

    name: ClassVar[str] = "cancel-transposes"
    keeps: ClassVar[Keeps] = "bits"

    def run(self, graph: nnaq.Graph) -> nnaq.Graph:
        stands_for: dict[str, str] = {}
        gone: set[str] = set()
        for first, second in chain(graph, "transpose", "transpose"):
            is_result = second.outputs[0] in graph.results
            if (
                self.cancel(first.attrs["perm"], second.attrs["perm"])
                and first.name not in gone
                and not is_result
            ):
                source = first.inputs[0]
                stands_for[second.outputs[0]] = stands_for.get(source, source)
                gone |= {first.name, second.name}
        kept = [node for node in graph.nodes if node.name not in gone]
        return graph.rebuilt(
            tuple(replace(n, inputs=tuple(stands_for.get(v, v) for v in n.inputs)) for n in kept)
        )

    @staticmethod
    def cancel(first, second) -> bool:
        """Whether axis a of the second result is axis a of the first operand."""
        return tuple(first[axis] for axis in second) == tuple(range(len(first)))


class CarelessTransposes(CancelTransposes):
    """The same without looking at the axes: what a mistake looks like."""

    @staticmethod
    def cancel(first, second) -> bool:
        return True


GRAPH = """
graph turned {
  input x: f32[3,3,4]
  a: f32[4,3,3] = transpose(x) {perm=[2, 1, 0]}
  b: f32[3,3,4] = transpose(a) {perm=[2, 1, 0]}
  c: f32[3,3,4] = tanh(b)
  d: f32[3,3,4] = transpose(c) {perm=[1, 0, 2]}
  e: f32[3,4,3] = transpose(d) {perm=[0, 2, 1]}
  y: f32[3,4,3] = relu(e)
  output y
}
"""

SMALL = """
graph square {
  input x: f32[3,3,3]
  a: f32[3,3,3] = transpose(x) {perm=[2, 1, 0]}
  b: f32[3,3,3] = transpose(a) {perm=[0, 2, 1]}
  y: f32[3,3,3] = relu(b)
  output y
}
"""


def main() -> None:
    graph = parse_graph(GRAPH)
    inputs = {"x": np.random.default_rng(0).normal(size=(3, 3, 4)).astype(np.float32)}
    after = passes.run(graph, [CancelTransposes()], check=inputs)
    print(f"{len(graph.nodes)} nodes became {len(after.nodes)}:\n\n{print_graph(after)}")

    small = parse_graph(SMALL)
    try:
        passes.run(small, [CarelessTransposes()], check={"x": inputs["x"][:, :, :3]})
    except PassError as error:
        print(f"and the careless one is caught: {error}")


if __name__ == "__main__":
    main()
