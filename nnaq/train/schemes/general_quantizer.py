"""GQ: weights gather on trainable centroids through a softmax whose temperature anneals; no penalty.

In the space of mu-law companding, with the reach r of a table (fixed at the start: the largest |w / scale|
of its rows, at least 127) and u = w / scale[row]:

    M(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu),      M^-1(y) = sign(y) ((1 + mu)^|y| - 1) / mu
    z  = M(clip(u / r, -1, 1))
    p_j = softmax_j(-alpha |z - c_j|),   zq = sum_j p_j c_j,   wq = scale[row] r M^-1(zq)
    alpha = a / Delta,  Delta = mean spacing of the table's centroids (no gradient through it)
    a(t) = first (last / first)^(t / T),     2 * 32^(t / T) by default

    gradients   d zq / d z   = alpha sum_j p_j (S - sgn(z - c_j)) c_j,     S = sum_l p_l sgn(z - c_l)
                d zq / d c_j = p_j (1 + alpha sgn(z - c_j) (c_j - zq))
    hard        j = argmin |z - c_j| (of two the lower), code = clip(round(r M^-1(c_j)), -127, 127)

Hard weights ship, always; forward "soft" trains on wq, "hard" on hard weights with the gradient of wq.
Every `every`-th step is quantised, the others read the float weights (our reading of "quantization
frequency"; integers have no float weights, so only `emulate = "weights"` takes it). Centroids are
parameters; they are sorted before use, kept within the reach of int8 after every step, and a 0 that the
palette demands stays 0. A table that began with fewer entries than its bits allow gets more of them in its
widest gaps. 1 bit is two centroids.

Complexity   O(n log K) time and O(n) memory for n weights and K centroids: attention.py.
Source       Zhen et al., Sub-8-bit quantization for on-device speech recognition: a regularization-free
             approach, SLT 2022, of which abstract and opening could be read; softmax over absolute distances
             as in the first author's earlier public codec code. The rest is a reconstruction: where the
             companding stands, the scales, the schedule, the int8 grid, mu = 15, the start at Lloyd-Max
             tables.
"""

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from nnaq.codebooks.choice import Method
from nnaq.codebooks.coded import Coded
from nnaq.codebooks.grid import HIGHEST
from nnaq.train.schemes.attention import attend, mean_spacing
from nnaq.train.schemes.base import Progress, Weight
from nnaq.train.schemes.options import chosen, option
from nnaq.train.schemes.palettes import PaletteScheme, fitted_start, level_count, nearest, widened


@dataclass(frozen=True)
class GeneralQuantizerOptions:
    """See the module."""

    mu: float = option(15.0, "of the companding; towards 0 the space is linear", low=1e-3, high=1e4)
    initial: str = option(
        "lloyd_max",
        "how the first centroids are found on the float baseline",
        words=("lloyd_max", "optimal", "uniform", "mu_law"),
    )
    first: float = option(2.0, "a at the first step; 1 is soft, 64 nearly hard", low=1e-2, high=1e4)
    last: float = option(64.0, "a at the last step", low=1e-2, high=1e4)
    forward: str = option("soft", "which weights training reads", words=("soft", "hard"))
    every: int = option(1, "every how many steps the forward pass is quantised", low=1)


class GeneralQuantizer(PaletteScheme):
    """A weight that gathers on trainable centroids.

    centroids: [tables, E], companded. reach: [tables, 1], in code units. zero: which centroids stay 0.
    """

    Options = GeneralQuantizerOptions
    reach: Tensor
    zero: Tensor
    share = 0.0
    quantised = True

    def __init__(self, weight: Weight, **options: Any) -> None:
        own = chosen(GeneralQuantizerOptions, "general_quantizer", options)
        scale, tables = fitted_start(weight, cast(Method, own.initial))
        super().__init__(weight, scale, weight.rows)
        self.options = own
        levels = torch.tensor([widened(table, level_count(weight.choice)) for table in tables])
        reach = np.full((len(tables), 1), float(HIGHEST))
        sizes = np.abs(self.exact_units(torch.from_numpy(np.asarray(weight.value))).numpy())
        np.maximum.at(reach[:, 0], self.owner.numpy(), sizes.max(axis=1, initial=0))
        self.register_buffer("reach", torch.from_numpy(reach).float())
        self.register_buffer("zero", (levels == 0) & (weight.choice.zero != "free"))
        self.centroids = nn.Parameter(compress(levels / self.reach, own.mu))

    @property
    def hardness(self) -> float:
        """a(t)."""
        return float(self.options.first * (self.options.last / self.options.first) ** self.share)

    @property
    def must_read_reals(self) -> str | None:
        """`every` above 1: the float weights of the steps between."""
        return None if self.options.every == 1 else f"every = {self.options.every}"

    def soft(self, parameter: Tensor) -> Tensor:
        """wq, hard or soft in the forward pass; the parameter itself at a step without quantisation."""
        if not self.quantised:
            return parameter
        z = self._companded(self.units(parameter), self.reach)
        centroids = self._sorted()
        alpha = self.hardness / mean_spacing(centroids)
        gathered = attend(z, centroids, self.owner, alpha).means()
        soft = self.reals(expand(gathered, self.options.mu) * self.reach[self.owner])
        if self.options.forward == "soft":
            return soft
        return soft + (torch.from_numpy(self.hard(parameter).reals()).to(soft.device) - soft).detach()

    def hard(self, parameter: Tensor) -> Coded:
        """The code of the centroid that is nearest in the companded space."""
        reach, owner = self.reach.to("cpu").double(), self.owner.to("cpu")
        centroids = self._sorted().detach().to("cpu").double()
        index = nearest(self._companded(self.exact_units(parameter), reach, owner), centroids, owner)
        codes = torch.round(expand(centroids, self.options.mu) * reach).clamp(-HIGHEST, HIGHEST)
        return self.hard_of(index, codes, self.scale)

    def on_step_begin(self, progress: Progress) -> None:
        """Anneal, and note whether this step is quantised."""
        self.share = progress.share
        self.quantised = progress.step % self.options.every == 0

    def on_step_end(self, parameter: Tensor, progress: Progress) -> None:
        """Bring centroids that left the reach of int8 back to its end."""
        end = compress(HIGHEST / self.reach, self.options.mu)
        with torch.no_grad():
            self.centroids.copy_(torch.minimum(torch.maximum(self.centroids, -end), end))

    def _sorted(self) -> Tensor:
        """The centroids, ascending."""
        return torch.where(self.zero, 0.0, self.centroids).sort(dim=1).values

    def _companded(self, units: Tensor, reach: Tensor, owner: Tensor | None = None) -> Tensor:
        """z of code units."""
        return compress((units / reach[self.owner if owner is None else owner]).clamp(-1, 1), self.options.mu)


def compress(x: Tensor, mu: float) -> Tensor:
    """M(x)."""
    return cast(Tensor, _Compress.apply(x, mu))  # type: ignore[no-untyped-call]


def expand(y: Tensor, mu: float) -> Tensor:
    """M^-1(y)."""
    return cast(Tensor, _Expand.apply(y, mu))  # type: ignore[no-untyped-call]


class _Compress(torch.autograd.Function):
    """M with its slope mu / ((1 + mu |x|) ln(1 + mu)), at 0 too, where the slope of abs is 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mu: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.mu = mu
        return torch.copysign(torch.log1p(mu * x.abs()) / math.log1p(mu), x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient * (ctx.mu / math.log1p(ctx.mu)) / (1 + ctx.mu * x.abs()), None


class _Expand(torch.autograd.Function):
    """M^-1 with its slope (1 + mu)^|y| ln(1 + mu) / mu."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, mu: float) -> Tensor:
        ctx.save_for_backward(y)
        ctx.mu = mu
        return torch.copysign(torch.expm1(y.abs() * math.log1p(mu)) / mu, y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        rate = math.log1p(ctx.mu)
        return gradient * torch.exp(y.abs() * rate) * (rate / ctx.mu), None
