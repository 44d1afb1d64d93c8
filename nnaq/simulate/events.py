"""When every command of a schedule runs: a simulation of engines in order.

    start(c) = max(a unit of its engine is free, start of the engine's command before, ends of all it needs)
    end(c)   = start(c) + cycles(c)

An engine has one unit unless told otherwise (`dma`: one per channel); a command takes the unit that is
free first. The recursion visits each command once, in the order of issue, in n log(units): as engines
take their commands in order and nothing else decides, it has no need of an agenda of events. SimPy,
whose processes queue for units and wait for each other, gives the same numbers in the tests; a search
simulates thousands of models, and processes take about ten times as long.

What holds for any schedule, and is tested:

    longest chain of needs, busiest engine <= end of all <= sum of all cycles
    a shorter command ends nothing later (max and + are monotone, and so is the vector of free units)

At every moment before the end some unit is busy: what starts late starts as another command ends. So
whatever another model says of the same step, c cycles, the two are never further apart than

    max(sum of all cycles - c, c - longest chain, c - busiest engine)

or rather `Timing.apart`, which takes the larger of the two lower limits. The sum of node costs is below
the sum of all cycles wherever the commands of a node take as long as it costs; how near the two models
come on the models of the tests is a band that the tests state.

Ports of memories are not arbitrated: a command's cycles hold what its bytes take. What all commands
move is told beside the end (`port_share`), so that a schedule that asks too much of a port is seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from heapq import heapify, heappop, heappush
from typing import Any

from nnaq.schedule.commands import ENGINES, Command, Engine, Schedule

Units = Mapping[Engine, int]


@dataclass(frozen=True)
class Span:
    """A command at work: on which unit of its engine, from cycle `start` to `end`."""

    command: Command
    unit: int
    start: int
    end: int


@dataclass(frozen=True)
class Timing:
    """Every command of a schedule in time, in the order of issue. units: those of engines with several."""

    spans: tuple[Span, ...]
    units: Units

    @cached_property
    def cycles(self) -> int:
        """When the last command ends."""
        return max((span.end for span in self.spans), default=0)

    @cached_property
    def busy(self) -> dict[Engine, int]:
        """Cycles of every engine that works, its units together."""
        found = dict.fromkeys(ENGINES, 0)
        for span in self.spans:
            found[span.command.engine] += span.command.cycles
        return {engine: cycles for engine, cycles in found.items() if cycles}

    def share(self, engine: Engine) -> float:
        """The part of the time in which an engine works, 0 to 1."""
        whole = self.cycles * self.units.get(engine, 1)
        return self.busy.get(engine, 0) / whole if whole else 0.0

    @property
    def busiest(self) -> int:
        """Cycles of the busiest engine, spread over its units: no order of the commands ends earlier."""
        return max((-(-c // self.units.get(engine, 1)) for engine, c in self.busy.items()), default=0)

    @property
    def total(self) -> int:
        """Cycles of all commands: one after the other ends no later."""
        return sum(self.busy.values())

    def apart(self, cycles: int) -> int:
        """The most by which another model's cycles of the step can differ from these; see the module."""
        return max(self.total - cycles, cycles - max(self.busiest, self.longest_chain))

    @cached_property
    def longest_chain(self) -> int:
        """Cycles of the longest chain of commands that need each other."""
        ends: list[int] = []
        for span in self.spans:
            ends.append(max((ends[n] for n in span.command.needs), default=0) + span.command.cycles)
        return max(ends, default=0)

    def moved(self) -> tuple[int, int]:
        """Bytes of all commands through the SRAM port and from or to DRAM."""
        commands = [span.command for span in self.spans]
        return sum(c.sram_bytes for c in commands), sum(c.dram_bytes for c in commands)

    def port_share(self, bytes_per_cycle: Fraction, moved: int) -> float:
        """The part of the time that `moved` bytes take of a memory's port; above 1 it asks too much."""
        return float(moved / bytes_per_cycle / self.cycles) if self.cycles else 0.0

    def to_json(self) -> dict[str, Any]:
        """Totals and shares as plain data."""
        return {
            "cycles": self.cycles,
            "longest_chain_cycles": self.longest_chain,
            "busiest_engine_cycles": self.busiest,
            "command_cycles": self.total,
            "commands": len(self.spans),
            "busy": {
                engine: {"cycles": cycles, "share": self.share(engine)}
                for engine, cycles in self.busy.items()
            },
        }


def run_schedule(schedule: Schedule, units: Units | None = None) -> Timing:
    """When every command of a schedule runs. units: how many an engine has, where more than one."""
    units = dict(units or {})
    free = {engine: [(0, unit) for unit in range(units.get(engine, 1))] for engine in ENGINES}
    for queue in free.values():
        heapify(queue)
    before = dict.fromkeys(ENGINES, 0)
    spans: list[Span] = []
    for command in schedule.commands:
        queue = free[command.engine]
        when, unit = heappop(queue)
        ready = max((spans[need].end for need in command.needs), default=0)
        start = max(when, before[command.engine], ready)
        before[command.engine] = start
        spans.append(Span(command, unit, start, start + command.cycles))
        heappush(queue, (start + command.cycles, unit))
    return Timing(tuple(spans), units)
