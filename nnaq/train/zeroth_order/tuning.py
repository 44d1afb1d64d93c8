"""Fine-tuning of a lowered graph: a loop of forward passes, and a log from which the run comes again.

A step takes a batch of every task, asks the estimator for its coefficients, and updates the parameters from
them alone. The loss of a step is the mean over tasks of the mean over each one's batch.

The log has one line of JSON per step, behind a line that says what was begun:

    {"begin": {"parameters": "9f…", "amplitude": 1, "kind": "rademacher", "rate": 20.0, …}}
    {"step": 0, "seed": 7, "coefficients": [0.0137]}

`parameters` is a digest of the arrays and masks at the beginning. `replay` makes the parameters of any step
from the graph and this log, without a forward pass and bit for bit: the updates are the same sums of the
same numbers. So the log is the checkpoint too. A run that was cut is replayed and goes on; a line that a
cut left unfinished is dropped, and its step done again.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnaq.errors import DataError
from nnaq.ir.graph import Graph
from nnaq.train.zeroth_order.directions import Place, chosen
from nnaq.train.zeroth_order.estimator import Estimator
from nnaq.train.zeroth_order.examples import Readout, Task
from nnaq.train.zeroth_order.surfaces import Surface

StepLoss = Callable[[Graph, int], float]
Track = Callable[[Iterable[int]], Iterable[int]]


@dataclass(frozen=True)
class Tuning:
    """How a graph is tuned.

    rate: what a step moves per unit of the estimated gradient; for codes the shadow moves
    rate * (loss per step of the grid) steps. steps: how many.
    """

    estimator: Estimator = field(default_factory=Estimator)
    rate: float = 1.0
    steps: int = 100


def tune(surface: Surface, loss: StepLoss, how: Tuning, log: Path, track: Track = iter) -> Graph:
    """The tuned graph; the parameters of the surface are moved in place. A log that is there is gone on with.

    loss: (graph, step) -> a number; it depends on nothing else. surface: fresh, as it was at the beginning of
    the log. track: sees the steps go by. Raises DataError where the log belongs to another run, or a loss is
    no finite number.
    """
    done = _resumed(surface, how, log)
    with log.open("a", encoding="utf-8") as lines:
        if done < 0:
            _put(lines, {"begin": _beginning(surface, how)})
        for step in track(range(max(done, 0), how.steps)):
            found = how.estimator.coefficients(
                lambda arrays, step=step: loss(surface.graph_of(arrays), step),  # type: ignore[misc]
                surface.parameters,
                step,
            )
            _put(lines, {"step": step, "seed": how.estimator.seed, "coefficients": found})
            how.estimator.descend(surface.parameters, step, found, how.rate)
    return tuned(surface)


def replay(surface: Surface, how: Tuning, log: Path) -> Graph:
    """The graph after the steps of a log, at most `how.steps` of them, without a forward pass.

    Raises DataError for a log of another beginning, and one whose steps are not 0, 1, 2, …
    """
    beginning, *rows = _rows(log)
    _must_be_same(beginning, surface, how, log)
    for step, row in enumerate(rows[: how.steps]):
        if row.get("step") != step or row.get("seed") != how.estimator.seed:
            raise DataError(f"line {step + 2} of {log} is not of step {step} and seed {how.estimator.seed}")
        how.estimator.descend(surface.parameters, step, row["coefficients"], how.rate)
    return tuned(surface)


def tuned(surface: Surface) -> Graph:
    """The graph with the parameters as they are now."""
    return surface.graph_of([one.value.copy() for one in surface.parameters])


def mean_loss(tasks: Mapping[str, Task], batch: int, seed: int = 0) -> StepLoss:
    """The mean over tasks of the mean loss of `batch` examples of each, drawn for the step."""
    outputs = {task.output for task in tasks.values()}

    def loss(graph: Graph, step: int) -> float:
        readout = Readout(graph, outputs)
        lost = [
            task.some(graph, _batch(seed, step, number, batch, len(task))).read(readout)[0].mean()
            for number, task in enumerate(tasks.values())
        ]
        return float(np.mean(lost))

    return loss


def _batch(seed: int, step: int, task: int, batch: int, count: int) -> np.ndarray:
    return chosen(Place(seed, step, parameter=task), batch, count)


def _resumed(surface: Surface, how: Tuning, log: Path) -> int:
    """How many steps a log holds, after replaying them; -1 without a log. Its unfinished line is cut off."""
    text = log.read_bytes() if log.is_file() else b""
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        log.write_bytes(whole)
    if not whole:
        return -1
    replay(surface, how, log)
    return whole.count(b"\n") - 1


def _rows(log: Path) -> Iterator[dict[str, Any]]:
    """The finished lines of a log."""
    try:
        text = log.read_text(encoding="utf-8")
        return iter([json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()])
    except (OSError, ValueError) as error:
        raise DataError(f"{log} cannot be read as the log of a tuning: {error}") from None


def _beginning(surface: Surface, how: Tuning) -> dict[str, Any]:
    """What a log says first: everything that a replay depends on beside the lines that follow."""
    digest = hashlib.sha256()
    for one in surface.parameters:
        digest.update(f"{one.value.dtype} {one.value.shape}".encode())
        digest.update(one.value.tobytes())
        digest.update(one.mask.bits.tobytes())
    return {"parameters": digest.hexdigest(), **asdict(how.estimator), "rate": how.rate}


def _must_be_same(row: Mapping[str, Any], surface: Surface, how: Tuning, log: Path) -> None:
    found, wanted = row.get("begin", {}), _beginning(surface, how)
    for name, value in wanted.items():
        if found.get(name) != value:
            raise DataError(
                f"{log} was begun with {name} {found.get(name)}, this run has {value}; take another log, or "
                "begin with what it was begun with"
            )


def _put(lines: Any, row: Mapping[str, Any]) -> None:
    lines.write(json.dumps(row) + "\n")
    lines.flush()
