"""Integer nodes with a gradient: forward by the kernel that ships, backward by the meaning over the reals.

    forward    codes by the integer kernel; as a tensor, the reals that the codes stand for
    backward   the gradient of the node's meaning over the reals, at the reals its operands stand for;
               zero for each result that saturated

A result counts as saturated where its code lies at the end of its range and the real result lies more
than half a step beyond it, that is where clamping changed the code. This holds for quantisers (an input
outside of its range gets no gradient), for parameters and for every node. Where a meaning has no slope
there is no gradient: flags, whole numbers (indices among them), steps. Recurrent layers have a gradient
of their own, which follows the integer states and sees every saturation: `nnaq.train.recurrent`.

Learned ranges. Let a result have codes q of step s over [low, high], e = (q - zero_point) - real / s its
rounding, |e| <= 1/2, and n steps (255 for i8; for i16, whose range is ± max(-low, high), n = 32,767). Then

    i8     d result / d high = 1 above the range, 0 below it, e / n inside
           d result / d low  = 1 below the range, 0 above it, -e / n inside
    i16    d result / d size = 1 above the range, -1 below it, e / n inside; size = max(-low, high) is that
           of the end that is farther from 0, and the other end has no gradient

and the gradient is divided by sqrt(number of values), as learned step sizes do. Results of recurrent layers
have no learned range: they lie within known bounds. Source: learned step size quantisation, as public code
has it (lsq-net), carried over from the step to the two ends of a range; that form is a reconstruction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnaq.ir.op import Attr, Signature, lookup
from nnaq.ir.types import TensorType, bounds
from nnaq.kernels.boundary import code_bounds, quantize_array
from nnaq.train import recurrent

WITHOUT_SLOPE = ("whole", "flag")  # what an operand demands to be: no gradient goes to it


@dataclass(frozen=True)
class Ran:
    """An integer node that ran: `op` and `attrs` of its real form, its own `signature`, its codes."""

    op: str
    attrs: Mapping[str, Attr]
    signature: Signature
    codes: tuple[Tensor | None, ...]
    made: tuple[Tensor, ...]

    @property
    def is_integer(self) -> bool:
        """Whether it makes codes; an island makes reals."""
        return all(kind.quant is not None for kind in self.kinds)

    @property
    def kinds(self) -> tuple[TensorType, ...]:
        """The types of the results."""
        return self.signature.outputs


def results_of(
    ran: Ran, operands: Sequence[Tensor | None], ends: Sequence[Tensor | None]
) -> Sequence[Tensor]:
    """The results as reals with gradients. ends: low and high of each result's range, where it is learned."""
    made: Sequence[Tensor] = _Results.apply(ran, len(operands), *operands, *ends)  # type: ignore[no-untyped-call]
    return made


def rounded(parameter: Tensor, codes: Tensor, kind: TensorType) -> Tensor:
    """A parameter in the forward pass as its codes' reals, in the backward pass as itself."""
    made: Tensor = _Rounded.apply(parameter, codes, kind)  # type: ignore[no-untyped-call]
    return made


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameter: Tensor, codes: Tensor, kind: TensorType) -> Tensor:
        ctx.save_for_backward(parameter)
        ctx.codes, ctx.kind = codes, kind
        return reals_of(codes, kind)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (parameter,) = ctx.saved_tensors
        return torch.where(saturated(parameter, ctx.codes, ctx.kind), 0.0, gradient), None, None


class _Results(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ran: Ran, count: int, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        ctx.ran, ctx.count = ran, count
        ctx.save_for_backward(*tensors)
        return tuple(reals_of(codes, kind) for codes, kind in zip(ran.made, ran.kinds, strict=True))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        ran, operands = ctx.ran, ctx.saved_tensors[: ctx.count]
        ends, needed = ctx.saved_tensors[ctx.count :], ctx.needs_input_grad[2 : 2 + ctx.count]
        if ran.is_integer and recurrent.supports(ran.op, ran.signature):
            codes = [None if one is None else _on_host(one) for one in ran.codes]
            made = [_on_host(one) for one in ran.made]
            own = recurrent.gradients(ran.op, ran.signature, codes, made, operands, upstream)
            found = [one if want else None for one, want in zip(own, needed, strict=True)]
            return None, None, *found, *(None for _ in ends)
        wanted = [want and _has_slope(ran.op, position) for position, want in enumerate(needed)]
        with torch.enable_grad():
            pairs = zip(operands, wanted, strict=True)
            leaves = [None if o is None else o.detach().requires_grad_(want) for o, want in pairs]
            meant = lookup(ran.op).real(torch, ran.attrs, *leaves)
        beyond = [
            saturated(real.detach(), codes, kind)
            for real, codes, kind in zip(meant, ran.made, ran.kinds, strict=True)
        ]
        kept = [torch.where(out, 0.0, one) for out, one in zip(beyond, upstream, strict=True)]
        asked = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
        slopes = iter(_slopes(meant, asked, kept))
        moved = [
            None if end is None else _of_range(end, real.detach(), codes, kind, one)
            for end, real, codes, kind, one in zip(ends, meant, ran.made, ran.kinds, upstream, strict=True)
        ]
        return None, None, *(next(slopes) if want else None for want in wanted), *moved


def _on_host(codes: Tensor) -> np.ndarray:
    """Codes as an array: a recurrent layer's trajectory is traced by compiled loops."""
    array: np.ndarray = codes.cpu().numpy()
    return array


def _has_slope(op: str, position: int) -> bool:
    return lookup(op).demands.get(position) not in WITHOUT_SLOPE


def _slopes(
    meant: Sequence[Tensor], operands: Sequence[Tensor], gradients: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    """Gradients of operands; None for each that no result follows by a slope (flags, whole numbers)."""
    sloped = [(real, gradient) for real, gradient in zip(meant, gradients, strict=True) if real.requires_grad]
    if not sloped:
        return [None] * len(operands)
    results, upstream = zip(*sloped, strict=True)
    return torch.autograd.grad(results, operands, upstream, allow_unused=True)


def _of_range(end: Tensor, real: Tensor, codes: Tensor, kind: TensorType, upstream: Tensor) -> Tensor:
    """The gradient of low and high, [2]; see the module."""
    low, high = code_bounds(kind)
    position = real / kind.scale + kind.zero_point
    q = codes.to(real.dtype)
    below, above = (q == low) & (position < low - 0.5), (q == high) & (position > high + 0.5)
    steps = 255.0 if kind.dtype == "i8" else 32767.0
    inside = torch.where(below | above, 0.0, (q - position) / steps)
    to_high = (upstream * (above + inside)).sum()
    to_low = (upstream * (below.to(real.dtype) - inside)).sum()
    if kind.dtype == "i16":
        size, nothing = to_high - (upstream * below).sum(), torch.zeros_like(to_high)
        to_low, to_high = (nothing, size) if end[1] >= -end[0] else (-size, nothing)
    made: Tensor = torch.stack([to_low, to_high]) / max(real.numel(), 1) ** 0.5
    return made


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
    return (codes.long() - kind.zero_point).to(torch.float32) * _scales(codes, kind)


def saturated(real: Tensor, codes: Tensor, kind: TensorType) -> Tensor:
    """Where clamping changed a code: it is at an end of its range, the real more than half a step beyond."""
    if kind.quant is None:
        return torch.zeros((), dtype=torch.bool, device=real.device)
    low, high = code_bounds(kind)
    steps = real / _scales(codes, kind) + kind.zero_point
    return ((codes == low) & (steps < low - 0.5)) | ((codes == high) & (steps > high + 0.5))


def _scales(codes: Tensor, kind: TensorType) -> Tensor:
    """The scale, or those of the channels along their axis, float32."""
    assert kind.quant is not None
    return torch.as_tensor(kind.quant.scales(codes.ndim), dtype=torch.float32, device=codes.device)
