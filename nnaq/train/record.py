"""What a training leaves behind while it runs: logs, checkpoints, and the parameters that were best."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nnaq.train.checkpoint import Parts, Place, read_checkpoint, write_checkpoint, write_parameters
from nnaq.train.logs import Logs
from nnaq.train.settings import Settings, TrainingError
from nnaq.train.task import Task

LAST, BEST = "checkpoint.safetensors", "best.safetensors"

Row = Mapping[str, Any]
Watch = Callable[[Row], None]


class Record:
    """The record of one training, in a folder; only the first replica writes.

    identity: what a run is recognised by beyond its settings. watch: is told what is logged, of every
    step, and with `steps`, how many there will be.
    """

    def __init__(
        self,
        task: Task,
        settings: Settings,
        folder: Path,
        parts: Parts,
        steps: int,
        identity: Row,
        watch: Watch,
    ) -> None:
        self.task, self.settings, self.folder = task, settings, folder
        self.parts, self.steps = parts, steps
        chosen = {f"training.{key}": value for key, value in settings.model_dump().items()}
        self.identity = {**chosen, **identity}
        self.watch, self.place = watch, Place()
        self.logs: Logs | None = None

    @contextmanager
    def opened(self, resume: bool) -> Iterator[Place]:
        """The place to begin at, the first one or the checkpoint's; logs are open inside the block."""
        ends: Mapping[str, int] = {}
        if resume:
            self.place, ends = read_checkpoint(self.folder / LAST, self.parts, self.identity)
        self.since = time.monotonic() - self.place.seconds
        if not self.parts.replicas.is_first:
            yield self.place
            return
        with Logs(self.folder, self.settings.tensorboard) as self.logs:
            self.logs.begin(ends, self.place.steps)
            yield self.place

    def step(self, loss: float, rate: float, gradient: float) -> None:
        """Count a step, log it, and keep a checkpoint where one is due."""
        here = self.place
        here.steps, here.position, here.losses = here.steps + 1, here.position + 1, here.losses + loss
        row = {"epoch": here.epoch, "step": here.steps, "loss": loss, "rate": rate, "gradient": gradient}
        if self.logs and here.steps % self.settings.log_every == 0:
            self.logs.step(row)
        self.watch({**row, "steps": self.steps})
        if self.settings.checkpoint_every and here.steps % self.settings.checkpoint_every == 0:
            self.save()

    def epoch(self) -> None:
        """End an epoch: figures on the development set, the best parameters, a checkpoint."""
        here, (name, _) = self.place, self.task.goal
        figures = self._figures()
        figure = self.parts.replicas.of_first(figures.get(name, 0.0))
        better = self._is_better(figure)
        mean = here.losses / max(here.position, 1)
        row = {"epoch": here.epoch, "step": here.steps, "loss": mean, "dev": figures, "best": better}
        if better:
            here.best, here.best_epoch, here.figures = figure, here.epoch, figures
        here.stale = 0 if better else here.stale + 1
        here.epoch, here.position, here.losses = here.epoch + 1, 0, 0.0
        if self.logs:
            self.logs.epoch(row)
        self.watch({**row, "steps": self.steps})
        self.save()

    def save(self) -> None:
        """Keep a checkpoint of this moment, after a look at whether the replicas are still equal."""
        here = self.place
        here.seconds = time.monotonic() - self.since
        self.parts.replicas.must_be_equal(self.parts.model, here.steps)
        ends = self.logs.ends() if self.logs else {}
        write_checkpoint(self.folder / LAST, self.parts, here, ends, self.identity)

    def _figures(self) -> dict[str, float]:
        """The first replica's figures of the averaged parameters, which are kept if they are the best."""
        if not self.parts.replicas.is_first:
            return {}
        model = self.parts.model.eval()
        with self.parts.average.applied(), torch.no_grad():
            figures = {name: float(value) for name, value in self.task.evaluate(model).items()}
            if self.task.goal[0] not in figures:
                raise TrainingError(
                    f"the goal is {self.task.goal[0]!r}, but the task's figures are {', '.join(figures)}"
                )
            if self._is_better(figures[self.task.goal[0]]):
                write_parameters(self.folder / BEST, model)
        return figures

    def _is_better(self, figure: float) -> bool:
        """Whether a figure is better than the best; the first one is, and any is better than no number."""
        best = self.place.best
        if best is None or math.isnan(best):
            return best is None or not math.isnan(figure)
        return figure < best if self.task.goal[1] == "min" else figure > best
