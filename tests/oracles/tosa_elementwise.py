"""Tables, products, shifts and 16-bit sums of the TOSA reference model, and vectors of them."""

import numpy as np
import replicas
from tosa.Op import Op
from tosa_graph import BOTH, HALF, ROUNDINGS, SINGLE_ROUND, Attribute, Graph, random_multipliers


def table_int8(random, collector):
    """All 256 codes through a random and a sigmoid-shaped table."""
    codes = np.arange(-128, 128).astype(np.int8)
    sigmoid = np.rint(255 / (1 + np.exp(-codes / 16.0)) - 128)
    tables = [random.integers(-128, 128, 256) for _ in range(8 * collector.bulk - 1)] + [sigmoid]
    for table in tables:
        graph, attribute = Graph(), Attribute()
        attribute.TableAttribute()
        operands = [graph.input(codes, 8), graph.constant(table, 8)]
        graph.apply(Op.TABLE, operands, codes.shape, 8, attribute)
        (y,) = graph.run()
        collector.prove(y, table[codes.astype(np.int64) + 128], "table int8")
        collector.add(x=codes, table=table.astype(np.int8), y=y)


def interpolated_tables(random, count):
    """513-entry tables: sigmoid and tanh at Q3.12, tanh at Q2.13, and random ones."""
    grid = np.arange(-256, 257) * 128.0
    curves = [1 / (1 + np.exp(-grid / 4096)), np.tanh(grid / 4096), np.tanh(grid / 8192)]
    tables = [np.clip(np.rint(curve * 32768), -32768, 32767) for curve in curves]
    return [table.astype(np.int64) for table in tables] + [
        random.integers(-16384, 16384, 513) for _ in range(count)
    ]


def look_up_int16(x, table):
    """TABLE to 32 bits (16.7), then RESCALE back to 16."""
    graph, attribute = Graph(), Attribute()
    attribute.TableAttribute()
    operands = [graph.input(x, 16), graph.constant(table, 16)]
    wide = graph.apply(Op.TABLE, operands, x.shape, 32, attribute)
    graph.rescale(wide, x.shape, 16, SINGLE_ROUND, HALF, 37)
    return graph.run()


def table_int16(random, collector):
    """Every input is compared; stored are those of `arange(-32768, 32768, x_step)`."""
    x = np.arange(-32768, 32768)
    index = (x >> 7) + 256
    for case, table in enumerate(interpolated_tables(random, 4 * collector.bulk - 3)):
        wide, y = look_up_int16(x, table)
        expected = (table[index] << 7) + (table[index + 1] - table[index]) * (x & 127)
        collector.prove(wide, expected, "table int16")
        rounded = replicas.saturate(replicas.requantise_single(expected, HALF, 31 - 37), 16)
        collector.prove(y, rounded, "table int16 rescaled")
        # The outputs of the random table do not compress, so only some are kept.
        step = 7 if case == 3 and collector.bulk == 1 else 1
        collector.add(table=table.astype(np.int16), x_step=np.int32(step), y=y[::step])


def mul_operands(random, bits, shift, count):
    """Operands whose shifted product fits 32 bits, with small odd ones that make ties."""
    limit = 1 << (bits - 1)
    a = random.integers(-limit, limit, count)
    b = random.integers(-limit, limit, count)
    if bits == 32:
        a[: count // 2] = random.integers(-(1 << 15), 1 << 15, count // 2)
        b[: count // 2] = (1 << shift) >> 1
        room = (1 << min(30 + shift, 62)) // np.maximum(np.abs(a), 1)
        b = np.clip(b, -np.minimum(room, limit), np.minimum(room, limit - 1))
    return a, b


def mul_int32(random, collector):
    """int8 and int16 products are exact; 32-bit ones are shifted right, half up."""
    cases = [(8, 0), (16, 0)] + [(32, shift) for shift in range(32)]
    for bits, shift in cases:
        # Only exact products have a peer in nnaq, so only they are made in bulk.
        a, b = mul_operands(random, bits, shift, 192 * (1 if shift else collector.bulk))
        graph, attribute = Graph(), Attribute()
        attribute.MulAttribute()
        operands = [graph.input(a, bits), graph.input(b, bits), graph.constant(shift, 8)]
        graph.apply(Op.MUL, operands, a.shape, 32, attribute)
        (y,) = graph.run()
        expected = (a * b + ((1 << shift) >> 1)) >> shift
        collector.note_ties(a * b, shift)
        collector.prove(y, expected, f"mul shift {shift}")
        collector.add(
            bits=np.int8(bits),
            shift=np.int8(shift),
            a=a.astype(np.int32),
            b=b.astype(np.int32),
            y=y,
        )


def right_shift_input(random, bits, shift, bulk):
    """Uniform values of the useful range, exact ties of both signs, and the ends."""
    limit = 1 << (bits - 1)
    reach = min(limit, 64 << shift)
    odd = random.integers(-32, 32, 24 * bulk) * 2 + 1
    ties = np.clip(odd * ((1 << shift) >> 1), -limit, limit - 1)
    return np.concatenate([ties, [-limit, limit - 1, -1, 0, 1], random.integers(-reach, reach, 67 * bulk)])


def shift_right(x, bits, shift, rounding):
    graph, attribute = Graph(), Attribute()
    attribute.ArithmeticRightShiftAttribute(rounding)
    operands = [graph.input(x, bits), graph.constant(shift, bits)]
    graph.apply(Op.ARITHMETIC_RIGHT_SHIFT, operands, x.shape, bits, attribute)
    return graph.run()[0]


def arithmetic_right_shift(random, collector):
    """Every legal shift of every width, with and without rounding (shift 0 rounds nothing)."""
    for bits in (8, 16, 32):
        for shift in range(bits):
            x = right_shift_input(random, bits, shift, collector.bulk)
            collector.note_ties(x, shift)
            rounded = shift_right(x, bits, shift, True)
            floored = shift_right(x, bits, shift, False)
            collector.prove(rounded, (x + ((1 << shift) >> 1)) >> shift, "rounded shift")
            collector.prove(floored, x >> shift, "floored shift")
            collector.add(
                bits=np.int8(bits),
                shift=np.int8(shift),
                x=x.astype(np.int32),
                y_rounded=rounded.astype(np.int32),
                y_floored=floored.astype(np.int32),
            )


def add_rescaled(a, b, multiplier, shift, rounding):
    """RESCALE each operand to the common 32-bit scale, ADD, RESCALE the sum to int16."""
    graph, attribute = Graph(), Attribute()
    attribute.AddAttribute()
    steps = zip((a, b), multiplier, shift, strict=False)
    scaled = [
        graph.rescale(graph.input(x, 16), x.shape, 32, rounding, factor, step, output=False)
        for x, factor, step in steps
    ]
    total = graph.apply(Op.ADD, scaled, a.shape, 32, attribute, output=False)
    graph.rescale(total, a.shape, 16, rounding, multiplier[2], shift[2])
    return graph.run()[0]


def add_int16(random, collector):
    """Headroom moves from the operands' rescales into the sum's; 0 leaves a plain saturation."""
    formulas = (replicas.requantise_single, replicas.requantise_double)
    for case in range(64):
        multiplier = random_multipliers(random, 3, power_of_two=case % 2 == 0)
        headroom = int(random.integers(0, 12))
        shift = np.array([31 - headroom, 31 - headroom, 31 + headroom]) + random.integers(0, 3, 3)
        a, b = random.integers(-32768, 32768, (2, 192 * collector.bulk))
        a[:4], b[:4] = [-32768, 32767, -32768, 32767], [-32768, 32767, 32767, 1]
        results = []
        for rounding, formula in zip(ROUNDINGS, formulas, strict=True):
            results.append(add_rescaled(a, b, multiplier, shift, rounding))
            scaled = [formula(x, multiplier[i], 31 - shift[i]) for i, x in enumerate((a, b))]
            collector.note_ties(sum(scaled) * multiplier[2], shift[2])
            total = formula(sum(scaled), multiplier[2], 31 - shift[2])
            collector.prove(results[-1], replicas.saturate(total, 16), f"add {formula.__name__}")
        collector.add(
            a=a.astype(np.int16),
            b=b.astype(np.int16),
            multiplier=multiplier,
            shift=shift.astype(np.int8),
            y_single=results[0],
            y_double=results[1],
        )


OPERATORS = {
    "table_int8": ("exact", table_int8),
    "table_int16": ("single", table_int16),
    "mul_int32": ("pot_shift", mul_int32),
    "arithmetic_right_shift": ("pot_shift", arithmetic_right_shift),
    "add_int16": (BOTH, add_int16),
}
