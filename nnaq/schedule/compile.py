"""A step of a graph as commands of a target's engines.

A node on the accelerator runs in tiles (see `tiling`). Each fetches the pieces it needs of the
constants that no memory of the chip holds (`dma`), turns indices into codes (`decompression`) and
multiplies (`array`); sums are requantised by the lanes (`vector`) while the array goes on. Where
the array is double-buffered, a tile is fetched while the last one is used, and two stretches of
sums may wait for the lanes; otherwise each waits for the one before. Other nodes run as a whole:
the stages of a composite one after the other, those of a primitive at once, as the cost model has
it. A node of the host holds the host, its crossing included.

What a command waits for follows from the bytes it touches (see `hazards`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nnaq.cost import bind_shapes
from nnaq.ir.graph import Graph
from nnaq.schedule.cascade import Striped, lower_peak
from nnaq.schedule.commands import Command, Schedule
from nnaq.schedule.emit import Emitter
from nnaq.schedule.image import Image
from nnaq.schedule.memory import MemoryPlan, Pinning, plan_memory
from nnaq.schedule.nodes import emit_node
from nnaq.schedule.order import critical_path_order
from nnaq.schedule.partition import Partition, partition
from nnaq.schedule.sharing import VIEWS
from nnaq.targets import Target


@dataclass(frozen=True)
class Step(Schedule):
    """The commands of one step or several, and what they were made from.

    graph: the bound graph, its nodes in the order in which they are issued, chains in stripes; origin:
    for the nodes of stripes, the node of the given graph and which stripe of it; plan: where values
    rest; image: the constants in DRAM; parts: who runs on the host, by the given graph; setup: what
    has to run once before the first step, pinned constants and first states brought from DRAM, as a
    schedule of its own.
    """

    graph: Graph
    origin: Mapping[str, tuple[str, str]]
    target: Target
    plan: MemoryPlan
    image: Image
    parts: Partition
    setup: Schedule

    def repeated(self, steps: int) -> Schedule:
        """The setup and so many steps, each waiting for all of the one before."""
        commands = list(self.setup.commands)
        for _ in range(steps):
            base = len(commands)
            before = _ends(commands, self.setup if base == len(self.setup.commands) else self)
            for command in self.commands:
                needs = tuple(need + base for need in command.needs) or before
                commands.append(replace(command, needs=needs))
        return Schedule(tuple(commands))


def _ends(commands: list[Command], last: Schedule) -> tuple[int, ...]:
    """The commands of the last part of a list that no other one waits for."""
    needed = {need for command in last.commands for need in command.needs}
    base = len(commands) - len(last.commands)
    return tuple(base + at for at in range(len(last.commands)) if at not in needed)


def compile_step(
    graph: Graph,
    target: Target,
    binding: Mapping[str, int] | None = None,
    pinning: Pinning = "greedy",
    cascading: bool = True,
) -> Step:
    """One step of a graph on a target.

    binding: sizes of symbolic dimensions; those it leaves out are 1. pinning: which constants rest
    in SRAM (see `plan_memory`). cascading: whether chains may run in stripes where the SRAM does not
    hold all that the step wants (see `cascade`). Raises GraphError where the binding leaves a value
    without a frame.
    """
    bound = bind_shapes(graph, binding)
    parts = partition(bound, target)
    striped, plan = _planned(bound, target, pinning, parts, cascading)
    image = Image(striped.graph)
    setup, body = (Emitter(striped.graph, target, plan, image, parts.on_host) for _ in range(2))
    setup.set_up()
    for node in striped.graph.nodes:
        if node.name in parts.on_host:
            body.host(node)
        elif node.op not in VIEWS or not body.is_in_place(node):
            emit_node(body, node)
    body.carry_states()
    commands, before = tuple(body.commands), Schedule(tuple(setup.commands))
    return Step(commands, striped.graph, striped.origin, target, plan, image, parts, before)


def _planned(
    graph: Graph, target: Target, pinning: Pinning, parts: Partition, cascading: bool
) -> tuple[Striped, MemoryPlan]:
    """The nodes by critical path, and their memory; in the order they stand where only that one fits."""

    def planned(graph: Graph) -> MemoryPlan:
        return plan_memory(graph, target, pinning, parts.on_host)

    ordered = replace(graph, nodes=critical_path_order(graph, parts.cycles))
    plan = planned(ordered)
    if not plan.fits and ordered.nodes != graph.nodes:
        given = planned(graph)
        if given.sram_peak_bytes < plan.sram_peak_bytes:
            ordered, plan = graph, given
    if cascading and not plan.holds_everything:
        return lower_peak(ordered, parts.on_host, plan, planned)
    return Striped(ordered, {}), plan
