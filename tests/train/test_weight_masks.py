"""Masks and the scores they are made of: rows, arms, and the cost of freezing a weight on quadratics."""

import numpy as np
import pytest

from nnaq.errors import DataError
from nnaq.train.zeroth_order.masks import arm, merged, normalised, top_of_rows
from nnaq.train.zeroth_order.scores import (
    DAMPING,
    ScoreOptions,
    Sensitivity,
    global_score,
    greedy_score,
    task_score,
)


def found(seed=0, rows=3, inputs=5):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((40, inputs))
    return Sensitivity(
        generator.standard_normal((rows, inputs)), generator.random(rows) + 0.5, x.T @ x / len(x)
    )


def hessians(one):
    """H of every row: h C + λ I."""
    largest = np.linalg.eigvalsh(one.second_moment).max()
    return [
        h * one.second_moment + DAMPING * h * largest * np.eye(len(one.second_moment)) for h in one.curvature
    ]


def test_the_global_score_is_what_freezing_costs_at_the_optimum():
    one = found()
    for g, hessian, score in zip(one.gradient, hessians(one), global_score(one), strict=True):
        best = -g @ np.linalg.solve(hessian, g) / 2
        for m in range(len(g)):
            rest = np.delete(np.arange(len(g)), m)
            frozen = -g[rest] @ np.linalg.solve(hessian[np.ix_(rest, rest)], g[rest]) / 2
            np.testing.assert_allclose(score[m], frozen - best, rtol=1e-9)


@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_the_greedy_score_is_what_freezing_costs_in_one_step(rate):
    one = found(1)
    for g, hessian, score in zip(one.gradient, hessians(one), greedy_score(one, rate), strict=True):
        after = loss_after(g, hessian, -rate * g)
        for m in range(len(g)):
            frozen = loss_after(g, hessian, np.where(np.arange(len(g)) == m, 0, -rate * g))
            np.testing.assert_allclose(rate * score[m], frozen - after, rtol=1e-9, atol=1e-15)


def loss_after(g, hessian, step):
    return g @ step + step @ hessian @ step / 2


def test_the_greedy_score_of_a_small_rate_is_the_squared_slope():
    one = found(2)
    np.testing.assert_array_equal(greedy_score(one), one.gradient**2)


def test_a_layer_without_inputs_or_curvature_has_finite_scores():
    one = Sensitivity(np.zeros((2, 3)), np.zeros(2), np.zeros((3, 3)))
    np.testing.assert_array_equal(global_score(one), np.zeros((2, 3)))
    assert np.isfinite(task_score(np.ones((2, 3)), one, ScoreOptions(beta=1.0))).all()


def test_alpha_and_beta_weigh_rows_that_sum_to_one():
    one, weight = found(3), np.arange(15).reshape(3, 5).astype(np.int8)
    score = task_score(weight, one, ScoreOptions(alpha=0.5, beta=0.25))
    expected = normalised(global_score(one)) + 0.5 * normalised(greedy_score(one))
    np.testing.assert_allclose(score, expected + 0.25 * normalised(weight.astype(float)))
    np.testing.assert_allclose(score.sum(axis=1), 1.75)


def test_rows_keep_their_largest_and_the_first_of_equals():
    scores = np.array([[1.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    assert top_of_rows(scores, 0.5).tolist() == [[False, True, False, True], [True, True, False, False]]
    assert top_of_rows(scores, 0.01).sum(axis=1).tolist() == [1, 1]
    assert top_of_rows(scores.reshape(2, 2, 2), 0.5).shape == (2, 2, 2)
    with pytest.raises(DataError, match="fraction"):
        top_of_rows(scores, 0.0)


def test_the_arms():
    weight = np.array([[5, -100, 3, -1], [-128, 127, 0, 2]], np.int8)
    assert arm("small_magnitude", weight, 0.5).tolist() == [[False, False, True, True]] * 2
    assert arm("large_magnitude", weight, 0.25).tolist() == [
        [False, True, False, False], [True, False, False, False]
    ]  # fmt: skip
    assert arm("dense", weight, 0.1).all()
    wide = np.zeros((4, 100), np.int8)
    first, other = arm("random", wide, 0.3, 1), arm("random", wide, 0.3, 2)
    assert first.sum(axis=1).tolist() == [30] * 4
    np.testing.assert_array_equal(first, arm("random", wide, 0.3, 1))
    assert (first != other).any()
    assert (first != arm("random", wide, 0.3, 1, parameter=1)).any()


def test_no_task_drowns_another_when_masks_are_merged():
    loud, quiet = np.array([[900.0, 100.0, 0.0, -5.0]]), np.array([[0.0, 0.0, 0.1, 0.05]])
    assert merged({"loud": loud, "quiet": quiet}, 0.5).tolist() == [[True, False, True, False]]
    np.testing.assert_allclose(normalised(np.array([[-1.0, 0.0]])), [[0.5, 0.5]])
