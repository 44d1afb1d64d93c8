"""The integers inside an LSTM: the formula of `nnaq.kernels.recurrent` from its states on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnaq.ir.op import Signature
from nnaq.ir.types import bounds
from nnaq.kernels.internals import grid_of
from nnaq.kernels.lstm_numbers import (
    C0,
    H0,
    W_INPUT,
    W_PROJECTION,
    W_RECURRENT,
    Sums,
    X,
    by_name,
    cell_fraction,
    is_coupled,
    power_multipliers,
    unprojected,
)
from nnaq.kernels.recurrent_loops import pair_of
from nnaq.kernels.recurrent_numbers import GATE_FRACTION, GATE_SCALE, HIGH, product_rounding
from nnaq.train.recurrent_trace import (
    Codes,
    Layer,
    added,
    at,
    before,
    cells,
    clamped,
    coarse,
    curve,
    known_codes,
    layer_codes,
    rescaled,
    unclipped,
)


@dataclass(frozen=True)
class Trace:
    """The integers of all frames, [T, B, ...], gates in the order of the rows of the weights.

    driven, carried, a: A, R and a of the formula. i, f, g, o, k: Q0.15. c_before, c: the cell around each
    frame. argument: what tanh of the cell is read at, in steps of `step`. m; h: where there is a projection.
    """

    driven: Codes
    carried: Codes
    a: Codes
    i: Codes
    f: Codes
    g: Codes
    o: Codes
    c_before: np.ndarray
    c: Codes
    argument: Codes
    step: float
    k: Codes
    m: Codes
    h: Codes | None


def trace(
    signature: Signature, arrays: Sequence[np.ndarray | None], y: np.ndarray, sums: Sums | None = None
) -> Trace:
    """The integers inside a node that made the codes y, and kept its sums or did not."""
    named, attrs, hidden = by_name(signature.attrs, arrays), signature.attrs, signature.input(H0)
    fraction, after = cell_fraction(signature.input(C0)), product_rounding(str(attrs["rounding"]))
    powers, grid = power_multipliers(fraction, after), grid_of(attrs)
    inputs = Layer(signature.input(X), signature.input(W_INPUT), "input", "bias"), named, attrs, named["x"]
    recurrent = Layer(hidden, signature.input(W_RECURRENT), "recurrent"), named, attrs, before(y, named["h0"])
    driven = layer_codes(*inputs) if sums is None else known_codes(*inputs, sums.driven)
    carried = layer_codes(*recurrent) if sums is None else known_codes(*recurrent, sums.carried)
    a = coarse(added(driven, carried), grid)
    i, f, g, o = _levels(signature, named, a.values)
    new = np.multiply(i.values, g.values, dtype=np.int32)
    c = cells(f.values, new, named["c0"], (powers.keep, powers.new), after, grid)
    full = named.get("cell_table")
    argument = _in_gate_format(c.values, fraction, after) if full is None else unclipped(c.values)
    squash = curve(named["tanh_table"] if full is None else full, powers.curve, after, grid)
    k = at(argument.values, squash)
    projected = "w_projection" in named
    limits = (unprojected(hidden) if projected else hidden).zero_point, *bounds(hidden.dtype)
    m = rescaled(np.multiply(k.values, o.values, dtype=np.int32), pair_of(named, "hidden"), after, limits)
    h = _projected(signature, named, m.values) if projected else None
    step = GATE_SCALE if full is None else 2.0**-fraction
    return Trace(driven, carried, a, i, f, g, o, before(c.values, named["c0"]), c, argument, step, k, m, h)


def _levels(signature: Signature, named: dict[str, np.ndarray], a: np.ndarray) -> list[Codes]:
    """i, f, g, o in Q0.15."""
    grid = grid_of(signature.attrs)
    coupled, after = is_coupled(signature.attrs), product_rounding(str(signature.attrs["rounding"]))
    pair = power_multipliers(cell_fraction(signature.input(C0)), after).curve
    sigmoid, tanh = (curve(named[f"{name}_table"], pair, after, grid) for name in ("sigmoid", "tanh"))
    before_g = (sigmoid,) if coupled else (sigmoid, sigmoid)
    gates = np.split(a, len(before_g) + 2, axis=-1)
    levels = [at(*pair) for pair in zip(gates, (*before_g, tanh, sigmoid), strict=True)]
    if not coupled:
        return levels
    rest = unclipped(np.asarray(HIGH - levels[0].values, np.int16))
    return [coarse(rest, grid), *levels]


def _in_gate_format(c: np.ndarray, fraction: int, rounding: str) -> Codes:
    """d: the cell in Q3.12."""
    if fraction > GATE_FRACTION:
        return rescaled(c, power_multipliers(fraction, rounding).cell, rounding)
    return clamped(c.astype(np.int32) << (GATE_FRACTION - fraction))


def _projected(signature: Signature, named: dict[str, np.ndarray], m: np.ndarray) -> Codes:
    hidden = signature.input(H0)
    layer = Layer(unprojected(hidden), signature.input(W_PROJECTION), "projection")
    return layer_codes(layer, named, signature.attrs, m, (hidden.zero_point, *bounds(hidden.dtype)))
