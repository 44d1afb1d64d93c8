"""Composites as chains of TOSA operators; every node is computed beside them in plain numpy."""

from dataclasses import dataclass

import numpy as np
import replicas
from tosa.Op import Op
from tosa_graph import HALF, SINGLE_ROUND, Attribute, Graph

UNCHANGED = 30  # with the multiplier 2^30: times one
CURVE_SHIFT = 37  # a TABLE's 16.7 bits to 16
PROPAGATE = 1  # what floats would do with NaN


NAMES = {
    f"{name.replace('_', '').lower()}attribute": op for name, op in vars(Op).items() if isinstance(op, int)
}
SETTERS = {NAMES[setter.lower()]: setter for setter in dir(Attribute) if setter.lower() in NAMES}


@dataclass
class Value:
    """A tensor of the graph and the integers it must hold."""

    tensor: tuple
    array: np.ndarray
    bits: int


class Chain:
    """A graph under construction, and its results."""

    def __init__(self, rounding=SINGLE_ROUND):
        self.graph, self.expected, self.rounding = Graph(), [], rounding
        single = rounding == SINGLE_ROUND
        self.requantise = replicas.requantise_single if single else replicas.requantise_double

    def input(self, array, bits):
        return Value(self.graph.input(array, bits), np.asarray(array, np.int64), bits)

    def constant(self, array, bits, rank=None):
        """A constant; with `rank` a number that broadcasts against tensors of that rank."""
        array = np.reshape(array, [1] * rank) if rank else np.asarray(array)
        return Value(self.graph.constant(array, bits), array.astype(np.int64), bits)

    def apply(self, op, operands, array, bits, *attributes, more=(), output=False):
        attribute = Attribute()
        getattr(attribute, SETTERS[op])(*attributes)
        tensors = [operand.tensor for operand in operands] + list(more)
        array = np.asarray(array)
        return Value(self.graph.apply(op, tensors, array.shape, bits, attribute, output), array, bits)

    def output(self, value):
        """Make a value a result of the graph."""
        self.expected.append(value.array)
        self.apply(Op.IDENTITY, [value], value.array, value.bits, output=True)

    def prove(self, collector, what):
        """Run; the results must be those of numpy."""
        found = self.graph.run()
        for ours, theirs in zip(self.expected, found, strict=True):
            collector.prove(theirs, ours, what)
        return found

    def rescale(self, x, bits, multiplier=HALF, shift=UNCHANGED, zero_points=(0, 0)):
        tensor = self.graph.rescale(
            x.tensor, x.array.shape, bits, self.rounding, multiplier, shift, zero_points, False
        )
        left = 31 - np.asarray(shift, np.int64)
        total = self.requantise(x.array - zero_points[0], multiplier, left) + zero_points[1]
        return Value(tensor, replicas.saturate(total, bits), bits)

    def matmul(self, a, b, zero_points=(0, 0)):
        zeros = [self.graph.constant(zero, a.bits) for zero in zero_points]
        sums = (a.array - zero_points[0]) @ (b.array - zero_points[1])
        return self.apply(Op.MATMUL, [a, b], sums, 32, more=zeros)

    def add(self, a, b):
        return self.apply(Op.ADD, [a, b], a.array + b.array, 32)

    def sub(self, a, b):
        return self.apply(Op.SUB, [a, b], a.array - b.array, 32)

    def add_saturating(self, a, b):
        """16-bit sum: ADD has no 16-bit form."""
        return self.rescale(self.add(self.rescale(a, 32), self.rescale(b, 32)), 16)

    def mul(self, a, b, shift=0):
        """(a*b + 2^(shift-1)) >> shift in 32 bits; only 32-bit operands may be shifted."""
        total = (a.array * b.array + ((1 << shift) >> 1)) >> shift
        return self.apply(Op.MUL, [a, b], total, 32, more=[self.graph.constant(shift, 8)])

    def curve(self, x, table):
        """A 513-entry table with interpolation, rounded to 16 bits."""
        wide, index = np.asarray(table, np.int64), (x.array >> 7) + 256
        looked = (wide[index] << 7) + (wide[index + 1] - wide[index]) * (x.array & 127)
        found = self.apply(Op.TABLE, [x], looked, 32, more=[self.graph.constant(table, 16)])
        return self.rescale(found, 16, HALF, CURVE_SHIFT)

    def shift_right(self, x, by, rounds=True):
        array = (x.array + (((1 << by.array) >> 1) if rounds else 0)) >> by.array
        return self.apply(Op.ARITHMETIC_RIGHT_SHIFT, [x, by], array, 32, rounds)

    def shift_left(self, x, by):
        array = (x.array << by.array).astype(np.int32).astype(np.int64)
        return self.apply(Op.LOGICAL_LEFT_SHIFT, [x, by], array, 32)

    def leading_zeros(self, x):
        return self.apply(Op.CLZ, [x], 32 - np.frexp(x.array.astype(np.float64))[1].astype(np.int64), 32)

    def reduce(self, x, name):
        """max or sum along the last axis."""
        array, axis = getattr(np, name)(x.array, axis=-1, keepdims=True), x.array.ndim - 1
        op = {"max": Op.REDUCE_MAX, "sum": Op.REDUCE_SUM}[name]
        return self.apply(op, [x], array, 32, axis, *([PROPAGATE] if name == "max" else []))

    def greater_equal(self, a, b):
        return self.apply(Op.GREATER_EQUAL, [a, b], a.array >= b.array, 1)

    def equal(self, a, b):
        return self.apply(Op.EQUAL, [a, b], a.array == b.array, 1)

    def bit_and(self, a, b):
        return self.apply(Op.BITWISE_AND, [a, b], a.array & b.array, 32)

    def minimum(self, a, b):
        return self.apply(Op.MINIMUM, [a, b], np.minimum(a.array, b.array), 32, PROPAGATE)

    def maximum(self, a, b):
        return self.apply(Op.MAXIMUM, [a, b], np.maximum(a.array, b.array), 32, PROPAGATE)

    def select(self, condition, a, b):
        return self.apply(Op.SELECT, [condition, a, b], np.where(condition.array, a.array, b.array), a.bits)
