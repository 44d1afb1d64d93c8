"""The LSTM in plain Python integers: the formula of `nnaq.kernels.recurrent`, one unit at a time."""

from itertools import product

import numpy as np

from nnaq.ir.op import Arrays, Signature
from nnaq.ir.types import bounds, storage
from nnaq.kernels.fixedpoint import requantize_reference, saturate_reference
from nnaq.kernels.internals import coarse_reference, zero_bits
from nnaq.kernels.lstm_norm import ReferenceNorm
from nnaq.kernels.lstm_numbers import (
    C0,
    H0,
    W_INPUT,
    W_PROJECTION,
    W_RECURRENT,
    X,
    by_name,
    cell_fraction,
    is_coupled,
    is_normed,
    power_multipliers,
    unprojected,
)
from nnaq.kernels.narrow import narrow_of
from nnaq.kernels.recurrent_numbers import GATE_FRACTION, HIGH, product_rounding
from nnaq.kernels.recurrent_reference import Rows, curve, sat16, scaled


def reference(signature: Signature, *operands: np.ndarray) -> Arrays:
    """One frame, one row of the batch and one unit at a time."""
    cell = _ReferenceCell(signature, by_name(signature.attrs, operands))
    x, h, c = (array.astype(object) for array in operands[:3])
    y = np.empty((len(x), *h.shape), object)
    for t, b in product(range(x.shape[0]), range(x.shape[1])):
        h[b], c[b] = cell.step(list(x[t, b]), list(h[b]), list(c[b]))
        y[t, b] = h[b]
    narrow = storage(signature.outputs[0].dtype)
    return y.astype(narrow), h.astype(narrow), c.astype(np.int16)


class _ReferenceCell:
    """The integers of a node as Python lists, and the module's formula over them."""

    def __init__(self, signature: Signature, arrays: dict[str, np.ndarray]) -> None:
        self.coupled, self.zero_bits = is_coupled(signature.attrs), zero_bits(signature.attrs)
        self.zero_x, hidden = signature.input(X).zero_point, signature.input(H0)
        self.zero_h, (self.low, self.high) = hidden.zero_point, bounds(hidden.dtype)
        self.fraction = cell_fraction(signature.input(C0))
        self.rounding = str(signature.attrs["rounding"])
        self.after = product_rounding(self.rounding)
        self.powers = power_multipliers(self.fraction, self.after)
        self.input = self.rows(signature, arrays, "input", W_INPUT, arrays["bias"])
        self.recurrent = self.rows(signature, arrays, "recurrent", W_RECURRENT)
        self.sigmoid, self.tanh = arrays["sigmoid_table"].tolist(), arrays["tanh_table"].tolist()
        self.hidden = int(arrays["hidden_multiplier"]), int(arrays["hidden_shift"])
        self.cell_table = arrays["cell_table"].tolist() if "cell_table" in arrays else None
        self.norm = ReferenceNorm(signature, arrays) if is_normed(signature.attrs) else None
        self.projection, self.zero_m = None, self.zero_h
        if "w_projection" in arrays:
            self.projection = self.rows(signature, arrays, "projection", W_PROJECTION)
            self.zero_m = unprojected(hidden).zero_point

    def rows(
        self, signature: Signature, arrays: dict[str, np.ndarray], who: str, position: int,
        bias: np.ndarray | None = None,
    ) -> Rows:  # fmt: skip
        zero_point = signature.input(position).zero_point
        rescale = arrays[f"{who}_multiplier"], arrays[f"{who}_shift"]
        narrow = narrow_of(signature.attrs, signature.input(X if who == "input" else H0))
        return Rows.of(arrays[f"w_{who}"], zero_point, bias, *rescale, self.rounding, narrow)

    def step(self, x: list[int], h: list[int], c: list[int]) -> tuple[list[int], list[int]]:
        """The next h and c of one row of the batch."""
        x, h = [q - self.zero_x for q in x], [q - self.zero_h for q in h]
        gates = len(self.input.weights)
        a = [sat16(self.input.codes(j, x) + self.recurrent.codes(j, h)) for j in range(gates)]
        units = len(c)
        a = a if self.norm is None else self.norm.codes(a)
        a = [self.coarse(code) for code in a]
        made = [self.unit(a[j::units], c[j]) for j in range(units)]
        return self.projected([code for code, _ in made]), [cell for _, cell in made]

    def unit(self, a: list[int], c: int) -> tuple[int, int]:
        """The next h, before a projection, and c of one unit from its gates."""
        f, o = self.curve(a[-3], self.sigmoid), self.curve(a[-1], self.sigmoid)
        i = self.coarse(sat16(HIGH - f)) if self.coupled else self.curve(a[0], self.sigmoid)
        g = self.curve(a[-2], self.tanh)
        c = self.coarse(sat16(self.scaled(f * c, self.powers.keep) + self.scaled(i * g, self.powers.new)))
        h = requantize_reference(self.tanh_of_cell(c) * o, self.hidden[0], self.hidden[1], self.after)
        return saturate_reference(h, self.zero_m, self.low, self.high), c

    def projected(self, m: list[int]) -> list[int]:
        if self.projection is None:
            return m
        column = [q - self.zero_m for q in m]
        outputs = range(len(self.projection.weights))
        return [self.projection.codes(p, column, self.zero_h, self.low, self.high) for p in outputs]

    def scaled(self, value: int, pair: tuple[int, int]) -> int:
        return scaled(value, pair, self.after)

    def curve(self, a: int, table: list[int]) -> int:
        return self.coarse(curve(a, table, self.powers.curve, self.after))

    def coarse(self, value: int) -> int:
        return coarse_reference(value, self.zero_bits)

    def tanh_of_cell(self, c: int) -> int:
        if self.cell_table is not None:
            return self.curve(c, self.cell_table)
        if self.fraction > GATE_FRACTION:
            return self.curve(self.scaled(c, self.powers.cell), self.tanh)
        return self.curve(sat16(c * 2 ** (GATE_FRACTION - self.fraction)), self.tanh)
