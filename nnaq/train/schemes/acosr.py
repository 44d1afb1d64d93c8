"""ACosR: one cosine over a uniform grid of step Delta, the parent of MRACos.

    mid-rise    R(w) = |cos(pi w / Delta)|      levels (k + 1/2) Delta, 0 is none
    mid-tread   R(w) = |sin(pi w / Delta)|      levels k Delta, 0 is one

R is 0 on levels and 1 half-way between them; beyond the outer levels, where the formula would go on and on,
R = pi (distance to the outer level) / Delta. The penalty is lambda(t) times the mean of R (see pull.py).

Levels: 2^b of them in one table for all rows, as codes and a scale, so that R is 0 on
levels exactly:

    mid-tread   codes -2^(b-1) … 2^(b-1) - 1 (8 bits: from -127), scale Delta
                zero map: the 2^b codes next to 0, and 0
    mid-rise    codes -(2^b - 1), …, -1, 1, …, 2^b - 1 in steps of 2, scale Delta / 2; 7 bits at most

Delta is fixed before training: the one of least squared error on the float baseline among those at which
the outer level lies at 1.00, 0.95 … 0.05 of the plain int8 range. Every row has its own where scales are
fitted, else all that share a table take the same of those shares. No scale falls below half of the plain one.

Source       Nguyen et al., Quantization aware training with absolute-cosine regularization for automatic
             speech recognition, Interspeech 2020: the formula from one third-party reading, as the paper's
             text could not be had. Mid-tread, the straight lines beyond the grid, the mean instead of the
             sum and the choice of Delta are a reconstruction.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnaq.codebooks.grid import HIGHEST
from nnaq.codebooks.uniform import CLIP_FACTORS
from nnaq.errors import RecipeError
from nnaq.train.schemes.base import Weight
from nnaq.train.schemes.options import chosen, option
from nnaq.train.schemes.palettes import given_scales, nearest, owners
from nnaq.train.schemes.pull import Pull, PullOptions, arch


@dataclass(frozen=True)
class AcosrOptions(PullOptions):
    """See the module."""

    grid: str = option(
        "auto",
        "where levels lie; auto: mid_rise, but mid_tread at 8 bits or where 0 must be a level",
        words=("auto", "mid_rise", "mid_tread"),
    )


class Acosr(Pull):
    """A weight that is pulled to a uniform grid."""

    Options = AcosrOptions

    def __init__(self, weight: Weight, **options: Any) -> None:
        own = chosen(AcosrOptions, "acosr", options)
        rise = _is_mid_rise(weight, own.grid)
        codes = _codes(weight, rise)
        super().__init__(weight, _steps(weight, np.array(codes, np.float64)), [codes], 0)
        self.options: AcosrOptions = own
        self.first, self.last, self.step = codes[0], codes[-1], 2 if rise else 1

    def distance(self, parameter: Tensor) -> Tensor:
        """R of every weight."""
        position = (self.units(parameter) - self.first) / self.step
        return arch(position, 0.0, (self.last - self.first) / self.step)


def _is_mid_rise(weight: Weight, grid: str) -> bool:
    """Whether 0 lies between levels. Raises RecipeError for a grid that cannot be."""
    choice = weight.choice
    if grid == "mid_rise" and choice.bits == 8:
        raise RecipeError(
            f"{weight.name}: 256 mid-rise levels, odd multiples of half a step, are more than int8 has; "
            "choose grid 'mid_tread' or 7 bits"
        )
    if grid == "mid_rise" and choice.zero != "free":
        raise RecipeError(
            f"{weight.name}: no mid-rise level is 0, which its palette demands; choose grid 'mid_tread' or "
            "zero 'free'"
        )
    return grid == "mid_rise" or (grid == "auto" and choice.bits < 8 and choice.zero == "free")


def _codes(weight: Weight, rise: bool) -> tuple[int, ...]:
    """The codes of the levels, evenly spaced."""
    bits, half = weight.choice.bits, 2 ** (weight.choice.bits - 1)
    if rise:
        return tuple(range(1 - 2**bits, 2**bits, 2))
    highest = min(half, HIGHEST) if weight.choice.zero == "mapped" else half - 1
    return tuple(range(-min(half, HIGHEST), highest + 1))


def _steps(weight: Weight, codes: np.ndarray) -> np.ndarray:
    """The scale of every row, float64 [R]."""
    given = given_scales(weight)
    turned = np.moveaxis(np.asarray(weight.value, np.float64), weight.axis, 0)
    matrix = turned.reshape(len(given), int(np.prod(turned.shape[1:], dtype=np.int64)))
    tried = [np.maximum(given * HIGHEST * f / np.abs(codes).max(), given / 2) for f in CLIP_FACTORS]
    losses = np.array([_losses(matrix, scale, codes) for scale in tried])  # [factors, rows]
    owner = _sharing(weight, len(given))
    shared = np.zeros((len(tried), int(owner.max(initial=0)) + 1))
    np.add.at(shared.T, owner, losses.T)
    best = shared.argmin(axis=0)[owner]
    return np.asarray(np.array(tried)[best, np.arange(len(given))])


def _losses(matrix: np.ndarray, scale: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The squared error of every row on the grid at these scales."""
    units = torch.from_numpy(matrix / scale[:, None])
    index = nearest(units, torch.from_numpy(codes)[None], torch.zeros(len(scale), dtype=torch.int64))
    return np.asarray(np.square(matrix - codes[index.numpy()] * scale[:, None]).sum(axis=1))


def _sharing(weight: Weight, count: int) -> np.ndarray:
    """Which rows take the same share of their plain range."""
    assert weight.kind.quant is not None
    if weight.kind.quant.axis is None:
        return np.zeros(count, np.int64)
    if weight.choice.scale == "fitted":
        return np.arange(count)
    return owners(count, weight.rows)
