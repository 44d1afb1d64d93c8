"""The normative graph of a GRU: one frame as integer primitives, which the fused kernel must equal."""

from nnaq.ir.graph import Graph
from nnaq.ir.op import Signature
from nnaq.kernels.gru_numbers import H0, NAMES, resets_first
from nnaq.kernels.recurrent_graph import StepGraph
from nnaq.kernels.recurrent_numbers import LOW, PRODUCT_TO_CODES


def primitives(signature: Signature) -> Graph:
    """One frame as a graph of integer primitives, whatever the stretch of time of `signature`.

    Inputs `x` [B,I], `h` [B,H], then the constant operands under their own names (`w_input` …
    `hidden_shift`); output `h_next`.
    """
    return _GruStep(signature).build()


class _GruStep(StepGraph):
    """The primitives of one frame."""

    def __init__(self, signature: Signature) -> None:
        self.hidden = signature.input(H0)
        batch, units = self.hidden.shape
        super().__init__("gru_step", signature, batch, int(units))
        self.resets_first = resets_first(signature.attrs)
        self.inputs(("x", "h", *NAMES[2:]), signature)

    def build(self) -> Graph:
        driven, carried = self.product("x", "input", "bias"), self.product("h", "recurrent", "recurrent_bias")
        r, z = (
            self.curve("sigmoid", self.gate(driven, carried, k, letter), "sigmoid_table")
            for k, letter in enumerate("rz")
        )
        n = self.sum(self.part(driven, 2, "driven_n"), self.recurrent_part(r, carried), self.gates, "gate_n")
        self.builder.output(self.mixed(z, self.curve("tanh", self.coarse(n, self.gates), "tanh_table")))
        return self.builder.build()

    def product(self, operand: str, who: str, bias: str) -> str:
        """A weight's share of the pre-activations of all three gates [B, 3H] in Q3.12."""
        kind = self.gates.with_shape((self.batch, 3 * self.units))
        rescale = f"{who}_multiplier", f"{who}_shift"
        return self.layer(operand, f"w_{who}", bias, rescale, kind, f"from_{operand}")

    def gate(self, driven: str, carried: str, k: int, letter: str) -> str:
        sides = self.part(driven, k, f"driven_{letter}"), self.part(carried, k, f"carried_{letter}")
        return self.coarse(self.sum(*sides, self.gates, f"gate_{letter}"), self.gates)

    def recurrent_part(self, r: str, carried: str) -> str:
        """What h adds to n: reset after its product, or before it."""
        if self.resets_first:
            kept = self.node("mul", (r, "h", *self.scaling(PRODUCT_TO_CODES)), self.hidden, "reset")
            return self.part(self.product(kept, "recurrent", "recurrent_bias"), 2, "carried_n")
        side = self.part(carried, 2, "carried_n")
        return self.node("mul", (r, side, *self.scaling(PRODUCT_TO_CODES)), self.gates, "reset")

    def mixed(self, z: str, n: str) -> str:
        """(1 - z)*n + z*h: per unit a product of [1 - z, z] by [n, h], whose sum is rounded once."""
        below = self.sum(z, self.level(LOW, "minus_one"), self.levels, "z_minus_one")
        rest = self.sum(self.level(0, "zero"), below, self.levels, "rest", "sub")
        rest = self.coarse(rest, self.levels)
        lifted = ("h", "state_factor", "state_multiplier", "state_shift")
        before = self.node("mul", lifted, self.levels, "h_in_level_format")
        weights, values = self.joined((rest, z), 3, "weights"), self.joined((n, before), 2, "values")
        kind = self.hidden.with_shape((self.batch, self.units, 1, 1))
        operands = (weights, values, "hidden_multiplier", "hidden_shift")
        mixed = self.node("matmul", operands, kind, "mixed")
        return self.node("reshape", (mixed,), self.hidden, "h_next", attrs={"shape": (0, 0)})

    def joined(self, pair: tuple[str, str], axis: int, name: str) -> str:
        """Two values [B,H] as [B,H,1,2] (axis 3) or [B,H,2,1] (axis 2)."""
        one = self.levels.with_shape((self.batch, self.units, 1, 1))
        parts = tuple(
            self.node("reshape", (v,), one, f"{v}_{name}", attrs={"shape": (0, 0, 1, 1)}) for v in pair
        )
        shape = (self.batch, self.units, *((1, 2) if axis == 3 else (2, 1)))
        return self.node("concat", parts, one.with_shape(shape), name, attrs={"axis": axis})
