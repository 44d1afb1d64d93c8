"""Cycles of one operator.

    cycles  = max(compute, sram, dram, decompression)
    compute = max(array, vector, table), or their sum for a composite
    array   = what its products take on the array (see `cost.array`)
    vector  = ceil(elements * passes of the operator / vector_lanes),  table = ceil(look-ups / lut_lanes)
    sram    = latency_cycles + ceil(ceil(bursts / banks) * burst_bytes / bytes_per_cycle)
    dram    = ceil(transfers / channels) * (start_cycles + latency_cycles) + bursts as of the SRAM
    decompression = ceil(codes of palette or entropy-coded constants / codewords_per_cycle), next to the
              MACs: a constant crosses both memories as it rests, and its codes stream from there while
              the rest runs

The stages of a primitive overlap: sums are requantised by the lanes as they leave the array. Those
of a composite wait for each other: the gates of an LSTM need their sums, its state needs the gates.

Every operand and result crosses the SRAM port once, in bursts of its own; a constant that is not pinned
in SRAM comes packed from DRAM instead, by a transfer of its own. A target without decompression moves
plain codes (see `footprint`). Of a pinned table no more crosses the port than two entries per look-up.
Views cost nothing. What the accelerator does not run costs the host's time, and a crossing for its
codes, where there is an accelerator; reals never leave the host.
"""

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil, prod
from typing import Literal

from nnaq.cost.array import product_cycles
from nnaq.cost.energy import Counts, picojoules
from nnaq.cost.footprint import is_entropy_coded, is_table, part_bytes, part_of_constant, resting_bytes
from nnaq.cost.host import VIEWS as VIEWS
from nnaq.cost.host import host_cycles
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup
from nnaq.targets import BOUNDARY, Gemm, Target, at_rest, gemms, refusal
from nnaq.targets.gemm import sizes

Bound = Literal["compute", "vector", "table", "sram", "dram", "decompression", "host"]


@dataclass(frozen=True)
class OpCost:
    """What a node costs. cycles: the largest of compute, sram, dram and decompression cycles, or the host's.

    bound says which decided: the array (`compute`), the lanes (`vector`, `table`), a memory, the
    decompression or the host. energy_picojoules: None on the host, and where the target says nothing.
    """

    name: str
    op: str
    cycles: int
    bound: Bound
    macs: int = 0
    compute_cycles: int = 0
    array_cycles: int = 0
    vector_cycles: int = 0
    table_cycles: int = 0
    sram_cycles: int = 0
    dram_cycles: int = 0
    sram_bytes: int = 0
    dram_bytes: int = 0
    decompression_cycles: int = 0
    energy_picojoules: float | None = None


def op_cost(graph: Graph, node: Node, target: Target, pinned: Collection[str] = ()) -> OpCost:
    """What a node of a graph with whole dimensions costs. pinned: constants that rest in SRAM."""
    if node.op in BOUNDARY or refusal(graph, node, target) is not None:
        return _on_host(graph, node, target)
    if node.op in VIEWS:
        nothing = None if target.energy is None else 0.0
        return OpCost(node.name, node.op, 0, "compute", energy_picojoules=nothing)
    return _on_accelerator(graph, node, target, pinned)


def _on_host(graph: Graph, node: Node, target: Target) -> OpCost:
    crossing = sum(
        resting_bytes(graph.types[value], target)
        for value in (*activations(graph, node), *node.outputs)
        if graph.types[value].dtype != "f32" and target.has_accelerator
    )
    signature = graph.signature(node)
    cycles = host_cycles(node.op, signature, target.host, crossing)
    return OpCost(node.name, node.op, cycles, "host", lookup(node.op).work(signature).macs)


def _on_accelerator(graph: Graph, node: Node, target: Target, pinned: Collection[str]) -> OpCost:
    products = gemms(node.op, graph.signature(node))
    near, far = streams(graph, node, target, pinned)
    counts = _counts(graph, node, target, sum(near), sum(far))
    stages = _stages(node.op, products, counts, target)
    compute = sum(stages.values()) if lookup(node.op).is_composite else max(stages.values())
    sram, dram = target.sram.cycles(*near), target.dma.cycles(target.dram, *far)
    unit = target.decompression
    expanding = 0 if unit is None else unit.cycles(counts.codewords)
    slowest = max(stages, key=stages.__getitem__)
    times: dict[Bound, int] = {slowest: compute, "sram": sram, "dram": dram, "decompression": expanding}
    bound = max(times, key=times.__getitem__)
    return OpCost(
        node.name,
        node.op,
        times[bound],
        bound,
        lookup(node.op).work(graph.signature(node)).macs,
        compute,
        stages["compute"],
        stages["vector"],
        stages["table"],
        sram,
        dram,
        counts.sram_bytes,
        counts.dram_bytes,
        expanding,
        picojoules(counts, target.energy),
    )


def _counts(graph: Graph, node: Node, target: Target, sram_bytes: int, dram_bytes: int) -> Counts:
    """What a node does, in the units that energy is given for."""
    work, products = lookup(node.op).work(graph.signature(node)), gemms(node.op, graph.signature(node))
    return Counts(
        sum(g.macs * target.array.passes(g.left, g.right) for g in products),
        sram_bytes,
        dram_bytes,
        # MACs without a product (a sum of windows) are work for the lanes.
        work.elementwise + work.macs - sum(g.macs for g in products),
        work.lookups,
        codes_expanded(graph, node, target),
    )


def _stages(op: str, products: tuple[Gemm, ...], counts: Counts, target: Target) -> dict[Bound, int]:
    """Cycles on the array, the vector lanes and the look-up lanes."""
    array = sum(product_cycles(gemm, target.array) for gemm in products)
    return {
        "compute": array,
        "vector": target.vector_cycles(op, counts.elements),
        "table": ceil(counts.lookups / target.lut_lanes),
    }


def activations(graph: Graph, node: Node) -> tuple[str, ...]:
    """The operands of a node that are no constants, each once."""
    return tuple(v for v in dict.fromkeys(node.inputs) if v and v not in graph.constants)


def traffic(graph: Graph, node: Node, target: Target, pinned: Collection[str]) -> tuple[int, int]:
    """Bytes a node moves through the SRAM port, and bytes it fetches from DRAM."""
    near, far = streams(graph, node, target, pinned)
    return sum(near), sum(far)


def streams(
    graph: Graph, node: Node, target: Target, pinned: Collection[str]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Bytes of every operand and result that crosses the SRAM port, and of every constant from DRAM."""
    near, far = [resting_bytes(graph.types[v], target) for v in node.outputs], []
    looked_up = _bytes_looked_up(graph, node, target)
    for value, size in bytes_read(graph, node, target).items():
        if value in graph.constants and value not in pinned:
            far.append(size)
        else:
            near.append(min(size, looked_up.get(value, size)))
    return tuple(near), tuple(far)


def _bytes_looked_up(graph: Graph, node: Node, target: Target) -> dict[str, int]:
    """The most that a node reads of each of its tables: two entries for every look-up."""
    entries = 2 * lookup(node.op).work(graph.signature(node)).lookups
    found = {v for place, v in enumerate(node.inputs) if v and is_table(graph, node, place)}
    return {value: part_bytes(graph.types[value], entries, target) for value in found}


def bytes_read(graph: Graph, node: Node, target: Target) -> dict[str, int]:
    """Bytes a node reads of each operand: of a table it picks from only what it picks."""
    read = entries_read(graph, node)
    return {
        value: part_of_constant(graph, value, entries, target)
        if value in graph.constants
        else part_bytes(graph.types[value], entries, target)
        for value, entries in read.items()
    }


def codes_expanded(graph: Graph, node: Node, target: Target) -> int:
    """Codes that a node needs of constants that rest as indices or in an entropy code."""
    read = entries_read(graph, node)
    return sum(n for value, n in read.items() if value in graph.constants and _expands(graph, value, target))


def _expands(graph: Graph, value: str, target: Target) -> bool:
    kind = graph.types[value]
    return at_rest(kind, target).palette is not None or is_entropy_coded(kind, target)


def entries_read(graph: Graph, node: Node) -> dict[str, int]:
    """Entries a node reads of each operand."""
    picked = lookup(node.op).reads(graph.signature(node))
    found: dict[str, int] = {}
    for position, value in enumerate(node.inputs):
        if value:
            whole = prod(sizes(graph.types[value]))
            found[value] = max(found.get(value, 0), min(picked.get(position, whole), whole))
    return found
