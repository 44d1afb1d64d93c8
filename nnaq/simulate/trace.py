"""A simulated step as a Chrome trace: open it in chrome://tracing or Perfetto.

One process, one thread per engine; a counter shows the bytes of SRAM in use at every node.
"""

from typing import Any

from nnaq.schedule.commands import ENGINES
from nnaq.simulate.machine import Simulation

Record = dict[str, Any]


def chrome_trace(simulation: Simulation) -> list[Record]:
    """The records of a trace, times in microseconds; `json.dump` writes them as they are."""
    return [*_names(simulation), *_work(simulation), *_occupancy(simulation)]


def _names(simulation: Simulation) -> list[Record]:
    """What the process and its threads are called."""
    title = f"{simulation.graph} on {simulation.target.name}"
    process = {"ph": "M", "pid": 0, "name": "process_name", "args": {"name": title}}
    threads = [
        {"ph": "M", "pid": 0, "tid": tid, "name": "thread_name", "args": {"name": engine}}
        for tid, engine in enumerate(ENGINES)
    ]
    return [process, *threads]


def _work(simulation: Simulation) -> list[Record]:
    time = simulation.target.microseconds
    return [
        {
            "ph": "X",
            "pid": 0,
            "tid": ENGINES.index(event.engine),
            "name": event.name,
            "cat": event.op,
            "ts": time(event.start),
            "dur": time(event.end - event.start),
            "args": {"op": event.op, "cycles": event.end - event.start},
        }
        for event in simulation.schedule
    ]


def _occupancy(simulation: Simulation) -> list[Record]:
    """SRAM in use from the start of every node on."""
    records, start, plan = [], 0, simulation.plan
    for position, cost in enumerate(simulation.costs):
        held = {"arena": plan.occupancy(position), "pinned": plan.pinned_bytes}
        stamp = simulation.target.microseconds(start)
        records.append({"ph": "C", "pid": 0, "name": "SRAM bytes", "ts": stamp, "args": held})
        start += cost.cycles
    return records
