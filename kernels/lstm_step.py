"""The normative graph of an LSTM: one frame as integer primitives, which the fused kernel must equal."""

from typing import cast

import numpy as np

from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.numerics import Numerics, Rounding
from nnaq.ir.op import Constant, Signature
from nnaq.ir.op import lookup as operator
from nnaq.ir.types import Quant, TensorType, storage
from nnaq.kernels.accumulate import accumulator
from nnaq.kernels.fixedpoint import quantize_multiplier
from nnaq.kernels.lstm_numbers import (
    C0,
    CONSTANTS,
    CURVE_SCALE,
    GATE_FRACTION,
    GATE_SCALE,
    H0,
    Pair,
    X,
    cell_fraction,
    power_multipliers,
    product_rounding,
)


def primitives(signature: Signature) -> Graph:
    """One frame as a graph of integer primitives, whatever the stretch of time of `signature`.

    Inputs `x` [B,I], `h` [B,H], `c` [B,H], then the constant operands under their own names
    (`w_input` … `hidden_shift`, `cell_table` where the node has one); outputs `h_next` and `c_next`.
    """
    return _StepGraph(signature).build()


class _StepGraph:
    """Collects the primitives of one frame; values are names in the builder."""

    def __init__(self, signature: Signature) -> None:
        self.builder = Builder("lstm_step")
        self.rounding = str(signature.attrs["rounding"])
        self.after = product_rounding(self.rounding)
        self.fraction = cell_fraction(signature.input(C0))
        self.powers = power_multipliers(self.fraction, self.after)
        self.hidden, self.cell = signature.input(H0), signature.input(C0)
        self.gates = TensorType("i16", self.hidden.shape, Quant((GATE_SCALE,)))
        self.levels = TensorType("i16", self.hidden.shape, Quant((CURVE_SCALE,)))
        x = signature.input(X)
        names = ("x", "h", "c", "w_input", "w_recurrent", "bias", *CONSTANTS)
        kinds = (x.with_shape(x.shape[1:]), *signature.inputs[1:])
        for name, kind in zip(names, kinds, strict=False):
            assert kind is not None
            self.builder.input(name, kind)

    def build(self) -> Graph:
        a = self.pre_activations()
        i, f, g, o = (self.gate(a, k) for k in range(4))
        i, f, o = (self.curve("sigmoid", gate, "sigmoid_table") for gate in (i, f, o))
        g = self.curve("tanh", g, "tanh_table")
        kept = self.node("mul", (f, "c", *self.rescale(self.powers.keep)), self.cell, "kept")
        new = self.node("mul", (i, g, *self.rescale(self.powers.new)), self.cell, "new")
        c = self.sum(kept, new, self.cell, "c_next")
        operands = (self.tanh_of_cell(c), o, "hidden_multiplier", "hidden_shift")
        h = self.node("mul", operands, self.hidden, "h_next")
        self.builder.output(h)
        self.builder.output(c)
        return self.builder.build()

    def node(
        self, op: str, operands: tuple[str, ...], kind: TensorType, name: str, rounding: str = ""
    ) -> str:
        attrs = {"rounding": rounding or self.after}
        return self.builder.node(op, operands, attrs, (name,), (kind,))[0]

    def rescale(self, pair: Pair) -> tuple[str, str]:
        """A multiplier and a shift as constants."""
        multiplier = self.builder.constant("multiplier", np.array(pair[0], np.int32))
        return multiplier, self.builder.constant("shift", np.array(pair[1], np.int8))

    def pre_activations(self) -> str:
        """All four gates [B, 4H] in Q3.12."""
        rows = 4 * int(self.hidden.shape[1])
        kind = self.gates.with_shape((self.hidden.shape[0], rows))
        dtype = accumulator(self.hidden)
        no_bias = self.builder.constant("no_bias", np.zeros(rows, storage(dtype)), TensorType(dtype, (rows,)))
        parts = []
        for operand, who, bias in (("x", "input", "bias"), ("h", "recurrent", no_bias)):
            operands = (operand, f"w_{who}", bias, f"{who}_multiplier", f"{who}_shift")
            parts.append(self.node("fully_connected", operands, kind, f"from_{operand}", self.rounding))
        return self.sum(parts[0], parts[1], kind, "pre_activations")

    def sum(self, a: str, b: str, kind: TensorType, name: str) -> str:
        """a + b at one scale; its rescales are those add prepares for 1."""
        signature = Signature((kind, kind), (kind,))
        numerics = Numerics(cast(Rounding, self.after))
        made = operator("add").prepare(signature, (None, None), numerics).operands
        constants = (self.builder.constant(m.name, m.value, m.type) for m in made if isinstance(m, Constant))
        return self.node("add", (a, b, *constants), kind, name)

    def gate(self, gates: str, k: int) -> str:
        units = int(self.hidden.shape[1])
        cut = {"starts": (k * units,), "ends": ((k + 1) * units,), "axes": (1,), "steps": (1,)}
        return self.builder.node("slice", (gates,), cut, (f"gate_{'ifgo'[k]}",), (self.gates,))[0]

    def curve(self, op: str, value: str, table: str) -> str:
        """sigmoid or tanh from Q3.12 to Q0.15."""
        return self.node(op, (value, table, *self.rescale(self.powers.curve)), self.levels, f"{op}_{value}")

    def tanh_of_cell(self, c: str) -> str:
        if "cell_table" in self.builder.types:
            return self.curve("tanh", c, "cell_table")
        if self.fraction > GATE_FRACTION:
            c = self.node("rescale", (c, *self.rescale(self.powers.cell)), self.gates, "cell_in_gate_format")
        elif self.fraction < GATE_FRACTION:
            c = self.raised(c)
        return self.curve("tanh", c, "tanh_table")

    def raised(self, c: str) -> str:
        """sat16(c * 2^(12-n)): a product with a whole constant, which no rounding touches."""
        factor = 2 ** (GATE_FRACTION - self.fraction)
        kind = TensorType("i16", (1,), Quant((1.0 / factor,)))
        constant = self.builder.constant("factor", np.array([factor], np.int16), kind)
        one = quantize_multiplier(1.0, self.after)
        return self.node("mul", (c, constant, *self.rescale(one)), self.gates, "cell_in_gate_format")
