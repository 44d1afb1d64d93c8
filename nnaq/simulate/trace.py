"""Simulated steps as a Chrome trace: open it in Perfetto or chrome://tracing.

One process, one thread per unit of an engine, a slice per command that takes time. Arrows lead from a
transfer or an expansion to the commands that wait for it. A counter shows the bytes of SRAM that
the plan holds at the node that started last.

Slices of a thread follow each other, as the format wants it, and an arrow's two ends lie within the
slices they bind to: half a cycle before the source ends, and at the start of the other.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from typing import Any

from nnaq.schedule.commands import ENGINES, Engine
from nnaq.simulate.events import Span
from nnaq.simulate.machine import Simulation

Record = dict[str, Any]

FETCHING: tuple[Engine, ...] = ("dma", "decompression")
UNITS = 16  # threads of one engine have numbers of their own: engine * UNITS + unit


def chrome_trace(
    simulation: Simulation | Sequence[Simulation], starts: Sequence[int] | None = None
) -> list[Record]:
    """The records of a trace, times in microseconds; `json.dump` writes them as they are.

    simulation: a step, or the steps of a stream. starts: the cycle in which each starts; by default
    each when the one before has ended.
    """
    steps = [simulation] if isinstance(simulation, Simulation) else list(simulation)
    if starts is None:
        starts = _one_after_another(steps)
    records = _names(steps)
    arrow = 0
    for number, (step, start) in enumerate(zip(steps, starts, strict=True)):
        records += _work(step, start, number)
        arrows = _arrows(step, start, arrow)
        arrow += len(arrows) // 2
        records += [*arrows, *_occupancy(step, start)]
    return records


def _one_after_another(steps: Sequence[Simulation]) -> list[int]:
    starts, now = [], 0
    for step in steps:
        starts.append(now)
        now += step.timing.cycles
    return starts


def _names(steps: Sequence[Simulation]) -> list[Record]:
    """What the process and its threads are called, and the order they stand in."""
    title = f"{steps[0].graph} on {steps[0].target.name}" if steps else "nothing"
    records: list[Record] = [{"ph": "M", "pid": 0, "name": "process_name", "args": {"name": title}}]
    units = {(s.command.engine, s.unit) for step in steps for s in step.timing.spans}
    for engine, unit in sorted(units, key=lambda u: (ENGINES.index(u[0]), u[1])):
        thread, several = _thread(engine, unit), (engine, 1) in units
        name = f"{engine} {unit}" if several else engine
        records += [
            {"ph": "M", "pid": 0, "tid": thread, "name": "thread_name", "args": {"name": name}},
            {"ph": "M", "pid": 0, "tid": thread, "name": "thread_sort_index", "args": {"sort_index": thread}},
        ]
    return records


def _thread(engine: Engine, unit: int) -> int:
    return ENGINES.index(engine) * UNITS + unit


def _work(simulation: Simulation, start: int, number: int) -> Iterator[Record]:
    """A slice per command."""
    time, ops = simulation.target.microseconds, {n.name: n.op for n in simulation.step.graph.nodes}
    for span in simulation.timing.spans:
        command = span.command
        if command.cycles:
            yield {
                "ph": "X",
                "pid": 0,
                "tid": _thread(command.engine, span.unit),
                "name": f"{command.node} {command.part}".strip(),
                "cat": ops.get(command.node, "transfer"),
                "ts": time(start + span.start),
                "dur": time(command.cycles),
                "args": {
                    "step": number,
                    "cycles": command.cycles,
                    "dram_bytes": command.dram_bytes,
                    "sram_bytes": command.sram_bytes,
                },
            }


def _arrows(simulation: Simulation, start: int, first: int) -> list[Record]:
    """Pairs of records from what fetches to what waits for it."""
    spans = simulation.timing.spans
    pairs = [
        (spans[need], span)
        for span in spans
        for need in span.command.needs
        if spans[need].command.engine in FETCHING and spans[need].command.cycles and span.command.cycles
    ]
    time = simulation.target.microseconds
    ends = ((s.end - 0.5, t.start) for s, t in pairs)
    return list(
        chain.from_iterable(
            (
                _arrow("s", source, time(start) + leave * time(1), number),
                {**_arrow("f", sink, time(start + reach), number), "bp": "e"},
            )
            for number, ((source, sink), (leave, reach)) in enumerate(
                zip(pairs, ends, strict=True), start=first
            )
        )
    )


def _arrow(phase: str, span: Span, stamp: float, number: int) -> Record:
    thread = _thread(span.command.engine, span.unit)
    return {"ph": phase, "pid": 0, "tid": thread, "name": "data", "cat": "data", "id": number, "ts": stamp}


def _occupancy(simulation: Simulation, start: int) -> Iterator[Record]:
    """SRAM in use whenever that changes."""
    plan, time = simulation.plan, simulation.target.microseconds
    for moment, used in occupancy(simulation):
        held = {"arena": used, "pinned": plan.pinned_bytes}
        yield {"ph": "C", "pid": 0, "name": "SRAM bytes", "ts": time(start + moment), "args": held}


def occupancy(simulation: Simulation) -> list[tuple[int, int]]:
    """Cycles at which the bytes of the arena in use change, and the bytes from there on.

    A node counts from its first command on that is more than fetching; of nodes that start together
    the one with the most counts.
    """
    moments = [*_starts(simulation), simulation.timing.cycles]
    held: dict[int, int] = {}
    for moment, used in zip(moments, _profile(simulation), strict=True):
        held[moment] = max(used, held.get(moment, 0))
    return list(held.items())


def _profile(simulation: Simulation) -> list[int]:
    """Bytes of the arena that the plan holds at every node, and after the last."""
    nodes = len(simulation.step.graph.nodes)
    changes = [0] * (nodes + 2)
    for placed in simulation.plan.placements:
        changes[placed.buffer.first] += placed.buffer.room
        changes[min(placed.buffer.last, nodes) + 1] -= placed.buffer.room
    return list(accumulate(changes[: nodes + 1]))


def _starts(simulation: Simulation) -> list[int]:
    """The cycle in which each node starts, none before the node in front of it."""
    first: dict[str, int] = {}
    for span in simulation.timing.spans:
        if span.command.engine not in FETCHING:
            first.setdefault(span.command.node, span.start)
    starts = (first.get(node.name, 0) for node in simulation.step.graph.nodes)
    return list(accumulate(starts, max))
