"""What is asked of a tuning, what it takes, and what came out of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from nnaq.errors import DataError
from nnaq.train.zeroth_order.estimator import Estimator
from nnaq.train.zeroth_order.masks import Arm

ARMS: dict[str, Arm] = {
    "mazo": "random", "dense": "dense", "random": "random",
    "large": "large_magnitude", "small": "small_magnitude",
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How a model is tuned.

    method    how the weights that move are chosen; of mazo, those whose layer has no scores at random
    kept      which fraction of every row of a weight moves; all of it where the method is dense
    rate      by how many steps of its code's grid a weight moves in a step of typical size
    queries   directions a step, of two passes each; amplitude: steps of the grid that a pass moves
    batch     examples of every task a step
    scoring   pairs of passes per layer and task that mazo's scores are made of
    weights   patterns of the names of weights, * and ?; empty: all that can be tuned
    """

    method: str = "mazo"
    kept: float = 0.1
    steps: int = 100
    rate: float = 0.05
    queries: int = 1
    amplitude: int = 2
    batch: int = 16
    scoring: int = 16
    seed: int = 0
    weights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in ARMS:
            raise DataError(f"--method takes {', '.join(ARMS)}; found {self.method!r}")
        if not 0 < self.kept <= 1:
            raise DataError(f"--kept takes a fraction above 0 and at most 1, found {self.kept}")

    @property
    def estimator(self) -> Estimator:
        return Estimator(self.seed, self.amplitude, self.queries)


@dataclass(frozen=True)
class Budget:
    """What a run takes. passes: examples through the model, by purpose; bytes: beside model and pass."""

    weights: int
    kept: int
    passes: Mapping[str, int]
    bytes: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def show(self) -> str:
        """Two lines for people."""
        passes = ", ".join(f"{count:,} to {purpose}" for purpose, count in self.passes.items() if count)
        held = ", ".join(f"{what} {count:,}" for what, count in self.bytes.items())
        return (
            f"{self.kept:,} of {self.weights:,} weights move; examples through the model: {passes}\n"
            f"bytes: {held}"
        )


@dataclass(frozen=True)
class Finetuned:
    """What came out: accuracy and mean loss of every task on held-out examples, before and after."""

    settings: Settings
    budget: Budget
    before: Mapping[str, Mapping[str, float]]
    after: Mapping[str, Mapping[str, float]]

    def to_json(self) -> dict[str, Any]:
        """`finetune.json`."""
        sides = {"before": self.before, "after": self.after}
        return {
            "versions": {"nnaq": version("nnaq")},
            "settings": asdict(self.settings),
            "budget": asdict(self.budget),
            "tasks": {side: dict(found) for side, found in sides.items()},
            **{f"mean_{side}": float(np.mean(_accuracies(found))) for side, found in sides.items()},
            **{f"worst_{side}": min(_accuracies(found)) for side, found in sides.items()},
        }

    def show(self) -> str:
        """A line per task, and mean and worst of all."""
        rows = [(name, self.before[name], self.after[name]) for name in self.after]
        lines = [
            f"{name:<20} accuracy {old['accuracy']:.4f} -> {new['accuracy']:.4f}   "
            f"loss {old['loss']:.4f} -> {new['loss']:.4f}"
            for name, old, new in rows
        ]
        found = self.to_json()
        for what in ("mean", "worst"):
            lines.append(f"{what:<20} accuracy {found[f'{what}_before']:.4f} -> {found[f'{what}_after']:.4f}")
        return "\n".join(lines)


def _accuracies(found: Mapping[str, Mapping[str, float]]) -> list[float]:
    return [one["accuracy"] for one in found.values()]
