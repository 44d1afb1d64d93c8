"""A model of nnaq.models.contextual_slu in a folder of its own: what training writes and `nnaq lower` takes.

understander.toml    [model] context, sizes and noise; [lexicon] see nnaq.tasks.lexicon; [training] where it
                     comes from, for people
weights.safetensors  the parameters, float32
"""

from collections.abc import Callable, Mapping, Sequence
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
from nnaq.models.context import Arm, ContextSizes
from nnaq.models.contextual_slu import Choices, ContextualSlu, matched_hidden
from nnaq.tasks.conversation import Answer
from nnaq.tasks.heard_words import Confusions, Heard, best
from nnaq.tasks.lexicon import INPUTS, KNOWN, Context, Lexicon, context_of
from nnaq.tasks.simulated_dialogues import Dialogue
from nnaq.tasks.sounds import spread
from nnaq.tasks.understanding import TABLE, WEIGHTS, read_tables

HEARD_FOR_CALIBRATION = 101  # seed


@dataclass(frozen=True, eq=False)
class Understander:
    """A float model and its words. model: what make_understander takes beside the lexicon."""

    module: ContextualSlu
    model: Mapping[str, Any]
    lexicon: Lexicon
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs that the model takes."""
        return INPUTS[:2] if self.module.arm == "none" else INPUTS

    @property
    def noise(self) -> float:
        return float(self.model["noise"])

    @property
    def confusions(self) -> Confusions:
        return Confusions(self.lexicon.words)

    @property
    def example_inputs(self) -> tuple[Tensor, ...]:
        """For its export: open axes 2 or longer."""
        words = tuple((word, "") for word in self.lexicon.words[:3])
        said = (self.lexicon.words[:2],) * self.lexicon.said_back
        return self.inputs([(words, Context((), said))] * 2)

    @property
    def options(self) -> ImportOptions:
        """Which axes are open: time T of words, and the batch N."""
        own = self.lexicon
        count = 1 + own.acts_back + own.said_back
        shapes = {
            "first": ("T", "N"), "second": ("T", "N"), "acts": (own.acts_back, "N", len(own.kinds)),
            "said": (own.said_words, own.said_back, "N"), "share": (count, "N"),
        }  # fmt: skip
        return ImportOptions(
            time={"first": 0, "second": 0}, shapes={name: shapes[name] for name in self.names}
        )

    def arrays(self, turns: Sequence[tuple[Heard, Context]]) -> dict[str, np.ndarray]:
        """The inputs of turns side by side, those that the model takes."""
        made = self.lexicon.inputs(turns)
        return {name: made[name] for name in self.names}

    def inputs(self, turns: Sequence[tuple[Heard, Context]]) -> tuple[Tensor, ...]:
        """The same as tensors, in the order of the module."""
        return tuple(torch.from_numpy(array) for array in self.arrays(turns).values())

    def answer(self, model: Callable[..., Tensor]) -> Answer:
        """A model, this one or its twin, as nnaq.tasks.conversation asks it."""

        def answered(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
            with torch.no_grad():
                return model(*(torch.from_numpy(inputs[name]) for name in self.names)).numpy()

        return answered

    def calibration(self, dialogues: Sequence[Dialogue], count: int) -> list[dict[str, np.ndarray]]:
        """So many turns, evenly spread over dialogues, each alone, with what was heard before; float32."""
        turns = [(dialogue, number) for dialogue in dialogues for number in range(len(dialogue))]
        random, confusions = np.random.default_rng(HEARD_FOR_CALIBRATION), self.confusions
        made = []
        for dialogue, number in (turns[place] for place in spread(len(turns), count)):
            heard = [confusions.heard(turn.words, self.noise, random) for turn in dialogue[: number + 1]]
            context = context_of(dialogue, number, [best(one) for one in heard])
            arrays = self.arrays([(heard[number], context)])
            made.append({name: array.astype(np.float32) for name, array in arrays.items()})
        return made

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Write both files into a folder that is there."""
        kept = {name: tensor.detach().contiguous() for name, tensor in self.module.state_dict().items()}
        save_file(kept, folder / WEIGHTS)
        tables = {"model": dict(self.model), "lexicon": self.lexicon.to_table(), "training": dict(facts)}
        (folder / TABLE).write_text(tomli_w.dumps(tables), encoding="utf-8")


def make_understander(
    lexicon: Lexicon, context: Arm, seed: int, noise: float, *,
    embedding: int, hidden: int, width: int, heads: int, dropout: float = 0.0,
) -> Understander:  # fmt: skip
    """A fresh model of an arm, as large as `attentive` with so many cells. Raises DataError."""
    sizes = ContextSizes(
        len(lexicon.kinds), KNOWN + len(lexicon.words), lexicon.acts_back, lexicon.said_back,
        width=width, heads=heads,
    )  # fmt: skip
    choices = Choices(*lexicon.sizes[1:])
    model = {
        "context": context, "noise": noise, "embedding": embedding, "hidden": hidden, "width": width,
        "heads": heads,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        cells = matched_hidden(sizes, choices, context, embedding, hidden)
        module = ContextualSlu(sizes, choices, context, embedding, cells, dropout)
    return Understander(module, model, lexicon)


def read_understander(folder: Path) -> Understander:
    """A model, ready to be run and lowered. Raises DataError: which file, and what is wrong with it."""
    tables, lexicon = read_tables(folder)
    weights = folder / WEIGHTS
    try:
        made = make_understander(lexicon, seed=0, **tables["model"])
        made.module.load_state_dict(load_file(weights))
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError) as error:
        raise DataError(f"{weights} does not hold the parameters of {folder / TABLE}: {error}") from None
    made.module.eval()
    return Understander(made.module, made.model, lexicon, tables.get("training", {}))
