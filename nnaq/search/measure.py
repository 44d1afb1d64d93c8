"""Whole models with palettes, measured: crossed to integers, simulated on the target, run on recordings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from nnaq import pipeline
from nnaq.codebooks.choice import PaletteChoice
from nnaq.crossing import Inputs, Lowering, Reporter, outputs_of
from nnaq.search.front import Costs, Measured, Palettes
from nnaq.search.jobs import Job, Workers
from nnaq.search.journal import Journal, Json, digest
from nnaq.simulate import simulate
from nnaq.tasks.metrics import Fidelity, Figure, parse_metric

Part = Literal["calibration", "held_out"]
Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Bench:
    """What every measurement shares: the model, how it crosses, recordings and what the real model and
    the 8-bit model make of them."""

    crossing: pipeline.Crossing
    metric: str | None
    recordings: Mapping[Part, Sequence[Inputs]]
    exact: Mapping[Part, Outputs]
    eight_bits: Mapping[Part, Outputs]


def bench_of(lowering: Lowering, calibration: Sequence[Inputs]) -> Bench:
    """The bench of a finished lowering with 8-bit weights; both models run once on every recording."""
    recordings: dict[Part, Sequence[Inputs]] = {"calibration": calibration, "held_out": lowering.evaluation}
    made = [
        {part: outputs_of(graph, inputs) for part, inputs in recordings.items()}
        for graph in (lowering.crossing.real, lowering.crossing.integer)
    ]
    return Bench(lowering.crossing, lowering.recipe.metric, recordings, *made)


def measure_model(bench: Bench, palettes: Sequence[tuple[str, PaletteChoice]], part: Part) -> Json:
    """The work of a job: costs, every figure as [real, integer, unit], and the noise added to 8 bits."""
    before = bench.crossing
    options = replace(before.options, palettes={**before.options.palettes, **dict(palettes)})
    integer = pipeline.cross(before.real, before.ranges, options).integer
    found = outputs_of(integer, bench.recordings[part])
    exact = bench.exact[part]
    figures = {**Fidelity().evaluate(exact, found), **parse_metric(bench.metric).evaluate(exact, found)}
    simulation = simulate(integer, options.target)
    return {
        "added": max((_added(exact[n], bench.eight_bits[part][n], found[n]) for n in exact), default=0.0),
        "bytes": simulation.plan.weight_bytes,
        "cycles": simulation.cycles_per_step,
        "energy": simulation.energy_picojoules,
        "figures": {name: [f.real, f.integer, f.unit] for name, f in figures.items()},
    }


def _added(real: np.ndarray, before: np.ndarray, found: np.ndarray) -> float:
    """Power of what palettes changed in an output of the 8-bit model, over the power of the real one.

    Where the real one is silent, any change counts as much as a signal.
    """
    signal = float(np.square(np.asarray(real, np.float64)).sum())
    noise = float(np.square(np.asarray(found, np.float64) - np.asarray(before, np.float64)).sum())
    return noise / signal if signal else float(noise > 0)


@dataclass(frozen=True)
class Laboratory:
    """Measures models through workers that do `measure_model`, none twice while the journal lasts.

    asked: ids of the jobs of this run.
    """

    workers: Workers
    journal: Journal
    reporter: Reporter
    asked: set[str] = field(default_factory=set)

    def on_calibration(self, models: Sequence[Palettes]) -> list[Measured]:
        """The models on the recordings that choices are made from."""
        return self._measured(models, "calibration", "measuring")

    def on_held_out(self, models: Sequence[Palettes]) -> list[Measured]:
        """The models on recordings nothing is chosen from."""
        return self._measured(models, "held_out", "held out")

    def _measured(self, models: Sequence[Palettes], part: Part, what: str) -> list[Measured]:
        jobs = [_job(palettes, part) for palettes in models]
        fresh = {job.id: job for job in jobs if job.id not in self.asked}
        self.workers.run(list(fresh.values()), self.journal, self.reporter, what)
        self.asked.update(fresh)
        return [read_measured(self.journal.results[job.id]) for job in jobs]


def _job(palettes: Palettes, part: Part) -> Job:
    items = tuple(sorted(palettes.items(), key=lambda item: item[0]))
    name = digest(*(f"{weight} {choice}".encode() for weight, choice in items))[:16]
    return Job(f"model {name} {part}" if items else f"model 8 bits {part}", (items, part))


def read_measured(result: Json) -> Measured:
    """A measurement from the plain data of its job."""
    assert isinstance(result, dict)
    figures = {name: Figure(*values) for name, values in result["figures"].items()}
    return Measured(Costs(result["bytes"], result["cycles"], result["energy"]), figures, result["added"])
