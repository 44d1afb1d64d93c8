"""Spoken orders on a made folder: sure ones are read, unsure ones are left out, mistakes are told."""

import os
from pathlib import Path

import pytest

from nnaq.errors import DataError
from nnaq.tasks.an4 import Spoken
from nnaq.tasks.s2i import read_orders

COLUMNS = "path seconds edit_distance words text intent slots".split()


def write_orders(folder, rows, columns=COLUMNS):
    lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in rows)]
    (folder / "train.tsv").write_text("\n".join(lines) + "\n")


def order(folder, path, distance, words, text="give me a latte", seconds="1.5"):
    (folder / path).write_bytes(b"")
    return path, seconds, distance, words, text, "orderBeverage", "{}"


def test_sure_orders_are_read_in_their_order(tmp_path):
    rows = [
        order(tmp_path, "b.flac", 0, 4, "Give me a latte"),
        order(tmp_path, "a.flac", 1, 4, "a large mocha please", 2.25),
        order(tmp_path, "c.flac", 2, 4),
    ]
    write_orders(tmp_path, rows)
    assert read_orders(tmp_path, "train.tsv") == (
        Spoken(tmp_path / "b.flac", "b.flac", 1.5, "GIVE ME A LATTE"),
        Spoken(tmp_path / "a.flac", "a.flac", 2.25, "A LARGE MOCHA PLEASE"),
    )


@pytest.mark.parametrize(
    ("distance", "words", "sure"), [(0, 1, True), (1, 4, True), (2, 7, False), (3, 12, True)]
)
def test_a_quarter_of_the_words_may_be_unsure(tmp_path, distance, words, sure):
    write_orders(tmp_path, [order(tmp_path, "a.flac", distance, words)])
    assert len(read_orders(tmp_path, "train.tsv")) == sure


def test_an_absent_table_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(DataError, match=r"there is no .*test.tsv; make a folder of speech-to-intent"):
        read_orders(tmp_path, "test.tsv")


@pytest.mark.parametrize("absent", ["path", "seconds", "edit_distance", "words", "text"])
def test_a_table_without_a_column_is_refused(tmp_path, absent):
    columns = [column for column in COLUMNS if column != absent]
    write_orders(tmp_path, [["x"] * len(columns)], columns)
    with pytest.raises(
        DataError, match="expected rows with columns path, seconds, edit_distance, words, text"
    ):
        read_orders(tmp_path, "train.tsv")


def test_missing_words_and_missing_sound_are_refused(tmp_path):
    write_orders(tmp_path, [order(tmp_path, "a.flac", 0, 4), order(tmp_path, "b.flac", 0, 4, " ")])
    with pytest.raises(DataError, match=r"line 3: path, text or another column is missing"):
        read_orders(tmp_path, "train.tsv")
    write_orders(tmp_path, [order(tmp_path, "a.flac", 0, 4)])
    (tmp_path / "a.flac").unlink()
    with pytest.raises(DataError, match=r"line 2: there is no file .*a.flac; copy the sound there too"):
        read_orders(tmp_path, "train.tsv")


@pytest.mark.parametrize("column", ["seconds", "edit_distance", "words"])
def test_what_is_no_number_is_refused(tmp_path, column):
    row = list(order(tmp_path, "a.flac", 0, 4))
    row[COLUMNS.index(column)] = "many"
    write_orders(tmp_path, [row])
    with pytest.raises(DataError, match="found 'many' in a table, expected a number"):
        read_orders(tmp_path, "train.tsv")


@pytest.mark.skipif("NNAQ_DATA" not in os.environ, reason="set NNAQ_DATA to a folder that holds s2i/")
def test_the_real_tables_are_read_whole():
    folder = Path(os.environ["NNAQ_DATA"]) / "s2i"
    train, test = (read_orders(folder, name) for name in ("train.tsv", "test.tsv"))
    assert 300 < len(train) < 417 and 60 < len(test) < 84
    assert not {row.path for row in train} & {row.path for row in test}
