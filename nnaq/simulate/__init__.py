"""The simulated machine: what a step of a lowered graph costs in cycles and bytes on a target."""

from nnaq.simulate.cost import OpCost, array_cycles, op_cost
from nnaq.simulate.footprint import resting_bytes
from nnaq.simulate.machine import Event, Island, Simulation, simulate
from nnaq.simulate.memory import MemoryPlan, plan_memory, verify_plan
from nnaq.simulate.shapes import bind_shapes
from nnaq.simulate.trace import chrome_trace

__all__ = [
    "Event",
    "Island",
    "MemoryPlan",
    "OpCost",
    "Simulation",
    "array_cycles",
    "bind_shapes",
    "chrome_trace",
    "op_cost",
    "plan_memory",
    "resting_bytes",
    "simulate",
    "verify_plan",
]
