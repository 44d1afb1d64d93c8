"""What a node of a lowered graph costs on a target: cycles, bytes, energy."""

from nnaq.cost.array import array_cycles, product_cycles
from nnaq.cost.footprint import resting_bytes
from nnaq.cost.operator import OpCost, op_cost
from nnaq.cost.shapes import bind_shapes

__all__ = ["OpCost", "array_cycles", "bind_shapes", "op_cost", "product_cycles", "resting_bytes"]
