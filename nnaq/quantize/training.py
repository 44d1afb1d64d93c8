"""What a recipe chooses about training: how weights move towards their codes, and what is emulated meanwhile.

[training]
scheme = "ste"               # or a table: { name = "s8bqat", strength = 1.0 }; see nnaq.train.schemes
emulate = "integers"         # or "weights": only weights with a palette, the rest in float while training
ranges = "calibrated"        # "moving", "percentile" (observed on while training), "learned"
power_of_two = false         # ranges widened until scales of activations are powers of two
momentum = 0.99              # of moving ranges, per step
freeze_ranges = 0.9          # share of the steps after which ranges stay
fold_batch_norm = 0.0        # share of the steps after which batch norm is folded into weights

[[overrides]]                # schemes for single layers: by regex, op or name
regex = 'encoder\\..*'
scheme = "lsq"
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Emulate = Literal["integers", "weights"]
TrainedRanges = Literal["calibrated", "moving", "percentile", "learned"]
Option = bool | int | float | str


@dataclass(frozen=True)
class SchemeChoice:
    """The scheme of a weight by name, and the options that differ from its defaults."""

    name: str = "ste"
    options: Mapping[str, Option] = field(default_factory=dict)

    def table(self) -> str | dict[str, Any]:
        """As a recipe says it: the name, or a table with the options."""
        return {"name": self.name, **self.options} if self.options else self.name


@dataclass(frozen=True)
class Training:
    """The choices of the table `[training]`; see the module. Shares are of all steps, 0 … 1."""

    scheme: SchemeChoice = SchemeChoice()
    emulate: Emulate = "integers"
    ranges: TrainedRanges = "calibrated"
    power_of_two: bool = False
    momentum: float = 0.99
    freeze_ranges: float = 0.9
    fold_batch_norm: float = 0.0

    def table(self) -> dict[str, Any]:
        """What differs from the defaults, as a recipe says it."""
        plain = vars(Training())
        given = {name: value for name, value in vars(self).items() if value != plain[name]}
        return given | ({"scheme": self.scheme.table()} if "scheme" in given else {})
