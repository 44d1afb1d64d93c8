"""Dialogues read from files: words, slots that move with them, and mistakes told in a sentence."""

import json

import pytest
from small_dialogues import dialogue, turn, write_dialogues

from nnaq.errors import DataError
from nnaq.tasks.simulated_dialogues import Slot, read_dialogue_sets, read_dialogues


def written(tmp_path, content):
    path = tmp_path / "train.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_turns_have_words_slots_acts_and_intent(tmp_path):
    sets = read_dialogue_sets(write_dialogues(tmp_path))
    assert [len(part) for part in (sets.train, sets.development, sets.test)] == [9, 2, 3]
    first, second, third = sets.train[0]
    assert first.words == ("tickets", "for", "monday") and first.slots == (Slot("date", 2, 3),)
    assert (first.act, first.intent, first.system_acts) == ("none", "BUY", ())
    assert second.system_acts == (("REQUEST", "num_tickets"),) and second.prompt == ("which", "num_tickets")
    assert (third.act, third.intent) == ("AFFIRM+INFORM", "none")


def test_slots_move_with_words_and_vanish_with_them(tmp_path):
    said = turn('see " Deepwater - horizon " !', [("movie", 1, 6), ("date", 6, 7)])
    ((found,),) = read_dialogues(written(tmp_path, [{"turns": [said]}]))
    assert found.words == ("see", "deepwater", "horizon") and found.slots == (Slot("movie", 1, 3),)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is no JSON"),
        ({}, "expected a list of dialogues"),
        ([], "expected a list of dialogues"),
        ([{"turns": []}], "dialogue 0: expected a table with a list `turns`"),
        (["x"], "dialogue 0: expected a table with a list `turns`"),
        ([{"turns": [{}]}], "dialogue 0, turn 0 is not as"),
        ([{"turns": ["x"]}], "dialogue 0, turn 0 is not as"),
        ([{"turns": [turn("a b", [("date", 1, 3)])]}], "does not lie within the 2 tokens"),
        ([{"turns": [turn("a b", [("date", 1, 1)])]}], "does not lie within the 2 tokens"),
    ],
)
def test_mistakes_are_told(tmp_path, content, told):
    with pytest.raises(DataError, match=told):
        read_dialogues(written(tmp_path, content))


def test_a_folder_without_a_set_is_refused(tmp_path):
    written(tmp_path, [dialogue("monday", "6")])
    with pytest.raises(DataError, match=r"there is no .*dev.json; a folder of dialogues holds train.json"):
        read_dialogue_sets(tmp_path)
