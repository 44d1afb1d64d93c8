"""The normative LSTM cell written in TOSA primitives only, all steps unrolled into one graph.

Gates in order i, f, g, o; Q3.12 before the curves, Q0.15 after; the cell state is 16 bits of
2^-n. Every rescale rounds once (`single`), and saturates because its output is narrow.
"""

import numpy as np
import replicas
from replicas import requantise_single, saturate
from tosa.Op import Op
from tosa_graph import HALF, SINGLE_ROUND, Attribute, Graph

UNCHANGED = 30  # with the multiplier 2^30: times one
GATE_FRACTION_BITS = 12


def curve_tables():
    """513-entry sigmoid and tanh, Q3.12 in, Q0.15 out, rounded from float64."""
    grid = np.arange(-256, 257) * 128 / 4096.0
    curves = {"sigmoid": 1 / (1 + np.exp(-grid)), "tanh": np.tanh(grid)}
    return {
        name: np.clip(np.rint(curve * 32768), -32768, 32767).astype(np.int16)
        for name, curve in curves.items()
    }


def lstm_fields(random, case, bulk):
    """One random network; n sweeps 9..15 and every fourth has weights that saturate the cell."""
    width, units, steps = (int(size) for size in random.integers(1, [17, 13, 9]))
    fraction_bits, gain = 9 + case % 7, 8.0 if case % 4 == 3 else 2.0
    h_scale = np.float32(2.0**-7 if case % 2 else random.uniform(0.004, 0.0078))
    fields = {
        "x": random.integers(-128, 128, (2 * bulk, steps, width)).astype(np.int8),
        "bias": random.integers(-20000, 20001, (4, units)).astype(np.int32),
        "h_scale": h_scale,
        "x_zero_point": np.int32(random.integers(-20, 21)),
        "h_zero_point": np.int32(random.integers(-20, 21)),
        "cell_fraction_bits": np.int32(fraction_bits),
    }
    for name, size in (("input", width), ("recurrent", units)):
        weights = random.integers(-127, 128, (4, units, size))
        real = gain * 4096 * random.uniform(0.7, 1.4, (4, units)) / (5400 * np.sqrt(size))
        multiplier, shift = replicas.quantize_multipliers(real)
        fields[f"{name}_weights"] = weights.astype(np.int8)
        fields[f"{name}_multiplier"], fields[f"{name}_shift"] = multiplier, tosa_shift(shift)
    multiplier, shift = replicas.quantize_multiplier(2.0**-30 / float(h_scale))
    hidden = {"hidden_multiplier": np.int32(multiplier), "hidden_shift": tosa_shift(shift)}
    return fields | hidden


def tosa_shift(left_shift):
    return (31 - np.asarray(left_shift)).astype(np.int8)


class Cell:
    """Adds the steps of one LSTM to a graph; a tensor is a (serializer tensor, bits) pair."""

    def __init__(self, graph, fields, tables):
        self.graph, self.fields, self.tables = graph, fields, tables
        self.batch, self.units = fields["x"].shape[0], fields["bias"].shape[1]
        self.shape = (1, self.batch, self.units)

    def rescale(self, x, bits, multiplier, shift, zero_point=0, output=False):
        zero_points = (0, zero_point)
        arguments = (self.shape, bits, SINGLE_ROUND, multiplier, shift, zero_points, output)
        return self.graph.rescale(x, *arguments)

    def binary(self, op, name, a, b, *more):
        attribute = Attribute()
        getattr(attribute, name)()
        return self.graph.apply(op, [a, b, *more], self.shape, 32, attribute, output=False)

    def multiply(self, a, b):
        return self.binary(Op.MUL, "MulAttribute", a, b, self.graph.constant(0, 8))

    def add_saturating(self, a, b, output=False):
        """16-bit sum: ADD has no 16-bit form, so both are widened by a rescale of one."""
        wide = [self.rescale(x, 32, HALF, UNCHANGED) for x in (a, b)]
        total = self.binary(Op.ADD, "AddAttribute", *wide)
        return self.rescale(total, 16, HALF, UNCHANGED, output=output)

    def curve(self, x, name):
        attribute = Attribute()
        attribute.TableAttribute()
        operands = [x, self.graph.constant(self.tables[name], 16)]
        wide = self.graph.apply(Op.TABLE, operands, self.shape, 32, attribute, output=False)
        return self.rescale(wide, 16, HALF, 37)

    def product(self, name, gate, operand):
        """RESCALE(operand x weights, plus the bias on the input side) in Q3.12."""
        fields, graph, attribute = self.fields, self.graph, Attribute()
        attribute.MatMulAttribute()
        weights = fields[f"{name}_weights"][gate].T[None]
        zero_point = fields["x_zero_point" if name == "input" else "h_zero_point"]
        operands = [operand, graph.constant(weights, 8)]
        operands += [graph.constant(zero_point, 8), graph.constant(0, 8)]
        sums = graph.apply(Op.MATMUL, operands, self.shape, 32, attribute, output=False)
        if name == "input":
            bias = graph.constant(fields["bias"][gate].reshape(1, 1, -1), 32)
            sums = self.binary(Op.ADD, "AddAttribute", sums, bias)
        parameters = (fields[f"{name}_{part}"][gate] for part in ("multiplier", "shift"))
        return self.rescale(sums, 16, *parameters)

    def step(self, x, h, cell):
        """One step; its 16-bit cell state and 8-bit output become outputs of the graph."""
        i, f, g, o = (
            self.curve(
                self.add_saturating(self.product("input", k, x), self.product("recurrent", k, h)),
                "tanh" if k == 2 else "sigmoid",
            )
            for k in range(4)
        )
        fraction_bits = int(self.fields["cell_fraction_bits"])
        kept = self.rescale(self.multiply(f, cell), 16, HALF, 45)
        new = self.rescale(self.multiply(i, g), 16, HALF, 60 - fraction_bits)
        cell = self.add_saturating(kept, new, output=True)
        scaled = self.rescale(cell, 16, HALF, 30 - GATE_FRACTION_BITS + fraction_bits)
        hidden = self.multiply(self.curve(scaled, "tanh"), o)
        names = ("hidden_multiplier", "hidden_shift", "h_zero_point")
        h = self.rescale(hidden, 8, *(self.fields[name] for name in names), output=True)
        return h, cell


def run_lstm(fields, tables):
    """Outputs and cell states of the sequence, batch x time x units."""
    graph = Graph()
    cell = Cell(graph, fields, tables)
    h = graph.input(np.full(cell.shape, fields["h_zero_point"]), 8)
    state = graph.input(np.zeros(cell.shape), 16)
    for step in range(fields["x"].shape[1]):
        h, state = cell.step(graph.input(fields["x"][None, :, step], 8), h, state)
    outputs = graph.run()
    return tuple(np.concatenate(outputs[first::2]).swapaxes(0, 1) for first in (1, 0))


def interpolate(table, x):
    table, index = table.astype(np.int64), (x >> 7) + 256
    return ((table[index] << 7) + (table[index + 1] - table[index]) * (x & 127) + 64) >> 7


def replica(fields, tables):
    """The same cell in plain numpy."""
    x = fields["x"].astype(np.int64) - fields["x_zero_point"]
    h, cell = np.zeros((2, x.shape[0], fields["bias"].shape[1]), np.int64)
    fraction_bits, outputs, states = int(fields["cell_fraction_bits"]), [], []
    for step in range(x.shape[1]):
        gates = [replica_gate(fields, gate, x[:, step], h) for gate in range(4)]
        i, f, o = (interpolate(tables["sigmoid"], gates[gate]) for gate in (0, 1, 3))
        new = requantise_single(i * interpolate(tables["tanh"], gates[2]), HALF, fraction_bits - 29)
        kept = requantise_single(f * cell, HALF, -14)
        cell = saturate(saturate(kept, 16) + saturate(new, 16), 16)
        scaled = saturate(requantise_single(cell, HALF, 13 - fraction_bits), 16)
        hidden = interpolate(tables["tanh"], scaled) * o
        shift = 31 - int(fields["hidden_shift"])
        hidden = requantise_single(hidden, fields["hidden_multiplier"], shift)
        outputs.append(saturate(hidden + fields["h_zero_point"], 8))
        states.append(cell)
        h = outputs[-1] - fields["h_zero_point"]
    return np.stack(outputs, axis=1), np.stack(states, axis=1)


def replica_gate(fields, gate, x, h):
    total = 0
    for name, operand, bias in (("input", x, fields["bias"][gate]), ("recurrent", h, 0)):
        sums = operand @ fields[f"{name}_weights"][gate].astype(np.int64).T + bias
        shift = 31 - fields[f"{name}_shift"][gate].astype(np.int64)
        part = requantise_single(sums, fields[f"{name}_multiplier"][gate], shift)
        total = total + saturate(part, 16)
    return saturate(total, 16)


def lstm_int8(random, collector):
    tables = curve_tables()
    for case in range(84):
        fields = lstm_fields(random, case, collector.bulk)
        y, cell = run_lstm(fields, tables)
        expected_y, expected_cell = replica(fields, tables)
        collector.prove(cell, expected_cell, f"cell state, case {case}")
        collector.prove(y, expected_y, f"lstm, case {case}")
        collector.add(**fields, y=y, cell=cell)
    for name, table in tables.items():
        collector.constants[f"{name}_table"] = table


OPERATORS = {"lstm_int8": ("single", lstm_int8)}
