"""A step of a lowered graph on a target: cycles, memory, and what is left to the host.

Two models of the same step stand side by side. The sum of node costs lets nodes follow each other,
none overlapping the next (`cycles_per_step`). The simulation of events runs the commands of the
compiled step on their engines, so that weights of the next node arrive while this one works
(`timing`); how far the two can be apart is said in `nnaq.simulate.events`. A step is one frame unless
a binding says otherwise.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from nnaq.cost.operator import OpCost, op_cost
from nnaq.ir.graph import Graph
from nnaq.ir.op import lookup
from nnaq.schedule.compile import Step, compile_step
from nnaq.schedule.memory import MemoryPlan, Pinning
from nnaq.simulate.events import Timing, run_schedule
from nnaq.simulate.split import Split, split_node, together
from nnaq.targets import BOUNDARY, Target, refusal


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

    step     the compiled step: its bound graph, memory plan and commands
    costs    every node, in order; their cycles sum to cycles_per_step
    islands  nodes the host runs because the accelerator does not; boundary: quantise and dequantise;
    moved    nodes that the accelerator could run, but the host gets done sooner, crossings counted
    """

    step: Step
    costs: tuple[OpCost, ...]
    islands: tuple[Island, ...]
    boundary: tuple[OpCost, ...]
    moved: tuple[OpCost, ...]

    @property
    def graph(self) -> str:
        """Name of the graph."""
        return self.step.graph.name

    @property
    def target(self) -> Target:
        return self.step.target

    @property
    def plan(self) -> MemoryPlan:
        return self.step.plan

    @property
    def cycles_per_step(self) -> int:
        """The sum of node costs."""
        return sum(cost.cycles for cost in self.costs)

    @cached_property
    def timing(self) -> Timing:
        """The commands of the step in time."""
        return run_schedule(self.step)

    @cached_property
    def setup_cycles(self) -> int:
        """What runs once before the first step."""
        return run_schedule(self.step.setup).cycles

    @cached_property
    def splits(self) -> tuple[Split, ...]:
        """Where the cycles of every node go."""
        graph = self.step.graph
        return tuple(
            split_node(graph, n, c, self.target) for n, c in zip(graph.nodes, self.costs, strict=True)
        )

    @property
    def split(self) -> Split:
        """Where cycles_per_step goes."""
        return together(self.splits)

    @property
    def energy_picojoules(self) -> float | None:
        """What a step takes of the accelerator and its memories; None where the target says nothing."""
        if self.target.energy is None:
            return None
        return sum(cost.energy_picojoules or 0.0 for cost in self.costs)

    @property
    def sram_bytes(self) -> int:
        """Bytes of all nodes through the SRAM port."""
        return sum(cost.sram_bytes for cost in self.costs)

    @property
    def dram_bytes(self) -> int:
        """Bytes of all nodes from and to DRAM."""
        return sum(cost.dram_bytes for cost in self.costs)

    @property
    def microseconds_per_step(self) -> float:
        return self.target.microseconds(self.cycles_per_step)

    def real_time_factor(self, frame_seconds: float | None, cycles: int | None = None) -> float | None:
        """Time of a step over the time the step's frames last; None where nothing streams.

        cycles: of the step, by default the sum of node costs.
        """
        time = self.target.microseconds(self.cycles_per_step if cycles is None else cycles)
        return None if frame_seconds is None else time / (frame_seconds * 1e6)

    def dearest(self, count: int = 5) -> list[OpCost]:
        """The nodes that take the most cycles, in order."""
        return sorted((c for c in self.costs if c.cycles), key=lambda cost: -cost.cycles)[:count]

    def latency(self, frame_seconds: float | None = None) -> dict[str, Any]:
        """Time of a step by both models, as plain data."""
        events = self.timing.cycles
        return {
            "cycles_per_step": self.cycles_per_step,
            "microseconds_per_step": self.microseconds_per_step,
            "real_time_factor": self.real_time_factor(frame_seconds),
            "event_cycles_per_step": events,
            "event_microseconds_per_step": self.target.microseconds(events),
            "event_real_time_factor": self.real_time_factor(frame_seconds, events),
            "models_apart_at_most_cycles": self.timing.apart(self.cycles_per_step),
            "setup_cycles": self.setup_cycles,
        }

    def ports(self) -> dict[str, dict[str, Any]]:
        """Bytes of a step through each memory's port, and the part of the event simulation they take."""
        target, timing = self.target, self.timing
        moved = dict(zip(("sram", "dram"), timing.moved(), strict=True))
        rates = {"sram": target.sram.peak_bytes_per_cycle, "dram": target.dram.peak_bytes_per_cycle}
        return {
            name: {"bytes": moved[name], "share": timing.port_share(rates[name], moved[name])}
            for name in rates
        }

    def to_json(self, frame_seconds: float | None = None) -> dict[str, Any]:
        """Latency, energy, memory, islands, boundary and layers as plain data."""
        memory = ("weight_bytes", "table_bytes", "state_bytes", "sram_peak_bytes", "arena_bytes", "fits")
        return {
            "target": self.target.name,
            "latency": self.latency(frame_seconds),
            "events": {**self.timing.to_json(), "ports": self.ports()},
            "split": dict(self.split),
            "energy": {"picojoules_per_step": self.energy_picojoules},
            "memory": {key: getattr(self.plan, key) for key in memory},
            "islands": [asdict(island) for island in self.islands],
            "boundary": _listed(self.boundary),
            "moved": _listed(self.moved),
            "layers": [
                {**asdict(cost), "split": dict(split)}
                for cost, split in zip(self.costs, self.splits, strict=True)
            ],
        }

    def show(self) -> str:
        """The nodes and totals as a table of text."""
        from nnaq.simulate.show import show_simulation

        return show_simulation(self)


def simulate(
    graph: Graph, target: Target, binding: Mapping[str, int] | None = None, pinning: Pinning = "greedy"
) -> Simulation:
    """One step of a graph on a target.

    binding: sizes of symbolic dimensions; those it leaves out are 1. pinning: which constants rest
    in SRAM (see `plan_memory`). Raises GraphError where the binding leaves a value without a frame.
    """
    step = compile_step(graph, target, binding, pinning)
    costs = _costs(step)
    islands = _islands(step.graph, target, costs)
    left = {island.name for island in islands}
    at_host = [cost for cost in costs if cost.bound == "host"]
    return Simulation(
        step,
        costs,
        islands,
        tuple(c for c in at_host if c.op in BOUNDARY),
        tuple(c for c in at_host if c.op not in BOUNDARY and c.name not in left),
    )


def _costs(step: Step) -> tuple[OpCost, ...]:
    """What every node costs where it runs; on the host what its commands take."""
    pinned, taken = frozenset(step.plan.pinned), dict[str, int]()
    for command in step.commands:
        if command.engine == "host":
            taken[command.node] = taken.get(command.node, 0) + command.cycles
    return tuple(
        OpCost(
            node.name,
            node.op,
            taken[node.name],
            "host",
            lookup(node.op).work(step.graph.signature(node)).macs,
        )
        if node.name in taken
        else op_cost(step.graph, node, step.target, pinned)
        for node in step.graph.nodes
    )


def _listed(costs: tuple[OpCost, ...]) -> list[dict[str, Any]]:
    return [{"name": cost.name, "op": cost.op, "cycles": cost.cycles} for cost in costs]


def _islands(graph: Graph, target: Target, costs: tuple[OpCost, ...]) -> tuple[Island, ...]:
    found = []
    for node, cost in zip(graph.nodes, costs, strict=True):
        reason = None if node.op in BOUNDARY else refusal(graph, node, target)
        if reason is not None:
            found.append(Island(node.name, node.op, reason, cost.cycles))
    return tuple(found)
