"""Understanding with context: words, slots, act and intent of an utterance within its dialogue.

    words as heard, context -> ContextualSlu -> which word, slot tags, act, intent
    loss     the sum of cross-entropies: of the choice where the recogniser is not sure, of tags over words,
             of act and intent at the utterance's end, the latter two by their weights
    judged   by SemER (nnaq.tasks.semantic_errors), word errors and others, in whole dialogues

The data is a folder of dialogues (nnaq.tasks.simulated_dialogues); recognition is simulated
(nnaq.tasks.heard_words). Training draws anew how words are heard in every epoch; development and test are
drawn once, by fixed seeds. What the user said before is, in training, heard by chance or true, half and half;
in judging it is what the model itself found.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnaq.errors import DataError
from nnaq.frontends import ImportOptions
from nnaq.models.context import Arm
from nnaq.tasks.batching import Lazy, mixed_by_length, shard_of
from nnaq.tasks.conversation import Answer, judged, understood_dialogues
from nnaq.tasks.evaluating import evaluating
from nnaq.tasks.heard_words import Confusions, Heard, best, heard_dialogues
from nnaq.tasks.lexicon import DELAY, Context, Lexicon, context_of
from nnaq.tasks.simulated_dialogues import Dialogue, DialogueSets, Turn, read_dialogue_sets
from nnaq.tasks.understander import Understander, make_understander
from nnaq.tasks.understanding import HEARD

CALIBRATION_TURNS = 60
IGNORED = -100  # what cross-entropy passes over


@dataclass(frozen=True)
class Batch:
    """Turns side by side: the model's inputs, and what is right.

    second, tags: int64 [T,N], IGNORED where there is nothing to choose; last: int64 [N], the step of the act.
    """

    inputs: tuple[Tensor, ...]
    second: Tensor
    tags: Tensor
    acts: Tensor
    intents: Tensor
    last: Tensor


class ContextualSluTask:
    """What trains, on what, judged how; see the module. `module` is fresh and seeded."""

    goal = ("semer", "min")

    def __init__(
        self,
        understander: Understander,
        sets: DialogueSets,
        confusions: Confusions,
        noise: float,
        batch: int,
        weights: tuple[float, float],
    ) -> None:
        self.understander, self.module, self.lexicon = understander, understander.module, understander.lexicon
        self.sets, self.confusions, self.noise = sets, confusions, noise
        self.batch, self.weights = batch, weights
        self.turns = [(dialogue, number) for dialogue in sets.train for number in range(len(dialogue))]

    @property
    def example_inputs(self) -> tuple[Tensor, ...]:
        return self.understander.example_inputs

    @property
    def options(self) -> ImportOptions:
        return self.understander.options

    def batches(self, epoch: int, seed: int, shard: int = 0, shards: int = 1) -> Sequence[Batch]:
        """An epoch over the training turns; how words are heard is drawn by (seed, epoch, number)."""
        lengths = [len(dialogue[number].words) for dialogue, number in self.turns]
        drawn = mixed_by_length(lengths, self.batch, np.random.default_rng([seed, epoch]))
        mine = shard_of(drawn, shard, shards)
        return Lazy(len(mine), lambda n: self._batch([self._drawn(turn, epoch, seed) for turn in mine[n]]))

    def _drawn(self, place: int, epoch: int, seed: int) -> tuple[Turn, Heard, Context]:
        random, (dialogue, number) = np.random.default_rng([seed, epoch, place]), self.turns[place]
        true = random.random() < 0.5
        heard = [self.confusions.heard(turn.words, self.noise, random) for turn in dialogue[: number + 1]]
        before = [turn.words if true else best(one) for turn, one in zip(dialogue, heard, strict=False)]
        return dialogue[number], heard[number], context_of(dialogue, number, before)

    def _batch(self, drawn: Sequence[tuple[Turn, Heard, Context]]) -> Batch:
        lexicon = self.lexicon
        inputs = self.understander.inputs([(heard, context) for _, heard, context in drawn])
        second, tags = (torch.full(inputs[0].shape, IGNORED) for _ in range(2))
        for place, (turn, heard, _) in enumerate(drawn):
            own = slice(DELAY, DELAY + len(heard))
            right = [
                int(pair[0] != word) if pair[1] else IGNORED
                for pair, word in zip(heard, turn.words, strict=True)
            ]
            second[own, place] = torch.tensor(right, dtype=torch.int64)
            tags[own, place] = torch.tensor(lexicon.tags(len(heard), turn.slots), dtype=torch.int64)
        acts, intents = (
            torch.tensor([known.index(getattr(turn, name)) for turn, _, _ in drawn])
            for known, name in ((lexicon.acts, "act"), (lexicon.intents, "intent"))
        )
        last = torch.tensor([len(heard) + DELAY - 1 for _, heard, _ in drawn])
        return Batch(inputs, second, tags, acts, intents, last)

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Tensor:
        """The weighted sum of the four cross-entropies, each a mean; a scalar."""
        scores = model(*batch.inputs).float()
        second, tags, acts, intents = torch.split(scores, list(self.lexicon.sizes), -1)
        turns = torch.arange(len(batch.last))
        act, intent = self.weights
        return (
            chosen(second, batch.second)
            + chosen(tags, batch.tags)
            + act * chosen(acts[batch.last, turns], batch.acts)
            + intent * chosen(intents[batch.last, turns], batch.intents)
        )

    def evaluate(self, model: Callable[..., Tensor]) -> dict[str, float]:
        """Figures on the development set: see nnaq.tasks.conversation.figures."""
        return self.judged(model, "development")

    def judge(self, model: Callable[..., Tensor]) -> dict[str, float]:
        """The same figures on the test set: at the very end, once."""
        return self.judged(model, "test")

    def judged(self, model: Callable[..., Tensor], part: str) -> dict[str, float]:
        """Figures of a model on "development" or "test"."""
        dialogues: Sequence[Dialogue] = getattr(self.sets, part)
        heard = self.heard(part)
        with torch.no_grad(), evaluating(model):
            answer = self.understander.answer(model)
            return judged(dialogues, understood_dialogues(self.lexicon, answer, dialogues, heard))

    def heard(self, part: str) -> list[list[Heard]]:
        """How "development" or "test" is heard: the same words for all models of the same training set."""
        words = [[turn.words for turn in dialogue] for dialogue in getattr(self.sets, part)]
        return heard_dialogues(self.confusions, words, self.noise, HEARD)

    def answer(self, model: Callable[..., Tensor]) -> Answer:
        """A model as nnaq.tasks.conversation asks it."""
        return self.understander.answer(model)

    def calibration(self) -> list[dict[str, np.ndarray]]:
        """About 60 training turns, evenly spread, each alone, heard by a seed of their own."""
        return self.understander.calibration(self.sets.train, CALIBRATION_TURNS)

    def ship(self, folder: Path, facts: Mapping[str, Any], exact: bool) -> None:
        """Write the model and its lexicon into a folder: what `nnaq lower` takes."""
        self.understander.save(folder, facts)


def chosen(scores: Tensor, right: Tensor) -> Tensor:
    """The mean cross-entropy where there is a choice, 0 where there is none at all."""
    there = (right != IGNORED).sum().clamp(min=1)
    flat = scores.reshape(-1, scores.shape[-1])
    return nn.functional.cross_entropy(flat, right.reshape(-1), ignore_index=IGNORED, reduction="sum") / there


def make_task(
    data: str | Path,
    seed: int = 0,
    *,
    context: Arm = "attentive",
    noise: float = 0.3,
    batch: int = 48,
    acts_back: int = 4,
    said_back: int = 4,
    said_words: int = 24,
    embedding: int = 48,
    hidden: int = 80,
    width: int = 64,
    heads: int = 4,
    dropout: float = 0.3,
    act: float = 0.5,
    intent: float = 0.2,
) -> ContextualSluTask:
    """The task on a folder of dialogues; see the module.

    context: see nnaq.models.context; hidden: cells of `attentive`, of which every arm gets the parameters;
    noise: share of words the recogniser is not sure of; act, intent: weights of their losses. Raises
    DataError.
    """
    if batch < 1 or not (0 <= noise <= 1 and 0 <= dropout < 1) or min(act, intent) < 0:
        raise DataError(
            "batch is 1 or more, noise 0 to 1, dropout below 1, act and intent 0 or more; found "
            f"{batch}, {noise}, {dropout}, {act} and {intent}"
        )
    sets = read_dialogue_sets(Path(data))
    lexicon = Lexicon.of(sets.train, acts_back=acts_back, said_back=said_back, said_words=said_words)
    sizes: dict[str, Any] = {
        "embedding": embedding,
        "hidden": hidden,
        "width": width,
        "heads": heads,
        "dropout": dropout,
    }
    understander = make_understander(lexicon, context, seed, noise, **sizes)
    return ContextualSluTask(understander, sets, understander.confusions, noise, batch, (act, intent))
