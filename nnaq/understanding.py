"""How well a lowered model understands dialogues: errors of words, slots and acts, by its integers."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from nnaq.errors import DataError
from nnaq.export.read import read_lowered
from nnaq.tasks.conversation import judged, understood_dialogues
from nnaq.tasks.heard_words import Confusions, heard_dialogues
from nnaq.tasks.simulated_dialogues import read_dialogues
from nnaq.tasks.understander_parts import stream_answer, understander_parts
from nnaq.tasks.understanding import HEARD, is_understander, read_tables

WORDS = {
    "wer": "word error rate",
    "semer": "semantic error rate (slots and act)",
    "slot_error_rate": "slot error rate",
    "irer": "utterances with a semantic error",
    "act_accuracy": "acts found",
    "intent_accuracy": "intents found",
}


@dataclass(frozen=True)
class DialogueEvaluation:
    """Figures of nnaq.tasks.conversation over all turns of some dialogues."""

    figures: Mapping[str, float]
    dialogues: int
    turns: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**self.figures, "dialogues": self.dialogues, "turns": self.turns}

    def show(self) -> None:
        """A line for each figure."""
        console = Console(file=sys.stdout)
        console.print(f"{self.turns} turns of {self.dialogues} dialogues", highlight=False)
        for name, words in WORDS.items():
            console.print(f"{self.figures[name]:8.2%}  {words}", highlight=False)


def evaluate_dialogues(folder: Path, path: Path) -> DialogueEvaluation:
    """Errors of a package on a file of dialogues, heard with the noise of its training. Raises DataError."""
    if is_understander(folder):
        raise DataError(
            f"{folder} holds a float model; lower it first: "
            f"`nnaq lower {folder} --calibrate DIALOGUES -o OUT`"
        )
    tables, lexicon = read_tables(folder)
    dialogues = read_dialogues(path)
    parts = understander_parts(read_lowered(folder / "model.onnx"))
    words = [[turn.words for turn in dialogue] for dialogue in dialogues]
    heard = heard_dialogues(Confusions(lexicon.words), words, float(tables["model"]["noise"]), HEARD)
    found = understood_dialogues(lexicon, stream_answer(parts), dialogues, heard)
    return DialogueEvaluation(judged(dialogues, found), len(dialogues), sum(map(len, dialogues)))
