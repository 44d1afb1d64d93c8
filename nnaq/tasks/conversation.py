"""A model at work in whole dialogues: each turn is understood with what it found in the turns before.

    words heard, context -> answer (scores) -> words, slots, act, intent -> context of the next turn

Turns of one number go on together, over all dialogues. `previous` says what the user is taken to have said
before: "found" the words that the model chose, "true" those that were said (an oracle). With `shuffled` each
turn has the context of a turn of the same number in another dialogue: what context gains must vanish.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from nnaq.tasks.decoding import word_errors
from nnaq.tasks.heard_words import Heard
from nnaq.tasks.lexicon import Context, Lexicon, Understood, Words, context_of, truth_of
from nnaq.tasks.semantic_errors import semantic_figures
from nnaq.tasks.simulated_dialogues import Dialogue

Previous = Literal["found", "true"]
Answer = Callable[[Mapping[str, np.ndarray]], np.ndarray]


def understood_dialogues(
    lexicon: Lexicon,
    answer: Answer,
    dialogues: Sequence[Dialogue],
    heard: Sequence[Sequence[Heard]],
    previous: Previous = "found",
    shuffled: bool = False,
) -> list[list[Understood]]:
    """What is found in every turn; answer: of inputs by name, scores float32 [T,N,V]."""
    found: list[list[Understood]] = [[] for _ in dialogues]
    for number in range(max(map(len, dialogues))):
        there = [place for place, dialogue in enumerate(dialogues) if len(dialogue) > number]
        contexts = [context_of(dialogues[n], number, _said(dialogues[n], found[n], previous)) for n in there]
        turns = [
            (heard[n][number], context) for n, context in zip(there, _mixed(contexts, shuffled), strict=True)
        ]
        scores = answer(lexicon.inputs(turns))
        for place, n in enumerate(there):
            found[n].append(lexicon.understood(heard[n][number], scores[:, place]))
    return found


def _said(dialogue: Dialogue, found: Sequence[Understood], previous: Previous) -> list[Words]:
    return [turn.words for turn in dialogue] if previous == "true" else [one.words for one in found]


def _mixed(contexts: list[Context], shuffled: bool) -> list[Context]:
    """Each one's neighbour's, where they are shuffled."""
    return contexts[1:] + contexts[:1] if shuffled else contexts


def figures(truths: Sequence[Understood], found: Sequence[Understood]) -> dict[str, float]:
    """`wer` over words, those of nnaq.tasks.semantic_errors, and `intent_accuracy`, over utterances."""
    words = [[" ".join(one.words) for one in side] for side in (truths, found)]
    intents = [truth.intent == one.intent for truth, one in zip(truths, found, strict=True)]
    return {
        "wer": word_errors(*words).rate,
        **semantic_figures([one.meaning for one in truths], [one.meaning for one in found]),
        "intent_accuracy": float(np.mean(intents)),
    }


def judged(dialogues: Sequence[Dialogue], found: Sequence[Sequence[Understood]]) -> dict[str, float]:
    """Figures over all turns of dialogues."""
    truths = [truth_of(turn) for dialogue in dialogues for turn in dialogue]
    return figures(truths, [one for turns in found for one in turns])
