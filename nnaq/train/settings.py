"""How a model is trained: the settings of the loop, and what they make of torch's optimisers and schedules.

Rates follow a factor of the step t, counted from 0, over T steps, W of them warm-up:

    t < W       (t + 1) / W
    constant    1
    linear      1 - u (1 - final),                      u = (t - W) / (T - W), at most 1
    cosine      final + (1 - final) (1 + cos(pi u)) / 2
"""

import math
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import optim
from torch.optim.lr_scheduler import LambdaLR

from nnaq.errors import NnaqError


class TrainingError(NnaqError):
    """A training cannot begin, go on or be resumed as asked."""


Count = Annotated[int, Field(ge=0)]
Several = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class Settings(BaseModel):
    """The settings of a training; wrong ones raise pydantic's ValidationError, a ValueError.

    epochs          how often all training data is seen
    rate            of learning, before the schedule's factor
    optimizer       AdamW (decay apart from the gradient), Adam, or gradient descent with momentum
    momentum        of `sgd`
    weight_decay    of every parameter
    schedule        what becomes of the rate, see the module; warmup: in steps; final: share left at the end
    accumulate      batches per step; their gradients are averaged
    clip            the norm to which the gradient of all parameters is shortened
    patience        epochs without a better figure on the development set after which training stops
    average         decay of the moving average of parameters, which is then what is judged and kept
    seed            of everything drawn at random
    checkpoint_every  steps between checkpoints; 0: one after every epoch, which there is in any case
    log_every       steps between lines of the log
    tensorboard     write the log for TensorBoard too
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    epochs: Several = 10
    rate: Positive = 1e-3
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Count = 0
    final: Share = 0.0
    accumulate: Several = 1
    clip: Positive | None = None
    patience: Several | None = None
    average: Share | None = None
    seed: Count = 0
    checkpoint_every: Count = 0
    log_every: Several = 10
    tensorboard: bool = False

    def make_optimizer(self, groups: list[dict[str, Any]]) -> optim.Optimizer:
        """The optimiser of parameter groups; each may have a rate of its own."""
        shared: dict[str, Any] = {"lr": self.rate, "weight_decay": self.weight_decay}
        if self.optimizer == "sgd":
            return optim.SGD(groups, momentum=self.momentum, **shared)
        return (optim.AdamW if self.optimizer == "adamw" else optim.Adam)(groups, **shared)

    def make_scheduler(self, optimizer: optim.Optimizer, steps: int) -> LambdaLR:
        """The schedule over `steps` steps: every group's rate times `factor`."""
        return LambdaLR(optimizer, partial(self.factor, steps=steps))

    def factor(self, step: int, steps: int) -> float:
        """What the rate is multiplied by at a step.

        >>> [Settings(schedule="linear", warmup=2).factor(t, 6) for t in (0, 1, 2, 4, 6)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
        """
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = min((step - self.warmup) / max(steps - self.warmup, 1), 1.0)
        if self.schedule == "linear":
            return 1 - done * (1 - self.final)
        if self.schedule == "cosine":
            return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2
        return 1.0
