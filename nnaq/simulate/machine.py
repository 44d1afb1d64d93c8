"""A step of a lowered graph on a target: cycles, memory, and what is left to the host.

The nodes run one after the other in the order they stand, none overlapping the next: the step
takes the sum of its nodes. A step is one frame unless a binding says otherwise.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nnaq.cost.operator import OpCost, op_cost
from nnaq.cost.shapes import bind_shapes
from nnaq.ir.graph import Graph
from nnaq.schedule.commands import Engine
from nnaq.schedule.memory import MemoryPlan, Pinning, plan_memory
from nnaq.targets import BOUNDARY, Target, refusal


@dataclass(frozen=True)
class Event:
    """An engine at work for a node, from cycle `start` to `end`."""

    engine: Engine
    name: str
    op: str
    start: int
    end: int


@dataclass(frozen=True)
class Island:
    """A node left to the host, why, and what that costs."""

    name: str
    op: str
    reason: str
    cycles: int


@dataclass(frozen=True)
class Simulation:
    """What one step of a graph costs on a target.

    costs     every node, in order; their cycles sum to cycles_per_step
    islands   nodes the host runs because the accelerator does not; boundary: quantise and dequantise
    schedule  engines at work, in cycles from the start of the step
    """

    graph: str
    target: Target
    costs: tuple[OpCost, ...]
    plan: MemoryPlan
    islands: tuple[Island, ...]
    boundary: tuple[OpCost, ...]
    schedule: tuple[Event, ...]

    @property
    def cycles_per_step(self) -> int:
        return sum(cost.cycles for cost in self.costs)

    @property
    def energy_picojoules(self) -> float | None:
        """What a step takes of the accelerator and its memories; None where the target says nothing."""
        if self.target.energy is None:
            return None
        return sum(cost.energy_picojoules or 0.0 for cost in self.costs)

    @property
    def microseconds_per_step(self) -> float:
        return self.target.microseconds(self.cycles_per_step)

    def real_time_factor(self, frame_seconds: float | None) -> float | None:
        """Time of a step over the time the step's frames last; None where nothing streams."""
        return None if frame_seconds is None else self.microseconds_per_step / (frame_seconds * 1e6)

    def to_json(self, frame_seconds: float | None = None) -> dict[str, Any]:
        """Latency, energy, memory, islands, boundary and layers as plain data."""
        memory = ("weight_bytes", "table_bytes", "state_bytes", "sram_peak_bytes", "arena_bytes", "fits")
        return {
            "target": self.target.name,
            "latency": {
                "cycles_per_step": self.cycles_per_step,
                "microseconds_per_step": self.microseconds_per_step,
                "real_time_factor": self.real_time_factor(frame_seconds),
            },
            "energy": {"picojoules_per_step": self.energy_picojoules},
            "memory": {key: getattr(self.plan, key) for key in memory},
            "islands": [asdict(island) for island in self.islands],
            "boundary": [{"name": c.name, "op": c.op, "cycles": c.cycles} for c in self.boundary],
            "layers": [asdict(cost) for cost in self.costs],
        }

    def show(self) -> str:
        """The nodes and totals as a table of text."""
        rows = [f"{'node':<32} {'op':<16} {'MACs':>12} {'cycles':>10}  bound"]
        rows += [f"{c.name:<32} {c.op:<16} {c.macs:>12,} {c.cycles:>10,}  {c.bound}" for c in self.costs]
        plan, energy = self.plan, self.energy_picojoules
        rows += [
            f"step: {self.cycles_per_step:,} cycles, {self.microseconds_per_step:g} us on {self.target.name}",
            *([] if energy is None else [f"energy: {energy / 1e3:g} nJ, host not counted"]),
            f"SRAM: {plan.sram_peak_bytes:,} of {plan.budget_bytes:,} bytes"
            + ("" if plan.fits else ": it does not fit"),
            *(f"on the host: {i.op} {i.name!r}, {i.cycles:,} cycles: {i.reason}" for i in self.islands),
        ]
        return "\n".join(rows)


def simulate(
    graph: Graph, target: Target, binding: Mapping[str, int] | None = None, pinning: Pinning = "greedy"
) -> Simulation:
    """One step of a graph on a target.

    binding: sizes of symbolic dimensions; those it leaves out are 1. pinning: which constants rest
    in SRAM (see `plan_memory`). Raises GraphError where the binding leaves a value without a frame.
    """
    step = bind_shapes(graph, binding)
    plan = plan_memory(step, target, pinning)
    costs = tuple(op_cost(step, node, target, frozenset(plan.pinned)) for node in step.nodes)
    return Simulation(
        graph.name,
        target,
        costs,
        plan,
        _islands(step, target, costs),
        tuple(cost for cost in costs if cost.op in BOUNDARY),
        _schedule(costs),
    )


def _islands(graph: Graph, target: Target, costs: tuple[OpCost, ...]) -> tuple[Island, ...]:
    found = []
    for node, cost in zip(graph.nodes, costs, strict=True):
        reason = None if node.op in BOUNDARY else refusal(graph, node, target)
        if reason is not None:
            found.append(Island(node.name, node.op, reason, cost.cycles))
    return tuple(found)


def _schedule(costs: tuple[OpCost, ...]) -> tuple[Event, ...]:
    """Engines at work, node after node."""
    events: list[Event] = []
    start = 0
    for cost in costs:
        events += _events(cost, start)
        start += cost.cycles
    return tuple(events)


def _events(cost: OpCost, start: int) -> list[Event]:
    """The engines of one node; the stages of a composite follow each other, all else runs at once."""
    if cost.bound == "host":
        return [Event("host", cost.name, cost.op, start, start + cost.cycles)] if cost.cycles else []
    stages: tuple[tuple[Engine, int], ...] = (
        ("array", cost.array_cycles),
        ("vector", cost.vector_cycles),
        ("table", cost.table_cycles),
    )
    chained = cost.compute_cycles == sum(cycles for _, cycles in stages)
    streams: tuple[tuple[Engine, int], ...] = (
        ("dma", cost.dram_cycles),
        ("decompression", cost.decompression_cycles),
    )
    events = [Event(e, cost.name, cost.op, start, start + cycles) for e, cycles in streams if cycles]
    ready = start
    for engine, cycles in stages:
        first = ready if chained else start
        if cycles:
            events.append(Event(engine, cost.name, cost.op, first, first + cycles))
            ready = first + cycles
    return events
