"""A tuning before its first pass: everything read and checked, and what it will take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from nnaq.errors import ArtifactError, DataError
from nnaq.finetune.settings import ARMS, Budget, Settings
from nnaq.ir.graph import Graph
from nnaq.opened import Opened, open_lowered, target_of
from nnaq.package import is_package
from nnaq.targets import Target
from nnaq.train.zeroth_order.directions import Place, chosen
from nnaq.train.zeroth_order.estimator import memory
from nnaq.train.zeroth_order.examples import Examples
from nnaq.train.zeroth_order.frozen import Data
from nnaq.train.zeroth_order.masks import Arm, arm
from nnaq.train.zeroth_order.sensitivity import scorable
from nnaq.train.zeroth_order.surfaces import Weights, tunable
from nnaq.train.zeroth_order.task_files import batched, read_tasks

HELD_OUT = 0.2
PROBED = 8  # pairs of passes from which the size of a step is measured
FILES = ("model.onnx", "report.json", "golden.npz", "recipe.toml")
Masks = dict[str, np.ndarray]


@dataclass(frozen=True)
class Ready:
    """A run before its first pass. graph: the whole; tasks, held_out: to tune on and to judge by."""

    source: Opened
    graph: Graph
    target: Target
    tasks: Mapping[str, Data]
    held_out: Mapping[str, Data]
    names: tuple[str, ...]


def read_all(
    lowered: Path, tasks: Sequence[Path], judged: Sequence[Path], settings: Settings, target: str | None
) -> Ready:
    """Everything read and checked."""
    if is_package(lowered):
        raise DataError(
            f"{lowered} holds a recogniser, whose labels have no places in time; tune it by `nnaq train`"
        )
    missing = [n for n in FILES if not (lowered / n).is_file()]
    if missing:
        raise ArtifactError(f"{lowered} is no folder that `nnaq lower` wrote: it has no {', '.join(missing)}")
    source = open_lowered(lowered)
    graph = batched(source.graph)
    given = read_tasks(graph, tasks)
    if judged:
        held_out = read_tasks(graph, judged)
        if set(held_out) != set(given):
            raise DataError(
                f"--evaluate has tasks {', '.join(held_out)}, --tasks {', '.join(given)}; give the same names"
            )
    else:
        given, held_out = _split(graph, given, settings.seed)
    patterns = settings.weights or ("*",)
    names = tuple(n for n in tunable(graph) if any(fnmatch(n, pattern) for pattern in patterns))
    if not names:
        there = ", ".join(tunable(graph)) or "none"
        raise DataError(
            f"no weight of {lowered} that can be tuned is called {', '.join(patterns)}; there are {there}"
        )
    return Ready(source, graph, target_of(source, target), given, held_out, names)


def _split(graph: Graph, tasks: Mapping[str, Data], seed: int) -> tuple[dict[str, Data], dict[str, Data]]:
    """The tasks without a fifth of their examples, and that fifth."""
    kept, held_out = dict[str, Data](), dict[str, Data]()
    for number, (name, data) in enumerate(tasks.items()):
        count = max(1, round(HELD_OUT * len(data)))
        if count >= len(data):
            raise DataError(f"task {name!r} has {len(data)} example; give 2 or more, or tasks to --evaluate")
        order = chosen(Place(seed, parameter=number), len(data), len(data))
        kept[name], held_out[name] = (data.some(graph, np.sort(o)) for o in (order[count:], order[:count]))
    return kept, held_out


def budget(ready: Ready, settings: Settings) -> Budget:
    masks = masks_of_arm(ready, ARMS[settings.method], settings)
    surface = Weights(ready.graph, masks)
    taken = memory(surface.parameters, settings.estimator)
    batch = sum(min(settings.batch, len(data)) for data in ready.tasks.values())
    everything = sum(len(data) for data in ready.tasks.values())
    passes = {
        "freeze": everything,
        "score": len(scored(ready, settings)) * everything * (2 * settings.scoring + 1),
        "measure the rate": 2 * PROBED * batch,
        "tune": 2 * settings.queries * settings.steps * batch,
        "judge": 2 * sum(len(data) for data in ready.held_out.values()),
    }
    held = {"masks and shadows": taken.held, "copy": taken.moved, "working": taken.working}
    weights = sum(ready.graph.constants[name].size for name in ready.names)
    return Budget(weights, sum(p.mask.count for p in surface.parameters), passes, held)


def scored(ready: Ready, settings: Settings) -> tuple[str, ...]:
    """The weights that mazo's scores mask: all that have some, where examples go through together."""
    together = all(isinstance(data, Examples) for data in ready.tasks.values())
    return scorable(ready.graph, ready.names) if settings.method == "mazo" and together else ()


def masks_of_arm(ready: Ready, name: Arm, settings: Settings) -> Masks:
    return {
        weight: arm(name, ready.graph.constants[weight], settings.kept, settings.seed, number)
        for number, weight in enumerate(ready.names)
    }
