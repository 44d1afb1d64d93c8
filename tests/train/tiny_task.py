"""A task that trains in a blink: which of three directions a short recording points to.

Its module drops out (a global generator is drawn from) and normalises batches (it has buffers).
KILL_AT in the environment: the process kills itself, as by `kill -9`, at that call of the loss.
"""

import os
import signal
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nnaq.frontends import ImportOptions

FEATURES, CLASSES, BATCHES = 6, 3, 7


class Tiny(nn.Module):
    def __init__(self, dropout=0.25, norm=True):
        super().__init__()
        self.hidden = nn.Linear(FEATURES, 8)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(8, CLASSES)
        self.register_buffer("flag", torch.tensor(True))

    def forward(self, x):
        return self.out(self.dropout(self.norm(self.hidden(x)).relu()))


class TinyTask:
    goal = ("error", "min")
    example_inputs = (torch.zeros(4, FEATURES),)
    options = ImportOptions(time={"x": 0})

    def __init__(self, data, seed, dropout=0.25, norm=True, nan_at=0, stop_at=0):
        self.data, self.nan_at, self.stop_at, self.calls, self.judged = data, nan_at, stop_at, 0, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = Tiny(dropout, norm)

    def batches(self, epoch, seed, shard=0, shards=1):
        random = np.random.default_rng((seed, epoch))
        made = [drawn(random, 8) for _ in range(BATCHES)]
        return made[shard::shards]

    def loss(self, model, batch):
        self.calls += 1
        if self.calls == self.stop_at:
            raise InterruptedError(self.calls)
        if self.calls == int(os.environ.get("KILL_AT", "0")):
            os.kill(os.getpid(), signal.SIGKILL)
        x, wanted = batch
        loss = nn.functional.cross_entropy(model(x), wanted)
        return loss * float("nan") if self.calls == self.nan_at else loss

    def evaluate(self, model):
        return self.figures(model, 1)

    def judge(self, model):
        self.judged += 1
        return self.figures(model, 2)

    def figures(self, model, seed):
        x, wanted = drawn(np.random.default_rng(seed), 64)
        scores = model(x)
        return {
            "error": float((scores.argmax(-1) != wanted).float().mean()),
            "loss": float(nn.functional.cross_entropy(scores, wanted)),
        }

    def calibration(self):
        return [{"x": drawn(np.random.default_rng(3), 16)[0].numpy()}]


def drawn(random, count):
    """Recordings and the class of each: the largest of three sums."""
    x = random.normal(0, 1, (count, FEATURES)).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(x.reshape(count, CLASSES, -1).sum(-1).argmax(-1))


def make_task(data: Path, seed: int, dropout: float = 0.25, norm: bool = True, nan_at: int = 0) -> TinyTask:
    return TinyTask(data, seed, dropout, norm, nan_at)


def make_handed_on(data: Path, seed: int, **options: float) -> TinyTask:
    return make_task(data, seed, **options)


def make_broken(data: Path, seed: int, dropout: float = 0.0) -> TinyTask:
    raise TypeError("a bug of one's own")


def make_nothing(data: Path, seed: int) -> object:
    return object()
