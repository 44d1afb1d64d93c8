"""Intervals of error rates: against all resamples there are, normal theory, and what they promise."""

from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from nnaq.errors import DataError
from nnaq.tasks.decoding import Errors
from nnaq.tasks.intervals import Difference, Scores, difference, draws, interval, mcnemar, rate_interval


def scores(errors, total):
    return Scores(np.atleast_2d(np.array(errors, np.int64)), np.array(total, np.int64))


def drawn(chance, utterances, rate, seeds=1, words=8):
    total = np.full(utterances, words)
    return Scores(chance.binomial(words, rate, (seeds, utterances)), total)


BEFORE = scores([[1, 0, 2], [0, 1, 3]], [2, 3, 5])
AFTER = scores([[2, 0, 2], [1, 1, 0]], [2, 3, 5])


def all_differences(before, after):
    """D* of every draw of utterances and seeds, all of them equally likely."""
    seeds, utterances = before.errors.shape
    gap = after.errors - before.errors
    return [
        sum(gap[s, u] for s in some for u in others) / (seeds * sum(before.total[u] for u in others))
        for some in product(range(seeds), repeat=seeds)
        for others in product(range(utterances), repeat=utterances)
    ]


def test_a_difference_has_the_spread_of_all_resamples():
    every = np.array(all_differences(BEFORE, AFTER))
    found = difference(BEFORE, AFTER, resamples=40_000)
    assert found.value == pytest.approx((6 - 7) / 20)
    spread = found.detectable / (NormalDist().inv_cdf(0.95) + NormalDist().inv_cdf(0.8))
    assert spread == pytest.approx(every.std(), rel=0.02)
    for bound, share in ((found.low, 0.025), (found.lower, 0.05), (found.upper, 0.95), (found.high, 0.975)):
        assert (every < bound - 1e-9).mean() - 0.01 <= share <= (every <= bound + 1e-9).mean() + 0.01


def test_pairs_take_away_what_is_hard_for_both():
    """Utterances between 0 and 8 errors; the second system makes one more on every other one."""
    chance = np.random.default_rng(3)
    total = np.full(200, 8)
    base = chance.integers(0, 8, (1, 200))
    before, after = Scores(base, total), Scores(base + np.arange(200) % 2, total)
    found, alone = difference(before, after), rate_interval(before)
    assert found.value == pytest.approx(1 / 16)
    assert found.high - found.low < 0.25 * (alone.high - alone.low)


def test_an_interval_is_that_of_normal_theory_where_there_are_many_utterances():
    """A ratio of sums has the variance U var(errors - R total) / total², by its first derivative."""
    chance = np.random.default_rng(5)
    total = chance.integers(1, 15, 800)
    made = Scores(chance.binomial(total, 0.2)[None], total)
    deviation = (made.errors[0] - made.rate * total).std() * np.sqrt(800) / total.sum()
    found = rate_interval(made)
    assert found.value == made.rate
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * deviation, rel=0.03)
    assert (found.high + found.low) / 2 == pytest.approx(made.rate, abs=0.1 * deviation)


def test_an_interval_holds_the_truth_as_often_as_it_says():
    chance = np.random.default_rng(7)
    rates = [rate_interval(drawn(chance, 80, 0.2), resamples=300) for _ in range(200)]
    assert 0.92 <= np.mean([found.low <= 0.2 <= found.high for found in rates]) <= 0.98


def test_a_true_difference_as_large_as_the_detectable_one_is_found_in_four_of_five_trials():
    chance = np.random.default_rng(11)
    true = np.mean([difference(*pair(chance, 0.0), resamples=500).detectable for _ in range(20)])
    verdicts = [difference(*pair(chance, true), resamples=300).verdict(0.0) for _ in range(200)]
    assert 0.72 <= np.mean([verdict == "refuted" for verdict in verdicts]) <= 0.88
    equal = [difference(*pair(chance, 0.0), resamples=300).verdict(0.0) for _ in range(200)]
    for wrong in ("refuted", "confirmed"):  # of two equal systems the claim "at most 0" stands on the edge
        assert 0.01 <= np.mean([verdict == wrong for verdict in equal]) <= 0.09


def pair(chance, more):
    return drawn(chance, 100, 0.2), drawn(chance, 100, 0.2 + more)


def test_seeds_that_differ_widen_the_interval():
    chance = np.random.default_rng(13)
    one = drawn(chance, 300, 0.2)
    alike = Scores(np.repeat(one.errors, 3, axis=0), one.total)
    apart = Scores(np.concatenate([drawn(chance, 300, rate).errors for rate in (0.1, 0.2, 0.3)]), one.total)
    plain, same, wide = (rate_interval(made) for made in (one, alike, apart))
    assert plain.value == same.value
    assert same.high - same.low == pytest.approx(plain.high - plain.low, rel=0.05)
    assert wide.high - wide.low > 2 * (plain.high - plain.low)


def test_utterances_of_a_group_are_drawn_together():
    made = scores([[1, 0, 2, 4], [0, 1, 3, 0]], [2, 3, 5, 4])
    joined = made.by_group(["b", "a", "b", "a"])
    assert joined.errors.tolist() == [[4, 3], [1, 3]]
    assert joined.total.tolist() == [7, 7]
    assert joined.rate == made.rate


def test_scores_are_made_of_the_errors_of_utterances():
    first, second = [Errors(1, 0, 1, 3), Errors(0, 0, 0, 2)], [Errors(0, 0, 0, 3), Errors(0, 1, 0, 2)]
    made = Scores.of(first, second)
    assert made.errors.tolist() == [[2, 0], [0, 1]]
    assert made.total.tolist() == [3, 2]
    assert made.rate == 3 / 10


def test_a_relative_difference_is_one_of_the_first_rate():
    before, after = scores([4, 8, 4, 8], [10] * 4), scores([3, 6, 3, 6], [10] * 4)
    found = difference(before, after, relative=True)
    assert [found.value, found.low, found.high, found.upper] == pytest.approx([-0.25] * 4)
    assert found.detectable == pytest.approx(0, abs=1e-12)
    assert found.verdict(-0.2) == "confirmed" and found.verdict(-0.3) == "refuted"


def test_systems_with_the_same_errors_do_not_differ():
    assert difference(BEFORE, BEFORE) == Difference(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_the_verdict_is_by_the_one_sided_bounds():
    found = Difference(0.0, low=-0.3, high=0.3, lower=-0.2, upper=0.2, detectable=0.25)
    assert [found.verdict(most) for most in (-0.25, -0.2, 0.0, 0.19, 0.2, 0.25)] == [
        "refuted", "undecidable", "undecidable", "undecidable", "confirmed", "confirmed",
    ]  # fmt: skip


def test_a_seed_repeats_its_figures():
    assert difference(BEFORE, AFTER) == difference(BEFORE, AFTER)
    assert rate_interval(BEFORE, resamples=700, seed=1) == rate_interval(BEFORE, resamples=700, seed=1)


def test_as_many_are_drawn_as_there_are():
    counts = draws(np.random.default_rng(0), 5, 2000)
    assert counts.shape == (2000, 5)
    assert (counts.sum(axis=1) == 5).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(5), abs=0.08)


def test_an_interval_leaves_out_a_fortieth_on_either_side():
    assert interval(np.arange(1001) / 1000) == pytest.approx((0.025, 0.975))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_mcnemar_is_the_binomial_test_of_what_differs(pairs):
    before, after = (np.array([one[which] for one in pairs], bool) for which in (0, 1))
    only, other = int((before & ~after).sum()), int((~before & after).sum())
    wanted = binomtest(only, only + other).pvalue if only + other else 1.0
    assert mcnemar(before, after) == pytest.approx(wanted, rel=1e-12)
    assert mcnemar(after, before) == mcnemar(before, after)


def test_mcnemar_of_thousands_of_utterances():
    before = np.arange(1500) < 750
    assert mcnemar(before, ~before) == 1.0
    assert mcnemar(np.ones(1500, bool), np.zeros(1500, bool)) == 0.0  # 2^-1499 is below the smallest float


REFUSED = {
    "errors [seeds, utterances]": lambda: scores([[1, 2]], [3]),
    "none of them 0": lambda: scores(np.zeros((1, 0)), []),
    "none of the utterances has a truth": lambda: scores([[1, 2]], [0, 0]),
    "found 2 lists": lambda: Scores.of([Errors(0, 0, 0, 1)], [Errors(0, 0, 0, 2)]),
    "found 0 lists": lambda: Scores.of(),
    "found 1 groups for 3 utterances": lambda: BEFORE.by_group(["a"]),
    "the same utterances": lambda: difference(BEFORE, scores(AFTER.errors, [2, 3, 6])),
    "as many seeds": lambda: difference(BEFORE, scores(AFTER.errors[:1], AFTER.total)),
    "too few errors": lambda: difference(scores([[0, 1]], [3, 3]), scores([[0, 1]], [3, 3]), relative=True),
    "a resample holds none": lambda: rate_interval(scores([[1, 0]], [3, 0])),
    "McNemar's test needs pairs": lambda: mcnemar(np.ones(2, bool), np.ones(3, bool)),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_judged_is_refused(said):
    with pytest.raises(DataError) as caught:
        REFUSED[said]()
    assert said in str(caught.value)
