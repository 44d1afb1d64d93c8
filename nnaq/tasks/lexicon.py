"""What a model of nnaq.models.contextual_slu reads and says, in words: its host's part. NumPy only.

    words       0 absent, 1 the end, 2 unknown, then the vocabulary
    tags        0 outside of slots, then B and I of each slot: the first word of a value, and its others
    kinds       actions of the assistant, then the slots its acts speak of
    delay       2: the scores of word t come at step t + 2, so every utterance has two ends behind it

A turn's context: the assistant's acts of this turn and of those before, the present first; and what was said
before, the last first: the assistant's question, the user's words before it, and so on. Both are cut off at
`acts_back` and `said_back`; of what was said the last `said_words` words count.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from nnaq.errors import DataError
from nnaq.tasks.heard_words import Heard
from nnaq.tasks.semantic_errors import Meaning
from nnaq.tasks.simulated_dialogues import Dialogue, Slot, Turn

ABSENT, END, UNKNOWN, KNOWN = 0, 1, 2, 3
DELAY = 2
INPUTS = ("first", "second", "acts", "said", "share")

Words = tuple[str, ...]


@dataclass(frozen=True)
class Context:
    """What an utterance follows: acts of turns, pairs (action, slot), and utterances, the latest first."""

    acts: tuple[tuple[tuple[str, str], ...], ...]
    said: tuple[Words, ...]


@dataclass(frozen=True)
class Understood:
    """What was found in an utterance."""

    words: Words
    meaning: Meaning
    intent: str


def context_of(dialogue: Dialogue, number: int, words: Sequence[Words]) -> Context:
    """The context of a turn; words: what the user is taken to have said in the turns before it."""
    past = range(number - 1, -1, -1)
    said = [dialogue[number].prompt]
    for turn in past:
        said += [words[turn], dialogue[turn].prompt]
    acts = tuple(dialogue[turn].system_acts for turn in (number, *past))
    return Context(acts, tuple(said))


@dataclass(frozen=True)
class Lexicon:
    """The symbols; see the module. Raises DataError where there is nothing to choose from."""

    words: tuple[str, ...]
    slots: tuple[str, ...]
    acts: tuple[str, ...]
    intents: tuple[str, ...]
    kinds: tuple[str, ...]
    acts_back: int = 4
    said_back: int = 4
    said_words: int = 24

    def __post_init__(self) -> None:
        if not (self.words and self.slots and self.acts and self.intents and self.kinds):
            raise DataError(
                "dialogues to learn from hold no words, slots, acts, intents or acts of the assistant"
            )
        if min(self.acts_back, self.said_back, self.said_words) < 1:
            raise DataError(
                f"a context goes back 1 turn or more; found {self.acts_back} and {self.said_back}"
            )

    @classmethod
    def of(cls, dialogues: Iterable[Dialogue], **back: int) -> "Lexicon":
        """The symbols of these dialogues, alphabetical; back: how much context there is."""
        turns = [turn for dialogue in dialogues for turn in dialogue]
        pairs = {pair for turn in turns for pair in turn.system_acts}
        kinds = sorted({action for action, _ in pairs}) + sorted({_of(slot) for _, slot in pairs if slot})
        return cls(
            _sorted(word for turn in turns for word in (*turn.words, *turn.prompt)),
            _sorted(slot.name for turn in turns for slot in turn.slots),
            _sorted(turn.act for turn in turns),
            _sorted(turn.intent for turn in turns),
            tuple(kinds),
            **back,
        )

    @classmethod
    def from_table(cls, table: Mapping[str, Any], who: str) -> "Lexicon":
        """What `to_table` gave. Raises DataError: who, and what does not fit."""
        try:
            made: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else int(value) for key, value in table.items()
            }
            return cls(**made)
        except (TypeError, ValueError) as error:
            names = ", ".join(field.name for field in fields(cls))
            raise DataError(f"{who}: table [lexicon] is not as nnaq writes it ({names}): {error}") from None

    def to_table(self) -> dict[str, Any]:
        """Plain data, for TOML."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """The widths in which scores are split: second word, tag, act, intent."""
        return 2, 1 + 2 * len(self.slots), len(self.acts), len(self.intents)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {word: n for n, word in enumerate(self.words, KNOWN)}

    @cached_property
    def _kind(self) -> dict[str, int]:
        return {kind: n for n, kind in enumerate(self.kinds)}

    def encode(self, words: Iterable[str]) -> list[int]:
        """Numbers of words; "" is absent, a word that is not in the vocabulary unknown."""
        return [self._number.get(word, UNKNOWN) if word else ABSENT for word in words]

    def tags(self, words: int, slots: Iterable[Slot]) -> list[int]:
        """The tag of each of so many words; slots that were not learned are outside."""
        made = [0] * words
        for slot in slots:
            if slot.name in self.slots:
                begin = 1 + 2 * self.slots.index(slot.name)
                made[slot.start : slot.end] = [begin] + [begin + 1] * (slot.end - slot.start - 1)
        return made

    def inputs(self, turns: Sequence[tuple[Heard, Context]]) -> dict[str, np.ndarray]:
        """Utterances side by side, as the model takes them: the arrays INPUTS, of N = len(turns)."""
        steps = max(len(heard) for heard, _ in turns) + DELAY
        words = np.full((2, steps, len(turns)), ABSENT)
        before = np.full((self.said_words, self.said_back, len(turns)), ABSENT)
        acts = np.zeros((self.acts_back, len(turns), len(self.kinds)), np.float32)
        there = np.zeros((1 + self.acts_back + self.said_back, len(turns)), np.float32)
        there[0] = 1  # the null
        for place, (heard, context) in enumerate(turns):
            words[:, : len(heard), place] = [self.encode(pair[n] for pair in heard) for n in (0, 1)]
            words[0, len(heard) : len(heard) + DELAY, place] = END
            for turn, pairs in enumerate(context.acts[: self.acts_back]):
                acts[turn, place], there[1 + turn, place] = self._pooled(pairs), bool(pairs)
            for turn, said in enumerate(context.said[: self.said_back]):
                kept = self.encode(said[-self.said_words :])
                before[len(before) - len(kept) :, turn, place] = kept
                there[1 + self.acts_back + turn, place] = bool(said)
        return dict(zip(INPUTS, (*words, acts, before, there / there.sum(axis=0)), strict=True))

    def _pooled(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """The mean over pairs of the one-hot codes of action and slot, float32 [kinds]."""
        made = np.zeros(len(self.kinds), np.float32)
        for action, slot in pairs:
            for kind in (action, _of(slot)):
                if kind in self._kind:
                    made[self._kind[kind]] += 1 / len(pairs)
        return made

    def understood(self, heard: Heard, scores: np.ndarray) -> Understood:
        """What the scores [T,V] of one utterance say, T at least its words and DELAY."""
        second, tags, acts, intents = np.split(scores, np.cumsum(self.sizes)[:-1], axis=1)
        own, last = slice(DELAY, DELAY + len(heard)), len(heard) + DELAY - 1
        chosen = second[own].argmax(axis=1)
        words = tuple(
            other if takes and other else first for (first, other), takes in zip(heard, chosen, strict=True)
        )
        slots = self.spans(tags[own].argmax(axis=1).tolist())
        values = tuple((slot.name, " ".join(words[slot.start : slot.end])) for slot in slots)
        act, intent = self.acts[int(acts[last].argmax())], self.intents[int(intents[last].argmax())]
        return Understood(words, Meaning(values, act), intent)

    def spans(self, tags: Sequence[int]) -> list[Slot]:
        """The slots that tags mark; an I that does not go on with its slot begins one."""
        found: list[Slot] = []
        for place, tag in enumerate(tags):
            name = self.slots[(tag - 1) // 2] if tag else ""
            begins = tag % 2 == 1 or not found or found[-1].end != place or found[-1].name != name
            if tag and begins:
                found.append(Slot(name, place, place + 1))
            elif tag:
                found[-1] = Slot(name, found[-1].start, place + 1)
        return found


def truth_of(turn: Turn) -> Understood:
    """What there is to be found in a turn."""
    values = tuple((slot.name, " ".join(turn.words[slot.start : slot.end])) for slot in turn.slots)
    return Understood(turn.words, Meaning(values, turn.act), turn.intent)


def _sorted(names: Iterable[str]) -> Words:
    return tuple(sorted(set(names)))


def _of(slot: str) -> str:
    """A slot as a kind, apart from actions of the same name."""
    return f"of {slot}" if slot else ""
