"""Steps over the reals that the gradients of recurrent layers share: in torch, slopes by compiled passes."""

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from nnaq.kernels.gradient_passes import slope_times
from nnaq.kernels.recurrent_numbers import CURVE_SCALE

ROUNDS_TO_ONE = math.atanh(1 - CURVE_SCALE / 2)  # from here on: Q0.15 ends half a step below 1


def reals(codes: np.ndarray, scale: float, like: Tensor, zero_point: int = 0) -> Tensor:
    """What codes stand for, in the dtype and on the device of `like`."""
    made = torch.from_numpy(codes).to(like.device, like.dtype)
    return (made.sub_(zero_point) if zero_point else made).mul_(scale)


def masked(gradient: Tensor, clipped: np.ndarray) -> Tensor:
    """The gradient, 0 where clamping changed a code; itself where nothing was clamped."""
    if not any_of(clipped):
        return gradient
    keep = torch.from_numpy(~clipped).to(gradient.device, gradient.dtype)
    return gradient * keep.view(gradient.shape)


def stop(gradient: Tensor, *marks: np.ndarray) -> None:
    """Write 0 into the gradient where clamping changed one of several codes."""
    for clipped in marks:
        if any_of(clipped):
            gradient.masked_fill_(torch.from_numpy(clipped).to(gradient.device), 0.0)


def any_of(clipped: np.ndarray) -> bool:
    """Whether one is marked; those of `recurrent_trace.unclipped` are one mark."""
    return bool(clipped.any() if any(clipped.strides) else clipped.size and clipped.flat[0])


def slopes_times(
    codes: np.ndarray, slopes: Sequence[Tensor], others: Sequence[tuple[np.ndarray, float]]
) -> Tensor:
    """For each gate g of codes [T, B, gates, H] its slopes by code, times reals (codes and their scale)."""
    frames, batch, gates, units = codes.shape
    rows = np.ascontiguousarray(codes).reshape(frames * batch, gates, units)
    made = torch.empty(codes.shape, dtype=slopes[0].dtype)
    out = made.view(rows.shape).numpy()
    for gate, (slope, (other, scale)) in enumerate(zip(slopes, others, strict=True)):
        factor = np.ascontiguousarray(other).reshape(len(rows), units)
        numbers = slope.numpy(), factor, out.dtype.type(scale)
        slope_times(rows, *numbers, gate, out)  # type: ignore[no-untyped-call]
    return made


@cache
def slopes_by_code(of: Callable[[Tensor], Tensor], scale: float, dtype: torch.dtype) -> Tensor:
    """The slope of a curve at each code of 16 bits."""
    return of(torch.arange(-(2**15), 2**15, dtype=dtype) * scale)


def sigmoid_slope(a: Tensor) -> Tensor:
    s = torch.sigmoid(a)
    return torch.addcmul(s, s, s, value=-1)


def tanh_slope(a: Tensor) -> Tensor:
    """1 - tanh(a)^2 = 4 s(1-s) with s = sigmoid(2a); 0 where tanh rounds to 1, which Q0.15 has not."""
    return sigmoid_slope(2 * a).mul_(4).masked_fill_(a > ROUNDS_TO_ONE, 0.0)


def over_frames(gradient: Tensor, x: Tensor) -> Tensor:
    """Σ gradient' x over frames and batch: the gradient of a weight [rows, K], one product of matrices."""
    return gradient.flatten(0, 1).T @ x.flatten(0, 1)
