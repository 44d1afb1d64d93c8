"""Reductions of the TOSA reference model: sums of 32-bit values, extremes of every width."""

import numpy as np
from tosa.Op import Op
from tosa_graph import NUMPY_TYPES, Attribute, Graph

PROPAGATE = 1  # what becomes of a NaN; integers have none


def operand(random, bits, bulk):
    """Values of which no sum along an axis leaves 32 bits, the ends of narrow types among them."""
    shape = random.integers(1, 7, 4) * [bulk, 1, 1, 1]
    limit = (1 << (min(bits, 29) - 1)) // (bulk if bits == 32 else 1)
    values = random.integers(-limit, limit, shape)
    ends = random.choice([-limit, limit - 1], shape)
    return np.where(random.random(shape) < 0.2, ends, values).astype(NUMPY_TYPES[bits])


def reduced(graph, x, bits, axis, op, attribute):
    shape = [1 if a == axis else size for a, size in enumerate(x.shape)]
    return graph.apply(op, [graph.input(x, bits)], shape, bits, attribute)


def reduce(random, collector, bits, name):
    """One axis after the other of random tensors, kept as 1."""
    for _ in range(24):
        x = operand(random, bits, collector.bulk)
        for axis in range(x.ndim):
            graph, attribute = Graph(), Attribute()
            if name == "sum":
                attribute.ReduceSumAttribute(axis)
            else:
                getattr(attribute, f"Reduce{name.capitalize()}Attribute")(axis, PROPAGATE)
            reduced(graph, x, bits, axis, getattr(Op, f"REDUCE_{name.upper()}"), attribute)
            (y,) = graph.run()
            expected = getattr(np, name)(x.astype(np.int64), axis=axis, keepdims=True)
            collector.prove(y, expected, f"reduce_{name}")
            collector.add(axis=np.int32(axis), x=x, y=y)


def operator(bits, name):
    return "exact", lambda random, collector: reduce(random, collector, bits, name)


OPERATORS = {
    "reduce_sum_int32": operator(32, "sum"),
    **{f"reduce_{name}_int{bits}": operator(bits, name) for name in ("max", "min") for bits in (8, 16)},
}
