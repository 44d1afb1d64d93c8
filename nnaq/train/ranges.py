"""Ranges of activations while a model trains: calibrated, observed on, or learned.

    calibrated   as they were before training
    moving       low and high follow the extremes of every batch: end <- m * end + (1 - m) * extreme
    percentile   the same with the quantiles 0.00005 and 0.99995 of a batch instead of its extremes
    learned      low and high are parameters (`nnaq.train.nodes` has their gradient)

Observed ranges are those of the float forward pass over the present weights: integers are clamped to the
range and could never tell that it is too small. After the freeze they stay. A range always holds 0.

    power_of_two   a range is widened until its scale is a power of two: for i8, with the least s = 2^n that
                   holds it and z = ceil(-128 - low / s), to low = (-128 - z) s, high = (127 - z) s

One range serves all values that share codes; it goes by the first of them. Where several replicas train,
each observes its own batches, and after every step all take the widest of their ranges.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nnaq.quantize.calibrate import Ranges
from nnaq.quantize.training import TrainedRanges

TAIL = 5e-5
LEAST = 1e-6  # of a learned or observed range, so that a scale never vanishes


class TrainingRanges(nn.Module):
    """low and high of the values whose range training may move.

    calibrated: where they start. groups: by value that may move, the name its range goes by. dtypes: i8 or
    i16, by value.
    """

    def __init__(
        self,
        calibrated: Ranges,
        groups: Mapping[str, str],
        dtypes: Mapping[str, str],
        kind: TrainedRanges = "calibrated",
        momentum: float = 0.99,
        power_of_two: bool = False,
    ) -> None:
        super().__init__()
        self.kind, self.momentum = kind, momentum
        self.power_of_two, self.groups = power_of_two, dict(groups)
        self.dtypes = {group: dtypes[value] for value, group in groups.items()}
        self.values = sorted(calibrated.ranges)
        first = torch.tensor([calibrated[v] for v in self.values], dtype=torch.float64).reshape(-1, 2)
        self.register_buffer("calibrated", first)  # so that a state_dict decides every integer
        self.order = {name: place for place, name in enumerate(sorted(set(self.groups.values())))}
        spans = [calibrated.union([v for v, g in self.groups.items() if g == name]) for name in self.order]
        table = torch.tensor(spans, dtype=torch.float64).reshape(-1, 2)
        self.table: Tensor
        self.calibrated: Tensor
        if kind == "learned":
            self.table = nn.Parameter(table.float())
        else:
            self.register_buffer("table", table)
        self.freeze(kind == "calibrated")

    def freeze(self, frozen: bool) -> None:
        """Let ranges stay as they are, or move again. A frozen parameter has no gradient, nor momentum."""
        self.frozen = frozen
        if self.kind == "learned":
            self.table.requires_grad_(not frozen)
            self.table.grad = None if frozen else self.table.grad

    @property
    def observes(self) -> bool:
        """Whether the next batch is to be looked at."""
        return self.kind in ("moving", "percentile") and not self.frozen

    @torch.no_grad()
    def observe(self, values: Mapping[str, Tensor]) -> None:
        """Move the ranges towards what one batch's float values span."""
        for name, place in self.order.items():
            found = [values[v] for v, group in self.groups.items() if group == name and v in values]
            seen = [self._span(value) for value in found if value.numel()]
            if seen:
                span = torch.stack([torch.stack(seen)[:, 0].min(), torch.stack(seen)[:, 1].max()])
                self.table[place] += (1 - self.momentum) * (span.to(self.table) - self.table[place])

    def _span(self, value: Tensor) -> Tensor:
        """Lowest and highest, or the quantiles, of a value; 0 lies between."""
        flat = value.detach().flatten().double()
        low, high = flat.min(), flat.max()
        if self.kind == "percentile":
            below = max(1, math.ceil(TAIL * flat.numel()))
            low, high = flat.kthvalue(below).values, flat.kthvalue(flat.numel() - below + 1).values
        return torch.stack([low.clamp(max=0), high.clamp(min=0)])

    def ends(self, value: str) -> Tensor | None:
        """low and high as a tensor with a gradient, where they are learned and not frozen."""
        if self.kind != "learned" or self.frozen or value not in self.groups:
            return None
        return self.table[self.order[self.groups[value]]]

    def ranges(self) -> Ranges:
        """The ranges of a crossing now."""
        found = dict(zip(self.values, map(tuple, self.calibrated.tolist()), strict=True))
        if self.kind != "calibrated" or self.power_of_two:
            spans = {name: self._range(name) for name in self.order}
            found |= {value: spans[group] for value, group in self.groups.items()}
        return Ranges(found)

    def exact(self) -> frozenset[str]:
        """Values whose range is used as it is, without headroom: all that training moved or widened."""
        return frozenset(self.groups if self.kind != "calibrated" or self.power_of_two else ())

    def _range(self, group: str) -> tuple[float, float]:
        low, high = self.table[self.order[group]].detach().double().tolist()
        low, high = min(low, 0.0), max(high, 0.0, min(low, 0.0) + LEAST)
        return widened(low, high, self.dtypes[group]) if self.power_of_two else (low, high)


def observed_tables(model: nn.Module) -> list[Tensor]:
    """The ranges [values, (low, high)] that a model is observing now; none where they rest or are learned."""
    return [part.table for part in model.modules() if isinstance(part, TrainingRanges) and part.observes]


def widened(low: float, high: float, dtype: str) -> tuple[float, float]:
    """The least range over this one whose scale is a power of two; low <= 0 <= high.

    >>> widened(-1.0, 1.0, "i16") == (-32767 / 2**14, 32767 / 2**14)
    True
    >>> widened(0.0, 1.0, "i8")
    (0.0, 1.9921875)
    """
    if dtype == "i16":
        size = _power(max(-low, high) / 32767) * 32767
        return -size, size
    scale = _power((high - low) / 255)
    if (127 - _zero_point(low, scale)) * scale < high:
        scale *= 2  # the zero_point took up to a step of what was left: twice the scale has it
    zero_point = _zero_point(low, scale)
    return (-128 - zero_point) * scale, (127 - zero_point) * scale


def _zero_point(low: float, scale: float) -> int:
    """The least zero_point with which the lowest code reaches `low`; the highest that there is, at most."""
    return min(math.ceil(-128 - low / scale), 127)


def _power(scale: float) -> float:
    return 2.0 ** math.ceil(math.log2(scale)) if scale > 0 else 2.0**-15
