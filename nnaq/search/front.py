"""The Pareto front of a search: predicted points, the measured ones among them, and the chosen one.

Shown as a table, as CSV and as a drawing. Predicted is the sum of what every tensor does alone;
measured is a whole model, crossed with all its palettes, simulated and run.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from nnaq.codebooks.choice import PaletteChoice
from nnaq.search.budget import LOWER, Bound, worst
from nnaq.tasks.metrics import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Axis = Literal["bytes", "cycles", "energy"]
Palettes = Mapping[str, PaletteChoice]
Place = tuple[float, float]

LINE, DOT, STAR = "#6f9fc8", "#3b6ea5", "#c2563f"


@dataclass(frozen=True)
class Costs:
    """Constants at rest in bytes; cycles and picojoules of one step (None: the target does not say)."""

    bytes: int
    cycles: int
    energy: float | None = None

    def of(self, axis: Axis) -> float:
        """One of the three. Raises AssertionError for an energy the target does not say."""
        value: float | None = getattr(self, axis)
        assert value is not None
        return value


@dataclass(frozen=True)
class Measured:
    """A whole model on some recordings: its costs and the figures of its metric.

    added: noise that palettes add to the outputs of the 8-bit model, as a ratio to the signal of the
    worst output. It is never negative, and less subject to luck than the difference of two noises.
    """

    costs: Costs
    figures: Mapping[str, Figure]
    added: float = 0.0

    @property
    def sqnr_db(self) -> float:
        """The worst over all outputs; infinite where there is no noise, minus infinite without signal."""
        found = worst("sqnr", self.figures)
        return -math.inf if found is None else found

    @property
    def noise(self) -> float:
        """Noise to signal of the worst output."""
        return ratio(self.sqnr_db)


@dataclass(frozen=True)
class Point:
    """A model of the search. palettes: by weight, those left out rest in 8 bits.

    loss: predicted noise beyond that of 8 bits, as a ratio to the signal. predicted: costs;
    sqnr_db: predicted. measured: on the calibration recordings. held_out: figures on recordings
    nothing was chosen from.
    """

    palettes: Palettes
    loss: float
    predicted: Costs
    sqnr_db: float
    measured: Measured | None = None
    held_out: Mapping[str, Figure] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """One text per choice of palettes, whatever the order."""
        return repr(sorted((name, str(choice)) for name, choice in self.palettes.items()))


@dataclass(frozen=True)
class Front:
    """Points from 8 bits down to the least cost along `axis`; `chosen` need not lie on it.

    figures: names of what is bounded or best tells the accuracy, the first is drawn. bounds: absolute.
    """

    axis: Axis
    figures: tuple[str, ...]
    bounds: tuple[Bound, ...]
    points: tuple[Point, ...]
    chosen: Point
    microseconds_per_cycle: float

    @property
    def measured(self) -> list[Point]:
        """The measured points with the chosen one, dearest first."""
        own = [p for p in self.points if p.measured is not None and p.key != self.chosen.key]
        return sorted([*own, self.chosen], key=lambda point: -_cost(point, self.axis))

    @property
    def predicted(self) -> list[Point]:
        """All points, and the chosen one if it is none of them, dearest first."""
        own = [p for p in self.points if p.key != self.chosen.key]
        return sorted([*own, self.chosen], key=lambda point: -_cost(point, self.axis))


def ratio(sqnr_db: float) -> float:
    """Noise to signal.

    >>> ratio(20), ratio(math.inf)
    (0.01, 0.0)
    """
    return float(10 ** (-sqnr_db / 10))


def decibels(noise: float) -> float:
    """Signal to noise; infinite without noise."""
    return -10 * math.log10(noise) if noise > 0 else math.inf


def _cost(point: Point, axis: Axis) -> float:
    return (point.predicted if point.measured is None else point.measured.costs).of(axis)


def columns(front: Front, points: Sequence[Point]) -> tuple[list[str], list[list[str]]]:
    """A table as texts: names of the columns, and a line per point."""
    has_energy = front.chosen.predicted.energy is not None
    has_held = any(point.held_out for point in points)
    figures = [name for name in front.figures if not name.startswith("sqnr")]
    energies = ["nJ"] if has_energy else []
    held = [f"{name} held out" for name in ("SQNR dB", *figures)] if has_held else []
    names = ["", "bytes", "us", *energies, "palettes", "SQNR dB predicted", "SQNR dB", *figures, *held]
    return names, [_line(front, point, figures, has_energy, has_held) for point in points]


def _line(front: Front, point: Point, figures: Sequence[str], has_energy: bool, has_held: bool) -> list[str]:
    costs = point.predicted if point.measured is None else point.measured.costs
    energy = [f"{(costs.energy or 0.0) / 1e3:,.1f}"] if has_energy else []
    measured = [_text(point.measured.sqnr_db if point.measured else None, ".2f")]
    measured += [_figure(name, point.measured.figures if point.measured else {}) for name in figures]
    held = Measured(costs, point.held_out) if point.held_out else None
    judged = [
        _text(held.sqnr_db if held else None, ".2f"),
        *(_figure(name, point.held_out) for name in figures),
    ]
    return [
        _word(front, point),
        f"{costs.bytes:,}",
        f"{costs.cycles * front.microseconds_per_cycle:,.1f}",
        *energy,
        str(len(point.palettes)),
        _text(point.sqnr_db, ".2f"),
        *measured,
        *(judged if has_held else []),
    ]


def _word(front: Front, point: Point) -> str:
    if point.key == front.chosen.key:
        return "chosen"
    if not point.palettes:
        return "8 bits"
    return "measured" if point.measured else "predicted"


def _figure(name: str, figures: Mapping[str, Figure]) -> str:
    return _text(figure(name, figures), ".4f")


def figure(name: str, figures: Mapping[str, Figure]) -> float | None:
    """A figure; without an output, the worst of all."""
    return worst(name, figures, highest=name.partition(":")[0] in LOWER)


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else "exact" if value == math.inf else format(value, form)


def to_csv(front: Front) -> str:
    """`front.csv`: a row per point, dearest first; what was not measured is empty."""
    points = front.predicted
    names = list(dict.fromkeys(name for p in points if p.measured for name in p.measured.figures))
    held = list(dict.fromkeys(name for p in points for name in p.held_out))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    own = [f"{word}_{axis}" for word in ("predicted", "measured") for axis in ("bytes", "cycles", "energy")]
    writer.writerow(
        [
            "kind",
            "palettes",
            "predicted_loss",
            "predicted_sqnr_db",
            *own,
            *names,
            *(f"held_out:{n}" for n in held),
        ]
    )
    for point in points:
        measured = point.measured
        spent = vars(measured.costs).values() if measured else [None] * 3
        row = [_word(front, point), len(point.palettes), point.loss, _finite(point.sqnr_db)]
        row += [*vars(point.predicted).values(), *spent]
        row += [_value(name, measured.figures if measured else {}) for name in names]
        writer.writerow(["" if v is None else v for v in [*row, *(_value(n, point.held_out) for n in held)]])
    return text.getvalue()


def _value(name: str, figures: Mapping[str, Figure]) -> float | None:
    return figures[name].integer if name in figures else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def show_front(front: Front, console: Console | None = None) -> None:
    """Print the measured points."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    names, lines = columns(front, front.measured)
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number else "left")
    for line in lines:
        table.add_row(*line, style="bold" if line[0] == "chosen" else None)
    console.print(table, markup=False)


def to_dict(point: Point) -> dict[str, Any]:
    """A point as plain data."""
    measured = point.measured
    return {
        "palettes": {name: choice.table() for name, choice in point.palettes.items()},
        "predicted": {**vars(point.predicted), "loss": point.loss, "sqnr_db": _finite(point.sqnr_db)},
        "measured": None
        if measured is None
        else {**vars(measured.costs), "figures": _plain(measured.figures)},
        "held_out": _plain(point.held_out),
    }


def _plain(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {n: {"float": f.real, "integer": f.integer, "unit": f.unit} for n, f in figures.items()}


def draw(front: Front, path: Path) -> None:
    """Write the drawing, PNG or SVG by the file's name: accuracy over cost, the same bytes every time.

    The upper half shows the SQNR, predicted and measured; the lower one the figure that is bounded,
    which is only known where it was measured.
    """
    import matplotlib
    from matplotlib.figure import Figure as Drawing

    names = list(dict.fromkeys(["sqnr", *front.figures[:1]]))
    style = {
        "svg.hashsalt": "front", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        drawing = Drawing(figsize=(7, 1 + 2.8 * len(names)), dpi=150, layout="constrained")
        grid = drawing.subplots(len(names), sharex=True, squeeze=False)[:, 0]
        for axes, name in zip(grid, names, strict=True):
            _draw(front, name, axes)
        grid[0].legend(frameon=False, loc="lower right")
        grid[-1].set_xlabel(_LABELS[front.axis])
        absent = ("Software",) if path.suffix == ".png" else ("Date", "Creator", "Format", "Type")
        drawing.savefig(path, metadata=dict.fromkeys(absent))


_LABELS: Mapping[Axis, str] = {
    "bytes": "constants at rest, kB",
    "cycles": "latency of a step, us",
    "energy": "energy of a step, nJ",
}
BELOW = 10  # a figure this many times further below its bound than the best is above is drawn at the edge


def _draw(front: Front, name: str, axes: "Axes") -> None:
    """Points of one figure, and the bounds of the figure and of the cost."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    unit = front.microseconds_per_cycle if front.axis == "cycles" else 1e-3
    limits = [bound.limit for bound in front.bounds if bound.figure == name]
    best = max((y for _, y in _places(front, name, unit)), default=0.0)
    floor = min((limit - BELOW * (best - limit) for limit in limits if limit < best), default=-math.inf)
    if name == "sqnr":
        axes.plot(*predicted_line(front, unit), color=LINE, label="predicted", linewidth=1.4, zorder=1)
    _scatter(axes, _places(front, name, unit), floor, "measured, calibration", color=DOT, s=26)
    held = _places(front, name, unit, held_out=True)
    _scatter(axes, held, floor, "held out", facecolors="none", edgecolors=DOT, s=30)
    chosen = replace(front, points=())
    _scatter(axes, _places(chosen, name, unit), floor, "chosen", color=STAR, marker="*", s=120)
    for limit in limits:
        axes.axhline(limit, color=STAR, linestyle="--", linewidth=0.8)
    for bound in front.bounds:
        if bound.figure == FIGURES[front.axis]:
            axes.axvline(unit * bound.limit, color=STAR, linestyle="--", linewidth=0.8)
    axes.set_ylabel("SQNR, dB" if name.startswith("sqnr") else name.replace("_", " "))


FIGURES: Mapping[Axis, str] = {"bytes": "bytes", "cycles": "latency", "energy": "energy"}


def _scatter(axes: "Axes", places: Sequence[Place], floor: float, label: str, **looks: Any) -> None:
    """Points with a label; one below the floor stands on it, as an arrow."""
    if not places:
        return
    inside = [(x, y) for x, y in places if y >= floor]
    axes.scatter([x for x, _ in inside], [y for _, y in inside], label=label, gid=label, zorder=2, **looks)
    below = [x for x, y in places if y < floor]
    if below:
        arrow = {**looks, "marker": "v"}
        axes.scatter(below, [floor] * len(below), gid=f"{label} below", zorder=2, **arrow)


def _places(front: Front, name: str, unit: float, held_out: bool = False) -> list[Place]:
    """Where measured points stand."""
    pairs = [(unit * _cost(p, front.axis), accuracy(p, name, held_out)) for p in front.measured]
    return [(x, y) for x, y in pairs if y is not None and math.isfinite(y)]


def accuracy(point: Point, name: str, held_out: bool = False) -> float | None:
    """A figure of a measured point, on the calibration or the held-out recordings."""
    if point.measured is None:
        return None
    return figure(name, point.held_out if held_out else point.measured.figures)


def predicted_line(front: Front, unit: float = 1.0) -> tuple[list[float], list[float]]:
    """Costs and SQNR of every point as predicted: the sum of what each weight does alone."""
    points = [p for p in front.predicted if math.isfinite(p.sqnr_db)]
    return [unit * p.predicted.of(front.axis) for p in points], [p.sqnr_db for p in points]
