"""The normative graph of an LSTM: one frame as integer primitives, which the fused kernel must equal."""

from nnaq.ir.graph import Graph
from nnaq.ir.op import Attr, Signature
from nnaq.ir.types import TensorType
from nnaq.kernels.lstm_numbers import (
    C0,
    H0,
    NORM_CONSTANTS,
    cell_fraction,
    is_coupled,
    is_normed,
    is_projected,
    norm_epsilon,
    operand_names,
    power_multipliers,
    unprojected,
)
from nnaq.kernels.recurrent_graph import StepGraph
from nnaq.kernels.recurrent_numbers import GATE_FRACTION, HIGH


def primitives(signature: Signature) -> Graph:
    """One frame as a graph of integer primitives, whatever the stretch of time of `signature`.

    Inputs `x` [B,I], `h` [B,H] ([B,P] with a projection), `c` [B,H], then the constant operands under
    their own names (`w_input` … `hidden_shift` …, `cell_table` where the node has one); outputs
    `h_next` and `c_next`.
    """
    return _LstmStep(signature).build()


class _LstmStep(StepGraph):
    """The primitives of one frame."""

    def __init__(self, signature: Signature) -> None:
        self.hidden, self.cell = signature.input(H0), signature.input(C0)
        batch, units = self.cell.shape
        super().__init__("lstm_step", signature, batch, int(units))
        self.coupled = is_coupled(signature.attrs)
        self.fraction = cell_fraction(self.cell)
        self.powers = power_multipliers(self.fraction, self.after)
        names = operand_names(signature.attrs)
        self.inputs(("x", "h", "c", *names[3:]), signature)
        self.projected, self.normed = is_projected(signature.attrs), is_normed(signature.attrs)
        self.epsilon = norm_epsilon(signature.attrs)

    def build(self) -> Graph:
        i, f, g, o = self.levels_of_gates()
        kept = self.node("mul", (f, "c", *self.rescale(self.powers.keep)), self.cell, "kept")
        new = self.node("mul", (i, g, *self.rescale(self.powers.new)), self.cell, "new")
        total = self.sum(kept, new, self.cell, "kept_and_new" if self.zero_bits else "c_next")
        c = self.coarse(total, self.cell, "c_next")
        self.builder.output(self.hidden_value(self.tanh_of_cell(c), o))
        self.builder.output(c)
        return self.builder.build()

    def levels_of_gates(self) -> tuple[str, str, str, str]:
        """i, f, g, o in Q0.15."""
        a = self.pre_activations()
        letters = "fgo" if self.coupled else "ifgo"
        gates = {letter: self.part(a, k, f"gate_{letter}") for k, letter in enumerate(letters)}
        level = {
            letter: self.curve("tanh", gate, "tanh_table")
            if letter == "g"
            else self.curve("sigmoid", gate, "sigmoid_table")
            for letter, gate in gates.items()
        }
        if self.coupled:
            rest = self.sum(self.level(HIGH, "one"), level["f"], self.levels, "rest", "sub")
            level["i"] = self.coarse(rest, self.levels)
        return level["i"], level["f"], level["g"], level["o"]

    def pre_activations(self) -> str:
        """All gates [B, 4H], or [B, 3H] where coupled, in Q3.12."""
        rows = (3 if self.coupled else 4) * self.units
        kind = self.gates.with_shape((self.batch, rows))
        parts = []
        for operand, who, bias in (
            ("x", "input", "bias"),
            ("h", "recurrent", self.no_bias(self.hidden, rows)),
        ):
            rescale = f"{who}_multiplier", f"{who}_shift"
            parts.append(self.layer(operand, f"w_{who}", bias, rescale, kind, f"from_{operand}"))
        total = self.sum(parts[0], parts[1], kind, "pre_activations")
        return self.coarse(self.normalised(total, kind) if self.normed else total, kind)

    def normalised(self, a: str, kind: TensorType) -> str:
        """Every gate normalised over its units: group_norm, a group per gate."""
        groups = 3 if self.coupled else 4
        attrs: dict[str, Attr] = {"groups": groups, "epsilon": self.epsilon, "rounding": self.after}
        operands = (a, "norm_weight", "norm_bias", *NORM_CONSTANTS)
        return self.node("group_norm", operands, kind, "normalised", attrs=attrs)

    def hidden_value(self, squashed: str, o: str) -> str:
        """The next h, through the projection where there is one."""
        operands = (squashed, o, "hidden_multiplier", "hidden_shift")
        if not self.projected:
            return self.node("mul", operands, self.hidden, "h_next")
        kind = unprojected(self.hidden).with_shape(self.cell.shape)
        made = self.node("mul", operands, kind, "unprojected")
        no_bias = self.no_bias(kind, int(self.hidden.shape[1]))
        rescale = "projection_multiplier", "projection_shift"
        return self.layer(made, "w_projection", no_bias, rescale, self.hidden, "h_next")

    def tanh_of_cell(self, c: str) -> str:
        if "cell_table" in self.builder.types:
            return self.curve("tanh", c, "cell_table")
        if self.fraction > GATE_FRACTION:
            c = self.node("rescale", (c, *self.rescale(self.powers.cell)), self.gates, "cell_in_gate_format")
        elif self.fraction < GATE_FRACTION:
            c = self.lifted(c, 2 ** (GATE_FRACTION - self.fraction), self.gates, "cell_in_gate_format")
        return self.curve("tanh", c, "tanh_table")
