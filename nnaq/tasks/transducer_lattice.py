"""Sums over all paths of the transducer's lattice, in float64: compiled loops on the CPU, torch elsewhere.

A node (t, u) has read t frames whole and written u labels. From it a path goes on by blank to (t + 1, u) or
by its next label to (t, u + 1); it ends by the blank that leaves (T - 1, U). With the log-probabilities
blank(t, u) and label(t, u), and log_add(a, b) = log(e^a + e^b):

    alpha(0, 0) = 0
    alpha(t, u) = log_add(alpha(t - 1, u) + blank(t - 1, u), alpha(t, u - 1) + label(t, u - 1))
    beta(T, U)  = 0,   beta(T, u) = -inf for u < U
    beta(t, u)  = log_add(blank(t, u) + beta(t + 1, u), label(t, u) + beta(t, u + 1))
    log P       = alpha(T - 1, U) + blank(T - 1, U) = beta(0, 0)

where a term whose node does not exist is -inf. Both forms evaluate these very formulas: the loops row by
row, torch along anti-diagonals t + u = n, whose nodes do not depend on each other, all utterances at once.
Logarithms of zero stay -inf, NaN stays NaN.

blank and label: [B, T, U + 1] float64, -inf outside of an utterance and at the label after its last one.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from nnaq.jit import jit

NEVER = -float("inf")


def alphas(blank: Tensor, label: Tensor, frames: list[int], labels: list[int]) -> Tensor:
    """alpha [B, T, U + 1]; what lies outside of an utterance means nothing."""
    if blank.device.type != "cpu":
        return diagonal_alphas(blank, label)
    found = torch.full_like(blank, NEVER)
    sizes = np.array(frames, np.int64), np.array(labels, np.int64)
    _alphas(blank.numpy(), label.numpy(), *sizes, found.numpy())
    return found


def betas(blank: Tensor, label: Tensor, frames: list[int], labels: list[int]) -> Tensor:
    """beta [B, T + 1, U + 2]; the last column is -inf, as is all that no path of the utterance meets."""
    if blank.device.type != "cpu":
        return diagonal_betas(blank, label, frames, labels)
    found = pad(torch.full_like(blank, NEVER), (0, 1, 0, 1), value=NEVER)
    sizes = np.array(frames, np.int64), np.array(labels, np.int64)
    _betas(blank.numpy(), label.numpy(), *sizes, found.numpy())
    return found


@jit
def _log_add(a: float, b: float) -> float:
    larger, smaller = (a, b) if a > b else (b, a)
    return larger if smaller == -np.inf else larger + np.log1p(np.exp(smaller - larger))


@jit
def _alphas(
    blank: np.ndarray, label: np.ndarray, frames: np.ndarray, labels: np.ndarray, alpha: np.ndarray
) -> None:
    for b in range(frames.size):
        for t in range(frames[b]):
            for u in range(labels[b] + 1):
                by_blank = alpha[b, t - 1, u] + blank[b, t - 1, u] if t else -np.inf
                by_label = alpha[b, t, u - 1] + label[b, t, u - 1] if u else -np.inf
                alpha[b, t, u] = _log_add(by_blank, by_label) if t + u else 0.0


@jit
def _betas(
    blank: np.ndarray, label: np.ndarray, frames: np.ndarray, labels: np.ndarray, beta: np.ndarray
) -> None:
    for b in range(frames.size):
        beta[b, frames[b], labels[b]] = 0.0
        for t in range(frames[b] - 1, -1, -1):
            for u in range(labels[b], -1, -1):
                by_blank = blank[b, t, u] + beta[b, t + 1, u]
                by_label = label[b, t, u] + beta[b, t, u + 1]
                beta[b, t, u] = _log_add(by_blank, by_label)


def diagonal_alphas(blank: Tensor, label: Tensor) -> Tensor:
    """`alphas` on any device that has float64: T + U steps, each over a whole anti-diagonal of the batch."""
    blanks, nexts = _skewed(blank), _skewed(label)
    found = torch.full_like(blanks, NEVER)
    found[0, :, 0] = 0.0
    for n in range(1, len(found)):
        by_label = pad((found[n - 1] + nexts[n - 1])[:, :-1], (1, 0), value=NEVER)
        found[n] = torch.logaddexp(found[n - 1] + blanks[n - 1], by_label)
    return _straight(found, blank.shape[1])


def diagonal_betas(blank: Tensor, label: Tensor, frames: list[int], labels: list[int]) -> Tensor:
    """`betas` likewise, from the ends of all utterances to their common start."""
    blanks, nexts = (_skewed(pad(table, (0, 1, 0, 1), value=NEVER)) for table in (blank, label))
    found = torch.full_like(blanks, NEVER)
    ends, last = torch.tensor([frames, labels], device=blank.device)
    found[ends + last, torch.arange(len(frames), device=blank.device), last] = 0.0
    for n in range(len(found) - 2, -1, -1):
        by_label = nexts[n] + pad(found[n + 1][:, 1:], (0, 1), value=NEVER)
        by_either = torch.logaddexp(blanks[n] + found[n + 1], by_label)
        found[n] = torch.logaddexp(found[n], by_either)
    return _straight(found, blank.shape[1] + 1)


def _skewed(table: Tensor) -> Tensor:
    """[B, rows, columns] -> [rows + columns - 1, B, columns]: anti-diagonals, -inf where there is no row."""
    batch, rows, columns = table.shape
    out = table.new_full((rows + columns - 1, batch, columns), NEVER)
    place = torch.arange(rows, device=table.device)[:, None] + torch.arange(columns, device=table.device)
    return out.scatter_(0, place[:, None].expand(-1, batch, -1), table.transpose(0, 1))


def _straight(diagonals: Tensor, rows: int) -> Tensor:
    """The inverse of `_skewed`."""
    _, batch, columns = diagonals.shape
    device = diagonals.device
    place = torch.arange(rows, device=device)[:, None] + torch.arange(columns, device=device)
    return diagonals.gather(0, place[:, None].expand(-1, batch, -1)).transpose(0, 1)
