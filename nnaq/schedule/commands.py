"""The commands of one step: what every engine does, and what each command waits for.

A schedule is a list of commands in the order in which they are issued. Each engine takes its own
commands in that order, one at a time (`dma`: one per channel), and a command starts when its engine
is free and all that it needs has ended. Nothing else decides when it runs: the event simulation
adds no knowledge of its own, and what executes the list may run it in any order that keeps `needs`.
"""

from dataclasses import dataclass
from typing import Literal

from nnaq.schedule.actions import Action

Engine = Literal["host", "dma", "decompression", "array", "vector", "table"]
ENGINES: tuple[Engine, ...] = ("host", "dma", "decompression", "array", "vector", "table")


@dataclass(frozen=True)
class Command:
    """One thing that an engine does without interruption.

    node        the name of the node it works for, or of a constant or state it brings before the first
                step; part: which part, "" where the node is whole
    cycles      how long it holds its engine, at least 0
    needs       positions in the schedule of the commands that must have ended before; all smaller
                than its own
    dram_bytes, sram_bytes  what it moves through each memory's port
    action      what it does to bytes when it is executed; None where it only takes time
    """

    engine: Engine
    node: str
    cycles: int
    needs: tuple[int, ...] = ()
    part: str = ""
    dram_bytes: int = 0
    sram_bytes: int = 0
    action: Action | None = None


@dataclass(frozen=True)
class Schedule:
    """The commands of one step, each needing only earlier ones."""

    commands: tuple[Command, ...]
