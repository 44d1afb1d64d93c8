"""LSQ: the step of a uniform grid is learned with the weights.

    wq = s round(clip(w / s, -Qn, Qp)),        Qn = 2^(b-1),  Qp = 2^(b-1) - 1
    s  starts at 2 mean|w| / sqrt(Qp),         its gradient is multiplied by 1 / sqrt(Qp numel)

    d wq / d w = 1 inside of the clip, else 0
    d wq / d s = round(w / s) - w / s inside, -Qn below, Qp above          before that factor

One s for all weights that share a table (`numel` of them), one for the tensor where the kind has one
scale. What is trained is the ratio of s to its start, 1 at the start: an optimiser that divides by the
size of a gradient (Adam) then moves s in proportion to s, and d wq / d ratio = start * d wq / d s.

Shipped: the codes are the whole numbers k of the grid, their scale is s, and one table of all k serves
every row. Where nnaq differs from the formula, and why:

    8 bits      Qn = 127: codes of weights are symmetric here, -128 is none
    1 bit       the formula's levels {-s, 0} tell no signs apart: levels are -s/2 and s/2,
                wq = s (round(clip(w / s - 1/2, -1, 0)) + 1/2), codes -1 and 1 at the scale s/2, and Qp
                counts as 1; s starts at 2 mean|w|, so the levels at -mean|w| and mean|w|. With a 0 that is
                forced the levels are those of the formula
    zero map    2^b levels beside 0: Qn = Qp = 2^(b-1), at most 127

s never falls below half of the baseline's scale of any row, so that a bias in units of it stays within its
32 bits. The method and the fit of scales that a palette chooses have no part in this: the grid is uniform,
and its scale learned.

Source       Esser et al., Learned Step Size Quantization, 2020; the formulas as in public reference code
             (lsq-net), from which nothing was copied. Levels at 1 bit, 8 bits and beside a zero map are ours.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnaq.codebooks.choice import PaletteChoice
from nnaq.codebooks.coded import Coded
from nnaq.codebooks.grid import HIGHEST
from nnaq.train.schemes.base import Progress, Weight
from nnaq.train.schemes.options import chosen
from nnaq.train.schemes.palettes import PaletteScheme, given_scales, owners


@dataclass(frozen=True)
class LsqOptions:
    """There are none."""


@dataclass(frozen=True)
class Levels:
    """The grid: levels (k + offset) s for the whole k of -low … high."""

    low: int
    high: int
    offset: float = 0.0

    @property
    def unit(self) -> float:
        """What a code of 1 is worth, in steps."""
        return self.offset or 1.0

    def codes(self) -> list[int]:
        """The codes of all levels, ascending."""
        return [round((k + self.offset) / self.unit) for k in range(-self.low, self.high + 1)]


class Lsq(PaletteScheme):
    """A weight on a uniform grid.

    ratio: the present step over its start, [steps]. start, least: steps of the parameter's unit, [steps].
    step_of: which step a row has, [R]. gradient_factor: 1 / sqrt(Qp numel), [steps].
    """

    Options = LsqOptions
    start: Tensor
    least: Tensor
    step_of: Tensor
    gradient_factor: Tensor

    def __init__(self, weight: Weight, **options: Any) -> None:
        chosen(LsqOptions, "lsq", options)
        super().__init__(weight, given_scales(weight), 0)
        self.levels = levels_of(weight.choice)
        assert weight.kind.quant is not None
        step_of = owners(self.shape[0], 0 if weight.kind.quant.axis is None else weight.rows)
        sizes = np.abs(self.matrix(torch.from_numpy(np.asarray(weight.value, np.float64))).numpy())
        numbers = np.maximum(np.bincount(step_of, minlength=1) * sizes.shape[1], 1)
        least = np.zeros(len(numbers))
        np.maximum.at(least, step_of, given_scales(weight) / 2 / self.levels.unit)
        positive = max(self.levels.high, 1)
        start = 2 * np.bincount(step_of, sizes.sum(axis=1), 1) / numbers / np.sqrt(positive)
        self.register_buffer("step_of", torch.from_numpy(step_of), persistent=False)
        factor = torch.from_numpy(1 / np.sqrt(positive * numbers)).float()
        self.register_buffer("gradient_factor", factor, persistent=False)
        self.register_buffer("least", torch.from_numpy(least).float())
        self.register_buffer("start", torch.from_numpy(np.maximum(start, least)).float())
        self.ratio = nn.Parameter(torch.ones(len(numbers)))

    def soft(self, parameter: Tensor) -> Tensor:
        """wq, with the gradients of the module."""
        factor = self.gradient_factor
        ratio = self.ratio * factor + (self.ratio * (1 - factor)).detach()
        step = (self.start * ratio)[self.step_of][:, None]
        clipped = self._clipped(self.matrix(parameter), step)
        rounded = clipped + (torch.round(clipped) - clipped).detach()
        return self.shaped((rounded + self.levels.offset) * step)

    def hard(self, parameter: Tensor) -> Coded:
        """Codes of the grid, at the present steps."""
        step = (self.start * self.ratio).detach().to("cpu").float()[self.step_of.to("cpu")]
        clipped = self._clipped(self.matrix(parameter.detach().to("cpu").float()), step[:, None])
        index = torch.round(clipped).to(torch.int64) + self.levels.low
        scale = (step * self.levels.unit).clamp(min=torch.finfo(torch.float32).tiny)
        return self.hard_of(index, torch.tensor([self.levels.codes()]), scale)

    def on_step_end(self, parameter: Tensor, progress: Progress) -> None:
        """Keep every step from falling below its least."""
        with torch.no_grad():
            self.ratio.copy_(torch.maximum(self.ratio, self.least / self.start))

    def _clipped(self, matrix: Tensor, step: Tensor) -> Tensor:
        """clip(w / s - offset, -Qn, Qp)."""
        return torch.clamp(matrix / step - self.levels.offset, -self.levels.low, self.levels.high)


def levels_of(choice: PaletteChoice) -> Levels:
    """The grid of so many bits; see the module."""
    half = 2 ** (choice.bits - 1)
    if choice.zero == "mapped":
        return Levels(min(half, HIGHEST), min(half, HIGHEST))
    if choice.bits == 1 and choice.zero == "free":
        return Levels(1, 0, 0.5)
    return Levels(min(half, HIGHEST), half - 1)
