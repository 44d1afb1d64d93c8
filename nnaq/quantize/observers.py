"""Observers: what range of reals a value needs, seen over calibration data.

    min_max      the extremes
    percentile   the quantiles (1-p)/2 and (1+p)/2 of the histogram, p = 0.9999 by default
    mse          the clipped range whose 8-bit grid has the least mean squared error
                 rounding error + clipping error, over 64 shrunken ranges

The histogram has 4,096 equal bins; it doubles its span when a value falls outside, merging pairs
of bins, so one pass over the data is enough and memory is constant.
"""

from dataclasses import dataclass, field

import numpy as np

from nnaq.errors import RecipeError

BINS = 4096
OBSERVERS = ("min_max", "percentile", "mse")


@dataclass
class Observer:
    """Collects one value's extremes and, where asked for, its histogram over [-span, span]."""

    kind: str = "min_max"
    percentile: float = 0.9999
    low: float = np.inf
    high: float = -np.inf
    span: float = 0.0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def __post_init__(self) -> None:
        if self.kind not in OBSERVERS:
            raise RecipeError(f"no observer {self.kind!r}; there are {', '.join(OBSERVERS)}")

    def update(self, values: np.ndarray) -> None:
        """See more values; an empty array changes nothing."""
        if values.size == 0:
            return
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        if self.kind != "min_max":
            self._count(values)

    def _count(self, values: np.ndarray) -> None:
        extreme = max(abs(self.low), abs(self.high), 1e-12)
        self.span = self.span or extreme
        while self.span < extreme:
            half = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([np.zeros(BINS // 4, np.int64), half, np.zeros(BINS // 4, np.int64)])
            self.span *= 2
        self.counts += np.histogram(values, BINS, (-self.span, self.span))[0]

    def range(self) -> tuple[float, float]:
        """Lowest and highest real the codes should reach. Nothing seen gives (0, 0)."""
        if self.low > self.high:
            return 0.0, 0.0
        if self.kind == "min_max":
            return self.low, self.high
        return self._quantiles() if self.kind == "percentile" else self._least_squares()

    def _centres(self) -> np.ndarray:
        return (np.arange(BINS) + 0.5) * (2 * self.span / BINS) - self.span

    def _quantiles(self) -> tuple[float, float]:
        share = np.cumsum(self.counts) / self.counts.sum()
        tail = (1 - self.percentile) / 2
        low, high = np.searchsorted(share, [tail, 1 - tail])
        ends = self._centres()[[low, min(high, BINS - 1)]]
        first, last = np.clip(ends, self.low, self.high)
        return float(first), float(last)

    def _least_squares(self) -> tuple[float, float]:
        candidates = [(self.low * f, self.high * f) for f in np.linspace(1.0, 0.2, 64)]
        return min(candidates, key=self._squared_error)

    def _squared_error(self, candidate: tuple[float, float]) -> float:
        low, high = candidate
        centres = self._centres()
        step = (high - low) / 255
        clipped = centres - np.clip(centres, low, high)
        inside = clipped == 0
        return float(np.sum(self.counts * np.where(inside, step**2 / 12, clipped**2)))
