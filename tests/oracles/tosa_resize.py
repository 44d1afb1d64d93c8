"""Nearest and bilinear RESIZE of the TOSA reference model, at half-pixel centres."""

import numpy as np
from tosa.Op import Op
from tosa_graph import Attribute, DType, Graph

NEAREST, BILINEAR = 1, 2
FACTORS = ((2, 1), (1, 2), (3, 2), (2, 3), (4, 1), (3, 4), (5, 3), (1, 1))


def places(size, factor):
    """Where the entries of a result stand, in 1 / 2m entries of an axis of `size`; how many there are."""
    m, k = factor
    count = size * m // k
    return (2 * np.arange(count) + 1) * k - m


def neighbours(size, factor):
    """The two entries around every place, and the weight of the second in 1 / 2m."""
    at, unit = places(size, factor), 2 * factor[0]
    first = np.floor_divide(at, unit)
    return np.clip(first, 0, size - 1), np.clip(first + 1, 0, size - 1), at - first * unit


def along(x, axis, factor, mode):
    """The replica along one axis: one of two neighbours, or both weighted."""
    first, second, weight = neighbours(x.shape[axis], factor)
    weight = weight.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    near, far, unit = x.take(first, axis), x.take(second, axis), 2 * factor[0]
    if mode == NEAREST:
        return np.where(2 * weight >= unit, far, near)
    return (unit - weight) * near + weight * far


def add_resize(graph, x, bits, factors, mode, shape):
    """RESIZE with its scale, offset and border as shape constants."""
    scale, offset, border = [], [], []
    for size, (m, k), count in zip(x.shape[1:3], factors, shape[1:3], strict=True):
        scale += [2 * m, 2 * k]
        offset.append(k - m)
        border.append((count - 1) * 2 * k - (size - 1) * 2 * m + k - m)
    attribute = Attribute()
    attribute.ResizeAttribute(mode)
    operands = [graph.input(x, bits)]
    for values in (scale, offset, border):
        constant = graph.serializer.addConst([len(values)], DType.SHAPE, np.array(values, np.int64))
        operands.append((constant, 64))
    return graph.apply(Op.RESIZE, operands, shape, bits if mode == NEAREST else 32, attribute)


def resize(random, collector, mode):
    """Random images; nothing is rounded: bilinear results are whole sums."""
    for case in range(40):
        factors = [FACTORS[i] for i in random.integers(0, len(FACTORS), 2)]
        shape = (collector.bulk, *random.integers(2, 7, 2), int(random.integers(1, 4)))
        x = random.integers(-128, 128, shape).astype(np.int8)
        expected = x.astype(np.int64)
        for axis, factor in enumerate(factors, 1):
            expected = along(expected, axis, factor, mode)
        graph = Graph()
        add_resize(graph, x, 8, factors, mode, expected.shape)
        (y,) = graph.run()
        collector.prove(y, expected, f"resize, case {case}, factors {factors}")
        collector.add(factors=np.array(factors, np.int32), x=x, y=y)


OPERATORS = {
    "resize_nearest_int8": ("exact", lambda random, collector: resize(random, collector, NEAREST)),
    "resize_bilinear_int8": ("exact", lambda random, collector: resize(random, collector, BILINEAR)),
}
