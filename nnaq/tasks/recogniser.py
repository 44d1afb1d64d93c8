"""A trained recogniser in a folder of its own: what is lowered, and what ships with nnaq.

    recogniser.toml      [model] the encoder's name and the sizes of the transducer; [hearing], see
                         nnaq.tasks.hearing; [training] where it comes from, for people
    weights.safetensors  the parameters and the statistics of batch norm, float16 or float32

Parameters in float16 are half the bytes; they are widened exactly when read, so every run starts from the
same numbers, and their rounding (relative 2^-11) is far below that of 8-bit codes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nnaq.errors import DataError
from nnaq.frontends import ImportOptions
from nnaq.models.sizes import make_transducer
from nnaq.models.transducer import Transducer
from nnaq.tasks.hearing import TABLE, WEIGHTS, Hearing, read_tables
from nnaq.tasks.transducer_greedy import greedy


@dataclass(frozen=True, eq=False)
class Recogniser:
    """A float transducer and what stands around it. model: name and sizes, as make_transducer takes them."""

    module: Transducer
    model: Mapping[str, Any]
    hearing: Hearing
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def example_inputs(self) -> tuple[Tensor, ...]:
        """For its export: open axes 2 or longer."""
        return torch.zeros(8, 2, self.hearing.log_mel.features), torch.zeros(3, 2, dtype=torch.int64)

    @property
    def options(self) -> ImportOptions:
        """Which axes are open: time T of sound, U of labels, and the batch N."""
        shapes = {"x": ("T", "N", self.hearing.log_mel.features), "y": ("U", "N")}
        return ImportOptions(time={"x": 0, "y": 0}, shapes=shapes)

    def greedy(self, x: np.ndarray) -> list[int]:
        """What the float model hears in one utterance, features float32 [T,1,F]."""
        steps = torch.tensor([len(x) // self.hearing.reduction])
        return greedy(self.module, torch.from_numpy(x), steps)[0]

    def save(self, folder: Path, half: bool = True) -> None:
        """Write both files into a folder that is there, without what only training needs.

        half: parameters in float16.
        """
        kept = {
            name: tensor.detach().to(torch.float16 if half and tensor.is_floating_point() else tensor.dtype)
            for name, tensor in self.module.state_dict().items()
            if not name.startswith("pronounce.")
        }
        save_file({name: tensor.contiguous() for name, tensor in kept.items()}, folder / WEIGHTS)
        tables = {
            "model": dict(self.model),
            "hearing": self.hearing.to_table(),
            "training": dict(self.training),
        }
        (folder / TABLE).write_text(tomli_w.dumps(tables), encoding="utf-8")


def read_recogniser(folder: Path) -> Recogniser:
    """A recogniser, ready to be run and lowered. Raises DataError: which file, and what is wrong with it."""
    tables, hearing = read_tables(folder)
    model, weights = tables.get("model", {}), folder / WEIGHTS
    try:
        module = make_transducer(hearing.log_mel.features, len(hearing.units), **model)
        kept = {name: t.float() if t.is_floating_point() else t for name, t in load_file(weights).items()}
        module.load_state_dict(kept)
    except (OSError, SafetensorError, RuntimeError, TypeError) as error:
        raise DataError(f"{weights} does not hold the parameters of {folder / TABLE}: {error}") from None
    return Recogniser(module.eval(), model, hearing, tables.get("training", {}))
