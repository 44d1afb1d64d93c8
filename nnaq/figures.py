"""Drawings of a report as SVG text, without pyplot: nothing global is touched, nothing is shown.

Every drawing is deterministic (no date, ids from a fixed salt) and keeps its text as text.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 40  # layers in one drawing; the rest stands in layers.csv
BAR, WEAK, COLOURS = "#3b6ea5", "#c2563f", ("#3b6ea5", "#6f9fc8", "#a9c6de", "#8a9a5b", "#c9a227", "#b5776a")
WEAK_DB = 20.0


def sqnr_by_layer(figures: Sequence[tuple[str, float | None]]) -> str:
    """Bars of SQNR, worst first; below 20 dB in another colour. Empty where no layer has a figure."""
    judged = sorted((db, name) for name, db in figures if db is not None)[:SHOWN]
    if not judged:
        return ""

    def draw(axes: "Axes") -> None:
        values = [db for db, _ in judged]
        axes.barh(range(len(judged)), values, color=[WEAK if db < WEAK_DB else BAR for db in values])
        axes.set_yticks(range(len(judged)), [_short(name) for _, name in judged])
        axes.invert_yaxis()
        axes.set_xlabel("dB")

    return _svg("sqnr", draw, rows=len(judged))


def cycles_by_op(cycles: Mapping[str, int]) -> str:
    """Bars of cycles with their shares, in the order given. Empty where there are none."""
    whole = sum(cycles.values())
    if not whole:
        return ""

    def draw(axes: "Axes") -> None:
        bars = axes.barh(range(len(cycles)), list(cycles.values()), color=BAR)
        axes.bar_label(bars, [f" {spent / whole:.1%}" for spent in cycles.values()])
        axes.set_yticks(range(len(cycles)), list(cycles))
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel("cycles per step")

    return _svg("cycles", draw, rows=len(cycles))


def arena_map(plan: Mapping[str, Any]) -> str:
    """Rectangles of the buffers of a memory plan: lifetime across, offset upwards.

    plan: `buffers`, each with `name`, `offset`, `bytes`, and `first` and `last`, the steps of the
    schedule between which it is alive. Empty where there are none.
    """
    buffers = plan.get("buffers", [])
    if not buffers:
        return ""

    def draw(axes: "Axes") -> None:
        first, offset, size = ([b[key] for b in buffers] for key in ("first", "offset", "bytes"))
        lives = [b["last"] - b["first"] + 1 for b in buffers]
        colours = [COLOURS[number % len(COLOURS)] for number in range(len(buffers))]
        bars = axes.bar(
            first, size, lives, offset, align="edge", color=colours, edgecolor="white", linewidth=0.6
        )
        for bar, buffer in zip(bars, buffers, strict=True):
            bar.set_gid(f"buffer {buffer['name']}")
        axes.set_xlabel("step of the schedule")
        axes.set_ylabel("bytes")

    return _svg("arena", draw, rows=16)


def _svg(salt: str, draw: Any, rows: int) -> str:
    """The drawing as an <svg> element, without the XML head (which names a DTD elsewhere)."""
    import matplotlib
    from matplotlib.figure import Figure

    style = {"svg.hashsalt": salt, "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(8, 0.9 + 0.22 * rows), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        draw(axes)
        text = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=nothing, transparent=True)
    return text.getvalue()[text.getvalue().index("<svg") :]


def _short(name: str, most: int = 42) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]
