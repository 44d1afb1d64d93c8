"""What a step costs on two machines, or of two models: node by node, and in all.

Nodes are paired by name; one that only one side has is told with nothing on the other.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nnaq.cost import OpCost
from nnaq.simulate import Simulation

FIGURES = ("cycles", "sram_bytes", "dram_bytes", "energy_picojoules", "sqnr_db")
Number = int | float | None


@dataclass(frozen=True)
class Cost:
    """A node on one side. bound: what holds it up; sqnr_db: as judged when the model was lowered."""

    cycles: int
    bound: str
    sram_bytes: int
    dram_bytes: int
    energy_picojoules: float | None
    sqnr_db: float | None


@dataclass(frozen=True)
class Row:
    """A node on both sides, or on one."""

    name: str
    op: str
    left: Cost | None
    right: Cost | None

    def delta(self, figure: str) -> Number:
        """Right less left; None where either is unknown. A node that is not there takes nothing."""
        left, right = (_figure(side, figure) for side in (self.left, self.right))
        return None if left is None or right is None else right - left


@dataclass(frozen=True)
class Comparison:
    """Two simulations. totals: figures of a whole step, left and right."""

    left: str
    right: str
    rows: tuple[Row, ...]
    totals: Mapping[str, tuple[Number, Number]]

    def most_changed(self) -> list[Row]:
        """The nodes by how much their cycles changed, most first."""
        return sorted(self.rows, key=lambda row: -abs(row.delta("cycles") or 0))

    def to_json(self) -> dict[str, Any]:
        """Rows and totals as plain data, with their differences."""
        return {
            "left": self.left,
            "right": self.right,
            "totals": {
                name: {"left": left, "right": right, "delta": _less(left, right)}
                for name, (left, right) in self.totals.items()
            },
            "layers": [
                {**asdict(row), "delta": {figure: row.delta(figure) for figure in FIGURES}}
                for row in self.rows
            ],
        }


def compare_simulations(
    left: Simulation,
    right: Simulation,
    names: tuple[str, str],
    noise: tuple[Mapping[str, float | None], Mapping[str, float | None]] = ({}, {}),
) -> Comparison:
    """Two simulations beside each other. noise: signal to noise of the nodes of each side, in dB."""
    sides = [
        {c.name: (c.op, _cost(c, known)) for c in s.costs}
        for s, known in zip((left, right), noise, strict=True)
    ]
    rows = []
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        found = [side.get(name) for side in sides]
        op = next(pair[0] for pair in found if pair is not None)
        rows.append(Row(name, op, *(None if pair is None else pair[1] for pair in found)))
    totals = [_totals(s) for s in (left, right)]
    return Comparison(*names, tuple(rows), {key: (totals[0][key], totals[1][key]) for key in totals[0]})


def _cost(cost: OpCost, noise: Mapping[str, float | None]) -> Cost:
    return Cost(
        cost.cycles,
        cost.bound,
        cost.sram_bytes,
        cost.dram_bytes,
        cost.energy_picojoules,
        noise.get(cost.name),
    )


def _totals(simulation: Simulation) -> dict[str, Number]:
    latency, plan = simulation.latency(), simulation.plan
    times = ("cycles_per_step", "microseconds_per_step", "event_cycles_per_step")
    return {
        **{name: latency[name] for name in (*times, "event_microseconds_per_step", "setup_cycles")},
        "sram_bytes": simulation.sram_bytes,
        "dram_bytes": simulation.dram_bytes,
        "energy_picojoules": simulation.energy_picojoules,
        "weight_bytes": plan.weight_bytes,
        "sram_peak_bytes": plan.sram_peak_bytes,
    }


def _figure(side: Cost | None, name: str) -> Number:
    if side is None:
        return None if name == "sqnr_db" else 0
    found: Number = getattr(side, name)
    return found


def _less(left: Number, right: Number) -> Number:
    return None if left is None or right is None else right - left


def show_comparison(found: Comparison, top: int) -> None:
    """Print totals, and the nodes that changed most."""
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a log has no edge to wrap at
    print(f"A {found.left}\nB {found.right}")
    heads = (Column(head, justify="right", no_wrap=True) for head in ("A", "B", "B - A", "B / A"))
    totals = Table("per step", *heads, box=None, pad_edge=False)
    for name, (left, right) in found.totals.items():
        totals.add_row(name.replace("_", " "), _text(left), _text(right), *_change(left, right))
    heads = (
        Column(head, justify="right", no_wrap=True)
        for head in ("A cycles", "B - A", "SRAM bytes", "DRAM bytes", "pJ", "SQNR dB")
    )
    nodes = Table(Column("node", overflow="fold"), "op", *heads, "bound", box=None, pad_edge=False)
    for row in found.most_changed()[:top]:
        nodes.add_row(*_line(row))
    console.print("", totals, "", nodes, sep="\n", markup=False)
    rest = len(found.rows) - top
    if rest > 0:
        print(f"and {rest} more; --json has all")


def _line(row: Row) -> tuple[str, ...]:
    """A node: its cycles on the left, what changed, and what bounds it on both sides."""
    bounds = [side.bound if side else "not there" for side in (row.left, row.right)]
    bound = bounds[0] if bounds[0] == bounds[1] else " -> ".join(bounds)
    cycles = "-" if row.left is None else f"{row.left.cycles:,}"
    return row.name, row.op, cycles, *(_signed(row.delta(figure)) for figure in FIGURES), bound


def _text(value: Number, sign: str = "") -> str:
    if value is None:
        return "-"
    whole = isinstance(value, int) or abs(value) >= 1000
    return f"{value:{sign},.0f}" if whole else f"{value:{sign},.4g}"


def _signed(value: Number) -> str:
    return _text(value, "+")


def _change(left: Number, right: Number) -> tuple[str, str]:
    ratio = "-" if not left or right is None else f"{right / left:.3f}"
    return _signed(_less(left, right)), ratio
