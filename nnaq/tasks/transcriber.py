"""Sound in, words out, as the sound goes by: a lowered recogniser at work on its integer kernels.

    samples -> Ear (features) -> encoder (integers) -> search over predictor and joint (integers) -> words

A word comes out when it is whole and certain: with units of pieces when the next word begins, in a beam
search when every hypothesis agrees on it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from nnaq.tasks.hearing import Ear, Hearing
from nnaq.tasks.transducer_parts import IntegerParts, PartGraphs
from nnaq.tasks.transducer_search import Greedy, Said, Search
from nnaq.tasks.units import SPACE


@dataclass(frozen=True)
class Word:
    """A word, and the seconds of sound that had arrived when its first unit was heard."""

    text: str
    seconds: float


class Transcriber:
    """One stream of sound. `feed` it samples as they arrive, then `finish`; after that it hears a new stream.

    search: makes the search over the parts; greedy without one.
    """

    def __init__(
        self, graphs: PartGraphs, hearing: Hearing, search: Callable[[IntegerParts], Search[Any]] = Greedy
    ) -> None:
        self.hearing, self.parts = hearing, IntegerParts(graphs)
        self._search = search(self.parts)
        self._begin()

    def _begin(self) -> None:
        self.parts.reset()
        self._ear, self._stream = Ear(self.hearing), self._search.start()
        self._said: list[Said] = []  # certain, but not told as words yet

    def feed(self, samples: np.ndarray) -> list[Word]:
        """The words that are whole with these samples, float32 in [-1, 1) at the recogniser's rate."""
        self._hear(self._ear(samples))
        words, self._said = self._words(self._said)
        return words

    def finish(self) -> list[Word]:
        """The rest, as if silence came after it."""
        self._hear(self._ear.rest())
        words, left = self._words(self._said + self._search.rest(self._stream))
        self._begin()
        return words + ([self._word(left)] if left else [])

    def hear(self, pieces: Iterable[np.ndarray]) -> Iterator[Word]:
        """The words of a recording that arrives in these pieces."""
        for samples in pieces:
            yield from self.feed(samples)
        yield from self.finish()

    def transcribe(self, audio: np.ndarray) -> str:
        """The words of a whole recording."""
        return " ".join(word.text for word in self.feed(audio) + self.finish())

    def _hear(self, features: np.ndarray) -> None:
        if len(features):
            said, self._stream = self._search.feed(self._stream, self.parts.hear(features))
            self._said += said

    def _words(self, said: list[Said]) -> tuple[list[Word], list[Said]]:
        """The words that another follows, and the units of the last one."""
        starts = [n for n, one in enumerate(said) if n == 0 or self._begins(one.label)]
        words = [self._word(said[a:b]) for a, b in pairwise(starts)]
        return words, said[starts[-1] :] if starts else []

    def _word(self, said: list[Said]) -> Word:
        text = self.hearing.units.decode(one.label for one in said).strip()
        return Word(text, round((said[0].frame + 1) * self.hearing.seconds, 3))

    def _begins(self, label: int) -> bool:
        """Whether a unit begins a word."""
        symbol = self.hearing.units.symbols[label - 1]
        return self.hearing.units.kind == "words" or symbol.startswith((SPACE, " "))
