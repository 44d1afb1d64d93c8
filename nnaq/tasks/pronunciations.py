"""Pronunciations: which phones a word is made of, read from a dictionary in CMU's form.

    ELEVEN               IH L EH V AH N
    ELEVEN(2)            IY L EH V AH N

A line holds a word and its phones; (2), (3), … mark further ways to say it, digits at phones their stress,
which is dropped; lines that begin with ;;; are remarks. Of several pronunciations the last counts: careful
forms stand behind reduced ones (the letter A is EY, behind the article's AH).

Phones are what words share, so a recogniser that learns them beside its words needs fewer of each.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nnaq.errors import DataError

_VARIANT = re.compile(r"\(\d+\)$")


@dataclass(frozen=True)
class Pronunciations:
    """The phones of each word."""

    words: Mapping[str, tuple[str, ...]]

    @cached_property
    def phones(self) -> tuple[str, ...]:
        """All phones, sorted; phones[n] has number n + 1, as 0 is the blank of CTC."""
        return tuple(sorted({phone for said in self.words.values() for phone in said}))

    @cached_property
    def _number(self) -> Mapping[str, int]:
        return {phone: n for n, phone in enumerate(self.phones, 1)}

    def encode(self, text: str) -> list[int]:
        """The numbers of a text's phones; none where a word of it is not in the dictionary."""
        words = text.split()
        if not all(word in self.words for word in words):
            return []
        return [self._number[phone] for word in words for phone in self.words[word]]


def read_dictionary(path: Path) -> Pronunciations:
    """The pronunciations in a file. Raises DataError: which line has no phones, or that there are none."""
    words: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith(";;;"):
            continue
        word, *phones = line.split()
        if not phones:
            raise DataError(f"{path}, line {number}: found {line.strip()!r}, expected a word and its phones")
        words[_VARIANT.sub("", word).upper()] = tuple(phone.rstrip("0123456789") for phone in phones)
    if not words:
        raise DataError(f"{path} holds no words; expected a word and its phones in a line")
    return Pronunciations(words)


def find_dictionary(folder: Path) -> Path:
    """The one file *.dic in a folder of speech, or in one of the sets below it. Raises DataError."""
    found = sorted([*folder.glob("*.dic"), *folder.glob("*/*.dic")])
    if len(found) != 1:
        raise DataError(
            f"folder {folder} holds {len(found)} files *.dic, expected one: a pronouncing dictionary in "
            "CMU's form (AN4 comes with an4.dic); train without one by phones = 0"
        )
    return found[0]
