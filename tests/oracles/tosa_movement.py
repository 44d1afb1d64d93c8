"""Operators of the TOSA reference model that move codes, and its pooling."""

import numpy as np
import replicas
from tosa.Op import Op
from tosa_chain import PROPAGATE, Chain
from tosa_graph import DType


def codes(random, shape):
    return random.integers(-128, 128, shape).astype(np.int8)


def some_shape(random, bulk):
    """Three axes; the last is the long one."""
    return (*map(int, random.integers(1, 6, 2)), int(random.integers(1, 9)) * bulk)


def sizes(chain, values):
    """A shape constant."""
    values = np.asarray(values, np.int64)
    return chain.graph.serializer.addConst([len(values)], DType.SHAPE, values), 64


def run(collector, op, inputs, array, attributes=(), more=None, **fields):
    """One operator on int8 inputs, which may be of other widths under their own names."""
    chain = Chain()
    operands = [chain.input(values, 32 if values.dtype == np.int32 else 8) for values in inputs.values()]
    constants = more(chain) if more else ()
    result = chain.apply(op, operands, array, 8, *attributes, more=constants)
    chain.output(result)
    (y,) = chain.prove(collector, op)
    collector.add(**inputs, **{name: np.asarray(v, np.int32) for name, v in fields.items()}, y=y)


def pad(random, collector):
    for _ in range(40):
        x, pads = codes(random, some_shape(random, collector.bulk)), random.integers(0, 4, (3, 2))
        zero = int(random.integers(-128, 128))
        y = np.pad(x, pads, constant_values=zero)

        def constants(chain, pads=pads, zero=zero):
            return [sizes(chain, pads.ravel()), chain.graph.constant(zero, 8)]

        run(collector, Op.PAD, {"x": x}, y, more=constants, pads=pads, zero_point=zero)


def concat(random, collector):
    for _ in range(40):
        shape, axis = some_shape(random, collector.bulk), int(random.integers(0, 3))
        other = tuple(int(random.integers(1, 5)) if k == axis else n for k, n in enumerate(shape))
        a, b = codes(random, shape), codes(random, other)
        run(collector, Op.CONCAT, {"a": a, "b": b}, np.concatenate([a, b], axis), (axis,), axis=axis)


def cut(random, collector):
    for _ in range(40):
        x = codes(random, some_shape(random, collector.bulk))
        starts = random.integers(0, 1 + np.array(x.shape) // 4)
        counts = random.integers(np.array(x.shape) // 2, x.shape - starts, endpoint=True)
        counts = np.maximum(counts, 1)
        y = x[tuple(slice(s, s + n) for s, n in zip(starts, counts, strict=True))]

        def constants(chain, starts=starts, counts=counts):
            return [sizes(chain, starts), sizes(chain, counts)]

        run(collector, Op.SLICE, {"x": x}, y, more=constants, starts=starts, ends=starts + counts)


def gather(random, collector):
    """Rows [K,C] by index."""
    for _ in range(40):
        rows, width = int(random.integers(1, 17)), int(random.integers(1, 9))
        x = codes(random, (1, rows, width))
        indices = random.integers(0, rows, (1, 12 * collector.bulk)).astype(np.int32)
        run(collector, Op.GATHER, {"x": x, "indices": indices}, x[:, indices[0]])


def reverse(random, collector):
    for case in range(42):
        x = codes(random, some_shape(random, collector.bulk))
        run(collector, Op.REVERSE, {"x": x}, np.flip(x, case % 3), (case % 3,), axis=case % 3)


def tile(random, collector):
    for _ in range(30):
        x, repeats = codes(random, some_shape(random, collector.bulk)), random.integers(1, 4, 3)

        def constants(chain, repeats=repeats):
            return [sizes(chain, repeats)]

        run(collector, Op.TILE, {"x": x}, np.tile(x, repeats), more=constants, repeats=repeats)


def transpose(random, collector):
    for _ in range(40):
        x, perm = codes(random, some_shape(random, collector.bulk)), random.permutation(3)
        run(collector, Op.TRANSPOSE, {"x": x}, x.transpose(perm), (perm.tolist(),), perm=perm)


def window(random, bulk):
    """An NHWC image, kernel, stride and padding that leave no pixel."""
    kernel, stride = random.integers(1, [[4, 4], [4, 4]])
    edges = np.array([random.integers(0, k) for k in np.repeat(kernel, 2)])
    steps = random.integers(1, 5, 2)
    size = steps * stride + kernel - edges.reshape(2, 2).sum(axis=1)
    if (size < 1).any():
        edges, size = np.zeros(4, np.int64), steps * stride + kernel
    return codes(random, (bulk, *size, int(random.integers(1, 5)))), kernel, stride, edges


def taps(x, edges, kernel, stride, fill):
    """The codes under every window, with what padding holds."""
    inside = replicas.pad_image(np.ones(x.shape, np.int64), edges)
    padded = np.where(inside == 1, replicas.pad_image(x.astype(np.int64), edges), fill)
    stacks = ([t for _, _, t in replicas.windows(a, kernel, stride, (1, 1))] for a in (padded, inside))
    return tuple(np.stack(stack) for stack in stacks)


def max_pool2d(random, collector):
    for _ in range(60):
        x, kernel, stride, edges = window(random, collector.bulk)
        y = taps(x, edges, kernel, stride, -128)[0].max(axis=0)
        attributes = (kernel.tolist(), stride.tolist(), edges.tolist(), PROPAGATE)
        fields = {"kernel": kernel, "stride": stride, "pad": edges}
        run(collector, Op.MAX_POOL2D, {"x": x}, y, attributes, **fields)


def avg_pool2d(random, collector):
    """The runtime's reciprocal of the count is a little too large: ties go away from zero."""
    for _ in range(60):
        x, kernel, stride, edges = window(random, collector.bulk)
        values, inside = taps(x, edges, kernel, stride, 0)
        total, count = values.sum(axis=0), inside.sum(axis=0)
        collector.count_ties(2 * (total % count) == count, total)
        attributes = (kernel.tolist(), stride.tolist(), edges.tolist(), DType.INT32)
        fields = {"kernel": kernel, "stride": stride, "pad": edges}

        def zeros(chain):
            return [chain.graph.constant(0, 8)] * 2

        y = np.sign(total) * ((2 * abs(total) + count) // (2 * count))
        run(collector, Op.AVG_POOL2D, {"x": x}, y, attributes, zeros, **fields)


OPERATORS = {
    "pad_int8": ("exact", pad),
    "concat_int8": ("exact", concat),
    "slice_int8": ("exact", cut),
    "gather_int8": ("exact", gather),
    "reverse_int8": ("exact", reverse),
    "tile_int8": ("exact", tile),
    "transpose_int8": ("exact", transpose),
    "max_pool2d_int8": ("exact", max_pool2d),
    "avg_pool2d_int8": ("half_away", avg_pool2d),
}
