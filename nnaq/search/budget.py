"""Budgets: what a search may lose, and what it may cost.

    sqnr>=25            every output at least 25 dB above its noise
    agreement>=0.99     a figure of the recipe's metric; of a share, 99% means 0.99
    agreement>=-0.002   a sign means a change of the real model's figure; it has none: of the 8-bit one's
    wer<=+0.5%          of a figure counted in %, as wer is, 0.5% means 0.5; changes are points, not parts
    bytes<=300k         constants as they rest; k, K and M are 1000s, Ki and Mi 1024s, a B may follow
    latency<=250us      of one step: ns, us, ms, s or cycles
    energy<=3uJ         of one step: pJ, nJ, uJ, mJ or J

Several may be joined by commas, or given one by one. `sqnr` without an output means the worst of
`sqnr:OUTPUT` over all outputs.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, NoReturn

from nnaq.errors import NnaqError
from nnaq.tasks.metrics import Figure

Sense = Literal[">=", "<="]
Cost = Literal["bytes", "latency", "energy"]
Values = Mapping[str, float]

COSTS: tuple[Cost, ...] = ("bytes", "latency", "energy")
SHARES = ("agreement", "unsure_agreement", "auc", "auc_against_float", "accuracy")
"""Figures that are parts of a whole, 0 … 1."""
PERCENTAGES = ("wer", "cer")
"""Figures that are counted in %."""
HIGHER = ("sqnr", *SHARES)
LOWER = ("mean_absolute_error", "unsure_mean_absolute_error", *PERCENTAGES)
"""Figures that are known to be better when higher, and when lower; others may be bounded either way."""

_BYTES = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "Ki": 2**10, "Mi": 2**20}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_JOULES = {"pJ": 1e-12, "nJ": 1e-9, "uJ": 1e-6, "µJ": 1e-6, "mJ": 1e-3, "J": 1.0}

_BOUND = re.compile(
    r"\s*(?P<figure>.+?)\s*(?P<sense>[<>]=)\s*"
    r"(?P<sign>[+-]?)(?P<number>\d+(\.\d*)?([eE][+-]?\d+)?|\.\d+)\s*(?P<unit>[A-Za-zµ]*|%)\s*"
)


class BudgetError(NnaqError):
    """A budget that no choice meets; says what the nearest reach."""


@dataclass(frozen=True)
class Bound:
    """One budget. limit: in bytes, cycles, picojoules or the figure's own unit; a change if `is_change`."""

    figure: str
    sense: Sense
    limit: float
    is_change: bool
    text: str

    @property
    def is_cost(self) -> bool:
        return self.figure in COSTS

    def at(self, origin: float) -> "Bound":
        """The same bound as an absolute one, seen from the figure it is relative to."""
        if not self.is_change:
            return self
        return Bound(self.figure, self.sense, origin + self.limit, False, self.text)

    def holds(self, value: float) -> bool:
        """Whether a value of the figure keeps an absolute bound."""
        return value >= self.limit if self.sense == ">=" else value <= self.limit


def parse_budgets(texts: Iterable[str], clock_hz: int) -> tuple[Bound, ...]:
    """The bounds that texts state, each figure at most once. Raises NnaqError."""
    bounds = [parse_bound(part, clock_hz) for text in texts for part in text.split(",")]
    for number, bound in enumerate(bounds):
        if bound.figure in [earlier.figure for earlier in bounds[:number]]:
            raise NnaqError(f"--budget bounds {bound.figure!r} twice; give one bound")
    return tuple(bounds)


def parse_bound(text: str, clock_hz: int = 1_000_000_000) -> Bound:
    """One bound. Raises NnaqError for a text that states none.

    >>> parse_bound("latency<=250us", clock_hz=500_000_000).limit, parse_bound("bytes<=300Ki").limit
    (125000.0, 307200.0)
    >>> parse_bound("wer<=+0.5")
    Bound(figure='wer', sense='<=', limit=0.5, is_change=True, text='wer<=+0.5')
    """
    match = _BOUND.fullmatch(text)
    if match is None:
        raise NnaqError(
            f"--budget takes FIGURE>=NUMBER or FIGURE<=NUMBER with an optional unit, such as "
            f"'agreement>=99%' or 'bytes<=300kB', several parted by commas, found {text!r}"
        )
    figure, sense = match["figure"], match["sense"]
    _must_point_right(figure, sense, text)
    limit = float(match["number"]) * _unit(figure, match["unit"], clock_hz, text)
    if figure.partition(":")[0] in SHARES and limit > 1:
        raise NnaqError(
            f"--budget {text.strip()!r}: {figure} is a share, at most 1; write a number such as 0.99, or 99%"
        )
    signed = -limit if match["sign"] == "-" else limit
    return Bound(figure, sense, signed, bool(match["sign"]), text.strip())  # type: ignore[arg-type]


def _must_point_right(figure: str, sense: str, text: str) -> None:
    """Raise NnaqError for a bound that asks for a bad figure."""
    name = figure.partition(":")[0]
    wrong = ">=" if name in (*COSTS, *LOWER) else "<=" if name in HIGHER else None
    if sense == wrong:
        better, right = ("lower", "<=") if wrong == ">=" else ("higher", ">=")
        raise NnaqError(
            f"--budget {text.strip()!r}: {figure} is better when {better}; write {figure}{right}…"
        )


def _unit(figure: str, unit: str, clock_hz: int, text: str) -> float:
    """What one of the unit is in bytes, cycles, picojoules or the figure's own unit."""
    units: Mapping[str, float]
    name = figure.partition(":")[0]
    if figure == "bytes":
        units = {prefix + end: size for end in ("", "B") for prefix, size in _BYTES.items()}
    elif figure == "latency":
        units = {"cycles": 1.0, **{name: seconds * clock_hz for name, seconds in _SECONDS.items()}}
    elif figure == "energy":
        units = {name: joules * 1e12 for name, joules in _JOULES.items()}
    elif name in (*SHARES, *PERCENTAGES):
        units = {"": 1.0, "%": 0.01 if name in SHARES else 1.0}
    elif name == "sqnr":
        units = {"": 1.0, "dB": 1.0}
    else:
        units = {"": 1.0}
    if unit not in units:
        _refuse_unit(figure, unit, [name for name in units if name], text)
    return units[unit]


def _refuse_unit(figure: str, unit: str, known: list[str], text: str) -> NoReturn:
    """Raise NnaqError naming the units that a figure is counted in."""
    found = f"found {unit!r}" if unit else "found none"
    ways = f"is counted in {', '.join(known)}" if known else "takes a number without a unit"
    raise NnaqError(f"--budget {text.strip()!r}: {figure} {ways}, {found}")


def must_be_known(bounds: Iterable[Bound], figures: Mapping[str, Figure]) -> None:
    """Raise NnaqError where a bound names no figure of the metric."""
    whole = dict.fromkeys(name.partition(":")[0] for name in figures)
    for bound in bounds:
        if bound.is_cost or bound.figure in whole or bound.figure in figures:
            continue
        known = [*COSTS, *whole]
        close = get_close_matches(bound.figure, [*known, *figures], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise NnaqError(
            f"--budget {bound.text!r}: this model's metric gives no figure {bound.figure!r}, only "
            f"{', '.join(known)}{hint}"
        )


def figure_of(bound: Bound, figures: Mapping[str, Figure]) -> float:
    """The value of a bound's figure; without an output, the worst over all of them.

    Raises NnaqError for a figure without a value.
    """
    found = worst(bound.figure, figures, highest=bound.sense == "<=")
    if found is None:
        raise NnaqError(
            f"--budget {bound.text!r}: {bound.figure} has no value on the calibration recordings; "
            "give more of them, or bound another figure"
        )
    return found


def worst(name: str, figures: Mapping[str, Figure], highest: bool = False) -> float | None:
    """The lowest value of a figure over all outputs it is given for, or the highest.

    None where one of them has no value. An SQNR without noise counts as infinite.
    """
    found = [_value(n, figures) for n in figures if n == name or n.startswith(f"{name}:")]
    values = [value for value in found if value is not None]
    if not found or len(values) < len(found):
        return None
    return max(values) if highest else min(values)


def origin_of(bound: Bound, base: Mapping[str, Figure]) -> float:
    """What a change is relative to: the real model's figure, else the 8-bit model's."""
    real = base[bound.figure].real if bound.figure in base else None
    return figure_of(bound, base) if real is None else real


def _value(name: str, figures: Mapping[str, Figure]) -> float | None:
    kind, _, output = name.partition(":")
    if kind == "sqnr" and figures[name].integer is None:
        return math.inf if figures[f"mean_absolute_error:{output}"].integer == 0 else None
    return figures[name].integer
