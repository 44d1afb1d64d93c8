"""The normative GRU step written in TOSA primitives, all frames unrolled; every rescale is `single`.

Gates in order r, z, n; Q3.12 before the curves, Q0.15 after; h is 8 bits wide.
"""

import math

import numpy as np
import replicas
from tosa_chain import Chain
from tosa_graph import HALF
from tosa_lstm import curve_tables, tosa_shift

FROM_Q30 = 45  # with the multiplier 2^30: times 2^-15


def gru_fields(random, case, bulk):
    """One random network; every fourth has weights that saturate its gates."""
    width, units, steps = (int(size) for size in random.integers(1, [17, 13, 7]))
    gain = 8.0 if case % 4 == 3 else 2.0
    h_scale = np.float32(2.0**-7 if case % 3 else random.uniform(0.004, 0.0078))
    zero_points = random.integers(-20, 21, 2)
    fields = {
        "x": random.integers(-128, 128, (2 * bulk, steps, width)).astype(np.int8),
        "h_scale": h_scale,
        "x_zero_point": np.int32(zero_points[0]),
        "h_zero_point": np.int32(zero_points[1]),
        "linear_before_reset": np.int32(case % 2),
    }
    for name, size in (("input", width), ("recurrent", units)):
        weights = random.integers(-127, 128, (3 * units, size))
        real = gain * 4096 * random.uniform(0.7, 1.4, 3 * units) / (5400 * np.sqrt(size))
        multiplier, shift = replicas.quantize_multipliers(real)
        fields[f"{name}_weights"] = weights.astype(np.int8)
        fields[f"{name}_bias"] = random.integers(-20000, 20001, 3 * units).astype(np.int32)
        fields[f"{name}_multiplier"], fields[f"{name}_shift"] = multiplier, tosa_shift(shift)
    return fields | state_fields(float(h_scale))


def state_fields(h_scale):
    """What reads h in Q0.15, a power of two and a multiplier, and what brings Q0.30 back to its codes."""
    ratio = h_scale * 2.0**15
    mantissa, exponent = math.frexp(ratio)
    left = max(0, exponent - (mantissa == 0.5))
    fields = {"state_factor": np.int32(2**left)}
    for name, real in (("state", ratio * 2.0**-left), ("hidden", 2.0**-30 / h_scale)):
        multiplier, shift = replicas.quantize_multiplier(real)
        fields[f"{name}_multiplier"], fields[f"{name}_shift"] = np.int32(multiplier), tosa_shift(shift)
    return fields


class Cell:
    """Adds the frames of one GRU to a chain."""

    def __init__(self, chain, fields, tables):
        self.chain, self.fields, self.tables = chain, fields, tables
        self.zero, self.units = int(fields["h_zero_point"]), len(fields["input_bias"]) // 3

    def product(self, name, gate, operand):
        """A weight's share of one gate in Q3.12."""
        chain, rows = self.chain, slice(gate * self.units, (gate + 1) * self.units)
        zero = int(self.fields["x_zero_point"]) if name == "input" else self.zero
        weights = chain.constant(self.fields[f"{name}_weights"][rows].T[None], 8)
        bias = chain.constant(self.fields[f"{name}_bias"][rows].reshape(1, 1, -1), 32)
        sums = chain.add(chain.matmul(operand, weights, (zero, 0)), bias)
        return chain.rescale(
            sums, 16, *(self.fields[f"{name}_{part}"][rows] for part in ("multiplier", "shift"))
        )

    def gate(self, k, x, h):
        total = self.chain.add_saturating(self.product("input", k, x), self.product("recurrent", k, h))
        return self.chain.curve(total, self.tables["sigmoid"])

    def proposed(self, r, x, h, centred):
        """n, with the reset after or before the recurrent product."""
        chain = self.chain
        if self.fields["linear_before_reset"]:
            carried = chain.rescale(chain.mul(r, self.product("recurrent", 2, h)), 16, HALF, FROM_Q30)
        else:
            kept = chain.rescale(chain.mul(r, centred), 8, HALF, FROM_Q30, (0, self.zero))
            carried = self.product("recurrent", 2, kept)
        return chain.curve(chain.add_saturating(self.product("input", 2, x), carried), self.tables["tanh"])

    def step(self, x, h):
        chain, fields = self.chain, self.fields
        r, z = (self.gate(k, x, h) for k in range(2))
        centred = chain.rescale(h, 16, zero_points=(self.zero, 0))
        n = self.proposed(r, x, h, centred)
        rest = chain.rescale(chain.sub(chain.constant(2**15, 32, 3), chain.rescale(z, 32)), 16)
        lifted = chain.mul(centred, chain.constant(fields["state_factor"], 16, 3))
        before = chain.rescale(lifted, 16, fields["state_multiplier"], fields["state_shift"])
        total = chain.add(chain.mul(rest, n), chain.mul(z, before))
        h = chain.rescale(total, 8, fields["hidden_multiplier"], fields["hidden_shift"], (0, self.zero))
        chain.output(h)
        return h


def gru_int8(random, collector):
    tables = curve_tables()
    for case in range(72):
        fields, chain = gru_fields(random, case, collector.bulk), Chain()
        cell = Cell(chain, fields, tables)
        h = chain.input(np.full((1, len(fields["x"]), cell.units), cell.zero), 8)
        for step in range(fields["x"].shape[1]):
            h = cell.step(chain.input(fields["x"][None, :, step], 8), h)
        y = np.concatenate(chain.prove(collector, f"gru, case {case}")).swapaxes(0, 1)
        collector.add(**fields, y=y)
    for name, table in tables.items():
        collector.constants[f"{name}_table"] = table


OPERATORS = {"gru_int8": ("single", gru_int8)}
