"""Integer nodes with a gradient: forward by the kernel that ships, backward by the meaning over the reals.

    forward    codes by the integer kernel; as a tensor, a *link*: it has the shape of the reals that the
               codes stand for and their gradient, and no entries of its own
    backward   the gradient of the node's meaning over the reals, at the reals its operands stand for;
               zero for each result that saturated

From forward to backward a node holds the codes of its operands, and which codes of its results lie at an end
of their range; reals are made of codes where a gradient asks for them. Gradients of operators that take most
of the time are written out in `nnaq.train.gradients`; all others are found by going through the meaning.

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
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nnaq.ir.op import Attr, Signature, lookup
from nnaq.ir.types import TensorType
from nnaq.kernels.boundary import code_bounds
from nnaq.kernels.lstm_numbers import Sums
from nnaq.train import recurrent
from nnaq.train.codes import Ends, cleared, ends_of
from nnaq.train.gradients import Behind, is_table_of_8, written

WITHOUT_SLOPE = ("whole", "flag")  # what an operand demands to be: no gradient goes to it
BY_SHAPE = ("reshape", "transpose", "slice", "concat")  # gradients that depend on shapes only


@dataclass(frozen=True)
class Ran:
    """An integer node that ran: `op` and `attrs` of its real form, its own `signature`, its codes.

    sums: of an LSTM, where its forward pass kept them.
    """

    op: str
    attrs: Mapping[str, Attr]
    signature: Signature
    codes: tuple[Tensor | None, ...]
    made: tuple[Tensor, ...]
    sums: Sums | None = None

    def is_link(self, place: int) -> bool:
        """Whether an operand's tensor is a link; a bias and an island's reals are what they are."""
        kind = self.signature.inputs[place]
        return kind is not None and kind.quant is not None

    @property
    def is_recurrent(self) -> bool:
        """Whether it has a gradient that follows its states through time."""
        is_integer = all(kind.quant is not None for kind in self.signature.outputs)
        return is_integer and recurrent.supports(self.op, self.signature)


def results_of(
    ran: Ran, operands: Sequence[Tensor | None], ends: Sequence[Tensor | None]
) -> Sequence[Tensor]:
    """The links of the results; an island's result is its reals.

    operands: links, or tensors that are what they are. ends: low and high of each result's range, where it
    is learned.
    """
    if not torch.is_grad_enabled():
        return _links(ran)
    made: Sequence[Tensor] = _Results.apply(ran, len(operands), *operands, *ends)  # type: ignore[no-untyped-call]
    return made


def rounded(reals: Tensor, codes: Tensor, kind: TensorType) -> Tensor:
    """The link of codes that reals, a parameter or an input, were rounded to; its gradient is theirs."""
    if not torch.is_grad_enabled():
        return link_of(codes)
    made: Tensor = _Rounded.apply(reals, codes, kind)  # type: ignore[no-untyped-call]
    return made


def shown(link: Tensor, reals: Tensor) -> Tensor:
    """Reals, with the gradient of their link."""
    made: Tensor = _Shown.apply(link, reals)  # type: ignore[no-untyped-call]
    return made


def link_of(codes: Tensor) -> Tensor:
    """A link without a gradient: one entry, in the shape of the codes."""
    return torch.zeros((), device=codes.device).expand(codes.shape)


def _links(ran: Ran) -> tuple[Tensor, ...]:
    """Of every result; reals are what they are."""
    kinds = ran.signature.outputs
    return tuple(
        codes.detach() if kind.quant is None else link_of(codes)
        for codes, kind in zip(ran.made, kinds, strict=True)
    )


class _Shown(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, link: Tensor, reals: Tensor) -> Tensor:
        return reals.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, reals: Tensor, codes: Tensor, kind: TensorType) -> Tensor:
        clipped = ends_of(codes, kind).clipped(lambda: reals)
        ctx.save_for_backward(clipped)
        return link_of(codes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return cleared(gradient, *ctx.saved_tensors), None, None


class _Results(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ran: Ran, count: int, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        ctx.links = [tensor is not None and ran.is_link(i) for i, tensor in enumerate(tensors[:count])]
        own = (None if link else tensor for link, tensor in zip(ctx.links, tensors, strict=False))
        ctx.save_for_backward(*own, *tensors[count:])
        kinds, moves = ran.signature.outputs, lookup(ran.op).moves
        learned = any(end is not None for end in tensors[count:])
        exact = moves or ran.is_recurrent or (is_table_of_8(ran.signature) and not learned)
        ctx.ends = tuple(None if exact else _ends_of(*one) for one in zip(ran.made, kinds, strict=True))
        ctx.made = ran.made if learned or ran.is_recurrent else ()
        ctx.ran, ctx.count = replace(ran, made=()), count
        return _links(ran)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        ran, count = ctx.ran, ctx.count
        own, ends, needed = ctx.saved_tensors[:count], ctx.saved_tensors[count:], ctx.needs_input_grad[2:]
        wanted = [want and _has_slope(ran.op, place) for place, want in enumerate(needed[:count])]
        operands = ran.codes, ctx.links, own, wanted
        behind = Behind(ran.op, ran.attrs, ran.signature, *operands, upstream, ctx.ends)
        moved: list[Tensor | None] = [None] * len(ends)
        if ran.is_recurrent:
            found = _through_time(behind, ctx.made, ran.sums)
        elif any(end is not None for end in ends):
            found, moved = _through_meaning(behind, ends, ctx.made)
        else:
            found = written(behind) or _through_meaning(behind, ends, ())[0]
        return None, None, *found, *moved


def _ends_of(codes: Tensor, kind: TensorType) -> Ends | None:
    return None if kind.quant is None else ends_of(codes, kind)


def _has_slope(op: str, position: int) -> bool:
    return lookup(op).demands.get(position) not in WITHOUT_SLOPE


def _through_time(behind: Behind, made: Sequence[Tensor], sums: Sums | None) -> list[Tensor | None]:
    """A recurrent layer's own gradient; compiled loops trace its states, on the host."""
    codes = [None if one is None else one.cpu().numpy() for one in behind.codes]
    operands = [behind.real(place) for place in range(len(behind.own))]
    arrays = [one.cpu().numpy() for one in made]
    given = behind.op, behind.signature, codes, arrays, operands, behind.upstream, sums
    found = recurrent.gradients(*given)
    return [one if want else None for one, want in zip(found, behind.wanted, strict=True)]


def _through_meaning(
    behind: Behind, ends: Sequence[Tensor | None], made: Sequence[Tensor]
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """The gradients of operands and of learned ranges, by way of the operator's meaning."""
    with torch.enable_grad():
        leaves = [
            None if one is None else one.detach().requires_grad_(want)
            for one, want in zip(_leaves(behind), behind.wanted, strict=True)
        ]
        meant = lookup(behind.op).real(torch, behind.attrs, *leaves)
    kept = [
        one if at_ends is None else cleared(one, at_ends.clipped(real.detach))
        for real, at_ends, one in zip(meant, behind.ends, behind.upstream, strict=True)
    ]
    asked = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
    slopes = iter(_slopes(meant, asked, kept))
    moved = (
        [
            None if end is None else _of_range(end, real.detach(), codes, kind, one)
            for end, real, codes, kind, one in zip(
                ends, meant, made, behind.signature.outputs, behind.upstream, strict=True
            )
        ]
        if made
        else []
    )
    return [next(slopes) if want else None for want in behind.wanted], moved


def _leaves(behind: Behind) -> list[Tensor | None]:
    """The operands as reals; those that are only moved, whatever they are, as links."""
    places = range(len(behind.own))
    if behind.op not in BY_SHAPE:
        return [behind.real(place) for place in places]
    found = zip(behind.links, behind.own, behind.codes, strict=False)
    return [link_of(codes) if is_link and codes is not None else own for is_link, own, codes in found]


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
