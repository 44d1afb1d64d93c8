"""S8BQAT: fixed centroids, an arch of |cos| between every two of them, and a hard compressor now and then.

MRACos, for c_i <= w <= c_{i+1} with Delta_i = c_{i+1} - c_i and the midpoint m_i:

    R(w) = |cos(pi (w - m_i) / Delta_i)| = |sin(pi (w - c_i) / Delta_i)|

0 on every centroid, 1 on every decision boundary. Beyond the outer centroids it goes on as a straight line,
R = pi (distance to the outer centroid) / Delta_outer, with the slope the arch has there. A table of one
entry has no arch: R = 0. The gradient

    dR/dw = sign(sin(pi (w - c_i) / Delta_i)) (pi / Delta_i) cos(pi (w - c_i) / Delta_i)

is steepest at a centroid, a V with the slopes -pi / Delta_i and pi / Delta_i (0 at its very foot), so that
weights stick; and 0 at the midpoint, where the task decides.

    width-normalised    R(w) Delta_i / (c_K - c_1) K                K centroids

makes the pull as strong in sparse regions as in dense ones; without it the dense middle dominates.

    loss                L_task + lambda(t) mean R, lambda rising over the first steps (see pull.py)
    forward             the float weights themselves
    hard compressor     every `compress_every` updates, and after the last: w <- scale[row] * nearest
                        centroid, in place, without a gradient; the optimiser's state stays

Centroids are those that nnaq.codebooks finds for the float baseline on the int8 grid, by the method of the
palette (`lloyd_max` is the published idea, `optimal` its global optimum), and stay.

Source       Zhen et al., Sub-8-bit quantization aware training for 8-bit neural network accelerator with
             on-device speech recognition, Interspeech 2022. Only its abstract could be read: MRACos, its
             normalised form, the straight lines, the schedule and how often the compressor runs are a
             reconstruction of the published idea, not its printed equations.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnaq.train.schemes.attention import count_below
from nnaq.train.schemes.base import Progress, Weight
from nnaq.train.schemes.options import chosen, option
from nnaq.train.schemes.palettes import fitted_start
from nnaq.train.schemes.pull import Pull, PullOptions, arch


@dataclass(frozen=True)
class S8bqatOptions(PullOptions):
    """See the module."""

    width_normalised: bool = option(True, "whether R is multiplied by the relative width of its region")
    compress_every: int = option(500, "updates between hard compressions; 0: only after the last", low=0)


class S8bqat(Pull):
    """A weight that is pulled to the centroids of its baseline."""

    Options = S8bqatOptions

    def __init__(self, weight: Weight, **options: Any) -> None:
        own = chosen(S8bqatOptions, "s8bqat", options)
        super().__init__(weight, *fitted_start(weight), weight.rows)
        self.options: S8bqatOptions = own

    def distance(self, parameter: Tensor) -> Tensor:
        """R of every weight."""
        return mracos(self.units(parameter), self.table, self.owner, self.options.width_normalised)

    def on_step_end(self, parameter: Tensor, progress: Progress) -> None:
        """The hard compressor, where it is due."""
        done, every = progress.step + 1, self.options.compress_every
        if done == progress.steps or (every and done % every == 0):
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(self.hard(parameter).reals()))


def mracos(units: Tensor, table: Tensor, owner: Tensor, width_normalised: bool) -> Tensor:
    """R of every value, [R, K].

    units: [R, K]; table: [tables, E] ascending, a short one filled up with its last entry; owner: [R].
    Time O(R K log E); nothing of the size [R, K, E] is made.
    """
    centroids = table.to(units.dtype)
    widths = centroids[:, 1:] - centroids[:, :-1]
    sizes = (widths > 0).sum(dim=1, keepdim=True) + 1
    region = count_below(units.detach(), centroids[:, 1:-1], owner, equal=True)
    region = torch.minimum(region, (sizes - 2).clamp(min=0)[owner])
    lower = centroids[owner].gather(1, region)
    width = torch.where(sizes > 1, widths, torch.inf)[owner].gather(1, region)
    arches = arch((units - lower) / width, 0.0, 1.0)
    if not width_normalised:
        return arches
    span = (centroids[:, -1:] - centroids[:, :1])[owner]
    return arches * torch.where(span > 0, width * sizes[owner] / span, 0.0)
