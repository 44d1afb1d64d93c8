"""Simulated recognition: words as a recogniser hands them on, sure of some and in two minds about others.

A recogniser's confusion network is a list of places; here each has the word that sounded best and, where the
recogniser is not sure, a second one. The noise: a share `noise` of all words becomes a pair of the true word
and a like one, in either order with equal chance; so the best words alone have a word error rate of about
noise / 2. Like words are the five words of the training set that share most letter pairs with it (Dice's
coefficient over pairs of neighbouring letters, word ends included). Spelling stands in for sound: a word that
shares no pair with any other is always heard right.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

LIKE = 5

Heard = tuple[tuple[str, str], ...]  # the best word and the second one, "" where there is none


@dataclass(frozen=True)
class Confusions:
    """What words may be taken for; vocabulary: sorted, so that ties are the same everywhere."""

    vocabulary: tuple[str, ...]

    @cached_property
    def _pairs(self) -> list[frozenset[str]]:
        return [letter_pairs(word) for word in self.vocabulary]

    def like(self, word: str) -> list[str]:
        """The words most like this one, the nearest first; at most LIKE."""
        own = letter_pairs(word)
        shared = [2 * len(own & other) / (len(own) + len(other)) for other in self._pairs]
        order = np.argsort([-share for share in shared], kind="stable")
        near = [self.vocabulary[n] for n in order if shared[n] > 0 and self.vocabulary[n] != word]
        return near[:LIKE]

    def heard(self, words: Iterable[str], noise: float, random: np.random.Generator) -> Heard:
        """Words as they are heard; `noise`: share of words that the recogniser is not sure of."""
        return tuple(self._heard(word, noise, random) for word in words)

    def _heard(self, word: str, noise: float, random: np.random.Generator) -> tuple[str, str]:
        unsure, which, swapped = random.random(3)
        near = self._near(word) if unsure < noise else []
        if not near:
            return word, ""
        other = near[int(which * len(near))]
        return (other, word) if swapped < 0.5 else (word, other)

    def _near(self, word: str) -> list[str]:
        if word not in self._known:
            self._known[word] = self.like(word)
        return self._known[word]

    @cached_property
    def _known(self) -> dict[str, list[str]]:
        return {}


def letter_pairs(word: str) -> frozenset[str]:
    """Pairs of neighbouring letters, the word's ends marked.

    >>> sorted(letter_pairs("am"))
    ['^a', 'am', 'm$']
    """
    marked = f"^{word}$"
    return frozenset(marked[n : n + 2] for n in range(len(marked) - 1))


def best(heard: Heard) -> tuple[str, ...]:
    """The words that sounded best."""
    return tuple(first for first, _ in heard)


def heard_dialogues(
    confusions: Confusions, utterances: Sequence[Sequence[Sequence[str]]], noise: float, seed: int
) -> list[list[Heard]]:
    """All utterances of dialogues as they are heard, drawn once by a seed."""
    random = np.random.default_rng(seed)
    return [[confusions.heard(words, noise, random) for words in dialogue] for dialogue in utterances]
