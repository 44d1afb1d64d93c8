"""Cycles of one operator.

    cycles  = max(compute, bytes_sram / sram bandwidth, bytes_dram / dram bandwidth, decompression)
    compute = max(array, vector, table), or their sum for a composite
    array   = folds * T * repeats * passes + fills * fill, per product of M positions, N outputs, depth K
    vector  = ceil(elements / vector_lanes),  table = ceil(look-ups / lut_lanes)
    decompression = ceil(codes of palette constants / codewords_per_cycle), next to the MACs: a constant
              crosses both memories as indices, and its codes stream from there while the rest runs

    output stationary   folds = ceil(M/R) * ceil(N/C),  T = K,  fill R + C - 2
    weight stationary   folds = ceil(K/R) * ceil(N/C),  T = M,  fill R + C - 2, and R more to load
                        the weights where nothing hides the load

A double-buffered array pays its fill once per product, and once per repeat where each repeat waits
for the last (the recurrent product of an LSTM); otherwise it pays at every fold. The model lies
between two published limits: hidden altogether (ZigZag's temporal mapping, folds * T) and paid at
every fold (SCALE-Sim, folds * (T + fill) - 1).

The stages of a primitive overlap: sums are requantised by the lanes as they leave the array. Those
of a composite wait for each other: the gates of an LSTM need their sums, its state needs the gates.

Every operand and result crosses the SRAM port once; a constant that is not pinned in SRAM comes
packed from DRAM instead. A target without decompression moves plain codes (see `footprint`). Views
cost nothing. What the accelerator does not run costs the host's time, and a crossing for its codes;
reals never leave the host.
"""

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil, prod
from typing import Literal

from nnaq.cost.energy import Counts, picojoules
from nnaq.cost.footprint import part_bytes, resting_bytes
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup
from nnaq.targets import BOUNDARY, Dataflow, Gemm, Target, at_rest, gemms, refusal
from nnaq.targets.gemm import sizes

Fills = Literal["hidden", "once", "per_fold"]
Bound = Literal["compute", "vector", "table", "sram", "dram", "decompression", "host"]

VIEWS = frozenset({"reshape"})
"""Operators whose result is the operand's own bytes."""


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


def folds_and_length(gemm: Gemm, rows: int, columns: int, dataflow: Dataflow) -> tuple[int, int]:
    """How often a product folds onto the array, and the steps T of one fold."""
    if dataflow == "output_stationary":
        return ceil(gemm.positions / rows) * ceil(gemm.outputs / columns), gemm.depth
    return ceil(gemm.depth / rows) * ceil(gemm.outputs / columns), gemm.positions


def array_cycles(
    gemm: Gemm, rows: int, columns: int, dataflow: Dataflow, fills: Fills = "once", passes: int = 1
) -> int:
    """Cycles of a product on an array of rows x columns; `passes` per MAC."""
    folds, length = folds_and_length(gemm, rows, columns, dataflow)
    running = folds * length * gemm.repeats * passes
    fill = rows + columns - 2
    if fills == "per_fold":
        load = rows if dataflow == "weight_stationary" else 0
        return running + folds * gemm.repeats * (fill + load)
    return running + (fill * (gemm.repeats if gemm.waits else 1) if fills == "once" else 0)


def op_cost(graph: Graph, node: Node, target: Target, pinned: Collection[str] = ()) -> OpCost:
    """What a node of a graph with whole dimensions costs. pinned: constants that rest in SRAM."""
    if node.op in BOUNDARY or refusal(graph, node, target) is not None:
        return _on_host(graph, node, target)
    if node.op in VIEWS:
        nothing = None if target.energy is None else 0.0
        return OpCost(node.name, node.op, 0, "compute", energy_picojoules=nothing)
    return _on_accelerator(graph, node, target, pinned)


def _on_host(graph: Graph, node: Node, target: Target) -> OpCost:
    work = lookup(node.op).work(graph.signature(node))
    crossing = sum(
        resting_bytes(graph.types[value], target)
        for value in (*activations(graph, node), *node.outputs)
        if graph.types[value].dtype != "f32"
    )
    cycles = target.host.cycles(work.macs + work.elementwise + work.lookups, crossing)
    return OpCost(node.name, node.op, cycles, "host", work.macs)


def _on_accelerator(graph: Graph, node: Node, target: Target, pinned: Collection[str]) -> OpCost:
    products, counts = gemms(node.op, graph.signature(node)), _counts(graph, node, target, pinned)
    stages = _stages(products, counts, target)
    compute = sum(stages.values()) if lookup(node.op).is_composite else max(stages.values())
    sram, dram = target.sram.cycles(counts.sram_bytes), target.dram.cycles(counts.dram_bytes)
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


def _counts(graph: Graph, node: Node, target: Target, pinned: Collection[str]) -> Counts:
    """What a node does, in the units that energy is given for."""
    work, products = lookup(node.op).work(graph.signature(node)), gemms(node.op, graph.signature(node))
    sram_bytes, dram_bytes = traffic(graph, node, target, pinned)
    return Counts(
        sum(g.macs * target.array.passes(g.left, g.right) for g in products),
        sram_bytes,
        dram_bytes,
        # MACs without a product (a sum of windows) are work for the lanes.
        work.elementwise + work.macs - sum(g.macs for g in products),
        work.lookups,
        codes_expanded(graph, node, target),
    )


def _stages(products: tuple[Gemm, ...], counts: Counts, target: Target) -> dict[Bound, int]:
    """Cycles on the array, the vector lanes and the look-up lanes."""
    machine = target.array
    fills: Fills = "once" if machine.double_buffered else "per_fold"
    array = sum(
        array_cycles(
            g, machine.rows, machine.columns, machine.dataflow, fills, machine.passes(g.left, g.right)
        )
        for g in products
    )
    return {
        "compute": array,
        "vector": ceil(counts.elements / target.vector_lanes),
        "table": ceil(counts.lookups / target.lut_lanes),
    }


def activations(graph: Graph, node: Node) -> tuple[str, ...]:
    """The operands of a node that are no constants, each once."""
    return tuple(v for v in dict.fromkeys(node.inputs) if v and v not in graph.constants)


def traffic(graph: Graph, node: Node, target: Target, pinned: Collection[str]) -> tuple[int, int]:
    """Bytes a node moves through the SRAM port, and bytes it fetches from DRAM."""
    sram, dram = sum(resting_bytes(graph.types[v], target) for v in node.outputs), 0
    for value, size in bytes_read(graph, node, target).items():
        if value in graph.constants and value not in pinned:
            dram += size
        else:
            sram += size
    return sram, dram


def bytes_read(graph: Graph, node: Node, target: Target) -> dict[str, int]:
    """Bytes a node reads of each operand: of a table it picks from only what it picks."""
    read = entries_read(graph, node)
    return {value: part_bytes(graph.types[value], entries, target) for value, entries in read.items()}


def codes_expanded(graph: Graph, node: Node, target: Target) -> int:
    """Codes that a node needs of constants that rest as indices."""
    read = entries_read(graph, node)
    return sum(n for value, n in read.items() if at_rest(graph.types[value], target).palette is not None)


def entries_read(graph: Graph, node: Node) -> dict[str, int]:
    """Entries a node reads of each operand."""
    picked = lookup(node.op).reads(graph.signature(node))
    found: dict[str, int] = {}
    for position, value in enumerate(node.inputs):
        if value:
            whole = prod(sizes(graph.types[value]))
            found[value] = max(found.get(value, 0), min(picked.get(position, whole), whole))
    return found
