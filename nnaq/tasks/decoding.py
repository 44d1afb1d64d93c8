"""From a recogniser's outputs to words, and how many of them are wrong.

Greedy decoding of connectionist temporal classification (CTC): the best unit of every step, repeats
counted once, blanks left out.

An error rate is errors over the length of the truth; errors are the fewest substitutions, deletions
and insertions that turn the truth into what was found. All counts are integers: rates are divided
at the very end, over all utterances together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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


def edit_distance(truth: Sequence[Any], found: Sequence[Any]) -> int:
    """The fewest substitutions, deletions and insertions from `truth` to `found`.

    >>> edit_distance("KITTEN", "SITTING"), edit_distance(["GO"], [])
    (3, 1)
    """
    row = list(range(len(found) + 1))
    for number, wanted in enumerate(truth, 1):
        diagonal, row[0] = row[0], number
        for place, got in enumerate(found, 1):
            diagonal, row[place] = (
                row[place],
                min(diagonal + (wanted != got), row[place] + 1, row[place - 1] + 1),
            )
    return row[-1]


@dataclass(frozen=True)
class Errors:
    """Errors among so many units of truth; several are added up."""

    errors: int
    total: int

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(self.errors + other.errors, self.total + other.total)

    @property
    def rate(self) -> float:
        """Errors per unit; may exceed 1. Without a truth it is 0 where nothing was found, else infinite."""
        if not self.total:
            return float("inf") if self.errors else 0.0
        return self.errors / self.total


def word_errors(truths: Iterable[str], found: Iterable[str]) -> Errors:
    """Errors by words over all utterances; words are parted by spaces.

    >>> word_errors(["GO TO FIVE", "YES"], ["GO FIVE", "YES"])
    Errors(errors=1, total=4)
    """
    return _errors((truth.split(), text.split()) for truth, text in zip(truths, found, strict=True))


def character_errors(truths: Iterable[str], found: Iterable[str]) -> Errors:
    """Errors by characters over all utterances, with one space between words.

    >>> character_errors(["GO"], ["NO  GO"])
    Errors(errors=3, total=2)
    """
    return _errors(
        (" ".join(truth.split()), " ".join(text.split())) for truth, text in zip(truths, found, strict=True)
    )


def _errors(pairs: Iterable[tuple[Sequence[Any], Sequence[Any]]]) -> Errors:
    return sum((Errors(edit_distance(truth, text), len(truth)) for truth, text in pairs), Errors(0, 0))
