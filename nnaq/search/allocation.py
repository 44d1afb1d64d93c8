"""One option for every tensor: the cheapest choice that loses little, or the best one that costs little.

Every option of a tensor has a predicted loss (noise it adds, as a ratio to the signal) and costs
(bytes, cycles, energy), all as differences to the tensor in 8 bits; losses and costs of tensors add
up. That is exact for bytes and a prediction for the rest: errors of two layers may cancel, and an
operator's cycles are the larger of computing and fetching.

    minimise   sum minimised(option of t)     over one option for every tensor t
    such that  sum q(option of t) <= cap[q]   for every capped quantity q

`greedy` walks down the lower convex hull of each tensor's options by marginal utility: always the
step with the least loss per cost saved (Shoham & Gersho 1988, efficient bit allocation for an
arbitrary set of quantizers). For one cap it is within one step of the optimum; `milp.exact` is exact.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from nnaq.codebooks.choice import PaletteChoice

Quantity = Literal["loss", "bytes", "cycles", "energy"]
QUANTITIES: tuple[Quantity, ...] = ("loss", "bytes", "cycles", "energy")
Options = Mapping[str, Sequence["Option"]]


@dataclass(frozen=True)
class Option:
    """A way to store a tensor, against storing it in 8 bits. choice: None for 8 bits themselves."""

    choice: PaletteChoice | None
    loss: float
    bytes: float
    cycles: float = 0.0
    energy: float = 0.0


EIGHT_BITS = Option(None, 0.0, 0.0)


@dataclass(frozen=True)
class Problem:
    """What is wanted of an allocation: the least of one quantity, with caps on the sums of others."""

    options: Options
    minimize: Quantity
    caps: Mapping[Quantity, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Allocation:
    """An option for every tensor. within: whether all caps hold; if not, it is as near as was found."""

    options: Mapping[str, Option]
    within: bool = True

    def total(self, quantity: Quantity) -> float:
        """The sum of a quantity over all tensors, correctly rounded."""
        return math.fsum(getattr(option, quantity) for option in self.options.values())

    @property
    def choices(self) -> dict[str, PaletteChoice]:
        """The palettes; a tensor in 8 bits has none."""
        return {name: o.choice for name, o in self.options.items() if o.choice is not None}


def fits(options: Mapping[str, Option], caps: Mapping[Quantity, float]) -> bool:
    """Whether an allocation keeps every cap."""
    made = Allocation(options)
    return all(made.total(quantity) <= cap for quantity, cap in caps.items())


def useful(options: Sequence[Option], quantities: Iterable[Quantity]) -> list[Option]:
    """The options no other one is at least as good as in every quantity; the first of equals stays."""
    asked = tuple(quantities)
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: _values(o, asked)):
        if not any(_covers(other, option, asked) for other in kept):
            kept.append(option)
    return kept


def _values(option: Option, quantities: Sequence[Quantity]) -> tuple[float, ...]:
    return tuple(getattr(option, quantity) for quantity in quantities)


def _covers(other: Option, option: Option, quantities: Sequence[Quantity]) -> bool:
    pairs = zip(_values(other, quantities), _values(option, quantities), strict=True)
    return all(left <= right for left, right in pairs)


def hull(options: Sequence[Option], cost: Quantity) -> list[Option]:
    """The lower convex hull of loss over a cost, from the least loss to the least cost.

    Along it every step saves cost, and each saves it at a higher price than the one before.
    """
    corners: list[Option] = []
    for option in sorted(useful(options, ("loss", cost)), key=lambda o: (o.loss, getattr(o, cost))):
        while len(corners) > 1 and _slope(corners[-2], corners[-1], cost) >= _slope(
            corners[-1], option, cost
        ):
            corners.pop()
        corners.append(option)
    return corners


def _slope(left: Option, right: Option, cost: Quantity) -> float:
    """Loss per cost saved."""
    saved: float = getattr(left, cost) - getattr(right, cost)
    return (right.loss - left.loss) / saved


def greedy(problem: Problem) -> Allocation:
    """An allocation by marginal utility. Its caps hold, or `within` is False and nothing nearer was found.

    With one cap `within` is exact: where it is False no allocation keeps the cap.
    """
    costs = [q for q in problem.caps if q != "loss"]
    chosen = _least(problem.options, "loss")
    for cost in costs:
        chosen = _lowered(problem, chosen, cost, {cost: problem.caps[cost]})
    if not fits(chosen, problem.caps):
        return Allocation(chosen, within=False)
    if problem.minimize != "loss":
        chosen = _descended(problem, chosen, problem.minimize)
    return Allocation(_polished(problem, chosen))


def _least(options: Options, quantity: Quantity) -> dict[str, Option]:
    """The option with the least of a quantity, of equals the one with less of everything else."""
    rest: tuple[Quantity, ...] = (quantity, *QUANTITIES)
    return {name: min(found, key=lambda o: _values(o, rest)) for name, found in options.items()}


def _steps(options: Options, chosen: Mapping[str, Option], cost: Quantity) -> Iterator[tuple[str, Option]]:
    """Steps along the hulls below the chosen options, least loss per cost saved first.

    A hull is convex, so the steps of one tensor come in its own order.
    """
    found = []
    for name, choices in options.items():
        corners = hull([chosen[name], *_cheaper(choices, chosen[name], cost)], cost)
        for left, right in pairwise(corners):
            found.append((_slope(left, right, cost), name, right))
    for _, name, option in sorted(found, key=lambda step: (step[0], step[1])):
        yield name, option


def _cheaper(options: Sequence[Option], than: Option, cost: Quantity) -> list[Option]:
    return [o for o in options if getattr(o, cost) < getattr(than, cost)]


def _lowered(
    problem: Problem, chosen: dict[str, Option], cost: Quantity, caps: Mapping[Quantity, float]
) -> dict[str, Option]:
    """Steps down until the caps hold."""
    for name, option in _steps(problem.options, chosen, cost):
        if fits(chosen, caps):
            break
        chosen = {**chosen, name: option}
    return chosen


def _descended(problem: Problem, chosen: dict[str, Option], cost: Quantity) -> dict[str, Option]:
    """Steps down as far as the caps allow; what does not fit is left out, later steps may still fit."""
    for name, option in _steps(problem.options, chosen, cost):
        changed = {**chosen, name: option}
        if fits(changed, problem.caps):
            chosen = changed
    return chosen


def _polished(problem: Problem, chosen: dict[str, Option]) -> dict[str, Option]:
    """Exchanges of one tensor's option that lower the minimised quantity, the greatest gain first."""
    wanted: tuple[Quantity, ...] = (problem.minimize, *problem.caps)
    kept = {name: useful(found, wanted) for name, found in problem.options.items()}
    while True:
        gains = [
            (getattr(chosen[name], problem.minimize) - getattr(option, problem.minimize), name, option)
            for name, found in kept.items()
            for option in found
        ]
        better = sorted((g for g in gains if g[0] > 0), key=lambda g: (-g[0], g[1]))
        fitting = (dict(chosen, **{n: o}) for _, n, o in better)
        improved = next((changed for changed in fitting if fits(changed, problem.caps)), None)
        if improved is None:
            return chosen
        chosen = improved


def front(options: Options, cost: Quantity) -> list[Allocation]:
    """Allocations from the least loss to the least cost, one per step along the hulls.

    None of them is beaten in both by another allocation of the same hulls (Lagrangian optima).
    """
    chosen = _least(options, "loss")
    found = [Allocation(chosen)]
    for name, option in _steps(options, chosen, cost):
        chosen = {**chosen, name: option}
        found.append(Allocation(chosen))
    return found
