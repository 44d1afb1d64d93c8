"""The softmax over distances to centroids, without its terms.

    p_j = softmax_j(-alpha |x - c_j|)          of every value x, over the centroids c_0 < … < c_{K-1}

Of the centroids on one side of x, all keep their proportions as x moves between two neighbours c_i and
c_{i+1}. So with discounted sums, from the left and mirrored from the right,

    L_i = 1 + exp(-alpha (c_i - c_{i-1})) L_{i-1},     R_i = 1 + exp(-alpha (c_{i+1} - c_i)) R_{i+1}
    C_i = c_i + exp(-alpha (c_i - c_{i-1})) C_{i-1},   D_i = c_i + exp(-alpha (c_{i+1} - c_i)) D_{i+1}
    b   = (c_i + c_{i+1}) / 2 - ln(R_{i+1} / L_i) / (2 alpha)
    s   = sigmoid(2 alpha (x - b))                     what all centroids above x have together

it holds exactly that

    p_j = (1 - s) exp(-alpha (c_i - c_j)) / L_i        for j <= i
    p_j = s exp(-alpha (c_j - c_{i+1})) / R_{i+1}      for j > i
    sum_j p_j c_j = (1 - s) C_i / L_i + s D_{i+1} / R_{i+1}

and sums over many values, sum_n v_n p_nj, are discounted sums over the regions between centroids. Beyond the
outer centroids p does not depend on x: such a value counts as the outer centroid itself.

Time O(n log K) and memory O(n) for n values and K centroids, through gradients too; no [n, K] is made.
Source: ours, from the definition.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Attention:
    """What every value gives to the centroids of its table.

    region: i of the module, [R, K]; above: s, [R, K]; owner: the table of a row, [R]; centroids: [tables, E];
    decay: exp(-alpha (c_i - c_{i-1})) with 0 for i = 0, [tables, E]; left, right: L and R, [tables, E].
    """

    region: Tensor
    above: Tensor
    owner: Tensor
    centroids: Tensor
    decay: Tensor
    left: Tensor
    right: Tensor

    def means(self) -> Tensor:
        """sum_j p_j c_j of every value, [R, K]."""
        lower = _from_left(self.centroids, self.decay) / self.left
        upper = _from_right(self.centroids, self.decay) / self.right
        below = lower[:, :-1][self.owner].gather(1, self.region)
        step = (upper[:, 1:] - lower[:, :-1])[self.owner].gather(1, self.region)
        return torch.addcmul(below, self.above, step)

    def gathered(self, amounts: Tensor) -> Tensor:
        """sum_n amount_n p_nj over the values of a table, [tables, E]; amounts: [R, K]."""
        upper = amounts * self.above
        low = self._by_region(amounts - upper) / self.left[:, :-1]
        high = self._by_region(upper) / self.right[:, 1:]
        return _from_right(pad(low, (0, 1)), self.decay) + _from_left(pad(high, (1, 0)), self.decay)

    def _by_region(self, amounts: Tensor) -> Tensor:
        """Sums over the values of every region, [tables, E - 1]."""
        tables, regions = len(self.centroids), self.centroids.shape[1] - 1
        place = (self.region + self.owner[:, None] * regions).reshape(-1)
        return amounts.new_zeros(tables * regions).index_add(0, place, amounts.reshape(-1)).view(tables, -1)


def attend(values: Tensor, centroids: Tensor, owner: Tensor, alpha: Tensor) -> Attention:
    """The softmax of values [R, K] over centroids [tables, E >= 2], ascending; alpha: [tables, 1] > 0."""
    decay = pad(torch.exp(-alpha * (centroids[:, 1:] - centroids[:, :-1])), (1, 0))
    ones = torch.ones_like(centroids)
    left, right = _from_left(ones, decay), _from_right(ones, decay)
    lean = torch.log(right[:, 1:] / left[:, :-1]) / alpha
    border = (centroids[:, :-1] + centroids[:, 1:] - lean) / 2
    region = count_below(values.detach(), centroids.detach()[:, 1:-1], owner)
    inside = torch.clamp(values, centroids[:, :1][owner], centroids[:, -1:][owner])
    above = torch.sigmoid(2 * alpha[owner] * (inside - border[owner].gather(1, region)))
    return Attention(region, above, owner, centroids, decay, left, right)


def mean_spacing(centroids: Tensor) -> Tensor:
    """(largest - least) / (K - 1) of every table, [tables, 1], without a gradient; never 0."""
    span = (centroids.amax(dim=1, keepdim=True) - centroids.amin(dim=1, keepdim=True)).detach()
    return (span / (centroids.shape[1] - 1)).clamp(min=1e-6)


def count_below(values: Tensor, borders: Tensor, owner: Tensor, equal: bool = False) -> Tensor:
    """How many borders of its table lie below each value, or at it if `equal`; int64 [R, K].

    values: [R, K]; borders: [tables, B], ascending; owner: [R].
    """
    own = borders[owner] if len(borders) > 1 else borders
    if own.shape[1] <= FEW:
        compare = torch.ge if equal else torch.gt
        found = torch.zeros(values.shape, dtype=torch.uint8, device=values.device)
        for place in range(own.shape[1]):
            found += compare(values, own[:, place, None]).view(torch.uint8)
        return found.to(torch.int64)
    own = own[0] if len(own) == 1 else own
    return torch.searchsorted(own.contiguous(), values.contiguous(), right=equal)


FEW = 32  # a binary search mispredicts every branch: up to so many borders, looking at each is faster


def _from_left(values: Tensor, decay: Tensor) -> Tensor:
    """y_i = values_i + decay_i y_{i-1}; log2 E rounds, each of which doubles how far the sums look back."""
    shift = 1
    while shift < values.shape[-1]:
        values = values + decay * pad(values[:, :-shift], (shift, 0))
        decay = decay * pad(decay[:, :-shift], (shift, 0))
        shift *= 2
    return values


def _from_right(values: Tensor, decay: Tensor) -> Tensor:
    """y_i = values_i + decay_{i+1} y_{i+1}."""
    return _from_left(values.flip(1), pad(decay[:, 1:].flip(1), (1, 0))).flip(1)
