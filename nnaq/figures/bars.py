"""Bars: SQNR by layer, cycles by operator, and what a step's cycles are made of."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nnaq.figures.svg import SIZE, WIDTH, Drawing, Scale, short_name

if TYPE_CHECKING:
    from nnaq.simulate import Simulation

SHOWN = 40  # layers in one drawing; the rest stands in layers.csv
BAR, WEAK = "#3b6ea5", "#c2563f"
WEAK_DB = 20.0
ROW, LEFT, RIGHT, FOOT = 18, 270, 60, 3.4 * SIZE
PARTS = {
    "compute": "#3b6ea5", "weights": "#c9a227", "activations": "#8a9a5b", "stall": "#c2563f",
    "host": "#9a8fb0",
}  # fmt: skip


def sqnr_by_layer(figures: Sequence[tuple[str, float | None]]) -> str:
    """Bars of SQNR, worst first; below 20 dB in another colour. Empty where no layer has a figure."""
    judged = sorted((db, name) for name, db in figures if db is not None)[:SHOWN]
    if not judged:
        return ""
    drawing, scale = _rows("signal to noise of layers", [db for db, _ in judged], "dB")
    for row, (db, name) in enumerate(judged):
        colour = WEAK if db < WEAK_DB else BAR
        low, high = sorted((scale(0), scale(db)))
        _label(drawing, row, name)
        drawing.box(low, ROW * row + 2, high - low, ROW - 4, colour, f"{name}: {db:.2f} dB")
    return drawing.render()


def cycles_by_op(cycles: Mapping[str, int]) -> str:
    """Bars of cycles with their shares, in the order given. Empty where there are none."""
    whole = sum(cycles.values())
    if not whole:
        return ""
    drawing, scale = _rows("cycles by operator", list(cycles.values()), "cycles per step")
    for row, (op, spent) in enumerate(cycles.items()):
        _label(drawing, row, op)
        drawing.box(LEFT, ROW * row + 2, scale(spent) - LEFT, ROW - 4, BAR, f"{op}: {spent:,} cycles")
        drawing.text(scale(spent) + 4, ROW * (row + 0.5), f"{spent / whole:.1%}")
    return drawing.render()


def cycle_split(simulation: "Simulation", count: int = 10) -> str:
    """The step and its dearest nodes, each a bar of what it computes and what it waits for."""
    whole = simulation.cycles_per_step
    if not whole:
        return ""
    by_name = dict(zip((c.name for c in simulation.costs), simulation.splits, strict=True))
    rows = {"whole step": simulation.split, **{c.name: by_name[c.name] for c in simulation.dearest(count)}}
    drawing, scale = _rows("cycles of a step and its parts", [whole], "cycles", len(rows), top=24)
    drawing.legend(LEFT, 10, [(colour, part) for part, colour in PARTS.items()])
    for row, (name, split) in enumerate(rows.items()):
        _label(drawing, row, name, top=24)
        start = 0
        for part, cycles in split.items():
            if cycles:
                told = f"{name}: {part} {cycles:,} cycles, {cycles / whole:.1%} of the step"
                width = scale(start + cycles) - scale(start)
                drawing.box(scale(start), 26 + ROW * row, width, ROW - 4, PARTS[part], told)
            start += cycles
    return drawing.render()


def _rows(
    title: str, values: Sequence[float], label: str, count: int | None = None, top: float = 0
) -> tuple[Drawing, Scale]:
    """A drawing with a row per value, and the scale across."""
    bottom = top + ROW * (count or len(values))
    scale = Scale(min(0, *values, 0), max(0, *values, 0), LEFT, WIDTH - RIGHT)
    drawing = Drawing(title, bottom + FOOT)
    drawing.axis_x(scale, top, bottom, label)
    return drawing, scale


def _label(drawing: Drawing, row: int, name: str, top: float = 0) -> None:
    drawing.text(LEFT - 6, top + ROW * (row + 0.5), short_name(name), "end")
