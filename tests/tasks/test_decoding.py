"""Greedy decoding and error rates against their definitions, by brute force."""

from functools import cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nnaq.tasks.decoding import (
    Errors,
    best_path,
    character_errors,
    collapse,
    count_errors,
    edit_distance,
    word_errors,
    word_errors_by_utterance,
)

words = st.lists(st.sampled_from("ABC"), max_size=6)
short = st.lists(st.sampled_from("ABC"), max_size=4)


def by_definition(truth, found):
    """The cheapest of all ways, by recursion on first letters."""

    @cache
    def cheapest(i, j):
        if i == len(truth) or j == len(found):
            return len(truth) - i + len(found) - j
        kept = cheapest(i + 1, j + 1) + (truth[i] != found[j])
        return min(kept, cheapest(i + 1, j) + 1, cheapest(i, j + 1) + 1)

    return cheapest(0, 0)


def ways_of(truth, found):
    """(substitutions, deletions, insertions) of every alignment."""
    if not truth or not found:
        return {(0, len(truth), len(found))}
    kept = {(s + (truth[0] != found[0]), d, i) for s, d, i in ways_of(truth[1:], found[1:])}
    left = {(s, d + 1, i) for s, d, i in ways_of(truth[1:], found)}
    return kept | left | {(s, d, i + 1) for s, d, i in ways_of(truth, found[1:])}


@given(words, words)
def test_the_edit_distance_is_the_cheapest_way(truth, found):
    assert edit_distance(truth, found) == by_definition(tuple(truth), tuple(found))


@given(short, short)
def test_the_kinds_of_errors_are_those_of_a_cheapest_alignment(truth, found):
    errors = count_errors(truth, found)
    kinds = errors.substitutions, errors.deletions, errors.insertions
    ways = ways_of(tuple(truth), tuple(found))
    assert kinds in ways
    assert sum(kinds) == min(map(sum, ways)) == errors.errors
    assert errors.total == len(truth)


def test_of_equal_alignments_the_one_read_off_from_the_end_counts():
    assert count_errors("AB", "BA") == Errors(0, 1, 1, 2)
    assert count_errors("AB", "CD") == Errors(2, 0, 0, 2)
    assert count_errors("ABA", "BAA") == Errors(0, 1, 1, 3)  # the equal ends stand for each other first
    assert count_errors("", "AB") == Errors(0, 0, 2, 0)
    assert count_errors("AB", "") == Errors(0, 2, 0, 2)


@given(words, words, words)
def test_the_edit_distance_is_a_distance(a, b, c):
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2)), max_size=6),
    st.integers(0, 2),
)
def test_a_path_of_held_units_parted_by_blanks_stands_for_them(held, start):
    """Each unit is held for some steps; blanks follow, at least one before the same unit again."""
    path, wanted = [0] * start, []
    for unit, steps, blanks in held:
        if wanted and wanted[-1] == unit and path[-1] == unit:
            path.append(0)
        path += [unit] * steps + [0] * blanks
        wanted.append(unit)
    assert collapse(path) == wanted


def test_another_number_may_be_the_blank():
    assert collapse([2, 0, 0, 2, 1, 1, 0], blank=2) == [0, 1, 0]
    assert collapse([]) == []


def test_the_best_path_takes_the_best_unit_of_every_step():
    scores = np.array([[3, 1, 2], [0, 5, 1], [0, 5, 5], [9, 1, 1], [0, 1, 2]])
    assert best_path(scores) == [1, 2]
    assert best_path(scores, blank=1) == [0, 0, 2]
    assert best_path(np.zeros((0, 3))) == []


def test_rates_are_divided_once_over_all_utterances():
    texts = ["ONE TWO  THREE", "FOUR", ""], ["ONE THREE", "FIVE FOUR", "SIX"]
    errors = word_errors(*texts)
    assert errors == Errors(0, 1, 2, 4)
    assert errors.rate == 0.75
    assert word_errors_by_utterance(*texts) == [Errors(0, 1, 0, 3), Errors(0, 0, 1, 1), Errors(0, 0, 1, 0)]
    assert character_errors(["A  B", "CD"], ["A B", "C"]) == Errors(0, 1, 0, 5)


def test_a_rate_without_truth():
    assert Errors(0, 0, 0, 0).rate == 0
    assert Errors(0, 0, 2, 0).rate == float("inf")
