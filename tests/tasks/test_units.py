"""Units of a recogniser: words, characters, and pieces as sentencepiece cuts them."""

import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnaq.errors import DataError
from nnaq.tasks.an4 import read_table
from nnaq.tasks.units import BLANK, Units

WORDS = (
    "ENTER ERASE RUBOUT REPEAT GO STOP YES NO HELP START ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE TEN "
    "ELEVEN TWELVE THIRTEEN FOURTEEN FIFTEEN SIXTEEN TWENTY THIRTY FORTY FIFTY JANUARY MARCH APRIL "
    "JUNE JULY AUGUST A B C D E F G H I J K L M N O P Q R S T U V W X Y Z"
).split()


def texts(count, seed=0, words=WORDS):
    """Texts like AN4's: letters, numbers, commands."""
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(words, generator.integers(1, 7))) for _ in range(count)]


# --- words and characters


@pytest.mark.parametrize(
    ("kind", "symbols", "numbers"),
    [("words", ("GO", "ON", "STOP"), [3, 1]), ("characters", (" ", "G", "N", "O", "P", "S", "T"), None)],
)
def test_symbols_are_sorted_and_numbered_from_1(kind, symbols, numbers):
    units = Units.of(kind, ["GO ON", "STOP GO"])
    assert units.symbols == symbols and len(units) == 1 + len(symbols)
    assert numbers is None or units.encode("STOP GO") == numbers
    assert units.decode(units.encode("STOP GO")) == "STOP GO"
    assert BLANK not in units.encode("STOP GO ON")


def test_units_that_are_not_known_are_left_out():
    assert Units.of("words", ["GO ON"]).encode("GO AWAY ON") == [1, 2]
    assert Units.of("characters", ["ABC"]).encode("AxB C") == [1, 2, 3]


def test_another_kind_is_refused():
    with pytest.raises(DataError, match="units are words, characters, pieces, found 'phones'"):
        Units.of("phones", ["GO"])


# --- pieces


def trained(known, count):
    """Units of pieces of these texts, and the processor of the very model they were read from."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="pieces are found by sentencepiece")
    train, kept = sentencepiece.SentencePieceTrainer.train, []

    def keeping(**choices):
        kept.append(choices["model_writer"])
        return train(**choices)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentencepiece.SentencePieceTrainer, "train", keeping)
        units = Units.of("pieces", known, count)
    return units, sentencepiece.SentencePieceProcessor(model_proto=kept[0].getvalue())


@pytest.fixture(scope="module")
def pieces():
    return trained(texts(400), 60)


def test_as_many_pieces_as_asked(pieces):
    units, processor = pieces
    assert len(units) == 61 == processor.get_piece_size()
    assert list(units.symbols) == [processor.id_to_piece(number) for number in range(1, 61)]
    assert len(units.scores) == 60 and max(units.scores) <= 0
    assert any(len(symbol) > 3 for symbol in units.symbols), "single letters only would prove little"


def test_texts_are_cut_as_sentencepiece_cuts_them(pieces):
    units, processor = pieces
    for text in texts(400) + texts(400, seed=1):
        assert units.encode(text) == processor.encode(text), text
        assert units.decode(units.encode(text)) == text


def test_words_never_heard_are_cut_alike(pieces):
    units, processor = pieces
    unheard = "NOVEMBER SEVENTEEN NINETY STARTER FORTYFIVE THIRSTY MARCHING REPEATER STOPPING".split()
    for text in texts(100, seed=2, words=unheard):
        assert units.encode(text) == processor.encode(text), text


@given(st.text(alphabet="AENTRSO", min_size=1, max_size=12))
def test_no_cut_scores_higher(pieces, word):
    """Over any letters, where two cuts may score the same: the sum is sentencepiece's."""
    units, processor = pieces
    ours, theirs = (
        math.fsum(units.scores[number - 1] for number in encode(word))
        for encode in (units.encode, processor.encode)
    )
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert units.decode(units.encode(word)) == word


@pytest.mark.parametrize("text", ["GO4IT", "É", "YES é NO", "4", ""])
def test_letters_that_no_piece_has_are_left_out(pieces, text):
    units, processor = pieces
    unknown = processor.unk_id()
    known = [number for number in processor.encode(text) if number != unknown]
    begins = units.symbols.index("▁") + 1
    assert [number for number in units.encode(text) if number != begins] == [n for n in known if n != begins]
    assert "4" not in units.decode(units.encode(text))


def test_the_same_texts_give_the_same_pieces(pieces):
    assert Units.of("pieces", texts(400), 60) == pieces[0]


def test_more_pieces_than_the_texts_hold_are_refused():
    pytest.importorskip("sentencepiece")
    with pytest.raises(DataError, match="5000 pieces of 3 texts cannot be found: "):
        Units.of("pieces", ["GO ON", "STOP", "YES"], 5000)


def test_without_sentencepiece_pieces_are_refused_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(DataError, match="units of pieces need sentencepiece; install with"):
        Units.of("pieces", ["GO"], 5)


@pytest.mark.skipif("NNAQ_DATA" not in os.environ, reason="set NNAQ_DATA to a folder that holds an4/")
@pytest.mark.parametrize("count", [40, 60, 100])
def test_real_texts_are_cut_as_sentencepiece_cuts_them(count):
    folder = Path(os.environ["NNAQ_DATA"]) / "an4"
    train, test = ([row.text for row in read_table(folder, name)] for name in ("train.tsv", "test.tsv"))
    units, processor = trained(train, count)
    assert all(units.encode(text) == processor.encode(text) for text in (*train, *test))
