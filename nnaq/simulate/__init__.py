"""The simulated machine: what a step of a lowered graph takes on a target, in cycles and bytes."""

from nnaq.simulate.machine import Event, Island, Simulation, simulate
from nnaq.simulate.trace import chrome_trace

__all__ = ["Event", "Island", "Simulation", "chrome_trace", "simulate"]
