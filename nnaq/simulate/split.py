"""Where the cycles of a step go, as a sum: what each node computes, and what it waits for.

    compute      products and lanes at work, no array filling
    stall        the array fills and drains, and nothing hides it
    weights      longer than that, because constants come from DRAM or are expanded no faster
    activations  longer than that, because operands and results cross the SRAM port no faster
    host         nodes that the host runs, crossings included

A node's parts add up to its cycles, so those of all nodes add up to the sum of node costs.
"""

from collections.abc import Iterable
from typing import Literal

from nnaq.cost.array import product_cycles
from nnaq.cost.operator import OpCost
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup
from nnaq.targets import Target, gemms

Part = Literal["compute", "weights", "activations", "stall", "host"]
PARTS: tuple[Part, ...] = ("compute", "weights", "activations", "stall", "host")
Split = dict[Part, int]


def split_node(graph: Graph, node: Node, cost: OpCost, target: Target) -> Split:
    """The parts of one node of a bound graph."""
    parts: Split = dict.fromkeys(PARTS, 0)
    if cost.bound == "host":
        return parts | {"host": cost.cycles}
    stages = (_running(graph, node, cost, target), cost.vector_cycles, cost.table_cycles)
    computing = sum(stages) if lookup(node.op).is_composite else max(stages)
    waits: Part = "activations" if cost.bound == "sram" else "weights"
    return parts | {
        "compute": computing,
        "stall": cost.compute_cycles - computing,
        waits: cost.cycles - cost.compute_cycles,
    }


def _running(graph: Graph, node: Node, cost: OpCost, target: Target) -> int:
    """Cycles of the array without its fills."""
    if not cost.array_cycles:
        return 0
    products = gemms(node.op, graph.signature(node))
    return sum(product_cycles(gemm, target.array, "hidden") for gemm in products)


def together(splits: Iterable[Split]) -> Split:
    """The parts of several nodes."""
    found: Split = dict.fromkeys(PARTS, 0)
    for split in splits:
        for part, cycles in split.items():
            found[part] += cycles
    return found
