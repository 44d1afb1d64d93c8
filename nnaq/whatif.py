"""What each choice of a numerics contract costs on a model: `nnaq numerics --sweep`.

One model, one set of ranges and dtypes; only the contract changes, one choice at a time, so that a
row tells what that choice alone costs: "what if the chip truncates?".
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast, get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from nnaq import pipeline
from nnaq.crossing import Lowering, Reporter, outputs_of
from nnaq.errors import DataError, LoweringError
from nnaq.ir.numerics import ROUNDINGS, Numerics, Overflow, Rounding
from nnaq.tasks.metrics import Fidelity, Figure, parse_metric, sqnr_db

SWEEPS = ("rounding", "accumulator", "lut", "internals")
WIDTHS = (28, 24, 22, 20, 18, 16)
INTERNALS = (16, 12, 8, 7, 6)
PARITY = ("pot_shift", "half_even", "double_m16")
"""Roundings that other runtimes need: not choices of a chip, and not of every scale."""


@dataclass(frozen=True)
class Row:
    """One contract. sqnr_db: of each output against the float model, None for an exact one. figures: the
    task metric's. changed: share of output values that differ from the target's own contract.
    refused: why the model has no integers under this contract."""

    sweep: str
    choice: str
    is_own: bool
    sqnr_db: Mapping[str, float | None]
    figures: Mapping[str, float | None]
    changed: float | None
    refused: str = ""


def choices(own: Numerics, sweep: str) -> Iterator[tuple[str, Numerics]]:
    """The contracts of a sweep by name, the target's own among them."""
    if sweep == "rounding":
        for rounding in ROUNDINGS:
            if rounding == own.rounding or rounding not in PARITY:
                yield rounding, replace(own, rounding=cast(Rounding, rounding))
    elif sweep == "accumulator":
        yield f"{own.accumulator_bits} bits", own
        for overflow in get_args(Overflow):
            for bits in WIDTHS:
                narrow = replace(own, accumulator_bits=bits, overflow=overflow)
                if narrow != own:
                    yield f"{bits} bits, {overflow}", narrow
    elif sweep == "internals":
        yield f"{own.internal_bits} bits", own
        for bits in INTERNALS:
            if bits != own.internal_bits:
                yield f"{bits} bits", replace(own, internal_bits=bits)
    else:
        for entries, word in ((513, "513, interpolated"), (65536, "65536, direct")):
            yield word, replace(own, lut_entries=entries)


def sweep(lowering: Lowering, sweeps: Sequence[str], reporter: Reporter | None = None) -> tuple[Row, ...]:
    """Every choice of the sweeps on a finished lowering, judged on its evaluation recordings."""
    reporter = reporter or Reporter()
    crossing, own = lowering.crossing, lowering.target.numerics
    asked = [(word, name, contract) for word in sweeps for name, contract in choices(own, word)]
    exact = outputs_of(crossing.real, lowering.evaluation)
    base = outputs_of(crossing.integer, lowering.evaluation)
    return tuple(
        _row(lowering, word, name, contract, exact, base)
        for word, name, contract in reporter.track(asked, "contracts", len(asked))
    )


def _row(
    lowering: Lowering,
    word: str,
    name: str,
    contract: Numerics,
    exact: Mapping[str, np.ndarray],
    base: Mapping[str, np.ndarray],
) -> Row:
    crossing, is_own = lowering.crossing, contract == lowering.target.numerics
    target = replace(lowering.target, numerics=contract)
    try:
        made = pipeline.cross(crossing.real, crossing.ranges, replace(crossing.options, target=target))
    except LoweringError as error:
        return Row(word, name, is_own, {}, {}, None, str(error))
    found = outputs_of(made.integer, lowering.evaluation)
    differ = sum(int((found[port] != base[port]).sum()) for port in base)
    total = sum(array.size for array in base.values())
    metric = parse_metric(lowering.recipe.metric)
    figures: Mapping[str, Figure] = {} if isinstance(metric, Fidelity) else metric.evaluate(exact, found)
    return Row(
        word,
        name,
        is_own,
        {port: sqnr_db(exact[port], found[port]).db for port in exact},
        {key: figure.integer for key, figure in figures.items()},
        differ / total if total else None,
    )


def chosen(text: str) -> tuple[str, ...]:
    """The sweeps that a text names, separated by commas. Raises DataError for an unknown one."""
    found = tuple(word.strip() for word in text.split(","))
    for word in found:
        if word not in SWEEPS:
            raise DataError(f"no sweep {word!r}; there are {', '.join(SWEEPS)}")
    return found


def columns(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The table of a sweep as texts: names of the columns, and a line per row."""
    ports = list(dict.fromkeys(port for row in rows for port in row.sqnr_db))
    keys = [key for key in ("agreement", "mean_absolute_error") if any(key in row.figures for row in rows)]
    names = ["sweep", "choice", *(f"SQNR dB {port}" for port in ports), *keys, "changed", ""]
    lines = []
    for row in rows:
        noises = [
            _text(row.sqnr_db.get(port), ".2f", "exact" if port in row.sqnr_db else "-") for port in ports
        ]
        figures = [_text(row.figures.get(key), ".4f") for key in keys]
        note = "the target's own" if row.is_own else row.refused
        changed = _text(None if row.changed is None else 100 * row.changed, ".2f")
        lines.append([row.sweep, row.choice, *noises, *figures, f"{changed} %", note])
    return names, lines


def _text(value: float | None, form: str, absent: str = "-") -> str:
    return absent if value is None else format(value, form)


def to_csv(rows: Sequence[Row]) -> str:
    """The table of a sweep, comma-separated."""
    names, lines = columns(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names[:-1], "note"])
    writer.writerows(lines)
    return text.getvalue()


def show_rows(rows: Sequence[Row]) -> None:
    """Print the table of a sweep."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    names, lines = columns(rows)
    table = Table(*names, box=None, pad_edge=False)
    for line in lines:
        table.add_row(*line)
    console.print(table, markup=False)


def to_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """The rows as plain data."""
    return [asdict(row) for row in rows]
