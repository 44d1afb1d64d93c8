"""DKM: k-means by attention inside of the forward pass; gradients flow through its rounds.

In code units u = w / scale[row], for all weights i that share a table, v_i = scale[row]^2:

    A_ij = softmax_j(-|u_i - c_j| / tau)
    c_j  <- sum_i v_i A_ij u_i / sum_i v_i A_ij          until no c_j moves by more than `tolerance`, or
                                                         `iterations` rounds are done
    wq   = scale[row] sum_j A_ij c_j                     A at the last c
    hard   the entry nearest to u, of the table clip(round(c_j), -127, 127): snapped

tau and tolerance are in units of the mean spacing of the table's centroids, so that one number serves all
widths. A centroid that gets less than 1e-6 of one weight stays where it is, a 0 that the palette demands
too. Nothing is trained but the weights: after every update the centroids are found anew from those before,
the first ones being the Lloyd-Max table of the float baseline, and rest in the state.

Difference from GQ: DKM finds its centroids by soft k-means anew; GQ trains them and anneals.

Complexity   O(n log K) time and O(n) memory a round for n weights and K centroids: attention.py.
Source       Cho et al., DKM: Differentiable k-means clustering layer for neural network compression, 2022,
             by way of a third-party card (there tau 2e-5 in units of the weights, at most 5 rounds, 1e-4,
             k-means++ at the start). The units of tau, weighing by the scale, the start and the int8 grid
             are a reconstruction.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnaq.codebooks.coded import Coded
from nnaq.codebooks.grid import HIGHEST
from nnaq.train.schemes.attention import Attention, attend, mean_spacing
from nnaq.train.schemes.base import Progress, Weight
from nnaq.train.schemes.options import chosen, option
from nnaq.train.schemes.palettes import PaletteScheme, fitted_start, level_count, nearest, widened

LEAST = 1e-6  # what weights must give a centroid together, in weights, for it to move


@dataclass(frozen=True)
class DkmOptions:
    """See the module."""

    tau: float = option(0.1, "temperature, in mean spacings of the centroids", low=1e-4, high=10)
    iterations: int = option(5, "rounds of k-means in a forward pass, at most", low=1, high=100)
    tolerance: float = option(1e-4, "a move, in mean spacings, below which rounds end", low=0, high=1)


class Dkm(PaletteScheme):
    """A weight that is clustered in every forward pass.

    centroids: [tables, E] in code units. zero: which of them stay 0.
    """

    Options = DkmOptions
    centroids: Tensor
    zero: Tensor

    def __init__(self, weight: Weight, **options: Any) -> None:
        own = chosen(DkmOptions, "dkm", options)
        scale, tables = fitted_start(weight, "lloyd_max")
        super().__init__(weight, scale, weight.rows)
        self.options = own
        levels = torch.tensor([widened(table, level_count(weight.choice)) for table in tables])
        self.register_buffer("centroids", levels)
        self.register_buffer("zero", (levels == 0) & (weight.choice.zero != "free"))

    def soft(self, parameter: Tensor) -> Tensor:
        """wq, from the centroids that its rounds end with."""
        units = self.units(parameter)
        centroids = self._clustered(units).sort(dim=1).values
        return self.reals(self._attention(units, centroids).means())

    def hard(self, parameter: Tensor) -> Coded:
        """The nearest entry of the snapped table."""
        codes = torch.round(self.centroids.to("cpu").double()).clamp(-HIGHEST, HIGHEST).sort(dim=1).values
        index = nearest(self.exact_units(parameter), codes, self.owner.to("cpu"))
        return self.hard_of(index, codes, self.scale)

    def on_step_end(self, parameter: Tensor, progress: Progress) -> None:
        """Find the centroids of the updated weights."""
        with torch.no_grad():
            self.centroids.copy_(self._clustered(self.units(parameter)).clamp(-HIGHEST, HIGHEST))

    def _clustered(self, units: Tensor) -> Tensor:
        """The centroids after the rounds, [tables, E]."""
        centroids, spacing = self.centroids, mean_spacing(self.centroids)
        for _ in range(self.options.iterations):
            before, centroids = centroids, self._round(units, centroids)
            if float(((centroids - before).detach().abs() / spacing).max()) <= self.options.tolerance:
                break
        return centroids

    def _round(self, units: Tensor, centroids: Tensor) -> Tensor:
        """Means of the weights by attention; a centroid that stays may be overtaken by others."""
        ascending, order = centroids.sort(dim=1)
        attention = self._attention(units, ascending)
        importance = self._importance()[:, None].expand_as(units)
        mass, along = attention.gathered(importance), attention.gathered(importance * units)
        stays = (mass <= LEAST) | self.zero.gather(1, order)
        found = torch.where(stays, ascending, along / torch.where(stays, 1.0, mass))
        return torch.zeros_like(found).scatter(1, order, found)

    def _importance(self) -> Tensor:
        """v over its mean among the rows of a table, [R]."""
        square = (self.scale / self.scale.amax()).square()
        sums = square.new_zeros(2, len(self.centroids))
        total, count = sums.index_add(1, self.owner, torch.stack([square, torch.ones_like(square)]))
        mean = total.clamp(min=torch.finfo(square.dtype).tiny) / count.clamp(min=1)
        return torch.div(square, mean[self.owner])

    def _attention(self, units: Tensor, centroids: Tensor) -> Attention:
        """A."""
        return attend(units, centroids, self.owner, 1 / (self.options.tau * mean_spacing(self.centroids)))
