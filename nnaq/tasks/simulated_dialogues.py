"""Dialogues of a user with an assistant, as text: turns, what the assistant does, slots and acts of the user.

    FOLDER/train.json, dev.json, test.json      lists of dialogues

The layout is that of the public sets Sim-M (movie tickets) and Sim-R (restaurants). What is read of a turn:

    system_acts                what the assistant does before the user speaks: [{type, slot?, value?}]
    system_utterance           {tokens}, how it says so; none in a first turn
    user_utterance             {tokens, slots: [{slot, start, exclusive_end}]}, places of tokens
    user_acts                  what the user does: [{type, …}]; often none in a first turn
    user_intents               what the user wants: names; none in most turns

A token without a letter or digit (". , ' :") is not spoken and is left out; slots move with their words.

Source: P. Shah et al., Building a conversational agent overnight with dialogue self-play, 2018
(arXiv 1801.04871); github.com/google-research-datasets/simulated-dialogue.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnaq.errors import DataError

NOTHING = "none"  # the act or intent of a turn that has none
TABLES = ("train.json", "dev.json", "test.json")


@dataclass(frozen=True)
class Slot:
    """A value that is said: words [start, end) fill the slot `name`."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Turn:
    """The assistant does `system_acts` and says `prompt`, and the user answers with `words`.

    system_acts: pairs (action, slot or ""). act: what the user does, several joined by "+". intent: what the
    user wants.
    """

    system_acts: tuple[tuple[str, str], ...]
    prompt: tuple[str, ...]
    words: tuple[str, ...]
    slots: tuple[Slot, ...]
    act: str
    intent: str


Dialogue = tuple[Turn, ...]


@dataclass(frozen=True)
class DialogueSets:
    """Dialogues to train on, to choose by, and to judge by at the very end."""

    train: tuple[Dialogue, ...]
    development: tuple[Dialogue, ...]
    test: tuple[Dialogue, ...]


def read_dialogue_sets(folder: Path) -> DialogueSets:
    """The three sets of a folder. Raises DataError: which file is missing, or what is wrong in it."""
    return DialogueSets(*(read_dialogues(folder / name) for name in TABLES))


def read_dialogues(path: Path) -> tuple[Dialogue, ...]:
    """The dialogues of one file. Raises DataError: there is none, or which turn is not as it should be."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"there is no {path}; a folder of dialogues holds {', '.join(TABLES)}, as sim-M of "
            "github.com/google-research-datasets/simulated-dialogue does"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, list) or not found:
        raise DataError(f"{path}: expected a list of dialogues, found {str(found)[:40]!r}")
    return tuple(_dialogue(one, f"{path}, dialogue {number}") for number, one in enumerate(found))


def _dialogue(found: Any, who: str) -> Dialogue:
    turns = found.get("turns") if isinstance(found, Mapping) else None
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{who}: expected a table with a list `turns`, found {str(found)[:40]!r}")
    return tuple(_turn(turn, f"{who}, turn {number}") for number, turn in enumerate(turns))


def _turn(found: Any, who: str) -> Turn:
    try:
        said = found["user_utterance"]
        tokens, slots = list(map(str, said["tokens"])), said.get("slots", [])
        spans = [(str(one["slot"]), int(one["start"]), int(one["exclusive_end"])) for one in slots]
        system = tuple((str(one["type"]), str(one.get("slot", ""))) for one in found.get("system_acts", []))
        prompt = list(map(str, found.get("system_utterance", {}).get("tokens", [])))
        acts = sorted({str(one["type"]) for one in found.get("user_acts", [])})
        intents = sorted(map(str, found.get("user_intents", [])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{who} is not as nnaq.tasks.simulated_dialogues tells: {error!r}") from None
    wrong = [span for span in spans if not 0 <= span[1] < span[2] <= len(tokens)]
    if wrong:
        raise DataError(f"{who}: slot {wrong[0]} does not lie within the {len(tokens)} tokens")
    words, slots = _spoken(tokens, spans)
    asked, _ = _spoken(prompt, ())
    return Turn(system, asked, words, slots, "+".join(acts) or NOTHING, "+".join(intents) or NOTHING)


def _spoken(
    tokens: Sequence[str], spans: Sequence[tuple[str, int, int]]
) -> tuple[tuple[str, ...], tuple[Slot, ...]]:
    """The words among tokens, and slots by words; a slot of nothing spoken is none."""
    heard = [any(letter.isalnum() for letter in token) for token in tokens]
    place = [sum(heard[:n]) for n in range(len(tokens) + 1)]
    slots = [Slot(name, place[start], place[end]) for name, start, end in spans]
    words = tuple(token.lower() for token, spoken in zip(tokens, heard, strict=True) if spoken)
    return words, tuple(slot for slot in slots if slot.start < slot.end)
