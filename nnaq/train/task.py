"""What is trained and how it is judged: the task, and what a model may ask of the loop.

A task is any object with these members; it need not know nnaq's classes. A batch is whatever its `loss`
understands, such as a tuple of tensors, and never depends on global random state.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from nnaq.frontends.ports import ImportOptions
from nnaq.train.schemes.base import Progress


@runtime_checkable
class Task(Protocol):
    """Data, a model, and what is wanted of it.

    module: the float model, fresh and seeded. example_inputs: for its export, open axes 2 or longer.
    options: which axes are open. goal: a figure of `evaluate` and "min" or "max".
    """

    @property
    def module(self) -> nn.Module: ...

    @property
    def example_inputs(self) -> tuple[Tensor, ...]: ...

    @property
    def options(self) -> ImportOptions: ...

    @property
    def goal(self) -> tuple[str, str]: ...

    def batches(self, epoch: int, seed: int, shard: int = 0, shards: int = 1) -> Iterable[Any]:
        """The batches of an epoch, mixed and masked (SpecAugment) by what only these arguments decide.

        The shards partition the epoch. A sequence that makes its items when asked for resumes quickly.
        """

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The mean loss over the batch, a scalar; `model` is called like `module`."""

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Figures on the development set, among them the goal's."""

    def judge(self, model: nn.Module) -> Mapping[str, float]:
        """Figures on the test set; asked for once, at the very end."""

    def calibration(self) -> Sequence[Mapping[str, np.ndarray]]:
        """Recordings (input name -> float32 array) from which ranges are chosen."""


@runtime_checkable
class Shipping(Protocol):
    """A task whose trained module is of use with what stands around it: features, units."""

    def ship(self, folder: Path, facts: Mapping[str, Any], exact: bool) -> None:
        """Write the module and all that belongs to it; facts: plain data about the training.

        exact: not one parameter may be rounded on the way, because integers were trained on them.
        """


@runtime_checkable
class Guided(Protocol):
    """A model that takes part in its training: the twin of a model, with the schemes of its weights."""

    def penalty(self) -> Tensor:
        """What is added to the loss, a scalar."""

    def on_step_begin(self, progress: Progress) -> None:
        """Told before every step."""

    def on_step_end(self, progress: Progress) -> None:
        """Told after every update of the parameters, which it may change in place."""

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """What the optimiser is given."""


class Plain:
    """A model that does not: no penalty, nothing around a step, all parameters at one rate."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = list(model.parameters())

    def penalty(self) -> Tensor:
        return self.parameters[0].new_zeros(())

    def on_step_begin(self, progress: Progress) -> None:
        pass

    def on_step_end(self, progress: Progress) -> None:
        pass

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        return [{"params": self.parameters, "lr": rate}]


def guide_of(model: nn.Module) -> Guided:
    """The model itself if it takes part in its training, else what stands in for it."""
    return model if isinstance(model, Guided) else Plain(model)
