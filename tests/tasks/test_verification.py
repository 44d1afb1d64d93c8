"""The equal error rate against its definition, and the reading of utterance tables."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnaq.errors import DataError
from nnaq.tasks.verification import all_trials, equal_error_rate, read_utterances

trials = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=24).filter(
    lambda found: len({same for _, same in found}) == 2
)


def by_definition(found):
    """Where the polyline through (false accepts, false rejects) meets the diagonal, in fractions."""
    targets = [score for score, same in found if same]
    others = [score for score, same in found if not same]
    thresholds = [max(targets + others) + 1, *sorted({score for score, _ in found}, reverse=True)]
    points = [
        (
            Fraction(sum(s >= t for s in others), len(others)),
            Fraction(sum(s < t for s in targets), len(targets)),
        )
        for t in thresholds
    ]
    for (a0, r0), (a1, r1) in pairwise(points):
        if a1 >= r1:
            return a0 + (r0 - a0) / ((r0 - a0) - (r1 - a1)) * (a1 - a0)
    raise AssertionError("the last threshold accepts everything")


@given(trials)
def test_the_rate_is_where_both_errors_meet(found):
    scores, same = (np.array(column) for column in zip(*found, strict=True))
    assert abs(equal_error_rate(scores, same) - float(by_definition(found))) <= 1e-12


@given(trials)
def test_only_the_order_of_scores_counts(found):
    scores, same = (np.array(column) for column in zip(*found, strict=True))
    assert equal_error_rate(scores, same) == equal_error_rate(np.exp(scores / 2.0) * 7 - 3, same)


def test_the_rate_at_the_ends():
    same = np.array([True, True, False, False])
    assert equal_error_rate(np.array([4, 3, 2, 1]), same) == 0
    assert equal_error_rate(np.array([1, 2, 3, 4]), same) == 1
    assert equal_error_rate(np.zeros(4), same) == 0.5


def test_between_two_thresholds_the_rate_is_interpolated():
    # Points (0, 1), (0, 1/3), (1/2, 1/3), (1/2, 0), (1, 0): the diagonal is met at 1/3, between two of them.
    scores, same = np.array([6, 5, 4, 3, 2]), np.array([True, True, False, True, False])
    assert equal_error_rate(scores, same) == pytest.approx(1 / 3, abs=1e-15)


@pytest.mark.parametrize(
    ("scores", "same"),
    [([1.0, 2.0], [True, True]), ([1.0, 2.0], [False, False]), ([1.0, np.nan], [True, False]), ([1.0], [])],
)
def test_trials_without_both_kinds_are_refused(scores, same):
    with pytest.raises(DataError):
        equal_error_rate(np.array(scores), np.array(same, bool))


def test_every_pair_is_tried_once_by_its_cosine():
    scores, same = all_trials(np.array([[2.0, 0.0], [0.0, 5.0], [1.0, 1.0]]), ["ann", "bob", "ann"])
    np.testing.assert_allclose(scores, [0, 0.5**0.5, 0.5**0.5], rtol=1e-15)
    assert same.tolist() == [False, True, False]


@pytest.mark.parametrize("embeddings", [np.array([[1.0, 0.0], [0.0, 0.0]]), np.ones((3, 2))])
def test_embeddings_without_direction_or_speaker_are_refused(embeddings):
    with pytest.raises(DataError):
        all_trials(embeddings, ["ann", "bob"])


def test_tables_are_read_in_order(tmp_path):
    (tmp_path / "a.tsv").write_text("path\tspeaker\tseconds\ttext\nx/1.flac\tann\t1.50\tYES\n")
    (tmp_path / "b.tsv").write_text("seconds\tpath\tspeaker\n2.0\ty/2.flac\tbob\n")
    first, second = read_utterances(tmp_path, ["a.tsv", "b.tsv"])
    assert (first.name, first.path, first.speaker, first.seconds) == (
        "x/1.flac",
        tmp_path / "x/1.flac",
        "ann",
        1.5,
    )
    assert second.speaker == "bob"


@pytest.mark.parametrize(
    "text", ["", "path\tspeaker\n1.flac\tann\n", "path\tspeaker\tseconds\n1.flac\tann\tlong\n"]
)
def test_a_table_without_its_columns_is_refused(tmp_path, text):
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(DataError, match=r"a\.tsv"):
        read_utterances(tmp_path, ["a.tsv"])


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"b\.tsv"):
        read_utterances(tmp_path, ["b.tsv"])
