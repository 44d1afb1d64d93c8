"""Pronouncing dictionaries: variants, stress, remarks, and what is no dictionary."""

import pytest

from nnaq.errors import DataError
from nnaq.tasks.pronunciations import find_dictionary, read_dictionary


def test_of_several_ways_to_say_a_word_the_last_counts_without_its_stress(tmp_path):
    path = tmp_path / "words.dic"
    path.write_text(";;; a remark\nA AH\nA(2) EY1\n\nbee  B IY1\n")
    known = read_dictionary(path)
    assert known.words == {"A": ("EY",), "BEE": ("B", "IY")}
    assert known.phones == ("B", "EY", "IY")
    assert known.encode("BEE A") == [1, 3, 2]
    assert known.encode("BEE C") == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [("A\n", "line 1: found 'A', expected a word and its phones"), ("\n", "holds no words")],
)
def test_what_is_no_dictionary(tmp_path, text, fault):
    (tmp_path / "words.dic").write_text(text)
    with pytest.raises(DataError, match=fault):
        read_dictionary(tmp_path / "words.dic")


def test_the_one_dictionary_of_a_folder_or_of_its_sets(tmp_path):
    (tmp_path / "an4").mkdir()
    inner = tmp_path / "an4" / "an4.dic"
    inner.write_text("A AH\n")
    assert find_dictionary(tmp_path) == inner
    (tmp_path / "other.dic").write_text("A AH\n")
    with pytest.raises(DataError, match="holds 2 files"):
        find_dictionary(tmp_path)
