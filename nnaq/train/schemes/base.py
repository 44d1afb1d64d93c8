"""What every way to train a weight towards its codes has in common.

A scheme belongs to one weight. It reads the float parameter and answers three questions:

    soft(parameter)      what the training's forward pass reads: reals through which gradients flow
    hard(parameter)      what ships: int8 codes, their scales and their table; a pure function of the
                         parameter and of the scheme's own state
    penalty(parameter)   what the scheme adds to the loss

Where the forward pass must be the accelerator's, its reals are those of `hard` and the gradient is that
of `soft` (`straight_through`). A scheme knows nothing of the loop: it is told the progress.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnaq.codebooks.choice import PaletteChoice
from nnaq.codebooks.coded import Coded
from nnaq.ir.types import TensorType


@dataclass(frozen=True)
class Weight:
    """A weight of the float baseline, as a scheme finds it.

    value: float32 in its own shape. kind: the plain int8 codes it would have, with a scale per output
    channel (axis `kind.quant.axis`) or one for the tensor (axis None). choice: bits, granularity and method
    of its palette. rows: how many neighbouring output channels share a table; 0: all of them.
    """

    name: str
    value: np.ndarray
    kind: TensorType
    choice: PaletteChoice
    rows: int = 0

    @property
    def axis(self) -> int:
        """The axis of output channels."""
        return (self.kind.quant.axis if self.kind.quant else None) or 0


@dataclass(frozen=True)
class Progress:
    """Where training stands: `step` of `steps`, counted from 0."""

    step: int
    steps: int

    @property
    def share(self) -> float:
        """The share of the steps that are done, 0 … 1."""
        return self.step / max(self.steps, 1)


class Scheme(nn.Module, ABC):
    """How one weight trains towards its codes; see the module.

    Trainable state (centroids, step sizes) are parameters, other state buffers: `state_dict` has it all.
    options: numbers a recipe may set, by name; a scheme refuses others with RecipeError.
    """

    def __init__(self, weight: Weight, **options: Any) -> None:
        super().__init__()
        self.weight = weight

    @property
    def must_read_reals(self) -> str | None:
        """The choice of options, as `name = value`, that lets training read weights that have no codes."""
        return None

    def soft(self, parameter: Tensor) -> Tensor:
        """The reals that training's forward pass reads, of the parameter's shape; differentiable."""
        return straight_through(parameter, self.hard(parameter))

    @abstractmethod
    def hard(self, parameter: Tensor) -> Coded:
        """The codes that ship."""

    def penalty(self, parameter: Tensor) -> Tensor:
        """What is added to the loss, a scalar; 0 unless the scheme says otherwise."""
        return parameter.new_zeros(())

    def on_step_begin(self, progress: Progress) -> None:
        """Told before every step."""

    def on_step_end(self, parameter: Tensor, progress: Progress) -> None:
        """Told after every update of the parameter, which it may change in place."""


def straight_through(parameter: Tensor, hard: Coded) -> Tensor:
    """The reals of the codes in the forward pass; the gradient goes to the parameter as it is."""
    reals = torch.from_numpy(hard.reals()).to(parameter.device)
    return parameter + (reals - parameter).detach()
