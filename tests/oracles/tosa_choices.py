"""Absolute values, extremes, comparisons, logic and choices of the TOSA reference model."""

import numpy as np
from tosa.Op import Op
from tosa_graph import NUMPY_TYPES, Attribute, Graph

PROPAGATE = 1  # what floats would do with NaN
ENDS = {bits: (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) for bits in (8, 16, 32)}


def some_codes(random, bits, count):
    """Uniform values, values so small that pairs of them meet, and the ends."""
    low, high = ENDS[bits]
    small = random.integers(-3, 4, count // 2)
    uniform = random.integers(low, high, count - count // 2 - 7, endpoint=True)
    return np.concatenate([small, uniform, [low, low + 1, -1, 0, 1, high - 1, high]])


def result_of(op, attribute, operands, bits):
    """One operator on (values, bits) operands that broadcast."""
    graph = Graph()
    shape = np.broadcast_shapes(*(values.shape for values, _ in operands))
    graph.apply(op, [graph.input(*operand) for operand in operands], shape, bits, attribute)
    return graph.run()[0]


def named(word):
    """An attribute without fields."""
    attribute = Attribute()
    getattr(attribute, f"{word}Attribute")()
    return attribute


def abs_int32(random, collector):
    """|-2^31| is beyond what TOSA defines and left out."""
    x = np.maximum(some_codes(random, 32, 400 * collector.bulk), ENDS[32][0] + 1)
    y = result_of(Op.ABS, named("Abs"), [(x, 32)], 32)
    collector.prove(y, np.abs(x), "abs")
    collector.add(x=x.astype(np.int32), y=y)


def pairs(random, count, bulk):
    """A column against a row: every value meets every other."""
    a, b = some_codes(random, 32, count * bulk), some_codes(random, 32, count)
    return a.reshape(-1, 1), b.reshape(1, -1)


def extreme(op, word, function):
    def make(random, collector):
        for count in (16, 48):
            a, b = pairs(random, count, collector.bulk)
            attribute = Attribute()
            getattr(attribute, f"{word}Attribute")(PROPAGATE)
            y = result_of(op, attribute, [(a, 32), (b, 32)], 32)
            collector.prove(y, function(a, b), word)
            collector.add(a=a.astype(np.int32), b=b.astype(np.int32), y=y)

    return make


def clamp(random, collector):
    """Limits between codes of 8 and 16 bits, the whole range and a single code among them."""
    for bits in (8, 16):
        x = some_codes(random, bits, 300 * collector.bulk)
        for limits in (ENDS[bits], (0, 0), (-3, 5), *random.integers(*ENDS[bits], (5, 2))):
            low, high = sorted(int(v) for v in limits)
            graph, attribute = Graph(), Attribute()
            sides = (np.array(v, NUMPY_TYPES[bits]).tobytes() for v in (low, high))
            attribute.ClampAttribute(graph.serializer.builder, *sides, PROPAGATE)
            graph.apply(Op.CLAMP, [graph.input(x, bits)], x.shape, bits, attribute)
            (y,) = graph.run()
            collector.prove(y, np.clip(x, low, high), "clamp")
            fields = {"x": x, "y": y, "low": low, "high": high, "bits": bits}
            collector.add(**{name: np.asarray(value, np.int32) for name, value in fields.items()})


def comparison(op, word, function):
    def make(random, collector):
        for count in (16, 48):
            a, b = pairs(random, count, collector.bulk)
            y = result_of(op, named(word), [(a, 32), (b, 32)], 1)
            collector.prove(y, function(a, b), word)
            collector.add(a=a.astype(np.int32), b=b.astype(np.int32), y=y)

    return make


def logic(op, word, function):
    def make(random, collector):
        for columns in (1, 33):
            a, b = random.random((17 * collector.bulk, 1)) < 0.5, random.random((1, columns)) < 0.5
            y = result_of(op, named(word), [(a, 1), (b, 1)], 1)
            collector.prove(y, function(a, b), word)
            collector.add(a=a, b=b, y=y)

    return make


def logical_not(random, collector):
    x = random.random(40 * collector.bulk) < 0.5
    y = result_of(Op.LOGICAL_NOT, named("LogicalNot"), [(x, 1)], 1)
    collector.prove(y, ~x, "not")
    collector.add(x=x, y=y)


def select(random, collector):
    """The condition, and either branch, broadcast."""
    for bits in (8, 16, 32):
        rows = 20 * collector.bulk
        for shape in ((rows, 1), (1, 30), (rows, 30)):
            condition = random.random(shape) < 0.5
            a, b = some_codes(random, bits, rows).reshape(-1, 1), some_codes(random, bits, 30).reshape(1, -1)
            y = result_of(Op.SELECT, named("Select"), [(condition, 1), (a, bits), (b, bits)], bits)
            collector.prove(y, np.where(condition, a, b), "select")
            fields = {"a": a, "b": b, "y": y, "bits": bits}
            codes = {name: np.asarray(value, np.int32) for name, value in fields.items()}
            collector.add(condition=condition, **codes)


OPERATORS = {
    "abs_int32": ("exact", abs_int32),
    "maximum_int32": ("exact", extreme(Op.MAXIMUM, "Maximum", np.maximum)),
    "minimum_int32": ("exact", extreme(Op.MINIMUM, "Minimum", np.minimum)),
    "clamp": ("exact", clamp),
    "equal_int32": ("exact", comparison(Op.EQUAL, "Equal", np.equal)),
    "greater_int32": ("exact", comparison(Op.GREATER, "Greater", np.greater)),
    "greater_equal_int32": ("exact", comparison(Op.GREATER_EQUAL, "GreaterEqual", np.greater_equal)),
    "logical_and": ("exact", logic(Op.LOGICAL_AND, "LogicalAnd", np.logical_and)),
    "logical_or": ("exact", logic(Op.LOGICAL_OR, "LogicalOr", np.logical_or)),
    "logical_xor": ("exact", logic(Op.LOGICAL_XOR, "LogicalXor", np.logical_xor)),
    "logical_not": ("exact", logical_not),
    "select": ("exact", select),
}
