"""The roofline: what every operator of the accelerator does in a cycle, below what the machine could.

An operator's place is given by the memory port that it keeps busy the longest: across are operations
per byte through that port, upwards operations per cycle. Operations are products where there are any,
else slots of the lanes. No operator is above the roofs: the array's (or the lanes'), and bytes per cycle
of its port times operations per byte.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nnaq.figures.svg import SIZE, SOFT, WIDTH, Drawing, Scale

if TYPE_CHECKING:
    from nnaq.cost.operator import OpCost
    from nnaq.simulate import Simulation
    from nnaq.targets import Target

Port = Literal["sram", "dram"]
COLOURS = {
    "compute": "#3b6ea5", "vector": "#6f9fc8", "table": "#8a9a5b", "sram": "#c2563f", "dram": "#c9a227",
    "decompression": "#b5776a",
}  # fmt: skip
LEFT, RIGHT, TOP, BOTTOM, FOOT = 96, 20, 48, 340, 3.4 * SIZE


@dataclass(frozen=True)
class Dot:
    """An operator: operations per byte through `port`, operations per cycle."""

    name: str
    bound: str
    port: Port
    per_byte: float
    per_cycle: float


def dot(cost: "OpCost", target: "Target") -> Dot | None:
    """Where an operator stands; None for the host's, views, and what does no operation."""
    lanes = cost.vector_cycles * target.vector_lanes + cost.table_cycles * target.lut_lanes
    operations = cost.macs or lanes
    if cost.bound == "host" or not cost.cycles or not operations:
        return None
    port: Port = "dram" if cost.dram_cycles > cost.sram_cycles else "sram"
    moved = max(cost.dram_bytes if port == "dram" else cost.sram_bytes, 1)
    return Dot(cost.name, cost.bound, port, operations / moved, operations / cost.cycles)


def roofs(target: "Target") -> dict[str, float]:
    """Operations per cycle of the array and the lanes at most."""
    return {
        "array": float(target.array.macs_per_cycle),
        "lanes": target.vector_lanes + target.lut_lanes,
    }


def slopes(target: "Target") -> dict[Port, float]:
    """Bytes per cycle of every port."""
    return {"sram": float(target.sram.peak_bytes_per_cycle), "dram": float(target.dram.peak_bytes_per_cycle)}


def roofline(simulation: "Simulation") -> str:
    """A dot for every operator that works on the accelerator, and the roofs. Empty where there is none."""
    target = simulation.target
    dots = [found for cost in simulation.costs if (found := dot(cost, target)) is not None]
    if not dots:
        return ""
    across, up = _scales(dots, target)
    drawing = Drawing("roofline", BOTTOM + FOOT)
    drawing.axis_x(across, TOP, BOTTOM, "operations per byte of the port that is busy longest")
    drawing.axis_y(up, LEFT, WIDTH - RIGHT, "operations per cycle")
    _draw_roofs(drawing, across, up, target)
    for d in dots:
        drawing.dot(across(d.per_byte), up(d.per_cycle), COLOURS[d.bound], _told(d))
    bounds = dict.fromkeys(d.bound for d in dots)
    drawing.legend(LEFT, 10, [(COLOURS[bound], f"{bound}-bound") for bound in bounds])
    return drawing.render()


def _told(d: Dot) -> str:
    rates = f"{d.per_cycle:.4g} operations per cycle, {d.per_byte:.4g} per byte of {d.port}"
    return f"{d.name}: {rates}; {d.bound}-bound"


def _scales(dots: list[Dot], target: "Target") -> tuple[Scale, Scale]:
    """Across and up, with room around all dots and the roof of the array."""
    peak = roofs(target)["array"]
    right = max(*(d.per_byte for d in dots), peak / min(slopes(target).values()))
    low = min(min(d.per_cycle for d in dots), peak / 100)
    return (
        Scale(min(d.per_byte for d in dots) / 2, right * 2, LEFT, WIDTH - RIGHT, log=True),
        Scale(low / 2, peak * 2, BOTTOM, TOP, log=True),
    )


def _draw_roofs(drawing: Drawing, across: Scale, up: Scale, target: "Target") -> None:
    peak = roofs(target)["array"]
    for name, rate in roofs(target).items():
        drawing.line(LEFT, up(rate), WIDTH - RIGHT, up(rate), SOFT, "4 3")
        drawing.text(WIDTH - RIGHT, up(rate) - 7, f"{name} {rate:g} per cycle", "end", SOFT)
    for port, rate in slopes(target).items():
        left, right = max(across.low, up.low / rate), min(across.high, peak / rate)
        if left < right:
            drawing.line(across(left), up(left * rate), across(right), up(right * rate), SOFT)
            middle = (left * right) ** 0.5
            drawing.text(
                across(middle) + 8, up(middle * rate) + 6, f"{port} {rate:g} bytes per cycle", fill=SOFT
            )
