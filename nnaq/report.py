"""The report of a lowering: accuracy, layers, latency, memory, and what was left to the host.

`report.json` is a stable surface: keys may be added, none is renamed or dropped. Its schema is
`report.schema.json`, beside this file; where a number has no meaning it is null.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nnaq import figures
from nnaq.codebooks.storage import Storage
from nnaq.errors import ArtifactError
from nnaq.outside import parse_json
from nnaq.simulate import Simulation
from nnaq.tasks.metrics import Figure

HERE = Path(__file__).parent
SCHEMA = HERE / "report.schema.json"


@dataclass(frozen=True)
class Layer:
    """One operator of the lowered model.

    sqnr_db: signal to noise of its result against the real model, None where there is none
    (`exact`: no error at all); added_db: the same for the error this layer alone adds, so a low
    figure marks the culprit; cycles of one step; bound: what holds it up (`compute`, `sram`, …).
    """

    name: str
    op: str
    sqnr_db: float | None = None
    added_db: float | None = None
    weight_bits: int | None = None
    activation_bits: int | None = None
    cycles: int | None = None
    bound: str | None = None
    exact: bool = False


@dataclass(frozen=True)
class Latency:
    """Time of one step; a real_time_factor is None where the model does not stream.

    cycles_per_step is the sum of node costs, event_cycles_per_step the end of the step's commands on
    their engines, and the two cannot be further apart than models_apart_at_most_cycles; setup_cycles
    run once before the first step.
    """

    cycles_per_step: int | None = None
    microseconds_per_step: float | None = None
    real_time_factor: float | None = None
    event_cycles_per_step: int | None = None
    event_microseconds_per_step: float | None = None
    event_real_time_factor: float | None = None
    models_apart_at_most_cycles: int | None = None
    setup_cycles: int | None = None


@dataclass(frozen=True)
class Memory:
    """Bytes by what they hold; the peak is that of the plan."""

    weight_bytes: int = 0
    table_bytes: int = 0
    state_bytes: int = 0
    sram_peak_bytes: int = 0


@dataclass(frozen=True)
class Island:
    """An operator left to the host, and why."""

    name: str
    op: str
    reason: str
    cycles: int | None = None


@dataclass(frozen=True)
class Crossing:
    """Quantising an input or dequantising an output, at the boundary of the integer graph."""

    name: str
    op: str
    cycles: int | None = None


@dataclass(frozen=True)
class Check:
    """Two ways to the same integers: values compared, values that differ."""

    values: int
    mismatches: int


@dataclass(frozen=True)
class Report:
    """All there is to say about one lowered model.

    accuracy: figures of the real and the integer model by name; raises: values given more bits
    than asked for, as rows of any keys; saturations: values clamped in evaluation, by name;
    storage: what each weight takes in the file; notes: sentences for the reader.
    """

    model: str
    target: str
    recipe: str
    versions: Mapping[str, str]
    accuracy: Mapping[str, Figure] = field(default_factory=dict)
    layers: Sequence[Layer] = ()
    latency: Latency = Latency()
    memory: Memory = Memory()
    islands: Sequence[Island] = ()
    boundary: Sequence[Crossing] = ()
    checks: Mapping[str, Check] = field(default_factory=dict)
    notes: Sequence[str] = ()
    raises: Sequence[Mapping[str, Any]] = ()
    saturations: Mapping[str, int] = field(default_factory=dict)
    storage: Sequence[Storage] = ()

    def to_dict(self) -> dict[str, Any]:
        """The content of `report.json`."""
        accuracy = {
            name: {"float": figure.real, "integer": figure.integer, "unit": figure.unit}
            for name, figure in self.accuracy.items()
        }
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)} | {"accuracy": _plain(accuracy)}

    def to_json(self) -> str:
        """`report.json`; a NaN or an infinity in a figure is a bug and raises ValueError."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """`layers.csv`: one row per layer, empty where a number has no meaning."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [f.name for f in fields(Layer)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(layer) for layer in self.layers)
        return text.getvalue()

    def to_html(self, simulation: Simulation | None = None) -> str:
        """`report.html`: one file without links; the simulation is drawn where it is given."""
        environment = Environment(
            loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        drawings = {
            "Signal to quantisation noise by layer, worst first": figures.sqnr_by_layer(
                [(layer.name, layer.sqnr_db) for layer in worst_layers(self, len(self.layers))]
            ),
            "Cycles of one step by operator": figures.cycles_by_op(cycles_by_op(self.layers)),
            **({} if simulation is None else _machine(simulation)),
        }
        page = environment.get_template("report.html.jinja")
        return page.render(
            report=self, drawings=drawings, worst=worst_layers(self), number=number, rows=_rows
        )

    def write(self, folder: Path, simulation: Simulation | None = None) -> None:
        """Write report.json, layers.csv and report.html into `folder`."""
        (folder / "report.json").write_text(self.to_json(), encoding="utf-8")
        (folder / "layers.csv").write_text(self.to_csv(), encoding="utf-8")
        (folder / "report.html").write_text(self.to_html(simulation), encoding="utf-8")

    def show(self, console: Console | None = None) -> None:
        """Print what matters: accuracy, the worst and the dearest layers, memory, islands."""
        console = console or Console()
        console.print(
            f"[bold]{escape(self.model)}[/] on [bold]{escape(self.target)}[/], recipe {escape(self.recipe)}"
        )
        for title, (head, rows) in _rows(self).items():
            table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
            for position, column in enumerate(head):
                table.add_column(column, justify="left" if position == 0 else "right", overflow="fold")
            for row in rows:
                table.add_row(*map(escape, row))
            console.print()
            console.print(table if rows else f"[bold]{title}:[/] none", highlight=False)
        for note in self.notes:
            console.print(f"\nnote: {escape(note)}", highlight=False)


def _machine(simulation: Simulation) -> dict[str, str]:
    """Drawings of a step on its target, by title."""
    return {
        "One step, engine by engine": figures.timeline(simulation),
        "Where the cycles go": figures.cycle_split(simulation),
        "Roofline": figures.roofline(simulation),
        "SRAM over time": figures.arena_map(simulation.plan.to_json()),
    }


def read_report(path: Path) -> Report:
    """A report from its report.json; keys it does not know are passed over. Raises ArtifactError."""
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
        accuracy = {name: Figure(f["float"], f["integer"], f["unit"]) for name, f in data["accuracy"].items()}
        made = {
            "accuracy": accuracy,
            "layers": tuple(_known(Layer, row) for row in data["layers"]),
            "latency": _known(Latency, data["latency"]),
            "memory": _known(Memory, data["memory"]),
            "islands": tuple(_known(Island, row) for row in data["islands"]),
            "boundary": tuple(_known(Crossing, row) for row in data["boundary"]),
            "checks": {name: _known(Check, row) for name, row in data["checks"].items()},
            "storage": tuple(_known(Storage, row) for row in data.get("storage", ())),
        }
        report: Report = _known(Report, {**data, **made})
    except OSError as error:
        raise ArtifactError(f"report {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is no report of nnaq: {type(error).__name__} {error}") from None
    return report


def worst_layers(report: Report, count: int = 5) -> list[Layer]:
    """The layers with the lowest SQNR, worst first, of those that add an error of their own.

    A layer that only moves values shows the error of the one before it and is left out.
    """
    judged = [layer for layer in report.layers if layer.sqnr_db is not None and layer.added_db is not None]
    return sorted(judged, key=lambda layer: layer.sqnr_db or 0.0)[:count]


def cycles_by_op(layers: Sequence[Layer]) -> dict[str, int]:
    """Cycles of one step by operator, dearest first."""
    total: dict[str, int] = {}
    for layer in layers:
        if layer.cycles is not None:
            total[layer.op] = total.get(layer.op, 0) + layer.cycles
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def number(value: object, digits: int = 4) -> str:
    """A figure for people: `–` for None, thousands apart, four significant digits.

    >>> [number(v) for v in (None, 12345, 0.99871234, 1e-7, True)]
    ['–', '12 345', '0.9987', '1e-07', 'yes']
    """
    value = _plain(value)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


Rows = tuple[Sequence[str], list[list[str]]]


def _rows(report: Report) -> dict[str, Rows]:
    """The tables of the report, by title: column heads and rows of text."""
    return {
        "Accuracy": (("metric", "float", "integer", "unit"), _accuracy(report)),
        "Worst layers": (("layer", "op", "SQNR dB", "own SQNR dB", "bits"), _worst(report)),
        "Most expensive operators": (("op", "cycles per step", "share"), _dearest(report)),
        "Latency": (("figure", "value"), _pairs(report.latency)),
        "Memory": (("figure", "value"), _pairs(report.memory)),
        "Weights in the file": _storage(report),
        "Host islands": (
            ("operator", "op", "reason", "cycles"),
            [[i.name, i.op, i.reason, number(i.cycles)] for i in report.islands],
        ),
        "Boundary": (
            ("operator", "op", "cycles"),
            [[c.name, c.op, number(c.cycles)] for c in report.boundary],
        ),
        "Checks": (
            ("check", "values", "mismatches"),
            [[_words(name), number(c.values), number(c.mismatches)] for name, c in report.checks.items()],
        ),
        "Raised widths": _raised(report),
        "Saturations": (
            ("value", "clamped"),
            [[name, number(count)] for name, count in report.saturations.items()],
        ),
    }


def _storage(report: Report) -> Rows:
    """Bytes of the weights by their width, and of all together; the page lists every weight."""
    head = ("weights", "values", "indices", "tables", "zero maps", "scales", "entropy bits", "of int8")
    widths = sorted({s.bits for s in report.storage})
    groups = {f"{bits} bits": [s for s in report.storage if s.bits == bits] for bits in widths}
    if len(groups) > 1:
        groups["all"] = list(report.storage)
    return head, [[name, *_together(group)] for name, group in groups.items()]


def _together(storage: Sequence[Storage]) -> list[str]:
    """The parts of some weights, summed; entropy is the mean over their values."""
    parts = ("values", "index_bytes", "table_bytes", "map_bytes", "scale_bytes")
    values, *taken = (sum(getattr(s, part) for s in storage) for part in parts)
    entropy = sum(s.entropy_bits * s.values for s in storage) / max(values, 1)
    plain = max(values + taken[-1], 1)
    return [number(values), *map(number, taken), number(entropy), f"{sum(taken) / plain:.1%}"]


def _raised(report: Report) -> Rows:
    """The raised values under the keys they come with."""
    keys = list(dict.fromkeys(key for row in report.raises for key in row))
    return [_words(key) for key in keys], [[number(row.get(key)) for key in keys] for row in report.raises]


def _accuracy(report: Report) -> list[list[str]]:
    return [
        [_words(name), number(f.real), number(f.integer), "" if f.unit == "1" else f.unit]
        for name, f in report.accuracy.items()
    ]


def _worst(report: Report) -> list[list[str]]:
    return [
        [layer.name, layer.op, number(layer.sqnr_db), number(layer.added_db), number(layer.activation_bits)]
        for layer in worst_layers(report)
    ]


def _dearest(report: Report, count: int = 5) -> list[list[str]]:
    cycles = cycles_by_op(report.layers)
    whole = max(sum(cycles.values()), 1)
    return [[op, number(spent), f"{spent / whole:.1%}"] for op, spent in list(cycles.items())[:count]]


def _pairs(figures: Latency | Memory) -> list[list[str]]:
    return [[_words(name), number(value)] for name, value in vars(figures).items()]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _plain(value: Any) -> Any:
    """Dataclasses and mappings as what JSON knows; NumPy numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return value.item() if hasattr(value, "item") else value


def _known(kind: type[Any], row: Mapping[str, Any]) -> Any:
    return kind(**{f.name: row[f.name] for f in fields(kind) if f.init and f.name in row})
