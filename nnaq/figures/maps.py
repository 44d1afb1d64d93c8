"""Maps of a step: what every engine does when, and where in SRAM every buffer lies how long."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nnaq.figures.svg import LETTER, SIZE, WIDTH, Drawing, Scale, short_name

if TYPE_CHECKING:
    from nnaq.simulate import Simulation, Span

COLOURS = ("#3b6ea5", "#6f9fc8", "#a9c6de", "#8a9a5b", "#c9a227", "#b5776a")
ENGINES = {
    "host": "#9a8fb0", "dma": "#c9a227", "decompression": "#b5776a", "array": "#3b6ea5", "vector": "#6f9fc8",
    "table": "#8a9a5b",
}  # fmt: skip
LEFT, RIGHT, FOOT, ROW, TALL = 96, 20, 3.4 * SIZE, 30, 320
THIN = 0.5  # pixels: narrower commands next to each other are drawn as one


def timeline(simulation: "Simulation") -> str:
    """A row per unit of an engine, a box per command. Empty where nothing takes time."""
    timing = simulation.timing
    if not timing.cycles:
        return ""
    rows: dict[tuple[str, int], list[Span]] = {}
    for span in timing.spans:
        if span.command.cycles:
            rows.setdefault((span.command.engine, span.unit), []).append(span)
    units = sorted(rows, key=lambda unit: (list(ENGINES).index(unit[0]), unit[1]))
    drawing = Drawing("engines over time", ROW * len(units) + FOOT)
    scale = Scale(0, timing.cycles, LEFT, WIDTH - RIGHT)
    drawing.axis_x(scale, 0, ROW * len(units), "cycles from the start of the step")
    for row, (engine, unit) in enumerate(units):
        several = (engine, 1) in rows
        drawing.text(LEFT - 6, ROW * (row + 0.5), f"{engine} {unit}" if several else engine, "end")
        for start, end, name in _joined(rows[engine, unit], scale):
            x, width = scale(start), max(scale(end) - scale(start), THIN)
            told = f"{name}: cycles {start:,} to {end:,}"
            drawing.box(x, ROW * row + 4, width, ROW - 8, ENGINES[engine], told)
            _inside(drawing, x, ROW * (row + 0.5), width, name)
    return drawing.render()


def _joined(spans: "list[Span]", scale: Scale) -> "Iterator[tuple[int, int, str]]":
    """Start, end and name of what is drawn as one box: a command, or a run of thin ones."""
    run: list[Span] = []
    for span in spans:
        if run and (not _thin(span, scale) or scale(span.start) - scale(run[-1].end) > THIN):
            yield _box(run)
            run = []
        if _thin(span, scale):
            run.append(span)
        else:
            yield _box([span])
    if run:
        yield _box(run)


def _thin(span: "Span", scale: Scale) -> bool:
    return scale(span.end) - scale(span.start) < THIN


def _box(run: "list[Span]") -> tuple[int, int, str]:
    command = run[0].command
    name = f"{command.node} {command.part}".strip() if len(run) == 1 else f"{len(run)} commands"
    return run[0].start, run[-1].end, name


def arena_map(plan: Mapping[str, Any]) -> str:
    """Boxes of the buffers of a memory plan: lifetime across, offset upwards.

    plan: `buffers`, each with `name`, `offset`, `bytes`, and `first` and `last`, the nodes between which
    it is alive, in the order in which they run. Empty where there are none.
    """
    buffers = plan.get("buffers", [])
    if not buffers:
        return ""
    across = Scale(0, max(b["last"] for b in buffers) + 1, LEFT, WIDTH - RIGHT)
    up = Scale(0, max(b["offset"] + b["bytes"] for b in buffers), TALL, 2 * SIZE)
    drawing = Drawing("arena over time", TALL + FOOT)
    drawing.axis_x(across, 2 * SIZE, TALL, "nodes in the order they run")
    drawing.axis_y(up, LEFT, WIDTH - RIGHT, "bytes")
    for number, buffer in enumerate(buffers):
        x, top = across(buffer["first"]), up(buffer["offset"] + buffer["bytes"])
        width, height = across(buffer["last"] + 1) - x, up(buffer["offset"]) - top
        told = f"{buffer['name']}: {buffer['bytes']:,} bytes from {buffer['offset']:,}"
        colour, name = COLOURS[number % len(COLOURS)], buffer["name"]
        drawing.box(x, top, max(width - 1, 1), max(height - 1, 0.5), colour, told, f"buffer {name}")
        if height > 1.2 * SIZE:
            _inside(drawing, x, top + height / 2, width, name)
    return drawing.render()


def _inside(drawing: Drawing, x: float, y: float, width: float, words: str) -> None:
    """Words in a box that has room for some of them."""
    room = int((width - 6) / LETTER)
    if room >= 4:
        drawing.text(x + 3, y, short_name(words, room), fill="white")
