"""The gradient of an integer GRU, by the rules of `nnaq.train.recurrent`.

Forward, per frame, with all values on their grids (`nnaq.kernels.gru`):

    A = sat(W x_t + b);  C(v) = sat(R v + rb)                                              ±8, Q3.12
    r, z = sigmoid(sat(A + C(h_{t-1})))
    a_n  = sat(A_n + r*C_n(h_{t-1}))    or, the reset first, sat(A_n + C_n(k)), k = r*h_{t-1}
    n = tanh(a_n);  p = sat(h_{t-1}), ±1;  h_t = sat((1-z)*n + z*p)

Backward, from the last frame on, with dh that of the frame behind it (of the result h at the last frame):

    dh   = (dy_t + dh) * keep[h]
    da_n = dh * (1-z) * (1-n^2) * keep[a_n]
    da_z = dh * (p - n) * z(1-z) * keep[a_z]
    the reset last:     dC_n = da_n * r * keep[C_n];  da_r = da_n * C_n * r(1-r) * keep[a_r]
    the reset first:    dC_n = da_n * keep[C_n];  dk = dC_n R_n;  da_r = dk * h_{t-1} * r(1-r) * keep[a_r]
    dC_r, dC_z = da_r * keep[C_r], da_z * keep[C_z];  dA = da * keep[A]
    dh   = dh * z * keep[p] + dC R              for the frame before it; for h0 at last
           the reset first: dh * z * keep[p] + dC_r R_r + dC_z R_z + dk * r

    dx = dA W;  db = Σ dA;  drb = Σ dC;  dW = Σ dA' x_t;  dR = Σ dC' h_{t-1}, of n with k where the reset
    comes first

where the sums are over frames and batch, each a product of matrices. In the slopes r, z and n are the
ideal function at its argument, elsewhere what the table gave. k never saturates. Internals of fewer than 16
bits (`nnaq.kernels.internals`) are followed: a and the levels are the coarse ones, and a level that saturates
stops its gradient, 1 - z too. Over no frames dh is handed on.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nnaq.ir.op import Signature
from nnaq.kernels.gru_numbers import BIAS, H0, RECURRENT_BIAS, W_INPUT, W_RECURRENT, X
from nnaq.kernels.recurrent_numbers import CURVE_SCALE, GATE_SCALE
from nnaq.train.gru_trace import Trace, trace
from nnaq.train.recurrent_slopes import masked, over_frames, reals, sigmoid_slope, tanh_slope
from nnaq.train.recurrent_trace import before


class _Factors(NamedTuple):
    """What gradients are multiplied by, for all frames, the clamps among them.

    gates: [T, B, 3, H] of r, z, n: da_z / dh and da_n / dh; da_r / da_n, or da_r / dk with the reset first.
    new: dC_n / da_n. r; kept: what of dh goes straight to the frame before.
    """

    gates: Tensor
    new: Tensor
    r: Tensor
    kept: Tensor


def gradients(
    signature: Signature,
    arrays: Sequence[np.ndarray | None],
    made: Sequence[np.ndarray],
    operands: Sequence[Tensor | None],
    upstream: Sequence[Tensor],
) -> list[Tensor | None]:
    """The gradient of every operand of the real form; the arguments are those of `recurrent.gradients`."""
    there = {p: operand for p, operand in enumerate(operands) if operand is not None}
    x, codes, hidden = there[X], trace(signature, arrays, made[0]), signature.input(H0)
    first, units = codes.reset is not None, made[0].shape[-1]
    h0 = arrays[H0]
    assert h0 is not None
    states = reals(before(made[0], h0), hidden.scale, x, hidden.zero_point)
    factors = _factors(codes, states, first)
    run = _reset_first if first else _reset_last
    a, carried, dh = run(factors, codes, there[W_RECURRENT], upstream)
    driven = masked(a, codes.driven.clipped)
    recurrent = over_frames(carried, states)
    if codes.reset is not None:
        k = reals(codes.reset, hidden.scale, x, hidden.zero_point)
        recurrent[2 * units :] = over_frames(carried[:, :, 2 * units :], k)
    found = {X: driven @ there[W_INPUT], H0: dh, W_INPUT: over_frames(driven, x), W_RECURRENT: recurrent}
    found |= {BIAS: driven.sum((0, 1)), RECURRENT_BIAS: carried.sum((0, 1))}
    return [found[p] if p in there else None for p in range(len(operands))]


def _factors(codes: Trace, states: Tensor, first: bool) -> _Factors:
    """states: h before every frame."""
    r, z, rest, n, p = (
        reals(level.values, CURVE_SCALE, states) for level in (codes.r, codes.z, codes.rest, codes.n, codes.p)
    )
    frames, batch, units = states.shape
    clipped = codes.carried.clipped.reshape(frames, batch, 3, units)
    a = reals(codes.a.values, GATE_SCALE, states).view(frames, batch, 3, units)
    carried = codes.carried.values[:, :, 2 * units :]
    gates = torch.empty_like(a)
    torch.mul(
        sigmoid_slope(a[:, :, 0]), states if first else reals(carried, GATE_SCALE, r), out=gates[:, :, 0]
    )
    torch.mul(sigmoid_slope(a[:, :, 1]), p - masked(n, codes.rest.clipped), out=gates[:, :, 1])
    torch.mul(tanh_slope(a[:, :, 2]), rest, out=gates[:, :, 2])
    stopped = codes.a.clipped.reshape(frames, batch, 3, units)
    stopped[:, :, 1:] |= codes.h.clipped[:, :, None]
    for gate, level in enumerate((codes.r, codes.z, codes.n)):
        stopped[:, :, gate] |= level.clipped
    new = masked(torch.ones_like(r) if first else r, clipped[:, :, 2])
    return _Factors(masked(gates, stopped), new, r, masked(z, codes.p.clipped | codes.h.clipped))


def _reset_last(
    factors: _Factors, codes: Trace, weight: Tensor, upstream: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """da and dC of all frames, dh0; the factors of the gates become da."""
    (dy, dh), carried = upstream, torch.empty_like(factors.gates)
    for t in reversed(range(len(dy))):
        dh = dh + dy[t]
        da = factors.gates[t]
        da[:, 1:] *= dh[:, None]
        da[:, 0] *= da[:, 2]
        carried[t, :, :2] = da[:, :2]
        torch.mul(da[:, 2], factors.new[t], out=carried[t, :, 2])
        dh = dh * factors.kept[t] + _stopped(carried, codes, t).flatten(1) @ weight
    return factors.gates.flatten(2), carried.flatten(2), dh


def _reset_first(
    factors: _Factors, codes: Trace, weight: Tensor, upstream: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """da and dC of all frames, dh0; the factors of the gates become da."""
    (dy, dh), carried = upstream, torch.empty_like(factors.gates)
    units = dh.shape[-1]
    gates, new = weight[: 2 * units], weight[2 * units :]
    for t in reversed(range(len(dy))):
        dh = dh + dy[t]
        da = factors.gates[t]
        da[:, 1:] *= dh[:, None]
        torch.mul(da[:, 2], factors.new[t], out=carried[t, :, 2])
        dk = carried[t, :, 2] @ new
        da[:, 0] *= dk
        carried[t, :, :2] = da[:, :2]
        side = _stopped(carried, codes, t)[:, :2].flatten(1) @ gates
        dh = dh * factors.kept[t] + side + dk * factors.r[t]
    return factors.gates.flatten(2), carried.flatten(2), dh


def _stopped(carried: Tensor, codes: Trace, t: int) -> Tensor:
    """dC of frame t, in its place, zero where C saturated."""
    clipped = codes.carried.clipped[t]
    if clipped.any():
        carried[t].view(clipped.shape)[torch.from_numpy(clipped).to(carried.device)] = 0.0
    return carried[t]
