"""A step of a graph as commands of a target's engines.

A node on the accelerator fetches the constants that no memory of the chip holds (`dma`), turns
indices into codes (`decompression`), multiplies (`array`), and works on elements (`vector`) and
tables (`table`). A node of the host holds the host, its crossing included. Each of them waits for
the one before it and for the nodes that make its operands.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nnaq.cost import bind_shapes
from nnaq.cost.operator import OpCost, op_cost
from nnaq.ir.graph import Graph, Node
from nnaq.schedule.commands import Command, Engine, Schedule
from nnaq.schedule.memory import MemoryPlan, Pinning, plan_memory
from nnaq.targets import Target


@dataclass(frozen=True)
class Step(Schedule):
    """The commands of a step, and what they were made from.

    graph: the bound graph, its nodes in the order in which they are issued; plan: where its values
    rest; setup: what has to run once before the first step, pinned constants brought from DRAM.
    """

    graph: Graph
    target: Target
    plan: MemoryPlan
    setup: tuple[Command, ...]


def compile_step(
    graph: Graph, target: Target, binding: Mapping[str, int] | None = None, pinning: Pinning = "greedy"
) -> Step:
    """One step of a graph on a target.

    binding: sizes of symbolic dimensions; those it leaves out are 1. pinning: which constants rest
    in SRAM (see `plan_memory`). Raises GraphError where the binding leaves a value without a frame.
    """
    step = bind_shapes(graph, binding)
    plan = plan_memory(step, target, pinning)
    commands: list[Command] = []
    last: dict[str, int] = {}
    for node in step.nodes:
        before = tuple(sorted({last[value] for value in node.inputs if value in last}))
        for command in _commands(node, op_cost(step, node, target, plan.pinned)):
            streams = command.engine in ("dma", "decompression")
            chain = (len(commands) - 1,) if commands and commands[-1].node == node.name else ()
            needs = chain if streams else tuple(sorted({*before, *chain}))
            commands.append(
                Command(
                    command.engine,
                    command.node,
                    command.cycles,
                    needs,
                    "",
                    command.dram_bytes,
                    command.sram_bytes,
                )
            )
        last.update(dict.fromkeys(node.outputs, len(commands) - 1))
    return Step(tuple(commands), step, target, plan, ())


def _commands(node: Node, cost: OpCost) -> list[Command]:
    """The engines of one node, each after the other; a view of its operand holds the lanes for no time."""
    if cost.bound == "host":
        return [Command("host", node.name, cost.cycles)]
    found = []
    if cost.dram_bytes:
        found.append(Command("dma", node.name, cost.dram_cycles, dram_bytes=cost.dram_bytes))
    if cost.decompression_cycles:
        found.append(Command("decompression", node.name, cost.decompression_cycles))
    stages: tuple[tuple[Engine, int], ...] = (
        ("array", cost.array_cycles),
        ("vector", cost.vector_cycles),
        ("table", cost.table_cycles),
    )
    working = [(engine, cycles) for engine, cycles in stages if cycles] or [("vector", 0)]
    for engine, cycles in working:
        found.append(Command(engine, node.name, max(cycles, -(-cost.sram_cycles // len(working)))))
    first = len(found) - len(working)
    found[first] = Command(found[first].engine, node.name, found[first].cycles, sram_bytes=cost.sram_bytes)
    return found
