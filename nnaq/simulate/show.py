"""A simulated step as tables of text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnaq.cost.operator import OpCost
    from nnaq.simulate.machine import Simulation

HEAD = (
    f"{'node':<32} {'op':<16} {'MACs':>12} {'cycles':>10} {'SRAM bytes':>11} {'DRAM bytes':>11} "
    f"{'pJ':>11}  bound"
)


def show_simulation(simulation: "Simulation") -> str:
    """Every node, the dearest, where cycles go, how busy engines are, memory, energy and islands."""
    rows = [HEAD, *map(_node, simulation.costs), ""]
    rows += [*_dearest(simulation), "", *_time(simulation), *_memory(simulation)]
    rows += [f"on the host: {i.op} {i.name!r}, {i.cycles:,} cycles: {i.reason}" for i in simulation.islands]
    rows += [
        f"sooner on the host: {c.op} {c.name!r}, {c.cycles:,} cycles" for c in simulation.moved if c.cycles
    ]
    return "\n".join(rows)


def _node(cost: "OpCost") -> str:
    energy = "-" if cost.energy_picojoules is None else f"{cost.energy_picojoules:,.0f}"
    return (
        f"{cost.name:<32} {cost.op:<16} {cost.macs:>12,} {cost.cycles:>10,} {cost.sram_bytes:>11,} "
        f"{cost.dram_bytes:>11,} {energy:>11}  {cost.bound}"
    )


def _dearest(simulation: "Simulation") -> list[str]:
    """The most expensive nodes with what bounds each and where its cycles go."""
    by_name = dict(zip((c.name for c in simulation.costs), simulation.splits, strict=True))
    whole = max(simulation.cycles_per_step, 1)
    rows = ["most expensive"]
    for cost in simulation.dearest():
        parts = ", ".join(f"{part} {n:,}" for part, n in by_name[cost.name].items() if n)
        rows.append(f"  {cost.cycles / whole:>6.1%}  {cost.op} {cost.name!r}, {cost.bound}-bound: {parts}")
    return rows


def _time(simulation: "Simulation") -> list[str]:
    timing, target = simulation.timing, simulation.target
    whole = max(simulation.cycles_per_step, 1)
    split = ", ".join(f"{part} {n / whole:.1%}" for part, n in simulation.split.items())
    busy = ", ".join(f"{engine} {timing.share(engine):.1%}" for engine in timing.busy)
    ports = ", ".join(f"{name} {port['share']:.1%}" for name, port in simulation.ports().items())
    return [
        f"step: {simulation.cycles_per_step:,} cycles, {simulation.microseconds_per_step:g} us "
        f"on {target.name}",
        f"events: {timing.cycles:,} cycles, {target.microseconds(timing.cycles):g} us; "
        f"longest chain {timing.longest_chain:,}, busiest engine {timing.busiest:,}, "
        f"all commands {timing.total:,}",
        f"split: {split}",
        f"busy: {busy or 'nothing'}; ports: {ports}",
    ]


def _memory(simulation: "Simulation") -> list[str]:
    plan, energy = simulation.plan, simulation.energy_picojoules
    return [
        f"moved: {simulation.sram_bytes:,} bytes through SRAM, {simulation.dram_bytes:,} from DRAM",
        *([] if energy is None else [f"energy: {energy / 1e3:g} nJ, host not counted"]),
        f"SRAM: {plan.sram_peak_bytes:,} of {plan.budget_bytes:,} bytes"
        + ("" if plan.fits else ": it does not fit"),
    ]
