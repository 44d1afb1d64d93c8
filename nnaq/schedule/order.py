"""The order in which nodes are issued: by critical path.

A node's rank is the longest chain of cycles from its start to the end of the step. Of the nodes
whose operands are there, the one of the highest rank goes first, so that what the step waits for is
never behind what it does not wait for; among equals, the order in which they stood.
"""

from collections.abc import Mapping

import networkx as nx

from nnaq.ir.graph import Graph, Node


def ranks(graph: Graph, cycles: Mapping[str, int]) -> dict[str, int]:
    """The longest chain of cycles that begins with each node, its own included."""
    found: dict[str, int] = {}
    for node in reversed(graph.nodes):
        after = (found[name] for name in graph.dag.successors(node.name))
        found[node.name] = cycles[node.name] + max(after, default=0)
    return found


def critical_path_order(graph: Graph, cycles: Mapping[str, int]) -> tuple[Node, ...]:
    """The nodes in a topological order, the highest rank first."""
    rank, position = ranks(graph, cycles), {node.name: at for at, node in enumerate(graph.nodes)}
    names = nx.lexicographical_topological_sort(graph.dag, key=lambda name: (-rank[name], position[name]))
    return tuple(graph.dag.nodes[name]["node"] for name in names)
