"""Codes as tensors: the reals they stand for, the codes of reals, and where clamping changed a code.

On the CPU whole tensors are turned by the compiled passes of `nnaq.kernels`, on other devices by operators of
torch, with the same results.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nnaq.ir.types import TensorType, bounds
from nnaq.kernels import gradient_passes as compiled
from nnaq.kernels.boundary import code_bounds, dequantize_array, quantize_array


def codes_of(reals: Tensor, kind: TensorType) -> Tensor:
    """The codes of a state's reals; those of 32 bits come in float64, which holds them all."""
    if kind.dtype != "i32":
        return torch.from_numpy(quantize_array(reals.detach().cpu().numpy(), kind)).to(reals.device)
    low, high = bounds(kind.dtype)
    return (reals.detach() / kind.scale).round().clamp(low, high).to(torch.int32)


def reals_of(codes: Tensor, kind: TensorType) -> Tensor:
    """The reals of codes as a new float32 tensor; a value without codes is its own.

    f32(q - zero_point) * f32(scale), as `dequantize` computes it.
    """
    if kind.quant is None:
        return codes.to(torch.float32, copy=True)
    if codes.device.type == "cpu":
        return torch.from_numpy(dequantize_array(codes.numpy(), kind))
    return (codes.long() - kind.zero_point).to(torch.float32) * _scales(codes, kind)


class Ends(NamedTuple):
    """The codes of a result that lie at an end of their range: the only ones that a clamp can have changed.

    places: where they are in the flat result. Where they are many it is None, and `codes` are all codes.
    scales: of the codes.
    """

    kind: TensorType
    codes: Tensor
    scales: Tensor
    places: Tensor | None

    def clipped(self, whole: Callable[[], Tensor], at: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The places where clamping changed a code: there the real lies more than half a step beyond it.

        whole: the real result, flat or in shape. at: its entries at places, where those can be had alone.
        """
        if self.places is None:
            reals = whole().reshape(self.codes.shape)
            if self._is_within(reals):
                return torch.empty(0, dtype=torch.int64, device=reals.device)
            return self._beyond(reals).reshape(-1).nonzero().reshape(-1)
        if not self.places.numel():
            return self.places
        reals = whole().reshape(-1)[self.places] if at is None else at(self.places)
        return self.places[self._beyond(reals)]

    def _is_within(self, reals: Tensor) -> bool:
        """Whether no real can be beyond: quicker to see than where they are."""
        least, most = (torch.stack(torch.aminmax(reals)) / self.scales.min() + self.kind.zero_point).tolist()
        low, high = code_bounds(self.kind)
        return bool(low - 0.5 <= least and most <= high + 0.5)

    def _beyond(self, reals: Tensor) -> Tensor:
        low, high = code_bounds(self.kind)
        steps = reals / self.scales + self.kind.zero_point
        return ((self.codes == low) & (steps < low - 0.5)) | ((self.codes == high) & (steps > high + 0.5))


def ends_of(codes: Tensor, kind: TensorType) -> Ends:
    """The ends among the codes of a result; places are held where that takes no more room than the codes."""
    places, scales = _at_ends(codes, *code_bounds(kind)), _scales(codes, kind)
    if places is None:
        return Ends(kind, codes, scales, None)
    if scales.numel() == 1:
        return Ends(kind, codes.reshape(-1)[places], scales.reshape(()), places)
    where = torch.unravel_index(places, codes.shape)
    return Ends(kind, codes[where], scales.expand(codes.shape)[where], places)


def _at_ends(codes: Tensor, low: int, high: int) -> Tensor | None:
    """Where the codes are that are low or high; None where that takes more memory than all codes."""
    room = codes.numel() * codes.element_size() // torch.int64.itemsize
    if codes.device.type == "cpu":
        places = np.empty(room, np.int64)
        flat = codes.contiguous().reshape(-1).numpy()
        ends = flat.dtype.type(low), flat.dtype.type(high)  # compared in their own width
        count = compiled.at_ends(flat, *ends, places)  # type: ignore[no-untyped-call]
        return None if count > room else torch.from_numpy(places[:count].copy())
    found = ((codes == low) | (codes == high)).reshape(-1).nonzero().reshape(-1)
    return None if len(found) > room else found


def cleared(gradient: Tensor, places: Tensor) -> Tensor:
    """The gradient with 0 at places of the flat tensor; itself where there are none."""
    if not places.numel():
        return gradient
    kept = gradient.clone(memory_format=torch.contiguous_format)
    kept.reshape(-1).index_fill_(0, places, 0.0)
    return kept


def by_code(gradient: Tensor, codes: Tensor, slopes: Tensor) -> Tensor:
    """gradient * slopes[codes + 128], for i8 codes."""
    if codes.device.type != "cpu":
        return gradient * slopes[codes.long() + 128]
    made = np.empty(gradient.shape, np.float32)
    upstream, q = (one.contiguous().reshape(-1).numpy() for one in (gradient, codes))
    compiled.by_code(upstream, q, slopes.numpy(), made.reshape(-1))  # type: ignore[no-untyped-call]
    return torch.from_numpy(made)


def _scales(codes: Tensor, kind: TensorType) -> Tensor:
    """The scale, or those of the channels along their axis, float32."""
    assert kind.quant is not None
    return torch.as_tensor(kind.quant.scales(codes.ndim), dtype=torch.float32, device=codes.device)
