"""The loss of a transducer (RNN-T): minus the log-probability of the targets, over all alignments.

Symbols      x(t, u, k) logits, y(1) … y(U) targets, T frames; alpha and beta as in `transducer_lattice`:

                 m(t, u)     = max over k of x(t, u, k)
                 s(t, u)     = Σ over k of exp(x(t, u, k) - m(t, u))
                 log p(k)    = x(t, u, k) - m(t, u) - log s(t, u)
                 blank(t, u) = log p(blank),  label(t, u) = log p(y(u + 1)),  -inf for u = U
                 loss        = -log P(y | x)  = -(alpha(T - 1, U) + blank(T - 1, U))

Gradient     from the probability that a path, given the targets, leaves the node (t, u) by blank or label:

                 a(t, u) = exp(alpha(t, u) + blank(t, u) + beta(t + 1, u) - log P)
                 b(t, u) = exp(alpha(t, u) + label(t, u) + beta(t, u + 1) - log P)
                 dloss / dx(t, u, k) = (a + b)(t, u) exp(x(t, u, k) - m(t, u)) / s(t, u)
                                       - a(t, u) [k = blank] - b(t, u) [k = y(u + 1)]

             the softmax's own gradient included: the derivative by log p is -a and -b at its two k.
Precision    alpha, beta, log p, a and b in float64; exp(x - m) and s in float64 for float64 logits, otherwise
             in float32. Logits of 16 bits are read as float32 and get a gradient of their own type.
Memory       backward, one tensor as large as the logits: their gradient. Forward, and where the logits have
             16 bits, blocks of 2^18 numbers in the type of exp (2^24 on a device). From forward to backward
             the logits and, per node (t, u), blank, label, alpha, m and s: 32 bytes, 40 for float64 logits.
Devices      blocks and gradient are torch's on every device; the lattice is compiled on the CPU and torch's
             elsewhere, on devices that have float64. Lengths and targets are looked at on the CPU. The form
             for other devices was run on the CPU only, not on a GPU.
Lengths      only nodes of an utterance are read: what its padding holds, NaN included, changes nothing, and
             the gradient there is exactly zero. A frame may emit any number of labels, so U > T is possible;
             one frame is needed, for the blank that ends every path. No label at all is possible.
Infinities   a logit of -inf has probability zero. Targets that no path reaches give the loss inf and a
             gradient with NaN to their utterance; NaN within an utterance stays within it.
Source       Graves, "Sequence Transduction with Recurrent Neural Networks", 2012, sections 2.4 and 2.5. There
             the gradient is by the output density; here it is carried on through the softmax.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnaq.errors import DataError
from nnaq.tasks.transducer_lattice import NEVER, alphas, betas

Reduction = Literal["mean", "sum", "none"]
Block = tuple[int, slice, slice]

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
CPU_BLOCK = 2**18  # numbers that stay in a cache between two operations
DEVICE_BLOCK = 2**24  # elsewhere few launches count for more


def transducer_loss(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Minus log P(targets | logits) per utterance; its mean over the batch, its sum, or all of them [B].

    logits: [B, T, U + 1, V], any float type, before the softmax. targets: [B, U] integers, never `blank`.
    logit_lengths, target_lengths: [B] integers; each utterance has 1 … T frames and 0 … U targets. The mean
    is that of torchaudio's `rnnt_loss`: over utterances, whatever their lengths. Result: float64 for float64
    logits, otherwise float32. Raises DataError where the arguments contradict each other.
    """
    if reduction not in ("mean", "sum", "none"):
        raise DataError(f"transducer_loss: reduction is {reduction!r}; it must be 'mean', 'sum' or 'none'")
    _check_logits(logits, blank)
    batch, most_frames, nodes, _ = logits.shape
    _check_integers("targets", targets, (batch, nodes - 1))
    frames = _lengths("logit_lengths", logit_lengths, batch, 1, most_frames)
    labels = _lengths("target_lengths", target_lengths, batch, 0, nodes - 1)
    _check_targets(targets, labels, blank, logits.shape[3])
    moved = targets.to(logits.device, torch.int64)
    losses: Tensor = _Loss.apply(logits, moved, frames, labels, blank)  # type: ignore[no-untyped-call]
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


class _Loss(torch.autograd.Function):
    """Losses per utterance; the gradient is made in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, frames: list[int], labels: list[int], blank: int
    ) -> Tensor:
        tables = _log_probabilities(logits, targets, frames, labels, blank)
        blanks, nexts, _, sums = tables
        alpha = alphas(blanks, nexts, frames, labels)
        last = range(len(frames)), [t - 1 for t in frames], labels
        total = alpha[last] + blanks[last]
        ctx.save_for_backward(logits, targets, *tables, alpha, total)
        ctx.frames, ctx.labels, ctx.blank = frames, labels, blank
        return -total.to(sums.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, targets, blanks, nexts, maxima, sums, alpha, total = ctx.saved_tensors
        beta = betas(blanks, nexts, ctx.frames, ctx.labels)
        reached, scale = alpha - total[:, None, None], upstream.double()[:, None, None]
        by_blank = (reached + blanks + beta[:, 1:, :-1]).exp_() * scale
        by_label = (reached + nexts + beta[:, :-1, 1:]).exp_() * scale
        visits = (by_blank + by_label) / sums
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
        for row, frames, labels in zip(gradient, ctx.frames, ctx.labels, strict=True):
            row[frames:] = row[:, labels + 1 :] = 0
        for here, index in _blocks(logits, targets, ctx.frames, ctx.labels):
            place = gradient[here]
            own = _exponentials(logits[here], maxima[here], place if place.dtype == sums.dtype else None)
            own *= visits[here].to(own.dtype)[..., None]
            own[..., ctx.blank] -= by_blank[here]
            own[:, :-1].scatter_add_(2, index, -by_label[here][:, :-1, None].to(own.dtype))
            if own is not place:
                place.copy_(own)
        return gradient, None, None, None, None


def _blocks(
    logits: Tensor, targets: Tensor, frames: list[int], labels: list[int]
) -> Iterator[tuple[Block, Tensor]]:
    """Some frames of one utterance at a time, its nodes only, and its targets as indices [frames, U, 1]."""
    most = CPU_BLOCK if logits.device.type == "cpu" else DEVICE_BLOCK
    for b, (last, count) in enumerate(zip(frames, labels, strict=True)):
        step = max(1, most // ((count + 1) * logits.shape[3]))
        for start in range(0, last, step):
            end = min(start + step, last)
            index = targets[b, :count].expand(end - start, -1)[..., None]
            yield (b, slice(start, end), slice(count + 1)), index


def _exponentials(logits: Tensor, maxima: Tensor, place: Tensor | None = None) -> Tensor:
    """exp(x - m) in the type of the maxima, in `place` or in memory of its own."""
    return torch.sub(logits, maxima[..., None], out=place).exp_()


def _log_probabilities(
    logits: Tensor, targets: Tensor, frames: list[int], labels: list[int], blank: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """blank and label, float64, m and s, all [B, T, U + 1]; outside of an utterance -inf, -inf, 0 and 1."""
    working = torch.float64 if logits.dtype == torch.float64 else torch.float32
    shape, device = logits.shape[:3], logits.device
    blanks, nexts = (torch.full(shape, NEVER, dtype=torch.float64, device=device) for _ in range(2))
    maxima, sums = (torch.full(shape, fill, dtype=working, device=device) for fill in (0, 1))
    for here, index in _blocks(logits, targets, frames, labels):
        own = logits[here]
        highest = maxima[here] = own.amax(-1).to(working)
        total = sums[here] = _exponentials(own, highest).sum(-1)
        highest, logarithm = highest.double(), total.double().log()
        blanks[here] = own[..., blank] - highest - logarithm
        chosen = own[:, :-1].gather(2, index)[..., 0]
        nexts[here][:, :-1] = chosen - highest[:, :-1] - logarithm[:, :-1]
    return blanks, nexts, maxima, sums


def _check_logits(logits: Tensor, blank: int) -> None:
    if not isinstance(logits, Tensor):
        raise DataError(f"transducer_loss: logits are {type(logits).__name__}; give a tensor")
    if logits.ndim != 4 or logits.dtype not in FLOATS:
        raise DataError(
            f"transducer_loss: logits are {logits.dtype} of shape {list(logits.shape)}; "
            "give floats of shape [B, T, U + 1, V]"
        )
    if 0 in logits.shape:
        raise DataError(
            f"transducer_loss: logits have shape {list(logits.shape)}; no axis may be empty, as every path "
            "needs a frame for its last blank: leave empty recordings out of the batch"
        )
    if not isinstance(blank, int) or not 0 <= blank < logits.shape[3]:
        raise DataError(
            f"transducer_loss: blank is {blank!r}; give its index among the logits, 0 … {logits.shape[3] - 1}"
        )


def _check_integers(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if not isinstance(tensor, Tensor) or tensor.dtype not in INTEGERS:
        found = getattr(tensor, "dtype", type(tensor).__name__)
        raise DataError(
            f"transducer_loss: {name} are {found}; give a tensor of integers, such as torch.int64"
        )
    if tuple(tensor.shape) != shape:
        raise DataError(
            f"transducer_loss: {name} have shape {list(tensor.shape)}; the logits [B, T, U + 1, V] ask for "
            f"{list(shape)}"
        )


def _lengths(name: str, tensor: Tensor, batch: int, least: int, most: int) -> list[int]:
    """The lengths as whole numbers, each within its bounds."""
    _check_integers(name, tensor, (batch,))
    found: list[int] = tensor.tolist()
    for b, length in enumerate(found):
        if not least <= length <= most:
            why = " (the last blank of every path needs a frame)" if length < least == 1 else ""
            raise DataError(
                f"transducer_loss: {name}[{b}] is {length}; the logits allow {least} … {most}{why}: "
                "correct the length or leave the utterance out"
            )
    return found


def _check_targets(targets: Tensor, labels: list[int], blank: int, size: int) -> None:
    """Every target that counts is an index of the logits and not the blank."""
    for b, (row, count) in enumerate(zip(targets.tolist(), labels, strict=True)):
        for u, label in enumerate(row[:count]):
            if label == blank or not 0 <= label < size:
                found = "the blank" if label == blank else "no index of the logits"
                raise DataError(
                    f"transducer_loss: targets[{b}, {u}] is {label}, {found}; give labels of 0 … {size - 1} "
                    f"other than {blank}, or shorten target_lengths[{b}] if it is padding"
                )
