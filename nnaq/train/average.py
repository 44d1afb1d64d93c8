"""The moving average of parameters: steadier than the parameters themselves, and what is then kept.

    average <- average + (1 - d) (parameter - average),    d = min(decay, (1 + t) / (10 + t))

after step t, counted from 0: at first short, so that the start is forgotten. Buffers, such as the
statistics of a batch norm, are not averaged: they stay the model's present ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The average of a model's parameters with a decay; without one it is the parameters themselves."""

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self.decay = decay
        self.parameters = dict(model.named_parameters()) if decay is not None else {}
        self.values: dict[str, Tensor] = {name: p.detach().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters as step `step` left them."""
        if self.decay is None:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self.parameters.items():
            self.values[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model holds the averages inside the block, and its own parameters, bit for bit, after it."""
        own = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])
