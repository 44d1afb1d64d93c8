"""Half-step moments: every int8 table's distortion and codes, from 508 bins."""

import numpy as np
import pytest
from codebooks.parts import generators, kinds, plain_distortion, some_importance, weights
from hypothesis import given
from hypothesis import strategies as st

from nnaq.codebooks.grid import BINS, best_table, encode, histogram, without_unused

tables = st.sets(st.integers(-127, 127), min_size=1, max_size=20).map(lambda t: tuple(sorted(t)))
scales = st.sampled_from((1.0, 0.5, 0.01, 3.0))


@given(weights, scales, generators, kinds, tables)
def test_the_distortion_is_that_of_the_weights(matrix, scale, generator, kind, table):
    importance = some_importance(generator, matrix, kind)
    each = scale * generator.uniform(0.5, 2, len(matrix))
    moments = histogram(matrix, each, importance)
    exact = plain_distortion(matrix, each, importance, table)
    magnitude = (importance * np.square(matrix)).sum()
    assert moments.distortion(table) == pytest.approx(exact, rel=1e-11, abs=1e-12 * magnitude)


@given(weights, tables)
def test_every_weight_goes_to_its_nearest_entry_the_lower_of_two(matrix, table):
    codes, _, _ = encode(matrix, np.ones(len(matrix)), np.ones((1, 1)), table)
    for weight, code in zip(matrix.ravel().tolist(), codes.ravel().tolist(), strict=True):
        assert code == min(table, key=lambda entry: (abs(entry - weight), entry))


@given(weights, generators, kinds, tables)
def test_encode_sums_what_the_best_scale_needs(matrix, generator, kind, table):
    importance = some_importance(generator, matrix, kind)
    codes, along, square = encode(matrix, np.ones(len(matrix)), importance, table)
    assert along == pytest.approx((importance * matrix * codes).sum(axis=1), rel=1e-9, abs=1e-9)
    assert square == pytest.approx(
        (importance * codes.astype(float) ** 2 * np.ones(matrix.shape)).sum(axis=1)
    )


@given(generators)
def test_codes_on_the_grid_lose_exactly_nothing(generator):
    table = tuple(sorted(set(generator.integers(-127, 128, 9).tolist())))
    matrix = generator.choice(np.array(table, float), (2, 30))
    assert histogram(matrix, np.ones(2), np.full((1, 1), 0.3)).distortion(table) == 0


def test_weights_beyond_the_grid_keep_their_moments():
    matrix = np.array([[-1e6, 300.0, 1e300]])
    moments = histogram(matrix[:, :2], np.ones(1), np.ones((1, 1)))
    assert moments.mass[0] == moments.mass[BINS - 1] == 1
    assert moments.distortion((-127, 5)) == (1e6 - 127) ** 2 + (300 - 5) ** 2
    codes, _, _ = encode(matrix, np.ones(1), np.ones((1, 1)), (-127, 5, 127))
    assert codes.tolist() == [[-127, 127, 127]]


@given(weights, st.lists(tables, min_size=1, max_size=5))
def test_the_best_table_is_the_one_of_least_distortion(matrix, some):
    moments = histogram(matrix, np.ones(len(matrix)), np.ones((1, 1)))
    padded = np.array([table + (table[-1],) * (20 - len(table)) for table in some])
    found = best_table(moments, padded)
    assert found in some
    assert moments.distortion(found) == pytest.approx(min(map(moments.distortion, some)), rel=1e-12)


@given(weights, tables)
def test_entries_that_nothing_goes_to_may_leave(matrix, table):
    moments = histogram(matrix, np.ones(len(matrix)), np.ones((1, 1)))
    kept = without_unused(moments, table, zero=False)
    assert set(kept) <= set(table)
    assert (moments.masses(kept) > 0).all()
    assert moments.distortion(kept) == pytest.approx(moments.distortion(table), rel=1e-12)
    assert (0 in without_unused(moments, table, zero=True)) == (0 in table)


@given(weights)
def test_the_reach_holds_the_means_of_all_bins(matrix):
    moments = histogram(matrix, np.ones(len(matrix)), np.ones((1, 1)))
    size = np.abs(matrix).max()
    assert 1 <= moments.reach() <= 127
    assert moments.reach() >= min(127, size - 0.5)
    assert moments.reach() <= max(1, np.ceil(size + 1e-9))
