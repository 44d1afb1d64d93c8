"""Straight-through training on fixed tables: the baseline every other scheme is measured against.

    forward    wq = scale[row] * entry nearest to w / scale[row]
    backward   d wq / d w = 1, inside the table's range and beyond it

Tables and scales are those that nnaq.codebooks finds for the float baseline, by the method of the weight's
palette; they stay. Weights move, and with them the entries they are nearest to.

Source       the straight-through estimator is Bengio, Leonard and Courville 2013; that tables found by
             Lloyd-Max stay fixed under it is the usual yardstick, with figures on a toy task only.
"""

from dataclasses import dataclass
from typing import Any

from nnaq.train.schemes.base import Weight
from nnaq.train.schemes.options import chosen
from nnaq.train.schemes.palettes import FixedTables, fitted_start


@dataclass(frozen=True)
class SteOptions:
    """There are none."""


class Ste(FixedTables):
    """A weight on fixed tables, forward through the codes."""

    Options = SteOptions

    def __init__(self, weight: Weight, **options: Any) -> None:
        chosen(SteOptions, "ste", options)
        super().__init__(weight, *fitted_start(weight), weight.rows)
