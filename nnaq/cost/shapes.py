"""One step of a graph: symbolic dimensions bound to whole numbers."""

from collections.abc import Mapping
from dataclasses import replace

from nnaq.errors import GraphError
from nnaq.ir.dims import bind, show, symbols
from nnaq.ir.graph import Graph


def symbols_of(graph: Graph) -> tuple[str, ...]:
    """The symbolic dimensions of a graph, sorted."""
    return tuple(sorted({s for kind in graph.types.values() for dim in kind.shape for s in symbols(dim)}))


def bind_shapes(graph: Graph, binding: Mapping[str, int] | None = None) -> Graph:
    """The graph of one step: every symbol that `binding` leaves out is 1, a single frame.

    Raises GraphError where a binding names no symbol, or a value is left without a frame.
    """
    names = symbols_of(graph)
    unknown = sorted(set(binding or {}) - set(names))
    if unknown:
        raise GraphError(
            f"graph {graph.name!r} has no dimension {', '.join(unknown)}; it has {', '.join(names) or 'none'}"
        )
    sizes = dict.fromkeys(names, 1) | dict(binding or {})
    types = {name: kind.with_shape(bind(kind.shape, sizes)) for name, kind in graph.types.items()}
    for name, kind in graph.types.items():
        bound = bind(kind.shape, sizes)
        if bound != kind.shape and min(bound) < 1:
            raise GraphError(
                f"with {_show(sizes)} value {name!r} has shape {show(bound)}: "
                f"bind more frames, for example {_show({n: 2 * s for n, s in sizes.items()})}"
            )
    return replace(graph, types=types)


def _show(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items())
