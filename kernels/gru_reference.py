"""The GRU in plain Python integers: the formula of `nnaq.kernels.gru`, one unit at a time."""

from itertools import product

import numpy as np

from nnaq.ir.op import Arrays, Signature
from nnaq.ir.types import bounds, storage
from nnaq.kernels.fixedpoint import quantize_multiplier, requantize_reference, saturate_reference
from nnaq.kernels.gru_numbers import H0, W_INPUT, W_RECURRENT, X, by_name, resets_first
from nnaq.kernels.internals import coarse_reference, zero_bits
from nnaq.kernels.narrow import narrow_of
from nnaq.kernels.recurrent_numbers import CURVE_TO_CODES, PRODUCT_TO_CODES, Pair, product_rounding
from nnaq.kernels.recurrent_reference import Rows, curve, sat16, scaled

SHARES = (("input", X, W_INPUT, "bias"), ("recurrent", H0, W_RECURRENT, "recurrent_bias"))


def reference(signature: Signature, *operands: np.ndarray) -> Arrays:
    """One frame, one row of the batch and one unit at a time."""
    cell = _ReferenceCell(signature, by_name(operands))
    x, h = (array.astype(object) for array in operands[:2])
    y = np.empty((len(x), *h.shape), object)
    for t, b in product(range(x.shape[0]), range(x.shape[1])):
        y[t, b] = h[b] = cell.step(list(x[t, b]), list(h[b]))
    narrow = storage(signature.outputs[0].dtype)
    return y.astype(narrow), h.astype(narrow)


class _ReferenceCell:
    """The integers of a node as Python lists, and the module's formula over them."""

    def __init__(self, signature: Signature, arrays: dict[str, np.ndarray]) -> None:
        rounding, hidden = str(signature.attrs["rounding"]), signature.input(H0)
        self.resets_first, self.after = resets_first(signature.attrs), product_rounding(rounding)
        self.zero_bits = zero_bits(signature.attrs)
        self.zero_x, self.zero_h = signature.input(X).zero_point, hidden.zero_point
        self.low, self.high = bounds(hidden.dtype)
        self.input, self.recurrent = (
            Rows.of(
                arrays[f"w_{who}"], signature.input(position).zero_point, arrays[bias],
                arrays[f"{who}_multiplier"], arrays[f"{who}_shift"], rounding,
                narrow_of(signature.attrs, signature.input(operand)),
            )
            for who, operand, position, bias in SHARES
        )  # fmt: skip
        self.sigmoid, self.tanh = arrays["sigmoid_table"].tolist(), arrays["tanh_table"].tolist()
        self.factor = int(arrays["state_factor"])
        self.state = int(arrays["state_multiplier"]), int(arrays["state_shift"])
        self.hidden = int(arrays["hidden_multiplier"]), int(arrays["hidden_shift"])
        self.to_codes = quantize_multiplier(CURVE_TO_CODES, self.after)
        self.product = quantize_multiplier(PRODUCT_TO_CODES, self.after)

    def step(self, x: list[int], h: list[int]) -> list[int]:
        """The next h of one row of the batch."""
        x, h = [q - self.zero_x for q in x], [q - self.zero_h for q in h]
        units = len(h)
        driven = [self.input.codes(j, x) for j in range(3 * units)]
        a = [self.coarse(sat16(driven[j] + self.recurrent.codes(j, h))) for j in range(2 * units)]
        levels = [self.curve(v, self.sigmoid) for v in a]
        reset, update = levels[:units], levels[units:]
        kept = [self.reset(r, q) for r, q in zip(reset, h, strict=True)] if self.resets_first else h
        made = []
        for j in range(units):
            added = self.recurrent.codes(2 * units + j, kept)
            if not self.resets_first:
                added = scaled(reset[j] * added, self.product, self.after)
            n = self.curve(self.coarse(sat16(driven[2 * units + j] + added)), self.tanh)
            made.append(self.mixed(update[j], n, h[j]))
        return made

    def curve(self, a: int, table: list[int]) -> int:
        return self.coarse(curve(a, table, self.to_codes, self.after))

    def coarse(self, value: int) -> int:
        return coarse_reference(value, self.zero_bits)

    def reset(self, r: int, centred: int) -> int:
        """r * (h - z_h) in codes of h, less z_h."""
        return self.code(r * centred, self.product) - self.zero_h

    def mixed(self, z: int, n: int, centred: int) -> int:
        """(1 - z)*n + z*h as a code of h."""
        before = scaled(centred * self.factor, self.state, self.after)
        return self.code(self.coarse(sat16(2**15 - z)) * n + z * before, self.hidden)

    def code(self, value: int, pair: Pair) -> int:
        found = requantize_reference(value, pair[0], pair[1], self.after)
        return saturate_reference(found, self.zero_h, self.low, self.high)
