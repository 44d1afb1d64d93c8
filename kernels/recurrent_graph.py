"""What the normative graphs of recurrent operators share: one frame, built of integer primitives."""

from typing import cast

import numpy as np

from nnaq.ir.build import Builder
from nnaq.ir.dims import Dim
from nnaq.ir.numerics import Numerics, Rounding
from nnaq.ir.op import Attr, Constant, Signature
from nnaq.ir.op import lookup as operator
from nnaq.ir.types import Quant, TensorType, storage
from nnaq.kernels.accumulate import accumulator
from nnaq.kernels.fixedpoint import quantize_multiplier
from nnaq.kernels.internals import zero_bits
from nnaq.kernels.narrow import contract_of
from nnaq.kernels.recurrent_numbers import (
    CURVE_SCALE,
    CURVE_TO_CODES,
    GATE_SCALE,
    HIGH,
    LOW,
    Pair,
    product_rounding,
)


class StepGraph:
    """Collects the primitives of one frame; values are names in the builder.

    gates, levels: the types of one gate's values [B,H] in Q3.12 and in Q0.15.
    """

    def __init__(self, name: str, signature: Signature, batch: Dim, units: int) -> None:
        self.builder = Builder(name)
        self.rounding = str(signature.attrs["rounding"])
        self.after = product_rounding(self.rounding)
        self.sums: dict[str, Attr] = {"rounding": self.rounding, **contract_of(signature.attrs)}
        self.batch, self.units = batch, units
        self.zero_bits = zero_bits(signature.attrs)
        self.gates = TensorType("i16", (batch, units), Quant((GATE_SCALE,)))
        self.levels = TensorType("i16", (batch, units), Quant((CURVE_SCALE,)))

    def inputs(self, names: tuple[str, ...], signature: Signature) -> None:
        """Every operand as an input of the graph; of x one frame, of an absent operand nothing."""
        x = signature.input(0)
        kinds = (x.with_shape(x.shape[1:]), *signature.inputs[1:])
        for name, kind in zip(names, kinds, strict=False):
            if kind is not None:
                self.builder.input(name, kind)

    def node(
        self,
        op: str,
        operands: tuple[str, ...],
        kind: TensorType,
        name: str,
        rounding: str = "",
        attrs: dict[str, Attr] | None = None,
    ) -> str:
        own: dict[str, Attr] = {"rounding": rounding or self.after} if attrs is None else attrs
        return self.builder.node(op, operands, own, (name,), (kind,))[0]

    def scaling(self, scale: float) -> tuple[str, str]:
        """Multiplier and shift of a scale, as constants."""
        return self.rescale(quantize_multiplier(scale, self.after))

    def rescale(self, pair: Pair) -> tuple[str, str]:
        """A multiplier and a shift as constants."""
        multiplier = self.builder.constant("multiplier", np.array(pair[0], np.int32))
        return multiplier, self.builder.constant("shift", np.array(pair[1], np.int8))

    def layer(
        self, operand: str, weight: str, bias: str, rescale: tuple[str, str], kind: TensorType, name: str
    ) -> str:
        """fully_connected of `operand` into codes of `kind`."""
        operands = (operand, weight, bias, *rescale)
        return self.node("fully_connected", operands, kind, name, attrs=self.sums)

    def no_bias(self, x: TensorType, rows: int) -> str:
        """Zeros in the accumulator's dtype of operands of type `x`."""
        dtype = accumulator(x)
        zeros = np.zeros(rows, storage(dtype))
        return self.builder.constant("no_bias", zeros, TensorType(dtype, (rows,)))

    def sum(self, a: str, b: str, kind: TensorType, name: str, op: str = "add") -> str:
        """a + b, or a - b, at one scale; its rescales are those the operator prepares for 1."""
        signature = Signature((kind, kind), (kind,))
        numerics = Numerics(cast(Rounding, self.after))
        made = operator(op).prepare(signature, (None, None), numerics).operands
        constants = (self.builder.constant(m.name, m.value, m.type) for m in made if isinstance(m, Constant))
        return self.node(op, (a, b, *constants), kind, name)

    def level(self, code: int, name: str) -> str:
        """A number in Q0.15 that every unit reads."""
        return self.builder.constant(name, np.array([code], np.int16), self.levels.with_shape((1,)))

    def part(self, gates: str, k: int, name: str) -> str:
        """Values [B,H] of gate k out of [B, gates * H]."""
        cut: dict[str, Attr] = {
            "starts": (k * self.units,), "ends": ((k + 1) * self.units,), "axes": (1,), "steps": (1,)
        }  # fmt: skip
        return self.node("slice", (gates,), self.gates, name, attrs=cut)

    def curve(self, op: str, value: str, table: str) -> str:
        """sigmoid or tanh from Q3.12 to Q0.15."""
        made = self.node(op, (value, table, *self.scaling(CURVE_TO_CODES)), self.levels, f"{op}_{value}")
        return self.coarse(made, self.levels)

    def coarse(self, value: str, kind: TensorType, name: str = "") -> str:
        """coarse_k: limited to what rounds to no more than the end, rounded to steps of 2^k, lifted."""
        if not self.zero_bits:
            return value
        step, name = 2**self.zero_bits, name or f"{value}_coarse"
        limits: dict[str, Attr] = {"low": LOW, "high": HIGH - step // 2}
        limited = self.node("clip", (value,), kind, f"{name}_limited", attrs=limits)
        steps = TensorType("i16", kind.shape, Quant((kind.scale * step,)))
        rescale = self.rescale(quantize_multiplier(1 / step, "single"))
        counted = self.node("rescale", (limited, *rescale), steps, f"{name}_steps", "single")
        return self.lifted(counted, step, kind, name)

    def lifted(self, value: str, factor: int, kind: TensorType, name: str) -> str:
        """sat16(value * factor): a product with a whole constant, which no rounding touches."""
        one = TensorType("i16", (1,), Quant((1.0 / factor,)))
        constant = self.builder.constant("factor", np.array([factor], np.int16), one)
        return self.node(
            "mul", (value, constant, *self.rescale(quantize_multiplier(1.0, self.after))), kind, name
        )
