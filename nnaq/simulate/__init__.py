"""The simulated machine: what a step of a lowered graph takes on a target, in cycles and bytes."""

from nnaq.simulate.events import Span, Timing, run_schedule
from nnaq.simulate.machine import Island, Simulation, simulate
from nnaq.simulate.stream import Streamed, simulate_stream
from nnaq.simulate.trace import chrome_trace

__all__ = [
    "Island",
    "Simulation",
    "Span",
    "Streamed",
    "Timing",
    "chrome_trace",
    "run_schedule",
    "simulate",
    "simulate_stream",
]
