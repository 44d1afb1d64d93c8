"""Shapes, scales and axes: as much of SVG as the drawings need."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from math import ceil, floor, log10

WIDTH = 800
SIZE = 11  # of text, in pixels
LETTER = 6.1  # width of a letter of that size, about
INK, SOFT, GRID = "#1f2933", "#66727f", "#dddddd"


@dataclass(frozen=True)
class Scale:
    """Places of values: `low` at pixel `start`, `high` at pixel `stop`; logarithmic if told."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = log10(low), log10(high), log10(value)
        return self.start + (self.stop - self.start) * (value - low) / ((high - low) or 1)

    @property
    def ticks(self) -> list[float]:
        """Round values between the ends: 1, 2 or 5 times a power of ten; powers of ten on a log scale."""
        if self.log:
            return [10.0**n for n in range(ceil(log10(self.low)), floor(log10(self.high)) + 1)]
        rough = (self.high - self.low) / 6 or 1
        unit = 10.0 ** floor(log10(rough))
        step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough)
        return [step * n for n in range(ceil(self.low / step), floor(self.high / step + 1e-9) + 1)]


@dataclass
class Drawing:
    """Shapes one after another, the later ones on top. title: what is read out to who cannot see it."""

    title: str
    height: float
    shapes: list[str] = field(default_factory=list)

    def add(self, tag: str, inside: str = "", **attributes: object) -> None:
        """A shape; `inside` is escaped already. `_` in a name stands for `-`, numbers are rounded."""
        words = "".join(
            f' {name.replace("_", "-")}="{_plain(value)}"'
            for name, value in attributes.items()
            if value is not None
        )
        self.shapes.append(f"<{tag}{words}>{inside}</{tag}>" if inside else f"<{tag}{words}/>")

    def text(self, x: float, y: float, words: str, anchor: str = "start", fill: str = INK) -> None:
        """Words whose middle line is at y."""
        self.add("text", escape(words), x=x, y=y + SIZE / 3, text_anchor=anchor, fill=fill)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str,
        told: str = "",
        id: str | None = None,
    ) -> None:
        """A filled box; what it tells when pointed at."""
        inside = f"<title>{escape(told)}</title>" if told else ""
        self.add("rect", inside, x=x, y=y, width=max(width, 0), height=max(height, 0), fill=fill, id=id)

    def dot(self, x: float, y: float, fill: str, told: str) -> None:
        """A dot; what it tells when pointed at."""
        inside = f"<title>{escape(told)}</title>"
        self.add("circle", inside, cx=x, cy=y, r=4, fill=fill, fill_opacity=0.8)

    def line(
        self, x1: float, y1: float, x2: float, y2: float, stroke: str = GRID, dashes: str | None = None
    ) -> None:
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, stroke_dasharray=dashes)

    def axis_x(self, scale: Scale, top: float, bottom: float, label: str) -> None:
        """Ticks below, a grid line at each, and what is measured."""
        for tick in scale.ticks:
            self.line(scale(tick), top, scale(tick), bottom)
            self.text(scale(tick), bottom + SIZE, short_number(tick), "middle", SOFT)
        self.text((scale.start + scale.stop) / 2, bottom + 2.4 * SIZE, label, "middle", SOFT)

    def axis_y(self, scale: Scale, left: float, right: float, label: str) -> None:
        """Ticks at the left, a grid line at each, and what is measured above them."""
        for tick in scale.ticks:
            self.line(left, scale(tick), right, scale(tick))
            self.text(left - 5, scale(tick), short_number(tick), "end", SOFT)
        self.text(4, min(scale.start, scale.stop) - 1.2 * SIZE, label, "start", SOFT)

    def legend(self, x: float, y: float, entries: Sequence[tuple[str, str]]) -> None:
        """Colours and what they stand for, in a row."""
        for colour, words in entries:
            self.box(x, y - 5, 10, 10, colour)
            self.text(x + 14, y, words, fill=SOFT)
            x += 28 + LETTER * len(words)

    def render(self) -> str:
        """The <svg> element."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_plain(self.height)}" '
            f'width="{WIDTH}" height="{_plain(self.height)}" role="img" aria-label="{escape(self.title)}" '
            f'font-family="sans-serif" font-size="{SIZE}">'
        )
        return head + "".join(self.shapes) + "</svg>"


def _plain(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else escape(str(value))


def short_name(name: str, most: int = 42) -> str:
    """A name that may be too long for its place; its end says more than its beginning."""
    return name if len(name) <= most else "…" + name[1 - most :]


def short_number(value: float) -> str:
    """A number on an axis.

    >>> [short_number(v) for v in (0, 0.25, 1500, 2_000_000)]
    ['0', '0.25', '1.5k', '2M']
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"
