"""The choice within a budget: predicted by allocation, then measured, and tightened until it holds.

    1. the front: allocations from 8 bits down to the least cost; some of them are measured
    2. a bound on accuracy holds or breaks by measurement alone. Allocation caps the predicted loss, and
       the cap is bisected between the greatest loss that held and the least that did not, until the two
       are neighbours or the rounds are used up
    3. a cost that comes out dearer than predicted lowers its cap by the difference
    4. cycles and energy may fall further than any sum of single weights says: the front along bytes is
       halved too, towards the last point that is accurate enough and the first that is cheap enough
    5. of all models measured, the best one that keeps every bound is chosen

Measurements are asked for in the same order every time, so that a journal of them makes a search
that was stopped go on where it was.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nnaq.errors import NnaqError
from nnaq.search.allocation import Allocation, Options, Problem, Quantity, front, greedy
from nnaq.search.budget import COSTS, Bound, BudgetError, figure_of, must_be_known, origin_of
from nnaq.search.front import Axis, Costs, Front, Measured, Palettes, Point, decibels, ratio
from nnaq.search.milp import exact, highs

AXES: Mapping[str, Axis] = {"bytes": "bytes", "latency": "cycles", "energy": "energy"}
HALVINGS = 40  # of the bracket, measured or not
NEIGHBOURS = 1.02  # losses less than 0.1 dB apart are as good as one

Measure = Callable[[Sequence[Palettes]], Sequence[Measured]]


@dataclass(frozen=True)
class Wish:
    """What is asked of a search. minimize: None for bytes, or for the loss if accuracy is not bounded.

    points: of the front, measured besides the 8-bit model. rounds: measurements to tighten by.
    """

    bounds: tuple[Bound, ...]
    minimize: str | None = None
    is_exact: bool = False
    points: int = 5
    rounds: int = 8

    def __post_init__(self) -> None:
        if self.minimize not in (None, *COSTS):
            raise NnaqError(f"--minimize takes {', '.join(COSTS)}, found {self.minimize!r}")
        if not self.bounds:
            raise NnaqError("a search needs a --budget, such as 'agreement>=0.99' or 'bytes<=300k'")
        if self.minimize is not None and all(bound.is_cost for bound in self.bounds):
            raise NnaqError(
                f"--minimize {self.minimize} needs a --budget on accuracy, such as 'sqnr>=25'; without one "
                "the search already keeps the accuracy as high as the other budgets allow"
            )
        if self.is_exact:
            highs()


@dataclass
class _Search:
    """A choice in the making. measured: every model measured so far, in order."""

    options: Options
    wish: Wish
    base: Measured
    measure: Measure
    say: Callable[[str], None]
    microseconds_per_cycle: float
    bounds: tuple[Bound, ...] = ()
    measured: dict[str, Point] = field(default_factory=dict)

    @property
    def accuracy(self) -> list[Bound]:
        return [bound for bound in self.bounds if not bound.is_cost]

    @property
    def minimize(self) -> Quantity:
        if self.wish.minimize is not None:
            return AXES[self.wish.minimize]
        return "bytes" if self.accuracy else "loss"

    @property
    def axis(self) -> Axis:
        """The cost along which the front is drawn."""
        bounded = (AXES[bound.figure] for bound in self.bounds if bound.is_cost)
        return self.minimize if self.minimize != "loss" else next(bounded, "bytes")

    @property
    def caps(self) -> dict[Quantity, float]:
        """What costs may be, against the 8-bit model."""
        costs = [bound for bound in self.bounds if bound.is_cost]
        return {AXES[b.figure]: b.limit - self.base.costs.of(AXES[b.figure]) for b in costs}

    def allocated(self, caps: Mapping[Quantity, float]) -> Allocation:
        """The best allocation within caps, as predicted."""
        problem = Problem(self.options, self.minimize, caps)
        return exact(problem) if self.wish.is_exact else greedy(problem)

    def point(self, allocation: Allocation) -> Point:
        """An allocation with what is predicted of it."""
        costs, loss = self.base.costs, allocation.total("loss")
        energy = None if costs.energy is None else costs.energy + allocation.total("energy")
        size, cycles = (round(getattr(costs, q) + allocation.total(q)) for q in ("bytes", "cycles"))
        return Point(
            allocation.choices, loss, Costs(size, cycles, energy), decibels(max(self.base.noise + loss, 0.0))
        )

    def look(self, points: Sequence[Point]) -> list[Point]:
        """The points with their measurements; none is measured twice."""
        fresh = {p.key: p for p in points if p.key not in self.measured}
        for (key, point), found in zip(
            fresh.items(), self.measure([p.palettes for p in fresh.values()]), strict=True
        ):
            self.measured[key] = _with(point, found)
        return [self.measured[p.key] for p in points]

    def kept(self) -> list[Point]:
        """The measured models that keep every bound."""
        return [point for point in self.measured.values() if not self.broken(point)]

    def broken(self, point: Point) -> list[Bound]:
        """The bounds a measured point breaks."""
        return [bound for bound in self.bounds if not bound.holds(value_of(bound, _measured(point)))]


def choose(
    options: Options,
    base: Measured,
    wish: Wish,
    measure: Measure,
    microseconds_per_cycle: float,
    say: Callable[[str], None] = lambda line: None,
) -> Front:
    """The front, and the model on or beside it that keeps the bounds.

    base: the 8-bit model. measure: whole models with these palettes, on the calibration recordings.
    Raises NnaqError for bounds that mean nothing here, BudgetError for those that no choice keeps.
    """
    search = _Search(options, wish, base, measure, say, microseconds_per_cycle)
    search.bounds = absolute(wish, base)
    if not any(option.choice for own in options.values() for option in own):
        raise NnaqError("no weight of this model can take a palette, there is nothing to search")
    whole = [search.point(allocation) for allocation in front(options, search.axis)]
    first = _with(search.point(Allocation({})), base)
    search.measured[first.key] = first
    search.look([*spread([p for p in whole if p.palettes], search.axis, wish.points), whole[-1]])
    if search.accuracy:
        _bisect(search)
    else:
        _fill(search)
    _follow_bytes(search)
    if not search.kept():
        _must_reach(search)
        _look_near(search)
        raise BudgetError(_unmet(search))
    chosen = _best(search)
    points = {p.key: p for p in whole} | search.measured
    return Front(
        search.axis, _told(search), search.bounds, tuple(points.values()), chosen, microseconds_per_cycle
    )


def _with(point: Point, found: Measured) -> Point:
    return Point(point.palettes, point.loss, point.predicted, point.sqnr_db, found)


def _measured(point: Point) -> Measured:
    assert point.measured is not None
    return point.measured


def absolute(wish: Wish, base: Measured) -> tuple[Bound, ...]:
    """The bounds without changes relative to another model, which the 8-bit model can be asked about.

    Raises NnaqError for figures that are not known, BudgetError where 8 bits are not accurate enough.
    """
    must_be_known(wish.bounds, base.figures)
    asked = {bound.figure for bound in wish.bounds} | {wish.minimize}
    if "energy" in asked and base.costs.energy is None:
        raise NnaqError("the target says nothing of energy; give it an [energy] table, or bound another cost")
    bounds = [b.at(value_of(b, base) if b.is_cost else origin_of(b, base.figures)) for b in wish.bounds]
    for bound in bounds:
        if not bound.is_cost and not bound.holds(value_of(bound, base)):
            raise BudgetError(
                f"budget {bound.text!r} cannot be met: with all weights in 8 bits the model has "
                f"{_figure_said(bound, value_of(bound, base))}; ask for less, or give activations more bits "
                "(--activations)"
            )
    return tuple(bounds)


def value_of(bound: Bound, measured: Measured) -> float:
    """What a measured model has of a bound's figure."""
    return measured.costs.of(AXES[bound.figure]) if bound.is_cost else figure_of(bound, measured.figures)


def _must_reach(search: _Search) -> None:
    """Raise BudgetError where a cost is above its bound in every measured model."""
    for bound in search.bounds:
        missing = [point for point in search.measured.values() if bound in search.broken(point)]
        if bound.is_cost and len(missing) == len(search.measured):
            nearest = min(missing, key=lambda p: (value_of(bound, _measured(p)), _measured(p).noise))
            raise BudgetError(
                f"budget {bound.text!r} cannot be met: the least found with these palettes is "
                f"{_said(search, bound, nearest)}, at {_measured(nearest).sqnr_db:.1f} dB; "
                "ask for more, or allow fewer bits (--bits)"
            )


def _said(search: _Search, bound: Bound, point: Point) -> str:
    """A figure of a measured point for people."""
    value = value_of(bound, _measured(point))
    if bound.figure == "bytes":
        return f"{value:,.0f} bytes"
    if bound.figure == "latency":
        return f"{value * search.microseconds_per_cycle:,.1f} us ({value:,.0f} cycles)"
    if bound.figure == "energy":
        return f"{value / 1e6:,.3f} uJ"
    return _figure_said(bound, value)


def _figure_said(bound: Bound, value: float) -> str:
    is_sqnr = bound.figure.partition(":")[0] == "sqnr"
    return f"{bound.figure} {value:.2f} dB" if is_sqnr else f"{bound.figure} {value:.5g}"


def spread(points: Sequence[Point], axis: Axis, count: int) -> list[Point]:
    """Points at even distances along a cost, the cheapest among them."""
    if not points or not count:
        return []
    costs = [p.predicted.of(axis) for p in points]
    step = (max(costs) - min(costs)) / max(count - 1, 1)
    wanted = [min(costs) + step * number for number in range(count)]
    near = {min(range(len(points)), key=lambda n: (abs(costs[n] - place), n)) for place in wanted}
    # Where two places have the same neighbour, others stand in: as many points as asked for, if there are.
    rest = (number for number in range(len(points)) if number not in near)
    near |= {number for number, _ in zip(rest, range(count - len(near)), strict=False)}
    return [points[number] for number in sorted(near)]


def _fill(search: _Search) -> None:
    """Measure the least loss within the costs, lowering caps that a measurement breaks."""
    caps: Mapping[Quantity, float] = search.caps
    for _ in range(search.wish.rounds):
        found = search.allocated(caps)
        (point,) = search.look([search.point(found)])
        if not found.within or not search.broken(point):
            return
        caps = _tightened(search, caps, point)


def _tightened(search: _Search, caps: Mapping[Quantity, float], point: Point) -> dict[Quantity, float]:
    """The caps, lowered by what the point's costs are above the bounds."""
    lowered = dict(caps)
    for bound in search.broken(point):
        if bound.is_cost:
            quantity = AXES[bound.figure]
            excess = value_of(bound, _measured(point)) - bound.limit
            predicted = point.predicted.of(quantity) - search.base.costs.of(quantity)
            lowered[quantity] = min(caps[quantity], predicted) - excess
            search.say(f"{bound.text} is missed, {_said(search, bound, point)}: predictions have to be lower")
    return lowered


def _bisect(search: _Search) -> None:
    """Measure between the greatest loss that was accurate enough and the least that was not."""
    caps: Mapping[Quantity, float] = search.caps
    low, high = _bracket(search)
    cap = _foreseen(search) or high
    left = search.wish.rounds
    for _ in range(HALVINGS):
        cap = cap if low < cap <= high else _between(low, high)
        found = search.allocated({**caps, "loss": cap})
        point = search.point(found)
        left -= point.key not in search.measured
        if left < 0:
            return
        broken = _looked(search, point)
        if found.within and any(bound.is_cost for bound in broken):
            caps = _tightened(search, caps, search.measured[point.key])
        if any(not bound.is_cost for bound in broken):
            high = min(high, point.loss)
        if not found.within or not broken:
            low = cap
        if high <= low * NEIGHBOURS:
            return
        cap = _between(low, high)


def _follow_bytes(search: _Search) -> None:
    """Measure along the front of bytes, where it is cycles or energy that count.

    Those may fall only once several weights are small, such as when all of them fit on the chip; no
    weight alone tells of that, and no sum of single weights predicts it.
    """
    if {search.minimize, *search.caps} & {"cycles", "energy"}:
        points = [search.point(allocation) for allocation in front(search.options, "bytes")]
        for is_cost in sorted({bound.is_cost for bound in search.bounds}):
            _halve(search, points, is_cost)


def _halve(search: _Search, points: Sequence[Point], is_cost: bool) -> None:
    """Measure towards the first point of a front that keeps the costs, or the last that keeps accuracy."""
    low, high = 0, len(points)
    middle = high - 1
    for _ in range(search.wish.rounds + 1):
        is_missed = any(bound.is_cost == is_cost for bound in _looked(search, points[middle]))
        low, high = (middle, high) if is_missed == is_cost else (low, middle)
        if high - low < 2:
            return
        middle = (low + high) // 2


def _looked(search: _Search, point: Point) -> list[Bound]:
    """The bounds that a point breaks as measured; said if it is new."""
    is_new = point.key not in search.measured
    (point,) = search.look([point])
    broken = search.broken(point)
    if is_new:
        search.say(_told_round(search, point, broken))
    return broken


def _bracket(search: _Search) -> tuple[float, float]:
    """The greatest loss that was accurate enough below the least that was not."""
    held, broke = [0.0], [math.inf]
    for point in search.measured.values():
        misses = any(not bound.is_cost for bound in search.broken(point))
        (broke if misses else held).append(point.loss)
    least = min(broke)
    return max(loss for loss in held if loss < least), least


def _between(low: float, high: float) -> float:
    """Half-way in decibels; without an upper end there is no cap, without a lower one 6 dB are."""
    return high if math.isinf(high) else math.sqrt(low * high) if low > 0 else high / 4


def _foreseen(search: _Search) -> float | None:
    """The loss at which the SQNR that is asked for should be met, if that is what is asked for."""
    limits = [bound.limit for bound in search.accuracy if bound.figure.partition(":")[0] == "sqnr"]
    return ratio(max(limits)) - search.base.noise if limits else None


def _told_round(search: _Search, point: Point, broken: Sequence[Bound]) -> str:
    """One line on a measurement."""
    figures = "".join(f", {_said(search, b, point)}" for b in search.bounds if b.figure != "bytes")
    verdict = f"breaks {', '.join(bound.text for bound in broken)}" if broken else "keeps the budget"
    return f"{_measured(point).costs.bytes:,} bytes{figures}: {verdict}"


def _best(search: _Search) -> Point:
    """The best of the measured models that keep every bound."""

    def rank(point: Point) -> tuple[float, ...]:
        measured = _measured(point)
        # A measurement of little noise may be luck, a sum of single measurements less so.
        noise = max(measured.noise, search.base.noise + point.loss)
        if search.minimize == "loss":
            return noise, measured.costs.bytes
        return measured.costs.of(search.minimize), noise

    return min(search.kept(), key=rank)


def _look_near(search: _Search) -> None:
    """Measure what each kind of bound admits without the other."""
    costs = [bound for bound in search.bounds if bound.is_cost]
    if costs and search.accuracy:
        _fill(replace(search, bounds=tuple(costs), wish=replace(search.wish, minimize=None)))
        cheapest = replace(search.wish, minimize=costs[0].figure)
        _bisect(replace(search, bounds=tuple(search.accuracy), wish=cheapest))


def _unmet(search: _Search) -> str:
    """Why no measured model keeps all bounds, with the nearest of those that keep some."""
    texts = ", ".join(bound.text for bound in search.bounds)
    points = list(search.measured.values())
    thrifty = [p for p in points if not any(bound.is_cost for bound in search.broken(p))]
    accurate = [p for p in points if all(bound.is_cost for bound in search.broken(p))]
    near = []
    if accurate:
        point = min(accurate, key=lambda p: _excess(search, p))
        near.append(f"where accuracy is kept, {_all_said(search, point)}")
    if thrifty:
        point = min(thrifty, key=lambda p: _measured(p).noise)
        near.append(f"where costs are, {_all_said(search, point)}")
    return f"no model found keeps all of {texts}; the nearest: {'; '.join(near)}"


def _excess(search: _Search, point: Point) -> float:
    """How far the worst of the costs is above its bound."""
    costs = (bound for bound in search.bounds if bound.is_cost)
    return max((value_of(bound, _measured(point)) / max(bound.limit, 1.0) for bound in costs), default=0.0)


def _all_said(search: _Search, point: Point) -> str:
    return ", ".join(_said(search, bound, point) for bound in search.bounds)


def _told(search: _Search) -> tuple[str, ...]:
    """The figures that tell the accuracy: those bounded, else the SQNR; the agreement, if there is one."""
    bounded = [bound.figure for bound in search.accuracy] or ["sqnr"]
    return tuple(dict.fromkeys([*bounded, *(["agreement"] if "agreement" in search.base.figures else [])]))
