"""How a step of a lowered graph is laid onto a target: memory, and the commands of its engines."""

from nnaq.schedule.commands import Command, Engine, Schedule
from nnaq.schedule.compile import Step, compile_step
from nnaq.schedule.execute import Machine, execute_plan
from nnaq.schedule.memory import MemoryPlan, plan_memory, verify_plan

__all__ = [
    "Command",
    "Engine",
    "Machine",
    "MemoryPlan",
    "Schedule",
    "Step",
    "compile_step",
    "execute_plan",
    "plan_memory",
    "verify_plan",
]
