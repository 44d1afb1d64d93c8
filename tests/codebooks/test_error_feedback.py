"""Error feedback: never worse than nearest rounding on what it was measured on, mostly much better."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnaq.codebooks.ada_round import ada_round
from nnaq.codebooks.error_feedback import error_feedback, row_losses
from nnaq.codebooks.row_tables import row_tables

TABLES = ((-90, -17, 0, 4, 33, 127), (-2, 1), (5,))
GRID = (tuple(range(-127, 128)),)
ROUNDERS = {"error_feedback": error_feedback, "ada_round": ada_round}


def problem(seed: int, outputs: int, inputs: int, samples: int):
    """A weight, its scales, and the second moments of `samples` rows whose entries go together."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(outputs, inputs))
    rows = rng.normal(size=(samples, inputs)) @ rng.normal(size=(inputs, inputs)) + 1
    return weight, rng.uniform(0.005, 0.05, outputs), rows.T @ rows / samples


def losses(weight, scale, codes, hessian):
    return row_losses(weight, codes * scale[:, None], hessian)


@pytest.mark.parametrize("rounder", ROUNDERS.values(), ids=ROUNDERS)
@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 7),
    st.integers(1, 9),
    st.integers(1, 12),
    st.sampled_from([(TABLES[:1], 0), (TABLES, 3), (GRID, 0)]),
)
def test_no_row_loses_more_than_by_nearest_rounding_and_codes_are_entries(
    rounder, seed, outputs, inputs, samples, choice
):
    (tables, rows), (weight, scale, hessian) = choice, problem(seed, outputs, inputs, samples)
    codes = rounder(weight, scale, tables, rows, hessian[None])
    nearest = row_tables(tables, rows, outputs).nearest(weight / scale[:, None])
    found, before = (losses(weight, scale, c, hessian) for c in (codes, nearest))
    assert codes.dtype == np.int8
    assert np.all(found <= before * (1 + 1e-9) + 1e-12)
    for row, entries in enumerate(codes):
        assert set(entries.tolist()) <= set(tables[row // rows if rows else 0])


@pytest.mark.parametrize("rounder", ROUNDERS.values(), ids=ROUNDERS)
def test_with_activations_that_go_together_it_loses_far_less(rounder):
    rng, scale = np.random.default_rng(1), np.full(24, 0.025)
    weight, four = rng.normal(size=(24, 32)), rng.normal(size=(4, 32))
    hessian = four.T @ four + 0.1 * np.eye(32)
    tables = ((-120, -40, -20, -8, 8, 20, 40, 120),)
    nearest = row_tables(tables, 0, 24).nearest(weight / scale[:, None])
    found = losses(weight, scale, rounder(weight, scale, tables, 0, hessian[None]), hessian).sum()
    assert found < 0.5 * losses(weight, scale, nearest, hessian).sum()


@pytest.mark.parametrize("rounder", ROUNDERS.values(), ids=ROUNDERS)
def test_activations_that_have_nothing_to_do_with_each_other_leave_nearest_rounding(rounder):
    weight, scale, _ = problem(2, 5, 300, 1)
    codes = rounder(weight, scale, TABLES[:1], 0, np.eye(300)[None])
    assert np.array_equal(codes, row_tables(TABLES[:1], 0, 5).nearest(weight / scale[:, None]))


@pytest.mark.parametrize("rounder", ROUNDERS.values(), ids=ROUNDERS)
def test_groups_are_rounded_each_for_its_own_activations(rounder):
    weight, scale, hessian = problem(3, 6, 5, 20)
    both = np.stack([hessian, np.eye(5)])
    codes = rounder(weight, scale, TABLES, 2, both)
    # rows 0 … 2 belong to the first group and have tables 0, 0, 1; rows 3 … 5 have 1, 2, 2
    own = row_tables(TABLES, 2, 6)
    assert np.array_equal(codes[3:], own.nearest(weight / scale[:, None])[3:])
    alone = [
        rounder(weight[a:b], scale[a:b], TABLES[i : i + 1], 0, both[:1]) for i, a, b in [(0, 0, 2), (1, 2, 3)]
    ]
    assert np.array_equal(codes[:3], np.concatenate(alone))


@pytest.mark.parametrize("rounder", ROUNDERS.values(), ids=ROUNDERS)
def test_activations_that_never_were_leave_nearest_rounding(rounder):
    weight, scale, hessian = problem(4, 6, 5, 20)
    nearest = row_tables(GRID, 0, 6).nearest(weight / scale[:, None])
    assert np.array_equal(rounder(weight, scale, GRID, 0, np.zeros((1, 5, 5))), nearest)
    hessian[2] = hessian[:, 2] = 0
    codes = rounder(weight, scale, GRID, 0, hessian[None])
    assert np.array_equal(codes[:, 2], nearest[:, 2])
    assert np.any(codes != nearest)  # the other columns are rounded for what they met


def test_more_columns_than_a_block_are_fed_back_like_a_single_block(monkeypatch):
    weight, scale, hessian = problem(5, 4, 20, 60)
    whole = error_feedback(weight, scale, TABLES[:1], 0, hessian[None])
    monkeypatch.setattr("nnaq.codebooks.error_feedback.BLOCK", 7)
    assert np.array_equal(error_feedback(weight, scale, TABLES[:1], 0, hessian[None]), whole)


def test_the_first_column_is_rounded_and_the_next_takes_its_error():
    """By hand: H = [[1, 1], [1, 1]] makes the sum w0 + w1 all that counts."""
    weight = np.array([[0.4, 0.4]])
    codes = error_feedback(weight, np.ones(1), [(-1, 0, 1)], 0, np.ones((1, 2, 2)), damping=1e-6)
    assert codes.tolist() == [[0, 1]]
