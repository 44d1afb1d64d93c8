"""The gradient of an integer LSTM, by the rules of `nnaq.train.recurrent`.

Forward, per frame, with all values on their grids (`nnaq.kernels.recurrent`):

    A = sat(W_x x_t + b);  R = sat(W_h h_{t-1});  a = sat(A + R)                           ±8, Q3.12
    i, f, o = sigmoid(a_i, a_f, a_o), g = tanh(a_g);  i = 1 - f where coupled
    c_t = sat(f*c_{t-1} + i*g);  d = sat(c_t);  k = tanh(d);  m = sat(k*o);  h_t = m or sat(W_p m)

d differs from c_t where the cell reaches beyond ±8; a `cell_table` is read at c_t itself. Backward, from
the last frame on, with dh and dc those of the frame behind it (of the results h and c at the last frame):

    dh   = dy_t + dh
    dp   = dh * keep[h];  dm = dp W_p           with a projection, else dm = dh
    dm   = dm * keep[m]
    dc   = (dc + dm * o*(1-k^2) * keep[d]) * keep[c]
    da_i = dc * g * i(1-i) * keep[a_i]
    da_f = dc * c_{t-1} * f(1-f) * keep[a_f]    c_{t-1} - g in the place of c_{t-1} where coupled
    da_g = dc * i * (1-g^2) * keep[a_g]
    da_o = dm * k * o(1-o) * keep[a_o]
    dA   = da * keep[A];  dR = da * keep[R]
    dc   = dc * f;  dh = dR W_h                 for the frame before it; for h0 and c0 at last

    dx = dA W_x;  db = Σ dA;  dW_x = Σ dA' x_t;  dW_h = Σ dR' h_{t-1};  dW_p = Σ dp' m

where the sums are over frames and batch, each one product of matrices. In the slopes i, f, g, o and k are
the ideal function at a and d, elsewhere what the table gave. Internals of fewer than 16 bits
(`nnaq.kernels.internals`) are followed: a, c and the levels are the coarse ones, and a level that saturates
stops its gradient, i of coupled gates too. Over no frames dh and dc are handed on.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nnaq.ir.op import Signature
from nnaq.kernels.lstm_numbers import (
    BIAS,
    C0,
    H0,
    W_INPUT,
    W_PROJECTION,
    W_RECURRENT,
    Sums,
    X,
    is_coupled,
    unprojected,
)
from nnaq.kernels.recurrent_numbers import CURVE_SCALE, GATE_SCALE
from nnaq.train.lstm_trace import Trace, trace
from nnaq.train.recurrent_slopes import (
    masked,
    over_frames,
    reals,
    sigmoid_slope,
    slopes_by_code,
    slopes_times,
    stop,
    tanh_slope,
)
from nnaq.train.recurrent_trace import before


class _Factors(NamedTuple):
    """What dc and dm are multiplied by, for all frames [T, B, ...], the clamps among them.

    gates: [T, B, gates, H], da / dc, of the last gate da_o / dm. cell: what dm adds to dc. kept: f, what
    of dc goes to the frame before.
    """

    gates: Tensor
    cell: Tensor
    kept: Tensor


class _Backward(NamedTuple):
    """Gradients over all frames: of a, and of a projection's result [T, B, ...]; of h0 and c0."""

    a: Tensor
    projected: Tensor | None
    h0: Tensor
    c0: Tensor


def gradients(
    signature: Signature,
    arrays: Sequence[np.ndarray | None],
    made: Sequence[np.ndarray],
    operands: Sequence[Tensor | None],
    upstream: Sequence[Tensor],
    sums: Sums | None = None,
) -> list[Tensor | None]:
    """The gradient of every operand of the real form; the arguments are those of `recurrent.gradients`."""
    there = {p: operand for p, operand in enumerate(operands) if operand is not None}
    x, codes = there[X], trace(signature, arrays, made[0], sums)
    hidden, scale = signature.input(H0), signature.input(C0).scale
    factors = _factors(codes, scale, x, is_coupled(signature.attrs))
    weights = there[W_RECURRENT], there.get(W_PROJECTION)
    back = _through_time(factors, codes, weights, upstream)
    driven, carried = masked(back.a, codes.driven.clipped), masked(back.a, codes.carried.clipped)
    states = reals(before(made[0], _array(arrays, H0)), hidden.scale, x, hidden.zero_point)
    found = {X: driven @ there[W_INPUT], H0: back.h0, C0: back.c0}
    found |= {W_INPUT: over_frames(driven, x), W_RECURRENT: over_frames(carried, states)}
    found |= {BIAS: driven.sum((0, 1))}
    if back.projected is not None:
        m = reals(codes.m.values, unprojected(hidden).scale, x)
        found[W_PROJECTION] = over_frames(back.projected, m)
    return [found[p] if p in there else None for p in range(len(operands))]


def _factors(codes: Trace, scale: float, like: Tensor, coupled: bool) -> _Factors:
    """scale: of the cell."""
    frames, batch, units = codes.c_before.shape
    sigmoid = slopes_by_code(sigmoid_slope, GATE_SCALE, like.dtype)
    tanh = slopes_by_code(tanh_slope, GATE_SCALE, like.dtype)
    g, i, o, k = ((level.values, CURVE_SCALE) for level in (codes.g, codes.i, codes.o, codes.k))
    if coupled:
        slopes, levels = [sigmoid, tanh, sigmoid], [codes.f, codes.g, codes.o]
        others = [(_coupled_factor(codes, scale, like), 1.0), i, k]
    else:
        slopes, levels = [sigmoid, sigmoid, tanh, sigmoid], [codes.i, codes.f, codes.g, codes.o]
        others = [g, (codes.c_before, scale), i, k]
    a = codes.a.values.reshape(frames, batch, len(levels), units)
    gates, clipped = slopes_times(a, slopes, others).to(like.device), codes.a.clipped.reshape(a.shape)
    for gate, level in enumerate(levels):
        behind = codes.m if gate == len(levels) - 1 else codes.c
        stop(gates[:, :, gate], clipped[:, :, gate], level.clipped, behind.clipped)
    curve = slopes_by_code(tanh_slope, codes.step, like.dtype)
    cell = slopes_times(codes.argument.values[:, :, None], [curve], [o])[:, :, 0].to(like.device)
    stop(cell, codes.argument.clipped, codes.k.clipped, codes.m.clipped)
    kept = reals(codes.f.values, CURVE_SCALE, like)
    stop(kept, codes.c.clipped)
    return _Factors(gates, cell, kept)


def _coupled_factor(codes: Trace, scale: float, like: Tensor) -> np.ndarray:
    """c_{t-1} - g, g as far as 1 - f has not saturated."""
    g = masked(reals(codes.g.values, CURVE_SCALE, like), codes.i.clipped)
    found: np.ndarray = (reals(codes.c_before, scale, like) - g).cpu().numpy()
    return found


def _through_time(
    factors: _Factors, codes: Trace, weights: tuple[Tensor, Tensor | None], upstream: Sequence[Tensor]
) -> _Backward:
    """From the last frame to the first; weights: W_h and W_p. The factors of the gates become da."""
    (w_recurrent, w_projection), (dy, dh, dc) = weights, upstream
    projected = None if codes.h is None else torch.empty_like(dy)
    for t in reversed(range(len(dy))):
        dm = dh + dy[t]
        if projected is not None and w_projection is not None and codes.h is not None:
            projected[t] = masked(dm, codes.h.clipped[t])
            dm = projected[t] @ w_projection
        dc = torch.addcmul(dc, dm, factors.cell[t])
        da = factors.gates[t]
        da[:, :-1] *= dc[:, None]
        da[:, -1] *= dm
        dh = masked(da.flatten(1), codes.carried.clipped[t]) @ w_recurrent
        dc = dc * factors.kept[t]
    return _Backward(factors.gates.flatten(2), projected, dh, dc)


def _array(arrays: Sequence[np.ndarray | None], position: int) -> np.ndarray:
    found = arrays[position]
    assert found is not None
    return found
