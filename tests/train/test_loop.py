"""The loop: it learns, stops, clips, accumulates and averages as its settings say."""

import copy
import csv
import json
import math
import sys
from types import ModuleType

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from train.tiny_task import BATCHES, TinyTask

from nnaq.train.average import Average
from nnaq.train.checkpoint import read_tensors
from nnaq.train.loop import grouped, train
from nnaq.train.settings import Settings, TrainingError
from nnaq.train.task import Guided, Task

PLAIN = {"dropout": 0.0, "norm": False}


def trained(folder, settings=None, model=None, resume=False, seed=1, **options):
    """A task after training and where it ended; rows of the log in `task.rows`."""
    task, folder = TinyTask("data", seed, **options), folder
    folder.mkdir(exist_ok=True)
    task.place = train(task, model or task.module, settings or Settings(epochs=2), folder, resume=resume)
    task.rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return task


def epochs(task):
    return [row for row in task.rows if "dev" in row]


def test_it_learns_and_keeps_the_best(tmp_path):
    task = trained(tmp_path, Settings(epochs=30, rate=0.02, schedule="cosine", warmup=5, log_every=1))
    assert isinstance(task, Task)
    errors = [row["dev"]["error"] for row in epochs(task)]
    assert errors[0] > 0.3
    assert min(errors) < 0.1
    assert [row["best"] for row in epochs(task)] == [
        e < min(errors[:n], default=math.inf) for n, e in enumerate(errors)
    ]
    # The module holds the best parameters now, and so does the file.
    with torch.no_grad():
        assert task.evaluate(task.module.eval())["error"] == min(errors) == task.place.best
    kept, _ = read_tensors(tmp_path / "best.safetensors")
    assert all(torch.equal(kept[name], tensor) for name, tensor in task.module.state_dict().items())


def test_the_log_has_a_line_per_step_and_epoch(tmp_path):
    task = trained(tmp_path, Settings(epochs=3, log_every=2))
    steps = [row["step"] for row in task.rows if "rate" in row]
    assert steps == list(range(2, 3 * BATCHES + 1, 2))
    assert [row["step"] for row in epochs(task)] == [BATCHES, 2 * BATCHES, 3 * BATCHES]
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert list(rows[0]) == ["epoch", "step", "loss", "best", "dev_error", "dev_loss"]
    assert [float(r["dev_loss"]) for r in rows] == [row["dev"]["loss"] for row in epochs(task)]


def test_two_trainings_are_equal_and_another_seed_is_not(tmp_path):
    first, again = (trained(tmp_path / name) for name in "ab")
    other = trained(tmp_path / "c", Settings(epochs=2, seed=5))
    assert first.rows == again.rows != other.rows


def test_a_step_is_that_of_torch(tmp_path):
    """One epoch on paper: decay, clipping, accumulation of 3 and the schedule, against plain torch."""
    settings = Settings(
        epochs=1, rate=0.1, optimizer="sgd", momentum=0.5, weight_decay=0.01, accumulate=3, clip=0.3,
        schedule="linear", warmup=1, log_every=1, seed=3,
    )  # fmt: skip
    task = trained(tmp_path, settings, **PLAIN)
    model = TinyTask("data", 1, **PLAIN).module
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.5, weight_decay=0.01)
    batches = task.batches(0, 3)
    for step, group in enumerate(grouped(batches, 3)):
        optimizer.param_groups[0]["lr"] = 0.1 * settings.factor(step, 3)
        optimizer.zero_grad()
        for x, wanted in group:
            (nn.functional.cross_entropy(model(x), wanted) / len(group)).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        assert task.rows[step]["gradient"] == norm.item() > 0.3
        assert task.rows[step]["rate"] == optimizer.param_groups[0]["lr"]
        optimizer.step()
    for name, value in task.module.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_schedules_begin_at_the_rate_and_end_at_the_final_share(schedule):
    settings = Settings(schedule=schedule, warmup=4, final=0.25)
    factors = [settings.factor(step, 20) for step in range(25)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[20:] == [1.0 if schedule == "constant" else 0.25] * 5
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert factors[12] == pytest.approx(1.0 if schedule == "constant" else 0.625)


def test_wrong_settings_are_refused_in_python_too():
    with pytest.raises(ValidationError, match="epochs"):
        Settings(epochs=0)


def test_it_stops_when_nothing_gets_better(tmp_path):
    task = trained(tmp_path, Settings(epochs=50, rate=1e-9, patience=3))
    assert (task.place.epoch, task.place.best_epoch) == (4, 0)


def test_what_is_judged_and_kept_is_the_average(tmp_path):
    task = trained(tmp_path, Settings(epochs=2, rate=0.05, average=0.5, log_every=1), **PLAIN)
    model = TinyTask("data", 1, **PLAIN).module
    optimizer = torch.optim.AdamW(model.parameters(), 0.05, weight_decay=0.0)
    average = [p.detach().clone() for p in model.parameters()]
    step = 0
    for epoch in range(2):
        for batch in task.batches(epoch, 0):
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            optimizer.step()
            decay = min(0.5, (1 + step) / (10 + step))
            average = [
                a + (1 - decay) * (p.detach() - a) for a, p in zip(average, model.parameters(), strict=True)
            ]
            step += 1
    saved, _ = read_tensors(tmp_path / "checkpoint.safetensors")
    for (name, parameter), mean in zip(model.named_parameters(), average, strict=True):
        assert torch.equal(saved[f"model.{name}"], parameter)
        torch.testing.assert_close(saved[f"average.{name}"], mean, rtol=1e-5, atol=1e-6)
        assert torch.equal(task.module.state_dict()[name], saved[f"average.{name}"])


def test_a_model_gets_its_own_parameters_back_from_the_average():
    model = nn.Linear(3, 2)
    average, own = Average(model, 0.9), copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model.weight.mul_(3.1)
    average.update(0)
    before = model.weight.detach().clone()
    with average.applied():
        assert not torch.equal(model.weight, before)
        assert torch.equal(model.bias, own["bias"])
    assert torch.equal(model.weight, before)


class Twin(nn.Module):
    """A model that takes part in its training as the twin of a module does; it writes down how."""

    def __init__(self, module):
        super().__init__()
        self.module, self.told = module, []

    def forward(self, x):
        return self.module(x)

    def penalty(self):
        return 0.5 * self.module.out.weight.square().sum()

    def on_step_begin(self, progress):
        self.told.append(("begin", progress.step, progress.steps))

    def on_step_end(self, progress):
        self.told.append(("end", progress.step, progress.steps))
        with torch.no_grad():
            self.module.hidden.bias.zero_()

    def parameter_groups(self, rate):
        return [
            {"params": self.module.hidden.parameters(), "lr": rate},
            {"params": self.module.out.parameters(), "lr": rate / 10},
        ]


def test_a_twin_takes_part_in_its_training(tmp_path):
    """Penalty, rates of its own, and a word before and after every step, against plain torch."""
    settings = Settings(epochs=1, rate=0.1, optimizer="sgd", momentum=0.0, log_every=1)
    twin = Twin(TinyTask("data", 1, **PLAIN).module)
    assert isinstance(twin, Guided)
    task = trained(tmp_path, settings, twin, **PLAIN)
    assert twin.told == [(word, n, BATCHES) for n in range(BATCHES) for word in ("begin", "end")]
    model = TinyTask("data", 1, **PLAIN).module
    for batch, row in zip(task.batches(0, 0), task.rows, strict=False):
        model.zero_grad()
        loss = task.loss(model, batch) + 0.5 * model.out.weight.square().sum()
        loss.backward()
        assert row["loss"] == loss.item()
        with torch.no_grad():
            for parameter, rate in zip(model.parameters(), (0.1, 0.1, 0.01, 0.01), strict=True):
                parameter.add_(parameter.grad, alpha=-rate)
            model.hidden.bias.zero_()
    for name, value in model.state_dict().items():
        assert torch.equal(twin.module.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("direction", "found", "best"),
    [
        ("min", [3.0, 2.0, 2.0, 5.0, 1.0], [True, True, False, False, True]),
        ("max", [3.0, 2.0, 3.0, 5.0, 1.0], [True, False, False, True, False]),
        ("min", [math.nan, math.nan, 7.0, math.nan, 3.0], [True, False, True, False, True]),
    ],
)
def test_the_best_is_by_the_goal(tmp_path, direction, found, best):
    class Told(TinyTask):
        goal = ("figure", direction)
        figures = iter(found)

        def evaluate(self, model):
            assert not model.training
            return {"figure": next(self.figures)}

    task = Told("data", 1)
    place = train(task, task.module, Settings(epochs=5), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["best"] for row in rows if "dev" in row] == best
    assert place.figures == {"figure": found[place.best_epoch]}
    assert place.best_epoch == max(n for n, better in enumerate(best) if better)


@pytest.mark.parametrize("step", [1, BATCHES + 2])
def test_a_loss_that_is_no_number_stops_training_and_names_the_step(tmp_path, step):
    with pytest.raises(TrainingError, match=rf"at step {step} \(epoch {step // BATCHES}\): the loss is nan"):
        trained(tmp_path, nan_at=step)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert all(math.isfinite(json.loads(line)["loss"]) for line in lines)


def test_an_infinite_gradient_is_told_too(tmp_path):
    class Steep(TinyTask):
        def loss(self, model, batch):
            return model.out.bias.sum().mul(0).add(1e-60).sqrt()  # its slope at 0 is infinite

    task = Steep("data", 1)
    with pytest.raises(TrainingError, match=r"the gradient's norm is (inf|nan); lower training.rate"):
        train(task, task.module, Settings(epochs=1), tmp_path)


def test_a_task_without_batches_or_without_its_figure_is_told(tmp_path):
    class Empty(TinyTask):
        def batches(self, epoch, seed, shard=0, shards=1):
            return iter(())

    class Aimless(TinyTask):
        goal = ("wer", "min")

    for kind, told in (
        (Empty, "no batches to train on"),
        (Aimless, "'wer', but the task's figures are error, loss"),
    ):
        task = kind("data", 1)
        with pytest.raises(TrainingError, match=told):
            train(task, task.module, Settings(epochs=1), tmp_path)


def test_batches_may_be_any_iterable(tmp_path):
    class Streamed(TinyTask):
        def batches(self, *arguments):
            return iter(super().batches(*arguments))

    task = Streamed("data", 1)
    train(task, task.module, Settings(epochs=2), tmp_path)
    assert (tmp_path / "log.jsonl").read_text() == (
        trained(tmp_path / "b") and tmp_path / "b" / "log.jsonl"
    ).read_text()


def test_a_second_training_in_a_folder_is_refused(tmp_path):
    class Nested(TinyTask):
        def evaluate(self, model):
            with pytest.raises(TrainingError, match="in use by another training"):
                trained(tmp_path)
            return super().evaluate(model)

    task = Nested("data", 1)
    train(task, task.module, Settings(epochs=1), tmp_path)


def test_tensorboard_is_told_the_same_numbers(tmp_path, monkeypatch):
    made = []

    class Writer:
        def __init__(self, folder, purge_step):
            self.folder, self.purge_step, self.scalars, self.closed = folder, purge_step, [], False
            made.append(self)

        def add_scalar(self, name, value, step):
            self.scalars.append((name, value, step))

        def close(self):
            self.closed = True

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    settings = Settings(epochs=1, log_every=7, tensorboard=True)
    task = trained(tmp_path, settings)
    trained(tmp_path, settings, resume=True)
    first, second = made
    (line, epoch) = task.rows
    assert first.scalars == [
        *((f"train/{name}", line[name], 7) for name in ("loss", "rate", "gradient")),
        *((f"dev/{name}", value, 7) for name, value in epoch["dev"].items()),
    ]
    assert (first.purge_step, second.purge_step, second.scalars) == (None, 8, [])
    assert first.folder == str(tmp_path / "tensorboard")
    assert first.closed and second.closed


def test_a_missing_tensorboard_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match=r"pip install .nnaq\[tensorboard\]"):
        trained(tmp_path, Settings(epochs=1, tensorboard=True))
