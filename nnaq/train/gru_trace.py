"""The integers inside a GRU: the formula of `nnaq.kernels.gru` from its states on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnaq.ir.op import Signature
from nnaq.ir.types import bounds
from nnaq.kernels.fixedpoint import quantize_multiplier
from nnaq.kernels.gru_numbers import H0, W_INPUT, W_RECURRENT, X, by_name, resets_first
from nnaq.kernels.internals import grid_of
from nnaq.kernels.recurrent_loops import pair_of
from nnaq.kernels.recurrent_numbers import CURVE_TO_CODES, PRODUCT_TO_CODES, product_rounding
from nnaq.train.recurrent_trace import (
    Codes,
    Layer,
    added,
    at,
    before,
    clamped,
    coarse,
    curve,
    layer_codes,
    rescaled,
)


@dataclass(frozen=True)
class Trace:
    """The integers of all frames, [T, B, ...], gates in the order r, z, n.

    driven, carried, a: A, C (of n that of k where the reset comes first) and the pre-activations. r, z, n
    and rest, 1 - z: Q0.15. reset: k, as codes of h; None where the reset comes last. p: h_{t-1} in Q0.15.
    h: the new state.
    """

    driven: Codes
    carried: Codes
    a: Codes
    r: Codes
    z: Codes
    rest: Codes
    n: Codes
    reset: np.ndarray | None
    p: Codes
    h: Codes


def trace(signature: Signature, arrays: Sequence[np.ndarray | None], y: np.ndarray) -> Trace:
    """The integers inside a node that made the codes y."""
    named = {name: array for name, array in by_name(arrays).items() if array is not None}
    attrs, hidden = signature.attrs, signature.input(H0)
    after, first = product_rounding(str(attrs["rounding"])), resets_first(attrs)
    grid = grid_of(attrs)
    to_codes, product = (quantize_multiplier(scale, after) for scale in (CURVE_TO_CODES, PRODUCT_TO_CODES))
    sigmoid, tanh = (curve(named[f"{name}_table"], to_codes, after, grid) for name in ("sigmoid", "tanh"))
    limits = hidden.zero_point, *bounds(hidden.dtype)
    states, units = before(y, named["h0"]), y.shape[-1]
    centred = np.subtract(states, hidden.zero_point, dtype=np.int32)
    gates, new = slice(0, 2 * units), slice(2 * units, 3 * units)
    driven = layer_codes(
        Layer(signature.input(X), signature.input(W_INPUT), "input", "bias"), named, attrs, named["x"]
    )
    recurrent = Layer(hidden, signature.input(W_RECURRENT), "recurrent", "recurrent_bias")
    carried = layer_codes(recurrent, named, attrs, states, rows=gates)
    a = coarse(added(driven.columns(gates), carried), grid)
    levels = at(a.values, sigmoid)
    r, z = levels.columns(slice(units)), levels.columns(slice(units, None))
    reset = rescaled(r.values * centred, product, after, limits).values if first else None
    carried_n = layer_codes(recurrent, named, attrs, states if reset is None else reset, rows=new)
    side = (
        carried_n
        if first
        else rescaled(np.multiply(r.values, carried_n.values, dtype=np.int32), product, after)
    )
    a_n = coarse(added(driven.columns(new), side), grid)
    n = at(a_n.values, tanh)
    p = rescaled(centred * int(named["state_factor"]), pair_of(named, "state"), after)
    rest = coarse(clamped(np.subtract(2**15, z.values, dtype=np.int32)), grid)
    total = np.multiply(rest.values, n.values, dtype=np.int64)
    total += np.multiply(z.values, p.values, dtype=np.int64)
    h = rescaled(total, pair_of(named, "hidden"), after, limits)
    return Trace(driven, carried.beside(carried_n), a.beside(a_n), r, z, rest, n, reset, p, h)
