"""`finetune()`: a lowered model adapted to tasks by forward passes alone, and its folder written anew.

    lowered folder + tasks -> masks -> the frozen part of every example, once -> steps, logged
                           -> judged on held-out examples -> a folder as `nnaq lower` writes it

Until the folder is there, OUT.tuning beside it holds what a killed run goes on from: run.json (what is tuned
on what, and how), masks.npz and log.jsonl. They end as `tuning/` in the folder.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnaq.artifact import write_arrays, write_text, writing
from nnaq.crossing import Reporter
from nnaq.errors import DataError
from nnaq.finetune.files import write_files
from nnaq.finetune.ready import PROBED, Masks, Ready, budget, masks_of_arm, read_all, scored
from nnaq.finetune.settings import ARMS, Budget, Finetuned, Settings
from nnaq.ir.graph import Graph
from nnaq.search.journal import digest
from nnaq.train.zeroth_order.examples import Examples, Readout
from nnaq.train.zeroth_order.frozen import Data, part, through
from nnaq.train.zeroth_order.sensitivity import Probe, mazo_masks
from nnaq.train.zeroth_order.surfaces import Weights
from nnaq.train.zeroth_order.task_files import batched
from nnaq.train.zeroth_order.tuning import StepLoss, Tuning, mean_loss, tune

PROBE_STEP = 2**63  # a step that no run comes to


def budget_of(
    lowered: Path,
    tasks: Sequence[Path],
    judged: Sequence[Path],
    settings: Settings,
    target: str | None = None,
) -> Budget:
    """What a run would take; nothing is run or written."""
    return budget(read_all(lowered, tasks, judged, settings, target), settings)


def finetune(
    lowered: Path,
    tasks: Sequence[Path],
    out: Path,
    settings: Settings,
    judged: Sequence[Path] = (),
    target: str | None = None,
    reporter: Reporter | None = None,
    force: bool = False,
    fresh: bool = False,
) -> Finetuned:
    """Tune a lowered folder on tasks and write the tuned one; `out` may be the folder itself, with force.

    judged: tasks of the same names to judge by; without them a fifth of every task is held out. fresh:
    forget what an unfinished run left. Raises NnaqError subclasses; then `out` is as it was.
    """
    reporter, out = reporter or Reporter(), out.resolve()
    work = out.with_name(out.name + ".tuning")
    with writing(out, force) as folder:
        ready = read_all(lowered, tasks, judged, settings, target)
        costs = budget(ready, settings)
        reporter.say(costs.show())
        if fresh:
            shutil.rmtree(work, ignore_errors=True)
        before = _judge(ready.graph, ready.held_out)
        tuned = _tuned(ready, settings, _taken_up(work, ready, settings), reporter)
        found = Finetuned(settings, costs, before, _judge(tuned, ready.held_out))
        write_files(folder, ready, tuned, found, reporter)
        shutil.copytree(work, folder / "tuning")
    shutil.rmtree(work)
    return found


def _taken_up(work: Path, ready: Ready, settings: Settings) -> Path:
    """The folder of an unfinished run, or a new one. Raises DataError where it is of another run."""
    told, path = _identity(ready, settings), work / "run.json"
    if not path.is_file():
        work.mkdir(exist_ok=True)
        write_text(path, json.dumps(told, indent=1) + "\n")
        return work
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        differ = [key for key, value in told.items() if found.get(key) != value]
    except (ValueError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read as an unfinished run: {error}; start anew with --fresh"
        ) from None
    differ = [key for key in differ if key != "steps"]  # more steps go on from fewer
    if differ:
        raise DataError(
            f"{work} holds an unfinished run with another {', '.join(differ)}; repeat its command to "
            "go on, or start anew with --fresh"
        )
    return work


def _identity(ready: Ready, settings: Settings) -> dict[str, Any]:
    """What decides the integers of a run, as JSON has it."""
    model = (ready.source.path / "model.onnx").read_bytes()
    told = {**asdict(settings), "weights": list(ready.names)}
    return {"nnaq": version("nnaq"), "model": digest(model), "tasks": digest(*_bytes(ready.tasks)), **told}


def _bytes(tasks: Mapping[str, Data]) -> list[bytes]:
    """What tasks hold, with their names and shapes."""
    found = []
    for name, data in tasks.items():
        for one in (data,) if isinstance(data, Examples) else data.parts:
            for port, array in (*sorted(one.inputs.items()), ("labels", one.labels)):
                found.append(f"{name} {one.output} {port} {array.dtype} {array.shape}".encode())
                found.append(np.ascontiguousarray(array).tobytes())
    return found


def _tuned(ready: Ready, settings: Settings, work: Path, reporter: Reporter) -> Graph:
    """The whole graph with tuned weights."""
    outputs = list(dict.fromkeys(data.output for data in ready.tasks.values()))
    parts = part(ready.graph, ready.names, outputs)
    count = len(parts.frozen.nodes) if parts.frozen else 0
    reporter.say(
        f"{count} of {len(ready.graph.nodes)} nodes are in front of what moves: run once per example"
    )
    tasks = {name: through(parts.frozen, data) for name, data in ready.tasks.items()}
    masks = _masks(ready, parts.moving, tasks, settings, work / "masks.npz", reporter)
    loss = mean_loss(tasks, settings.batch, settings.seed)
    rate = _rate(Weights(parts.moving, masks), loss, settings, work / "rate.json")
    how = Tuning(settings.estimator, rate, settings.steps)
    moved = tune(
        Weights(parts.moving, masks), loss, how, work / "log.jsonl",
        lambda steps: reporter.track(steps, "tuning", len(list(steps))),
    )  # fmt: skip
    found = {name: moved.constants[name] for name in ready.names}
    return replace(ready.source.graph, constants={**ready.source.graph.constants, **found})


def _masks(
    ready: Ready, moving: Graph, tasks: Mapping[str, Data], settings: Settings, path: Path, reporter: Reporter
) -> Masks:
    """The masks of a run, made once: they rest as bits, which a replay needs."""
    if path.is_file():
        with np.load(path, allow_pickle=False) as file:
            shapes = {name: ready.graph.constants[name].shape for name in ready.names}
            return {
                n: np.unpackbits(file[n], count=int(np.prod(s))).astype(bool).reshape(s)
                for n, s in shapes.items()
            }
    masks = masks_of_arm(ready, ARMS[settings.method], settings)
    if settings.method == "mazo":
        names = scored(ready, settings)
        without = [name for name in ready.names if name not in names]
        if without:
            reporter.say(f"no scores for {', '.join(without)}: masked at random")
        probe, together = Probe(settings.scoring, seed=settings.seed), dict[str, Examples]()
        together |= {name: data for name, data in tasks.items() if isinstance(data, Examples)}
        for name in reporter.track(names, "scoring", len(names)):
            masks |= mazo_masks(moving, (name,), together, settings.kept, probe=probe)
    write_arrays(path, {name: np.packbits(mask) for name, mask in masks.items()})
    return masks


def _rate(surface: Weights, loss: StepLoss, settings: Settings, path: Path) -> float:
    """The rate at which a step moves weights by as many steps of the grid as asked, as measured once."""
    if path.is_file():
        return float(json.loads(path.read_text(encoding="utf-8"))["rate"])
    probing = replace(settings.estimator, queries=PROBED)
    found = probing.coefficients(
        lambda arrays: loss(surface.graph_of(arrays), 0), surface.parameters, PROBE_STEP
    )
    size = float(np.sqrt(np.mean(np.square(found))))
    if size == 0:
        raise DataError(
            "no weight that may move changes the loss; give a larger --kept or --amplitude, or other weights"
        )
    write_text(path, json.dumps({"coefficient": size, "rate": settings.rate / size}) + "\n")
    return settings.rate / size


def _judge(graph: Graph, tasks: Mapping[str, Data]) -> dict[str, dict[str, float]]:
    """Accuracy and mean loss of every task."""
    readout, found = Readout(batched(graph), {data.output for data in tasks.values()}), {}
    for name, data in tasks.items():
        losses, correct = data.read(readout)
        found[name] = {"accuracy": correct, "loss": float(losses.mean())}
    return found
