"""Steps over the reals that the gradients of recurrent layers share, in torch on the operands' device."""

import math

import numpy as np
import torch
from torch import Tensor

from nnaq.kernels.recurrent_numbers import CURVE_SCALE

ROUNDS_TO_ONE = math.atanh(1 - CURVE_SCALE / 2)  # from here on: Q0.15 ends half a step below 1


def reals(codes: np.ndarray, scale: float, like: Tensor, zero_point: int = 0) -> Tensor:
    """What codes stand for, in the dtype and on the device of `like`."""
    made = torch.from_numpy(codes).to(like.device, like.dtype)
    return (made.sub_(zero_point) if zero_point else made).mul_(scale)


def masked(gradient: Tensor, clipped: np.ndarray) -> Tensor:
    """The gradient, 0 where clamping changed a code; itself where nothing was clamped."""
    if not clipped.any():
        return gradient
    keep = torch.from_numpy(~clipped).to(gradient.device, gradient.dtype)
    return gradient * keep.view(gradient.shape)


def sigmoid_slope(a: Tensor) -> Tensor:
    s = torch.sigmoid(a)
    return torch.addcmul(s, s, s, value=-1)


def tanh_slope(a: Tensor) -> Tensor:
    """1 - tanh(a)^2 = 4 s(1-s) with s = sigmoid(2a); 0 where tanh rounds to 1, which Q0.15 has not."""
    return sigmoid_slope(2 * a).mul_(4).masked_fill_(a > ROUNDS_TO_ONE, 0.0)


def over_frames(gradient: Tensor, x: Tensor) -> Tensor:
    """Σ gradient' x over frames and batch: the gradient of a weight [rows, K], one product of matrices."""
    return gradient.flatten(0, 1).T @ x.flatten(0, 1)
