"""Time in a graph: axes whose sizes depend on how many frames an input has."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from nnaq.ir.dims import Dim, substitute, symbols
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType


def time_symbols(graph: Graph) -> frozenset[str]:
    """The names that stand for time: those of the time axes of the inputs."""
    times = (graph.types[p.name].shape[p.time_axis] for p in graph.inputs if p.time_axis is not None)
    return frozenset[str]().union(*map(symbols, times))


def time_axis(graph: Graph, value: str) -> int | None:
    """The first axis of a value whose size depends on the time of an input."""
    return next(iter(time_axes(graph.types[value], time_symbols(graph))), None)


def time_axes(kind: TensorType, names: frozenset[str]) -> dict[int, Dim]:
    """The axes whose sizes depend on one of the names, with those sizes."""
    return {axis: dim for axis, dim in enumerate(kind.shape) if symbols(dim) & names}


def open_sizes(graph: Graph) -> frozenset[Dim]:
    """Every size in the graph that only a run knows."""
    return frozenset(dim for kind in graph.types.values() for dim in kind.shape if isinstance(dim, str))


def with_sizes(graph: Graph, names: Mapping[str, Dim]) -> Graph:
    """The graph with other sizes in the place of names, in every type."""
    sizes: dict[Dim, Dim] = {dim: substitute(dim, names) for dim in open_sizes(graph)}

    def shape(dims: Iterable[Dim]) -> tuple[Dim, ...]:
        return tuple(sizes.get(dim, dim) for dim in dims)

    return replace(graph, types={v: kind.with_shape(shape(kind.shape)) for v, kind in graph.types.items()})
