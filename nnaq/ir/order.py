"""Orders over a graph: topological, and without what nobody reads."""

import networkx as nx

from nnaq.errors import GraphError
from nnaq.ir.graph import Graph, Node


def topological(graph: Graph) -> tuple[Node, ...]:
    """The nodes in a deterministic topological order: among equals, the order they stood in."""
    position = {node.name: i for i, node in enumerate(graph.nodes)}
    try:
        names = list(nx.lexicographical_topological_sort(graph.dag, key=position.__getitem__))
    except nx.NetworkXUnfeasible:
        ring = " -> ".join(edge[0] for edge in nx.find_cycle(graph.dag))
        raise GraphError(f"graph {graph.name!r} has a cycle without a state: {ring}") from None
    return tuple(graph.dag.nodes[name]["node"] for name in names)


def without_dead_code(graph: Graph) -> Graph:
    """The graph without nodes that no output and no state depends on."""
    wanted = {graph.producer[v].name for v in graph.results if v in graph.producer}
    live = set(wanted).union(*(nx.ancestors(graph.dag, name) for name in wanted))
    return graph.rebuilt(tuple(node for node in graph.nodes if node.name in live))
