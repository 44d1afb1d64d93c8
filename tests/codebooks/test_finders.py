"""How a table is found: the optimum against every table there is, and the others against the optimum."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from codebooks.parts import MOODS, covering, generators, methods, moments_of, sizes, some_weights, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import laplace, norm
from scipy.stats import t as student

from nnaq.codebooks.fit import FINDERS
from nnaq.codebooks.grid import Histogram, histogram
from nnaq.codebooks.lloyd_max import iterate, lloyd_max
from nnaq.codebooks.mu_law import expand, mu_law
from nnaq.codebooks.optimal import optimal
from nnaq.codebooks.optimal_real import optimal_real
from nnaq.codebooks.uniform import uniform

zeros = st.booleans()


def slack(moments: Histogram) -> float:
    """What sums of squares in float64 may be off by."""
    return 1e-11 * float((np.square(np.arange(-253, 255) / 2) * moments.mass).sum())


@settings(max_examples=30)
@given(generators, st.integers(1, 5), zeros, st.sampled_from(MOODS))
def test_no_table_of_a_small_grid_is_better_than_the_optimum(generator, entries, zero, mood):
    matrix = (
        np.clip(np.rint(some_weights(generator, mood, 2, 8) * 2), -4, 4) + generator.normal(size=(2, 8)) / 4
    )
    moments = histogram(matrix, np.ones(2), generator.random((2, 8)))
    every = (t for n in range(1, entries + 1) for t in combinations(range(-6, 7), n) if 0 in t or not zero)
    least = min(map(moments.distortion, every))
    found = optimal(moments, entries, zero)
    assert moments.distortion(found) == pytest.approx(least, rel=1e-10, abs=slack(moments))


@settings(max_examples=60)
@given(weights, sizes, zeros)
def test_pruned_search_finds_what_the_full_one_finds(matrix, entries, zero):
    """best(j, b) over all a, with costs from the definition."""
    moments = moments_of(matrix)
    u, mass = (matrix / covering(matrix)[:, None]).ravel(), np.repeat(covering(matrix) ** 2, matrix.shape[1])
    codes = np.arange(-127, 128)
    squares = mass * np.square(u - codes[:, None])  # [255, n]
    nearest_left = squares * (u > codes[:, None])
    nearest_right = squares * (u <= codes[:, None])
    costs = np.full((255, 255), np.inf)
    for a in range(255):
        both = np.where(u <= (codes[a] + codes[a + 1 :, None]) / 2, nearest_left[a], nearest_right[a + 1 :])
        costs[a, a + 1 :] = both.sum(axis=1)
    best, end = nearest_right.sum(axis=1), nearest_left.sum(axis=1)
    if zero:
        costs[:127, 128:] = best[128:] = end[:127] = np.inf
    for _ in range(min(entries, 255) - 1):
        best = (best[:, None] + costs).min(axis=0)
    found = moments.distortion(optimal(moments, entries, zero))
    assert found == pytest.approx((best + end).min(), rel=1e-9, abs=slack(moments))


@given(weights, methods, sizes, zeros)
def test_tables_are_ascending_distinct_in_range_and_small_enough(matrix, method, entries, zero):
    table = FINDERS[method](moments_of(matrix), entries, zero)
    assert 1 <= len(table) <= entries
    assert list(table) == sorted(set(table))
    assert table[0] >= -127 and table[-1] <= 127
    assert 0 in table or not zero
    assert all(type(entry) is int for entry in table)


@given(weights, methods, sizes, zeros)
def test_nothing_loses_less_than_the_optimum(matrix, method, entries, zero):
    moments = moments_of(matrix)
    best = moments.distortion(optimal(moments, entries, zero))
    assert best <= moments.distortion(FINDERS[method](moments, entries, zero)) + slack(moments)


@given(weights, st.integers(2, 40))
def test_the_int8_grid_never_beats_the_real_line(matrix, entries):
    moments, scale = moments_of(matrix), covering(matrix)
    u, importance = matrix / scale[:, None], np.broadcast_to(scale[:, None] ** 2, matrix.shape)
    centroids = optimal_real(u, entries, importance)
    free = float((importance * np.square(u[..., None] - centroids).min(axis=-1)).sum())
    assert free <= moments.distortion(optimal(moments, entries)) + slack(moments)


@given(weights, sizes, zeros)
def test_more_entries_never_lose_more(matrix, entries, zero):
    moments = moments_of(matrix)
    few, more = optimal(moments, entries, zero), optimal(moments, entries + 1, zero)
    assert moments.distortion(more) <= moments.distortion(few) + slack(moments)


@given(weights, sizes)
def test_zero_costs_no_less_when_forced(matrix, entries):
    moments = moments_of(matrix)
    free, forced = optimal(moments, entries), optimal(moments, entries, zero=True)
    beside = optimal(moments, entries + 1, zero=True)
    assert moments.distortion(free) <= moments.distortion(forced) + slack(moments)
    assert moments.distortion(beside) <= moments.distortion(forced) + slack(moments)


@given(generators, st.sampled_from((optimal, lloyd_max)), st.integers(0, 4))
def test_what_fits_into_a_table_loses_nothing(generator, find, bits):
    """The other methods prescribe where entries lie."""
    values = generator.choice(np.arange(-127, 128), 2**bits, replace=False).astype(float)
    moments = histogram(generator.choice(values, (1, 200)), np.ones(1), np.ones((1, 1)))
    assert moments.distortion(find(moments, 2**bits)) == 0


@given(weights, sizes, zeros)
def test_lloyd_max_never_rises_and_rests_where_nothing_moves(matrix, entries, zero):
    moments = moments_of(matrix)
    lost = [moments.distortion(table) for table in iterate(moments, entries, zero)]
    assert all(after < before for before, after in pairwise(lost))
    assert moments.distortion(lloyd_max(moments, entries, zero)) == pytest.approx(lost[-1], rel=1e-12)


@given(weights, generators, methods, sizes)
def test_the_order_of_the_weights_does_not_matter(matrix, generator, method, entries):
    """Sums in another order differ in their last digits, so distortions are compared."""
    one = histogram(matrix, np.ones(len(matrix)), np.ones((1, 1)))
    shuffled = generator.permutation(matrix.ravel()).reshape(matrix.shape)
    other = histogram(shuffled, np.ones(len(matrix)), np.ones((1, 1)))
    found = FINDERS["optimal"](other, entries, False)
    assert one.distortion(found) == pytest.approx(
        one.distortion(FINDERS["optimal"](one, entries, False)), rel=1e-9, abs=slack(one)
    )
    assert other.mass == pytest.approx(one.mass)
    assert len(FINDERS[method](other, entries, False)) <= entries


@given(weights, generators, methods, sizes, zeros)
def test_importance_two_is_a_weight_that_stands_there_twice(matrix, generator, method, entries, zero):
    twice = generator.integers(1, 3, matrix.shape)
    repeated = np.repeat(matrix.ravel(), twice.ravel())[None]
    one = histogram(matrix.reshape(1, -1), np.ones(1), twice.reshape(1, -1).astype(float))
    other = histogram(repeated, np.ones(1), np.ones((1, 1)))
    assert other.mass.tolist() == one.mass.tolist()
    found = FINDERS[method](one, entries, zero)
    assert other.distortion(found) == pytest.approx(one.distortion(found), rel=1e-9, abs=slack(one))


def test_importance_moves_the_table():
    matrix = np.array([[0.0, 10.0, 100.0]])
    for importance, table in (
        ([1.0, 1.0, 1.0], (5, 100)),
        ([1.0, 1.0, 1e-4], (0, 10)),
        ([0, 1, 1], (10, 100)),
    ):
        moments = histogram(matrix, np.ones(1), np.array([importance]))
        assert optimal(moments, 2) == table


# dB of the best real table, from the literature on Lloyd-Max (Max 1960; Paez and Glisson 1972), where the
# int8 grid costs less than 0.1 dB.
CLASSICAL = [
    (norm, (4.40, 9.30, 14.62, 20.22)),
    (laplace, (3.01, 7.54, 12.64, 18.13)),
]


@pytest.mark.parametrize(("distribution", "figures"), CLASSICAL)
def test_known_distributions_reach_their_known_ratios(distribution, figures):
    matrix = distribution.ppf((np.arange(200_000) + 0.5) / 200_000)[None]
    moments = moments_of(matrix)
    scale = covering(matrix)
    for bits, figure in enumerate(figures, start=1):
        centroids = optimal_real(matrix, 2**bits)
        free = np.square(
            matrix - centroids[np.searchsorted((centroids[1:] + centroids[:-1]) / 2, matrix)]
        ).sum()
        energy = np.square(matrix).sum()
        assert 10 * np.log10(energy / free) == pytest.approx(figure, abs=0.03)
        for method in (optimal, lloyd_max):
            lost = moments.distortion(method(moments, 2**bits))
            assert 10 * np.log10(energy / lost) == pytest.approx(figure, abs=0.12)
    assert scale[0] > 0


def test_mu_law_lies_between_uniform_and_the_optimum_for_a_heavy_tail():
    moments = moments_of(student(5).ppf((np.arange(50_000) + 0.5) / 50_000)[None])
    for entries in (8, 16, 32):
        lost = [moments.distortion(find(moments, entries)) for find in (optimal, mu_law, uniform)]
        assert lost[0] < lost[1] < lost[2]


@given(st.floats(-1, 1), st.sampled_from((1.0, 15.0, 255.0)))
def test_companding_undoes_expanding(y, mu):
    x = float(expand(np.array(y), mu))
    assert np.sign(x) * np.log1p(mu * abs(x)) / np.log1p(mu) == pytest.approx(y, abs=1e-12)
    assert abs(x) <= 1 + 1e-12


@given(weights, sizes, zeros)
def test_powers_of_two_are_powers_of_two(matrix, entries, zero):
    table = FINDERS["power_of_two"](moments_of(matrix), entries, zero)
    assert set(map(abs, table)) <= {0, 1, 2, 4, 8, 16, 32, 64}
