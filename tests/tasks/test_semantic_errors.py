"""Semantic errors: counts by hand, bounds for any meanings, rates over utterances."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnaq.tasks.decoding import Errors
from nnaq.tasks.semantic_errors import Meaning, semantic_errors, semantic_figures, slot_errors

SLOTS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=5).map(tuple)
MEANINGS = st.builds(Meaning, SLOTS, st.sampled_from(["yes", "no"]))


@pytest.mark.parametrize(
    ("truth", "found", "wanted"),
    [
        ("", "", (0, 0, 0, 0)),
        ("ax", "ax", (0, 0, 0, 1)),
        ("ax", "ay", (1, 0, 0, 1)),
        ("ax", "bx", (0, 1, 1, 1)),
        ("ax ax", "ax", (0, 1, 0, 2)),
        ("ax ay", "ay az ax az", (0, 0, 2, 2)),
        ("ax ay", "az", (1, 1, 0, 2)),
        ("", "ax bx", (0, 0, 2, 0)),
    ],
)
def test_slots_of_one_name_are_held_against_each_other(truth, found, wanted):
    truth, found = (Meaning(tuple((s[0], s[1]) for s in text.split()), "act") for text in (truth, found))
    assert slot_errors(truth, found) == Errors(*wanted)


@given(MEANINGS, MEANINGS)
def test_counts_add_up(truth, found):
    errors, back = slot_errors(truth, found), slot_errors(found, truth)
    assert (errors.substitutions, errors.deletions, errors.insertions) == (
        back.substitutions, back.insertions, back.deletions
    )  # fmt: skip
    correct = errors.total - errors.substitutions - errors.deletions
    assert correct >= 0 and correct + errors.substitutions + errors.insertions == len(found.slots)
    assert semantic_errors(truth, found).errors == errors.errors + (truth.act != found.act)
    assert (errors.errors == 0) == (sorted(truth.slots) == sorted(found.slots))


def test_rates_are_over_all_utterances():
    truths = [Meaning((("a", "x"), ("b", "y")), "yes"), Meaning((), "no"), Meaning((), "no")]
    found = [Meaning((("a", "z"),), "yes"), Meaning((), "yes"), Meaning((), "no")]
    assert semantic_figures(truths, found) == {
        "semer": 3 / 5, "slot_error_rate": 2 / 2, "irer": 2 / 3, "act_accuracy": 2 / 3
    }  # fmt: skip
