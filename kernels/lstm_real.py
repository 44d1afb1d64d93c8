"""The LSTM over the reals: the usual one by torch's own kernel or NumPy, its variants frame by frame."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnaq.ir.op import Attr
from nnaq.kernels.lstm_numbers import gate_count, is_coupled, norm_epsilon
from nnaq.kernels.lut import sigmoid_function
from nnaq.kernels.norm import LAYER, standardised


def real(
    xp: Any, attrs: Mapping[str, Attr], x: Any, h: Any, c: Any, w_input: Any, w_recurrent: Any,
    bias: Any = None, w_projection: Any = None, norm_weight: Any = None, norm_bias: Any = None,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """y, h, c; differentiable in torch, whose own LSTM has the same gate order."""
    norm = norm_weight, norm_bias
    variants = norm if xp is np else (*norm, w_projection)  # torch warns where it lacks a fast projection
    if is_coupled(attrs) or any(part is not None for part in variants):
        return _step_by_step(xp, attrs, x, h, c, w_input, w_recurrent, bias, w_projection, norm)
    if xp is np:
        return _numpy(x, h, c, w_input, w_recurrent, bias, w_projection)
    if x.shape[0] == 0:
        return x.new_zeros((0, *h.shape)), h, c
    biases = () if bias is None else (bias, xp.zeros_like(bias))
    state = (h[None].contiguous(), c[None].contiguous())
    weights = (w_input, w_recurrent, *biases)
    y, h, c = xp.lstm(x, state, weights, bias is not None, 1, 0.0, False, False, False)
    return y, h[0], c[0]


def _numpy(
    x: np.ndarray, h: np.ndarray, c: np.ndarray, w_input: np.ndarray, w_recurrent: np.ndarray,
    bias: np.ndarray | None, w_projection: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """All gates by one tanh: sigmoid(a) = tanh(a/2)/2 + 1/2, the halves folded into the weights."""
    units = c.shape[1]
    gain = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], x.dtype), units)
    lift = 1 - gain
    projected = x @ (w_input * gain[:, None]).T
    if bias is not None:
        projected += bias * gain
    recurrent = np.ascontiguousarray((w_recurrent * gain[:, None]).T)
    y = np.empty((len(x), *h.shape), projected.dtype)
    for t in range(len(x)):
        gates = np.tanh(projected[t] + h @ recurrent) * gain + lift
        i, f, g, o = (gates[:, k * units : (k + 1) * units] for k in range(4))
        c = f * c + i * g
        h = np.tanh(c) * o
        if w_projection is not None:
            h = h @ w_projection.T
        y[t] = h
    return y, h, c


def _step_by_step(
    xp: Any, attrs: Mapping[str, Attr], x: Any, h: Any, c: Any, w_input: Any, w_recurrent: Any, bias: Any,
    w_projection: Any, norm: tuple[Any, Any],
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The formula of `nnaq.kernels.recurrent`, in numpy or torch."""
    units, made = c.shape[1], []
    for t in range(x.shape[0]):
        a = x[t] @ w_input.T + h @ w_recurrent.T
        a = a if bias is None else a + bias
        a = _normed(xp, attrs, a, *norm) if any(part is not None for part in norm) else a
        parts = [a[:, k * units : (k + 1) * units] for k in range(gate_count(attrs))]
        f, g, o = sigmoid_function(xp, parts[-3]), xp.tanh(parts[-2]), sigmoid_function(xp, parts[-1])
        i = 1 - f if is_coupled(attrs) else sigmoid_function(xp, parts[0])
        c = f * c + i * g
        h = xp.tanh(c) * o
        h = h if w_projection is None else h @ w_projection.T
        made.append(h)
    y = xp.stack(made) if made else xp.zeros((0, *h.shape), dtype=x.dtype)
    return y, h, c


def _normed(xp: Any, attrs: Mapping[str, Attr], a: Any, weight: Any, bias: Any) -> Any:
    """Every gate normalised over its units, then weight and bias."""
    rows = a.reshape(a.shape[0], gate_count(attrs), -1)
    y = standardised(xp, rows, LAYER, norm_epsilon(attrs)).reshape(a.shape)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias
