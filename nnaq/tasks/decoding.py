"""From a recogniser's outputs to words, and how many of them are wrong.

Greedy decoding of connectionist temporal classification (CTC): the best unit of every step, repeats
counted once, blanks left out.

An error rate is errors over the length of the truth; errors are the fewest substitutions, deletions
and insertions that turn the truth into what was found. All counts are integers: rates are divided
at the very end, over all utterances together.

Several alignments may need the fewest errors and still share them out differently among the three
kinds (AB as BA: two substitutions, or a deletion and an insertion). The one that counts is read off
from the end. Equal last units stand for each other, up to the first that differ. From there on,
where cost(i, j) is the fewest errors between the first i units of the truth and the first j of what
was found,

    cost(i, j) = cost(i-1, j) + 1         unit i of the truth was deleted
    else cost(i, j-1) < cost(i-1, j-1)    unit j of what was found was inserted
    else                                  the two stand for each other: substituted, or equal

That is how RapidFuzz traces and therefore jiwer counts; the tests hold all three counts to jiwer's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np


def collapse(units: Iterable[int], blank: int = 0) -> list[int]:
    """A path of units, one per step, as the sequence it stands for.

    >>> collapse([0, 7, 7, 0, 7, 2, 2, 0])
    [7, 7, 2]
    """
    kept, before = [], blank
    for unit in units:
        if unit not in (before, blank):
            kept.append(int(unit))
        before = unit
    return kept


def best_path(scores: np.ndarray, blank: int = 0) -> list[int]:
    """The units of the best path through scores [T, units]; of equal scores the first counts.

    >>> best_path(np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.5, 0.6]]))
    [1, 1]
    """
    return collapse(np.asarray(scores).argmax(axis=-1).tolist(), blank)


@dataclass(frozen=True)
class Errors:
    """Errors of each kind among `total` units of truth; several are added up."""

    substitutions: int
    deletions: int
    insertions: int
    total: int

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.total + other.total,
        )

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per unit; may exceed 1. Without a truth it is 0 where nothing was found, else infinite."""
        if not self.total:
            return float("inf") if self.errors else 0.0
        return self.errors / self.total


NO_ERRORS = Errors(0, 0, 0, 0)


def count_errors(truth: Sequence[Any], found: Sequence[Any]) -> Errors:
    """The fewest substitutions, deletions and insertions from `truth` to `found`; see the module.

    >>> count_errors("KITTEN", "SITTING")
    Errors(substitutions=2, deletions=0, insertions=1, total=6)
    >>> count_errors("AB", "BA")
    Errors(substitutions=0, deletions=1, insertions=1, total=2)
    """
    costs = _costs(truth, found)
    alike = _common_end(truth, found)
    i, j = len(truth) - alike, len(found) - alike
    substitutions = deletions = insertions = 0
    while i and j:
        if costs[i][j] == costs[i - 1][j] + 1:
            deletions, i = deletions + 1, i - 1
        elif costs[i][j - 1] < costs[i - 1][j - 1]:
            insertions, j = insertions + 1, j - 1
        else:
            i, j = i - 1, j - 1
            substitutions += truth[i] != found[j]
    return Errors(substitutions, deletions + i, insertions + j, len(truth))


def _common_end(truth: Sequence[Any], found: Sequence[Any]) -> int:
    """How many units both end in alike."""
    pairs = zip(reversed(truth), reversed(found), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _costs(truth: Sequence[Any], found: Sequence[Any]) -> list[list[int]]:
    """cost(i, j) for all i, j; see the module."""
    costs = [list(range(len(found) + 1))]
    for number, wanted in enumerate(truth, 1):
        above, row = costs[-1], [number]
        for place, got in enumerate(found, 1):
            row.append(min(above[place - 1] + (wanted != got), above[place] + 1, row[-1] + 1))
        costs.append(row)
    return costs


def edit_distance(truth: Sequence[Any], found: Sequence[Any]) -> int:
    """How many substitutions, deletions and insertions lead from `truth` to `found`, at least.

    >>> edit_distance("KITTEN", "SITTING"), edit_distance(["GO"], [])
    (3, 1)
    """
    return count_errors(truth, found).errors


def word_errors_by_utterance(truths: Iterable[str], found: Iterable[str]) -> list[Errors]:
    """Errors by words of each utterance; words are parted by spaces."""
    return [count_errors(truth.split(), text.split()) for truth, text in zip(truths, found, strict=True)]


def word_errors(truths: Iterable[str], found: Iterable[str]) -> Errors:
    """Errors by words over all utterances.

    >>> word_errors(["GO TO FIVE", "YES"], ["GO FIVE", "YES"])
    Errors(substitutions=0, deletions=1, insertions=0, total=4)
    """
    return sum(word_errors_by_utterance(truths, found), NO_ERRORS)


def character_errors(truths: Iterable[str], found: Iterable[str]) -> Errors:
    """Errors by characters over all utterances, with one space between words.

    >>> character_errors(["GO"], ["NO  GO"])
    Errors(substitutions=0, deletions=0, insertions=3, total=2)
    """
    texts = zip(truths, found, strict=True)
    return sum(
        (count_errors(" ".join(truth.split()), " ".join(text.split())) for truth, text in texts), NO_ERRORS
    )
