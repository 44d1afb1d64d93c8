"""Units: what a recogniser may say at a step, numbered from 1; 0 is the blank.

words         whole words: always spelled right, and nothing that the training texts do not hold
characters    letters and the space
pieces        parts of words, found by sentencepiece (unigram) in the training texts; "▁" begins a word
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from nnaq.errors import DataError

BLANK = 0
SPACE = "▁"
Kind = Literal["words", "characters", "pieces"]
KINDS: tuple[Kind, ...] = ("words", "characters", "pieces")


@dataclass(frozen=True)
class Units:
    """The symbols of a recogniser; symbols[n] has number n + 1. scores: of pieces, by which a text is cut."""

    kind: Kind
    symbols: tuple[str, ...]
    scores: tuple[float, ...] = ()

    @classmethod
    def of(cls, kind: Kind, texts: Iterable[str], count: int = 0) -> "Units":
        """The units of these texts. count: how many pieces; not used for words and characters."""
        if kind not in KINDS:
            raise DataError(f"units are {', '.join(KINDS)}, found {kind!r}")
        if kind == "pieces":
            return cls(kind, *_pieces(list(texts), count))
        parted = (text.split() if kind == "words" else text for text in texts)
        return cls(kind, tuple(sorted({symbol for symbols in parted for symbol in symbols})))

    def __len__(self) -> int:
        return 1 + len(self.symbols)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {symbol: n for n, symbol in enumerate(self.symbols, 1)}

    def encode(self, text: str) -> list[int]:
        """The numbers of a text; units that are not known are left out."""
        if self.kind == "pieces":
            return [n for word in text.split() for n in self._cut(SPACE + word)]
        parted = text.split() if self.kind == "words" else text
        return [self._number[s] for s in parted if s in self._number]

    def decode(self, numbers: Iterable[int]) -> str:
        symbols = [self.symbols[n - 1] for n in numbers]
        if self.kind == "pieces":
            return "".join(symbols).replace(SPACE, " ").strip()
        return (" " if self.kind == "words" else "").join(symbols)

    def _cut(self, word: str) -> list[int]:
        """The pieces of a word whose scores sum highest; a letter that no piece has is left out (Viterbi)."""
        best: list[tuple[float, list[int]]] = [(0.0, [])]
        for end in range(1, len(word) + 1):
            ways = [(best[end - 1][0] - 1e3, best[end - 1][1])]
            for start in range(end):
                number = self._number.get(word[start:end])
                if number is not None:
                    score, before = best[start]
                    ways.append((score + self.scores[number - 1], [*before, number]))
            best.append(max(ways, key=lambda way: way[0]))
        return best[-1][1]


def _pieces(texts: Sequence[str], count: int) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """`count` pieces of these texts and their log-probabilities. Raises DataError: why there are none."""
    try:
        import sentencepiece
    except ModuleNotFoundError:
        raise DataError(
            "units of pieces need sentencepiece; install with `pip install 'nnaq[train]'`"
        ) from None
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=model, vocab_size=count + 1, model_type="unigram",
            character_coverage=1.0, bos_id=-1, eos_id=-1, unk_id=0, minloglevel=2, num_threads=1,
            normalization_rule_name="identity",
        )  # fmt: skip
    except RuntimeError as error:
        raise DataError(f"{count} pieces of {len(texts)} texts cannot be found: {error}") from None
    read = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    numbers = range(1, read.get_piece_size())
    return tuple(map(read.id_to_piece, numbers)), tuple(round(read.get_score(n), 4) for n in numbers)
