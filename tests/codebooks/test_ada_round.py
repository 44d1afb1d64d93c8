"""Learnt rounding: one of the two neighbours. What it shares with error feedback is tested there."""

import numpy as np
import pytest

from nnaq.codebooks.ada_round import ada_round
from nnaq.codebooks.row_tables import row_tables

TABLE = (-100, -30, 2, 7, 60)


def test_neighbours_stand_around_every_real():
    units = np.array([[-500.0, -100, -31, -30, 1.9, 2, 4.5, 59, 60, 1e300]])
    low, high = row_tables([TABLE], 0, 1).neighbours(units)
    assert low.tolist() == [[-100, -100, -100, -30, -30, 2, 2, 7, 60, 60]]
    assert high.tolist() == [[-100, -30, -30, 2, 2, 7, 7, 60, 60, 60]]


def test_tables_of_different_lengths_do_not_mix():
    tables = row_tables([TABLE, (3,)], 1, 2)
    low, high = tables.neighbours(np.array([[59.0, 500.0], [59.0, -500.0]]))
    assert low.tolist() == [[7, 60], [3, 3]]
    assert high.tolist() == [[60, 60], [3, 3]]


def test_every_weight_goes_to_a_neighbour_and_the_result_repeats():
    rng = np.random.default_rng(0)
    weight, rows = rng.normal(0, 40, (6, 8)), rng.normal(size=(40, 8)) + 2
    second = (rows.T @ rows / 40)[None]
    codes = ada_round(weight, np.ones(6), [TABLE], 0, second)
    low, high = row_tables([TABLE], 0, 6).neighbours(weight)
    assert np.all((codes == low) | (codes == high))
    assert np.array_equal(codes, ada_round(weight, np.ones(6), [TABLE], 0, second))


def test_two_equal_activations_round_one_up_and_one_down():
    """By hand: only w0 + w1 = 1 counts; nearest rounding would make it 2 (ties go down: 0)."""
    codes = ada_round(np.array([[0.45, 0.55]]), np.ones(1), [(0, 1)], 0, np.ones((1, 2, 2)))
    assert codes.sum() == 1
    codes = ada_round(np.array([[0.6, 0.55]]), np.ones(1), [(0, 1)], 0, np.ones((1, 2, 2)))
    assert codes.sum() == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("power", [-200, -64, 63, 65, 200])
def test_the_size_of_the_activations_does_not_matter(power):
    """Second moments beyond float32, in which the steps are: 2^128 and more."""
    rng = np.random.default_rng(1)
    weight, rows = rng.normal(0, 40, (6, 8)), rng.normal(size=(40, 8)) + 2
    second = (rows.T @ rows / 40)[None]
    codes = ada_round(weight, np.ones(6), [TABLE], 0, second)
    assert np.any(codes != row_tables([TABLE], 0, 6).nearest(weight))
    assert np.array_equal(ada_round(weight, np.ones(6), [TABLE], 0, np.ldexp(second, 2 * power)), codes)
