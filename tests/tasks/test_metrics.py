"""Metrics against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnaq.errors import DataError, RecipeError
from nnaq.tasks.metrics import (
    Decision,
    Fidelity,
    Figure,
    Sqnr,
    agreement,
    auc,
    mean_absolute_error,
    parse_metric,
    sqnr_db,
)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30))
def test_auc_is_the_share_of_pairs_in_order(pairs):
    positive = [score for score, label in pairs if label]
    negative = [score for score, label in pairs if not label]
    found = auc(np.array([s for s, _ in pairs]), np.array([label for _, label in pairs]))
    if not positive or not negative:
        assert found is None
        return
    # Half points are exact in float64 at these sizes, and so is their sum.
    won = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    assert found == won / (len(positive) * len(negative))


def test_sqnr_of_a_tenth_of_the_amplitude_is_20_db():
    assert sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 4.5])) == Sqnr(20.0, exact=False)


def test_sqnr_has_no_number_without_error_or_signal():
    assert sqnr_db(np.ones(3), np.ones(3)) == Sqnr(None, exact=True)
    assert sqnr_db(np.zeros(3), np.ones(3)) == Sqnr(None, exact=False)
    assert sqnr_db(np.zeros(3), np.zeros(3)) == Sqnr(None, exact=True)


def test_sqnr_sums_in_float64():
    real = np.full(4, 1e30, np.float32)
    assert sqnr_db(real, real * 0).db == 0.0


def test_agreement_and_error():
    real, found = np.array([0.1, 0.6, 0.5, 0.9]), np.array([0.2, 0.4, 0.5, 0.8])
    assert agreement(real, found, 0.5) == 0.75
    assert mean_absolute_error(np.array([1, 2], np.int8), np.array([3, -2], np.int8)) == 3.0


def test_metrics_are_parsed():
    assert parse_metric(None) == Fidelity()
    assert parse_metric("fidelity") == Fidelity()
    assert parse_metric("decision:speech_probs>0.5") == Decision("speech_probs", 0.5)
    assert parse_metric("decision: a>b >-.25") == Decision("a>b", -0.25)
    for text in ("decision:p", "decision:p<0.5", "decision:>0.5", "wer", "decision:p>half"):
        with pytest.raises(RecipeError, match="expected 'fidelity' or 'decision:OUTPUT>THRESHOLD'"):
            parse_metric(text)


def test_a_decision_is_judged_by_frame_and_unsure_frames_apart():
    real = np.array([0.125, 0.25, 0.75, 1.0])
    found = np.array([0.125, 0.75, 0.5, 1.0])
    labels = np.array([False, False, True, True])
    figures = Decision("p", 0.5).evaluate({"p": real, "q": real}, {"p": found}, labels)
    assert figures == {
        "agreement": Figure(None, 0.5, "1"),
        "mean_absolute_error": Figure(None, 0.1875, "1"),
        "auc_against_float": Figure(None, 0.75, "1"),
        "positive": Figure(0.5, 0.5, "1"),
        "frames": Figure(4, 4, "frames"),
        "unsure_frames": Figure(2, 2, "frames"),
        "unsure_agreement": Figure(None, 0.0, "1"),
        "unsure_mean_absolute_error": Figure(None, 0.375, "1"),
        "auc": Figure(1.0, 0.75, "1"),
    }


def test_figures_without_a_meaning_are_none():
    sure = {"p": np.array([0.0, 0.1])}
    figures = Decision("p", 0.5).evaluate(sure, sure)
    assert "auc" not in figures
    assert figures["auc_against_float"].integer is None
    assert figures["unsure_frames"] == Figure(0, 0, "frames")
    assert figures["unsure_agreement"].integer is None


def test_what_does_not_fit_is_refused():
    metric, one = Decision("p", 0.5), {"p": np.zeros(1)}
    with pytest.raises(DataError, match="no output 'p', only q"):
        metric.evaluate({"q": np.zeros(1)}, one)
    with pytest.raises(DataError, match="integer model has no output 'p'"):
        metric.evaluate(one, {})
    with pytest.raises(DataError, match=r"shape \[2\], the real model's \[1\]"):
        metric.evaluate(one, {"p": np.zeros(2)})
    with pytest.raises(DataError, match="found 2 labels for 1 values"):
        metric.evaluate(one, one, np.zeros(2))
    with pytest.raises(DataError, match="holds no values"):
        metric.evaluate({"p": np.zeros(0)}, {"p": np.zeros(0)})


def test_fidelity_judges_every_output():
    figures = Fidelity().evaluate(
        {"a": np.array([1.0]), "b": np.ones(1)}, {"a": np.array([0.9]), "b": np.ones(1)}
    )
    assert list(figures) == ["mean_absolute_error:a", "sqnr:a", "mean_absolute_error:b", "sqnr:b"]
    assert figures["sqnr:b"] == Figure(None, None, "dB")
