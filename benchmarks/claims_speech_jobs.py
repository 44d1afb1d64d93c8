"""The jobs of `claims_speech.py`: a float recogniser, how it goes on to integers, and what these then hear.

float       the float recogniser as it is
plain       calibrated to int8, not trained: all of it on the accelerator
control     trained on in float for as long, then calibrated to int8
int8        trained on through the integers: awareness of the accelerator
s8bqat5     the same with weights of 5 bits by S8BQAT
gq5 gq4 gq2 the same with weights of so many bits by the General Quantizer
gq_mixed    4 bits in the encoder, 5 where the parts meet, 1 in the predictor
hybrid      calibrated to int8, its LSTM layers in float on the host
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from claim_jobs import AWARENESS
from recogniser_sizes import on_the_machine

from nnaq.codebooks.choice import PaletteChoice
from nnaq.codebooks.storage import storage_of_graph
from nnaq.passes import MakeStreaming
from nnaq.perceived import feature_operations
from nnaq.quantize.recipe import Override, Recipe, load_recipe
from nnaq.quantize.training import SchemeChoice
from nnaq.simulate.transducer import Framing, take_turns
from nnaq.targets import Target, load_target
from nnaq.tasks.decoding import word_errors_by_utterance
from nnaq.tasks.hearing import Hearing
from nnaq.tasks.recognition import RecognitionTask, make_task
from nnaq.tasks.sounds import Sounds
from nnaq.tasks.transducer_parts import part_graphs
from nnaq.train.loop import train
from nnaq.train.prepare import prepare
from nnaq.train.record import LAST
from nnaq.train.settings import Settings
from nnaq.train.twin import Twin

TARGET = "edge8-sub8"
GQ = SchemeChoice("general_quantizer")
S8BQAT = SchemeChoice("s8bqat", {"strength": 1.0, "compress_every": 100})
MIXED = {r"encoder\..*": 4, r"(hear|read|say)\.weight": 5, r"predictor\..*": 1}
NARROW: dict[str, tuple[Mapping[str, int], SchemeChoice]] = {
    "s8bqat5": ({".*": 5}, S8BQAT),
    **{f"gq{bits}": ({".*": bits}, GQ) for bits in (5, 4, 2)},
    "gq_mixed": (MIXED, GQ),
}
TRAINED = ("control", "int8", *NARROW)
SHIPPED = "as shipped"


@dataclass(frozen=True)
class Study:
    """What all runs share. options: what the task takes beside the recogniser."""

    epochs: int = 4
    rate: float = 5e-4
    batch: int = 8
    forgotten: float = 0.5
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Job:
    """A row. model: S, M or C; machine: whose numerics, see `claim_jobs.AWARENESS`."""

    model: str
    way: str
    seed: int
    machine: str = SHIPPED

    @property
    def name(self) -> str:
        machine = "" if self.machine == SHIPPED else f" machine={self.machine}"
        return f"{self.way} model={self.model} seed={self.seed}{machine}"


class Bench:
    """Data, the folders of float recognisers by model ({seed} stands for the seed), and where runs go."""

    def __init__(self, data: Path, work: Path, floats: Mapping[str, str], study: Study) -> None:
        self.data, self.work, self.floats, self.study = data, work, floats, study

    def task(self, job: Job) -> RecognitionTask:
        """The task, going on from the job's float recogniser."""
        start = Path(self.floats[job.model].format(seed=job.seed))
        study = self.study
        options: dict[str, Any] = {"forgotten": study.forgotten, "noisy": 0.0, **dict(study.options)}
        return make_task(self.data, job.seed, start=start, batch=study.batch, **options)

    def run(self, job: Job) -> dict[str, Any]:
        """One row."""
        task, target = self.task(job), machine(job)
        epochs = self.study.epochs if job.way in TRAINED else 0
        made = {
            "model": job.model, "way": job.way, "seed": job.seed, "machine": job.machine,
            "parameters": sum(p.numel() for p in task.module.parameters()), "epochs": epochs,
            "study": repr(self.study),
        }  # fmt: skip
        if job.way == "float":
            return {**made, **heard(task, task.module.eval()), **versions()}
        if job.way == "control":  # its own twin judges the float weights as integers
            plain = int8()
            floating = replace(plain, training=replace(plain.training, emulate="weights"))
            self.trained(task, prepared(task, floating, target), job)
        twin = prepared(task, recipe_of(job.way), target)
        found = self.trained(task, twin, job) if epochs and job.way != "control" else {}
        return {
            **made,
            **found,
            **heard(task, twin.eval()),
            **on_device(twin, task.hearing, target),
            **versions(),
        }

    def trained(self, task: RecognitionTask, twin: Twin, job: Job) -> dict[str, Any]:
        """Train, or go on where the job was cut short; afterwards the twin holds its best epoch on dev."""
        folder = self.work / job.name.replace(" ", "_").replace("=", "-")
        folder.mkdir(parents=True, exist_ok=True)
        settings = Settings(
            epochs=self.study.epochs, rate=self.study.rate, schedule="cosine", final=0.02, warmup=20,
            clip=1.0, weight_decay=0.01, seed=job.seed,
        )  # fmt: skip
        place = train(task, twin, settings, folder, resume=(folder / LAST).is_file())
        return {"best_epoch": place.best_epoch, "steps": place.steps}


def versions() -> dict[str, Any]:
    return {"versions": {name: version(name) for name in ("nnaq", "torch", "numba")}}


def int8() -> Recipe:
    return load_recipe("recogniser")


def recipe_of(way: str) -> Recipe:
    """The recipe of a way: that of 8 bits, and the palettes and the scheme of narrower ones."""
    if way not in NARROW:
        return int8()
    (bits, scheme), plain = NARROW[way], int8()
    palettes = (
        Override(regex=regex, palette=PaletteChoice(width, method="lloyd_max"))
        for regex, width in bits.items()
    )
    return replace(
        plain, overrides=(*plain.overrides, *palettes), training=replace(plain.training, scheme=scheme)
    )


def machine(job: Job) -> Target:
    """edge8-sub8, with other numerics where the job says so; `hybrid` leaves LSTM layers to the host."""
    target = load_target(TARGET)
    numerics = replace(target.numerics, **AWARENESS[job.machine])
    return replace(target, numerics=numerics, exclude=("lstm",) if job.way == "hybrid" else ())


def prepared(task: RecognitionTask, recipe: Recipe, target: Target) -> Twin:
    """The twin of a task's recogniser."""
    return prepare(task.module, task.example_inputs, recipe, target, task.calibration(), task.options)


def heard(task: RecognitionTask, model: Any) -> dict[str, Any]:
    """Word errors of a model on dev, and on every utterance of the test set, which is looked at once."""
    with torch.no_grad():
        dev = task.evaluate(model)
        said = task.transcribe(model, task.test)
    errors = word_errors_by_utterance(truths(task.test), said)
    total = sum(one.total for one in errors)
    return {
        "dev": dict(dev),
        "test": {"wer": sum(one.errors for one in errors) / total},
        "errors": [one.errors for one in errors],
        "words": [one.total for one in errors],
    }


def truths(sounds: Sounds) -> list[str]:
    return [utterance.text for utterance in sounds.utterances]


def on_device(twin: Twin, hearing: Hearing, target: Target) -> dict[str, Any]:
    """Bytes and time of the stream by the simulator.

    A frame runs encoder and joint once: its bytes are what both rest in, its time what both take.
    """
    graphs = part_graphs(MakeStreaming().run(twin.convert()))
    operations = feature_operations(hearing.log_mel, hearing.samples)
    turns = take_turns(graphs.encoder, graphs.predictor, graphs.joint, target, [1], operations)
    found = on_the_machine(turns, Framing(hearing.samples, hearing.log_mel.sample_rate))
    each = {g.name: sum(w.total_bytes for w in storage_of_graph(g)) for g in (graphs.encoder, graphs.joint)}
    cycles = found["encoder_cycles"] + found["joint_cycles"]
    return {**found, "frame_bytes": sum(each.values()), "frame_microseconds": target.microseconds(cycles)}
