"""A training from its file to its folder: the task, its model or its twin, the loop, the last judgement.

A folder then holds

    config.toml              the configuration, every default filled in
    checkpoint.safetensors   the last whole moment, from which `resume` goes on
    best.safetensors         parameters and buffers that were best on the development set
    log.jsonl, log.csv       see nnaq.train.logs
    summary.json             state (running, finished), figures on dev and, at the end, on test, versions
    model.onnx, recipe.toml  the integer graph, where training went through one, and the recipe with the
                             ranges that training ended with
    codebooks.npz            codes and tables of the weights that trained by schemes; the recipe names it
    and what the task ships  of speech: a recogniser, which `nnaq lower` takes
"""

import hashlib
import json
import platform
import shutil
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnaq.codebooks.coded import FILE, write_codebooks
from nnaq.crossing import final_recipe
from nnaq.export.onnx import export_model
from nnaq.quantize.recipe import load_recipe
from nnaq.targets import load_target
from nnaq.tasks.hearing import TABLE, WEIGHTS
from nnaq.train.checkpoint import Place, read_parameters, write_bytes
from nnaq.train.config import Config
from nnaq.train.factories import make_task
from nnaq.train.logs import must_have_board, refuse_in_use
from nnaq.train.loop import steps_per_epoch, train
from nnaq.train.prepare import prepare
from nnaq.train.record import LAST, Row, Watch
from nnaq.train.replicas import Replicas
from nnaq.train.settings import TrainingError
from nnaq.train.task import Shipping, Task
from nnaq.train.twin import Twin

SUMMARY, RECIPE = "summary.json", "recipe.toml"
SHIPPED = ("dev", "test", "best_epoch", "epochs", "seed", "seconds", "parameters", "versions")
PACKAGES = ("nnaq", "torch", "numpy", "safetensors")


@dataclass(frozen=True)
class Run:
    """One training: what its file says, where it goes, who takes part, who watches."""

    config: Config
    folder: Path
    replicas: Replicas
    watch: Watch = lambda row: None

    def go(self, resume: bool = False, force: bool = False) -> dict[str, Any]:
        """Train, judge, write; returns the summary. Raises TrainingError, or what the task raises."""
        if self.replicas.is_first:
            check_folder(self.folder, resume, force)
        self.watch({"doing": f"reading {self.config.data}"})
        task = make_task(self.config)
        model = self._model(task)
        exported(model)  # what cannot be exported is told before the training, not after it
        steps_per_epoch(task, self.config.training, self.replicas)  # no batches: told before it as well
        must_have_board(self.config.training.tensorboard)
        if self.replicas.is_first and not resume:
            check_folder(self.folder, resume, force)  # again: reading the data may have taken long
            self._begin_folder()
        self.replicas.wait()
        place = train(
            task, model, self.config.training, self.folder,
            resume=resume, identity=identity(self.config), replicas=self.replicas, watch=self.watch,
        )  # fmt: skip
        summary: dict[str, Any] = {}
        if self.replicas.is_first:
            if (data := exported(model.eval())) is not None:
                write_bytes(self.folder / "model.onnx", data)
                self._save_recipe(model)
            summary = self._write_summary(self._findings(task, model, place))
            if isinstance(task, Shipping):
                figures = {name: summary[name] for name in SHIPPED}
                kept = {
                    key: value for key, value in self.config.tables().items() if key not in ("data", "start")
                }
                facts = {**figures, "configuration": kept}
                task.ship(self.folder, facts, exact=isinstance(model, Twin))
        self.replicas.wait()
        return summary

    def _begin_folder(self) -> None:
        """The folder anew: what was in it is given up, by --force, or there was nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self.folder / "config.toml", self.config.to_toml().encode())
        self._write_summary({"state": "running"})

    def _model(self, task: Task) -> nn.Module:
        """The task's module, or the twin that emulates it, from the parameters it is to start from."""
        if self.config.start is not None and self.config.recogniser is None:
            read_parameters(Path(self.config.start), task.module)
        chosen = self.config.emulation
        if chosen.recipe == "none":
            return task.module
        recipe, target = load_recipe(chosen.recipe), load_target(chosen.target)
        self.watch({"doing": f"calibrating recipe {recipe.name!r} for target {target.name!r}"})
        return prepare(
            task.module, task.example_inputs, recipe, target,
            calibration=task.calibration(), options=task.options,
        )  # fmt: skip

    def _save_recipe(self, model: nn.Module) -> None:
        """The recipe of the emulation with the ranges, and the codes of weights, that training ended with."""
        assert isinstance(model, Twin)
        recipe = final_recipe(load_recipe(self.config.emulation.recipe), model.crossing())
        if coded := model.coded():
            write_codebooks(self.folder / FILE, coded)
            recipe = replace(recipe, codebooks=self.folder / FILE)
        recipe.save(self.folder / RECIPE)

    def _findings(self, task: Task, model: nn.Module, place: Place) -> dict[str, Any]:
        """What a finished training found out; the test set is looked at here and nowhere else."""
        self.watch({"doing": "judging the best parameters on the test set"})
        with torch.no_grad():
            test = task.judge(model)
        return {
            "state": "finished",
            "goal": list(task.goal),
            "dev": place.figures,
            "test": dict(test),
            "best_epoch": (place.best_epoch or 0) + 1,
            "epochs": place.epoch,
            "steps": place.steps,
            "stopped_early": place.epoch < self.config.training.epochs,
            "parameters": sum(p.numel() for p in model.parameters()),
            "seconds": round(place.seconds, 1),
        }

    def _write_summary(self, findings: Row) -> dict[str, Any]:
        summary = {
            **findings,
            "task": self.config.task,
            "emulation": self.config.emulation.model_dump(),
            "seed": self.config.training.seed,
            "replicas": self.replicas.count,
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        }
        write_bytes(self.folder / SUMMARY, f"{json.dumps(summary, indent=2)}\n".encode())
        return summary


def exported(model: nn.Module) -> bytes | None:
    """The ONNX file of a twin's integer graph; None for a float model. Raises ArtifactError."""
    if not isinstance(model, Twin):
        return None
    data: bytes = export_model(model.convert()).SerializeToString(deterministic=True)
    return data


def identity(config: Config) -> dict[str, Any]:
    """By what a run is recognised when it is resumed; where its data lie is not part of it."""
    chosen = config.emulation
    recipe = None if chosen.recipe == "none" else load_recipe(chosen.recipe).to_toml()
    start = config.start and _digest(config.recogniser or Path(config.start))
    named = {"task": config.task, "start": start, "emulation.recipe": recipe}
    options = {f"options.{key}": value for key, value in config.options.items()}
    return {**named, "emulation.target": chosen.target, **options}


def _digest(start: Path) -> str:
    """Names what a training starts from: a file, or a recogniser with all that its words depend on."""
    files = [start / TABLE, start / WEIGHTS] if start.is_dir() else [start]
    found = hashlib.sha256()
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()


def check_folder(folder: Path, resume: bool, force: bool) -> None:
    """Raise TrainingError where there is nothing to go on from, or something that nobody gave up."""
    refuse_in_use(folder)
    if resume:
        if not (folder / LAST).is_file():
            raise TrainingError(f"folder {folder} holds no checkpoint to resume from; begin without --resume")
        return
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"{folder} is a file; name a folder to write to")
    if folder.is_dir() and any(folder.iterdir()):
        if not is_of_training(folder):
            raise TrainingError(f"folder {folder} is not empty and holds no training; name another one")
        if not force:
            on = "go on with --resume, or replace it" if (folder / LAST).is_file() else "replace it"
            raise TrainingError(f"folder {folder} holds a training; {on} with --force")


def is_of_training(folder: Path) -> bool:
    """Whether a folder holds what a training wrote."""
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(summary, dict) and "nnaq" in summary.get("versions", {})
