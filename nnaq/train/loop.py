"""The training loop.

    every epoch     every group of batches     loss + penalty -> gradients -> clipped -> step -> average
                    then                       figures on the development set -> kept if the best -> stop?

The global generators of torch, NumPy and Python are seeded here, and their states are part of a
checkpoint: a training that was killed and resumed ends with the same bits as one that was not, given
the same machine, versions and number of threads.
"""

import math
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from nnaq.train.average import Average
from nnaq.train.checkpoint import Parts, Place, read_parameters, seed_generators
from nnaq.train.ranges import observed_tables
from nnaq.train.record import BEST, Record, Row, Watch
from nnaq.train.replicas import ALONE, Replicas
from nnaq.train.schemes.base import Progress
from nnaq.train.settings import Settings, TrainingError
from nnaq.train.task import Task, guide_of


def train(
    task: Task,
    model: nn.Module,
    settings: Settings,
    folder: Path,
    *,
    resume: bool = False,
    identity: Row | None = None,
    replicas: Replicas = ALONE,
    watch: Watch = lambda row: None,
) -> Place:
    """Train `model` on `task`; afterwards it holds the parameters that were best on the development set.

    folder: gets checkpoint.safetensors, best.safetensors and the logs. resume: go on from its checkpoint.
    identity: what a run is recognised by beyond its settings. watch: is told every step and every epoch
    what the log would be.

    Raises TrainingError: a loss that is no number, no batches, no figure for the goal, a checkpoint of
    another run, a folder in use.
    """
    seed_generators(settings.seed, replicas.rank)
    replicas.spread([*model.parameters(), *model.buffers()])
    guide = guide_of(model)
    optimizer = settings.make_optimizer(guide.parameter_groups(settings.rate))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    steps = settings.epochs * steps_per_epoch(task, settings, replicas)
    scheduler = settings.make_scheduler(optimizer, steps)
    average = Average(model, settings.average)
    parts = Parts(model, optimizer, scheduler, average, replicas)
    record = Record(task, settings, folder, parts, steps, identity or {}, watch)

    with record.opened(resume) as here:
        while here.epoch < settings.epochs and here.stale < (settings.patience or math.inf):
            model.train()
            batches = task.batches(here.epoch, settings.seed, replicas.rank, replicas.count)
            for group in replicas.together(grouped(batches, settings.accumulate, here.position)):
                progress, rate = Progress(here.steps, steps), optimizer.param_groups[0]["lr"]
                guide.on_step_begin(progress)
                loss = 0.0
                for batch in group:
                    part = (task.loss(model, batch) + guide.penalty()) / len(group)
                    torch.autograd.backward(part)
                    loss += part.item()
                loss = replicas.average(parameters, loss, len(group))
                norm = clip_grad_norm_(parameters, settings.clip or math.inf).item()
                must_be_numbers(loss, norm, here)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                replicas.widen(observed_tables(model))
                replicas.spread(model.buffers())
                guide.on_step_end(progress)
                average.update(here.steps)
                record.step(loss, rate, norm)
            record.epoch()
    replicas.wait()
    read_parameters(folder / BEST, model)
    return here


def steps_per_epoch(task: Task, settings: Settings, replicas: Replicas) -> int:
    """Steps in the first epoch, by which the schedule is laid out; later ones may have a few more or less."""
    batches = task.batches(0, settings.seed, replicas.rank, replicas.count)
    count = len(batches) if isinstance(batches, Sized) else sum(1 for _ in batches)
    steps = replicas.most(-(-count // settings.accumulate))
    if steps == 0:
        raise TrainingError("the task gives no batches to train on; is its training data there?")
    return steps


def grouped(batches: Iterable[Any], size: int, done: int = 0) -> Iterator[list[Any]]:
    """Batches in groups of `size`, each of which becomes one step; the last group may be smaller.

    done: groups to pass over; a sequence does not make their batches.

    >>> list(grouped("abcde", 2, done=1))
    [['c', 'd'], ['e']]
    """
    passed = done * size
    following = iter(batches[passed:] if isinstance(batches, Sequence) else islice(batches, passed, None))
    while group := list(islice(following, size)):
        yield group


def must_be_numbers(loss: float, norm: float, here: Place) -> None:
    """Raise TrainingError where the loss or the gradient is infinite or no number."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        what = f"the gradient's norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
        raise TrainingError(
            f"training stopped at step {here.steps + 1} (epoch {here.epoch}): {what}; lower training.rate, "
            "set training.clip, or look for recordings without any signal or transcript"
        )
