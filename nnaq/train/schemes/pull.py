"""Schemes that leave the forward pass in float and pull the weights to their levels by a penalty.

    L = L_task + lambda(t) * sum over weights' tensors of  mean over w of R(w)
    lambda(t) = lambda * min(1, t / (ramp T))                from 0 to lambda over the first share of T steps

The ramp is a reconstruction: when published training raises lambda is not known to us.
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from nnaq.train.schemes.base import Progress
from nnaq.train.schemes.options import option
from nnaq.train.schemes.palettes import FixedTables


@dataclass(frozen=True)
class PullOptions:
    """See the module."""

    strength: float = option(1.0, "lambda, what the mean of R counts in the loss", low=0)
    ramp: float = option(0.5, "share of the steps over which lambda rises from 0", low=0, high=1)


class Pull(FixedTables):
    """A weight that is pulled to fixed levels. share: of the steps done, as `on_step_begin` tells."""

    options: PullOptions
    share = 0.0

    def soft(self, parameter: Tensor) -> Tensor:
        """The parameter itself."""
        return parameter

    @abstractmethod
    def distance(self, parameter: Tensor) -> Tensor:
        """R of every weight, [R, K]: 0 on levels."""

    def penalty(self, parameter: Tensor) -> Tensor:
        """lambda(t) mean R."""
        if not parameter.numel():
            return parameter.sum()
        return self.strength * self.distance(parameter).mean()

    @property
    def strength(self) -> float:
        """lambda(t)."""
        ramp = self.options.ramp
        return self.options.strength * (min(1.0, self.share / ramp) if ramp else 1.0)

    def on_step_begin(self, progress: Progress) -> None:
        """Note how far training is."""
        self.share = progress.share


def arch(position: Tensor, low: float, high: float) -> Tensor:
    """R of positions on a grid of step 1 with levels at whole numbers low … high.

    |sin(pi x)| between the levels, pi * (distance to the outer level) beyond them. On a level it is 0 and
    its gradient too.
    """
    inside = torch.clamp(position, low, high)
    away = (inside - torch.round(inside.detach())).abs()
    return torch.sin(torch.pi * away) + torch.pi * (position - inside).abs()
