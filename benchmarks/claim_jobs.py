"""The jobs of `claims.py`: one model trained one way, and what its integers then hear."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnaq.codebooks.storage import storage_of_graph
from nnaq.quantize.recipe import Recipe, parse_recipe
from nnaq.search.journal import Json
from nnaq.simulate import simulate
from nnaq.targets import Target, load_target
from nnaq.tasks.spoken_words import SpokenWordsTask, make_task
from nnaq.train.checkpoint import Place, read_parameters
from nnaq.train.loop import train
from nnaq.train.prepare import prepare
from nnaq.train.record import BEST, LAST
from nnaq.train.settings import Settings, TrainingError
from nnaq.train.twin import Twin


@dataclass(frozen=True)
class Study:
    """What all runs share."""

    float_epochs: int = 60
    float_rate: float = 3e-3
    float_warmup: int = 672  # a tenth of the steps
    epochs: int = 6
    batch: int = 8


STUDY = Study()
BITS = (8, 5, 4, 3, 2, 1)
RATES = (1e-3, 3e-4)
STRENGTHS = (0.1, 1.0, 10.0)
SCHEMES: dict[str, Mapping[str, Any] | None] = {
    "lloyd_max": None,  # the same tables without training
    "ste": {"name": "ste"},
    "lsq": {"name": "lsq"},
    "acosr": {"name": "acosr"},
    "mracos": {"name": "s8bqat", "compress_every": 0},
    "mracos_plain": {"name": "s8bqat", "compress_every": 0, "width_normalised": False},
    "s8bqat": {"name": "s8bqat", "compress_every": 100},
    "general_quantizer": {"name": "general_quantizer"},
    "dkm": {"name": "dkm"},
}
PULLED = ("acosr", "mracos", "mracos_plain", "s8bqat")
UNTUNED = ("dkm",)  # ten times as slow as the others: the lower rate
TUNED_LIKE = {"mracos_plain": "mracos", "s8bqat": "mracos"}  # one penalty, one rate and strength
AT_RATES: list[Mapping[str, Any]] = [{"rate": rate} for rate in RATES]
PULLS: list[Mapping[str, Any]] = [{"rate": r, "strength": s} for r in RATES for s in STRENGTHS]
TRIALS = {
    name: PULLS if name in PULLED else AT_RATES
    for name in SCHEMES
    if name not in ("lloyd_max", *UNTUNED, *TUNED_LIKE)
}
AWARENESS: dict[str, Mapping[str, Any]] = {
    "as shipped": {},
    "internals of 8 bits": {"internal_bits": 8},
    "internals of 7 bits": {"internal_bits": 7},
    "internals of 6 bits": {"internal_bits": 6},
    "truncating": {"rounding": "truncate"},
    "accumulators of 16 bits": {"accumulator_bits": 16},
    "accumulators of 18 bits": {"accumulator_bits": 18},
}


@dataclass(frozen=True)
class Job:
    """A row: its kind, its seed, and what tells it from others of the kind."""

    kind: str
    seed: int
    choice: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        words = " ".join(f"{key}={value}" for key, value in self.choice.items())
        return f"{self.kind} seed={self.seed} {words}".strip()


@dataclass(frozen=True)
class TuneJob:
    """A trial of a scheme's options at 3 bits."""

    scheme: str
    trial: Mapping[str, Any]
    epochs: int

    @property
    def name(self) -> str:
        return f"trial {self.scheme} {json.dumps(dict(self.trial))} epochs={self.epochs}"


class Bench:
    """Data, float checkpoints, and the runs that start from them."""

    def __init__(self, data: Path, work: Path, results: Mapping[str, Json]) -> None:
        self.data, self.work, self.results = data, work, results

    def task(self, seed: int) -> SpokenWordsTask:
        """The task with a fresh module of a seed."""
        return make_task(self.data, seed, batch=STUDY.batch)

    def run(self, job: Job) -> dict[str, Any]:
        """One row."""
        made = {"float": self.float, "scheme": self.scheme, "awareness": self.awareness}[job.kind](job)
        versions = {name: version(name) for name in ("nnaq", "torch", "numba")}
        return {"kind": job.kind, "seed": job.seed, **job.choice, **made, "versions": versions}

    def float(self, job: Job) -> dict[str, Any]:
        """The float checkpoint of a seed."""
        task = self.task(job.seed)
        settings = Settings(
            epochs=STUDY.float_epochs, rate=STUDY.float_rate, schedule="cosine",
            warmup=STUDY.float_warmup, clip=1.0,
            weight_decay=1e-2, seed=job.seed,
        )  # fmt: skip
        place = self.trained(task, task.module, settings, job)
        return {"dev": place.figures, "test": judged(task, task.module), "best_epoch": place.best_epoch}

    def trained(self, task: SpokenWordsTask, model: nn.Module, settings: Settings, job: Job) -> Place:
        """Train, or go on where the job was cut short; one that is finished gives what it found."""
        folder = self.folder(job)
        return train(task, model, settings, folder, resume=(folder / LAST).is_file())

    def folder(self, job: Job) -> Path:
        made = self.work / job.name.replace(" ", "_").replace("=", "-")
        made.mkdir(parents=True, exist_ok=True)
        return made

    def started(self, seed: int) -> SpokenWordsTask:
        """The task with its module at the float checkpoint of the seed."""
        task = self.task(seed)
        read_parameters(self.folder(Job("float", seed)) / BEST, task.module)
        return task

    def scheme(self, job: Job) -> dict[str, Any]:
        """Weights of some bits by a scheme."""
        bits, name = int(job.choice["bits"]), str(job.choice["scheme"])
        tuned = {} if SCHEMES[name] is None or name in UNTUNED else self.options_of(name)
        task, twin = self.twin(job.seed, scheme_recipe(bits, name, tuned))
        found = self.tuned(task, twin, job, tuned, STUDY.epochs) if SCHEMES[name] is not None else {}
        return {"options": dict(tuned), **found, **integers(task, twin)}

    def options_of(self, scheme: str) -> dict[str, Any]:
        """What tuning chose for a scheme."""
        found = self.results.get(f"tuned {TUNED_LIKE.get(scheme, scheme)}")
        if not isinstance(found, dict):
            raise SystemExit(f"scheme {scheme} is not tuned yet; run `claims.py tune` before")
        return found

    def twin(self, seed: int, recipe: Recipe) -> tuple[SpokenWordsTask, Twin]:
        task = self.started(seed)
        return task, prepared(task, recipe, "edge8-sub8")

    def tuned(
        self, task: SpokenWordsTask, twin: Twin, job: Job, chosen: Mapping[str, Any], epochs: int
    ) -> dict[str, Any]:
        """Fine-tune a twin; afterwards it holds the epoch that was best on dev."""
        settings = Settings(
            epochs=epochs, rate=float(chosen.get("rate", RATES[-1])), schedule="cosine", warmup=20, clip=1.0,
            seed=job.seed,
        )  # fmt: skip
        place = self.trained(task, twin, settings, job)
        return {"best_epoch": place.best_epoch, "steps": place.steps}

    def tune(self, job: TuneJob) -> dict[str, Any]:
        """A trial at 3 bits of the first seed: dev only."""
        task, twin = self.twin(0, scheme_recipe(3, job.scheme, job.trial))
        self.tuned(task, twin, Job(job.name, 0), job.trial, job.epochs)
        return {"dev": task.evaluate(twin)}

    def awareness(self, job: Job) -> dict[str, Any]:
        """A machine's own numerics, met by a model that never knew it, did, or stays in float in part."""
        way = str(job.choice["way"])
        target = machine(str(job.choice["machine"]), way)
        task = self.longer(job.seed) if way == "control" else self.started(job.seed)
        twin = prepared(task, INT8, target)
        try:
            found = self.tuned(task, twin, job, {}, STUDY.epochs) if way == "aware" else {}
        except TrainingError as error:  # such a gradient is a finding about the machine
            return {"stopped": str(error)}
        return {**found, **integers(task, twin, target)}

    def longer(self, seed: int) -> SpokenWordsTask:
        """The float model after as many more epochs in float: what training alone gives."""
        job = Job("longer", seed)
        task = self.started(seed)
        self.tuned(task, prepared(task, parse_recipe(FLOATING), "edge8"), job, {}, STUDY.epochs)
        return task


INT8 = parse_recipe('name = "words"\n[quantize]\nactivations = "8"\n')
FLOATING = INT8.to_toml() + '[training]\nemulate = "weights"\n'


def prepared(task: SpokenWordsTask, recipe: Recipe, target: Target | str) -> Twin:
    """The twin of a task's module."""
    return prepare(task.module, task.example_inputs, recipe, target, task.calibration(), task.options)


def scheme_recipe(bits: int, scheme: str, options: Mapping[str, Any]) -> Recipe:
    """Every weight on a table of its own of this many bits, trained by a scheme; activations as measured."""
    chosen = {**(SCHEMES[scheme] or {"name": "ste"})}
    if "strength" in options and scheme in PULLED:
        chosen["strength"] = options["strength"]
    return parse_recipe(
        'name = "words"\n[quantize]\nactivations = "8"\n'
        f'[training]\nemulate = "weights"\nscheme = {toml(chosen)}\n'
        f'[[overrides]]\nregex = ".*"\npalette = {{ bits = {bits}, method = "lloyd_max" }}\n'
    )


def toml(table: Mapping[str, Any]) -> str:
    """An inline table."""
    return "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items()) + " }"


def integers(task: SpokenWordsTask, twin: Twin, target: Target | None = None) -> dict[str, Any]:
    """What the integers of a twin hear, and what its weights take."""
    graph = twin.convert()
    simulation = simulate(graph, target or load_target("edge8-sub8"))
    return {
        "dev": task.evaluate(twin),
        "test": judged(task, twin),
        "bytes": sum(one.total_bytes for one in storage_of_graph(graph)),
        "microseconds_per_step": simulation.microseconds_per_step,
    }


def judged(task: SpokenWordsTask, model: Any) -> dict[str, float]:
    with torch.no_grad():
        return task.judge(model)


def machine(name: str, way: str) -> Target:
    """edge8 with other numerics; `hybrid` leaves the recurrent layers to the host, in float."""
    target = load_target("edge8")
    numerics = replace(target.numerics, **AWARENESS[name])
    return replace(target, numerics=numerics, exclude=("lstm",) if way == "hybrid" else ())
