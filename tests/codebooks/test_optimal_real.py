"""Exact k-means on the real line, against every partition of small sets."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from codebooks.parts import generators
from hypothesis import given, settings
from hypothesis import strategies as st

from nnaq.codebooks.optimal_real import optimal_real


def spread(values: np.ndarray, mass: np.ndarray) -> float:
    """Σ mass (value - mean)²."""
    return float((mass * np.square(values - np.average(values, weights=mass))).sum()) if mass.sum() else 0.0


def least(values: np.ndarray, mass: np.ndarray, entries: int) -> float:
    """Over all ways to cut sorted values into runs."""
    ways = (
        (0, *cut, values.size)
        for runs in range(1, min(entries, values.size) + 1)
        for cut in combinations(range(1, values.size), runs - 1)
    )
    return min(sum(spread(values[a:b], mass[a:b]) for a, b in pairwise(way)) for way in ways)


@given(generators, st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_no_partition_is_better(generator, size, entries, repeated):
    values = np.sort(generator.integers(-3, 4, size) / 2 if repeated else generator.normal(size=size))
    mass = generator.integers(0, 4, size).astype(float)
    found = optimal_real(values, entries, mass)
    if not mass.any():
        assert found.size == 0
        return
    assert found.size <= min(entries, np.unique(values[mass > 0]).size)
    assert (np.diff(found) > 0).all()
    lost = (mass * np.square(values[:, None] - found).min(axis=1)).sum()
    assert lost == pytest.approx(least(values, mass, entries), rel=1e-9, abs=1e-9)


@settings(max_examples=30)
@given(generators, st.integers(1, 50), st.integers(1, 20))
def test_the_halved_scans_find_what_full_ones_find(generator, size, entries):
    """least(j, i) over every a, by the definition."""
    values, mass = np.sort(generator.standard_t(3, size=size)), generator.random(size)
    runs = [
        [spread(values[a:i], mass[a:i]) if a < i else np.inf for i in range(size + 1)] for a in range(size)
    ]
    loss = np.array(runs)
    best = loss[0]
    for _ in range(min(entries, size) - 1):
        best = (best[:-1, None] + loss).min(axis=0)
    found = optimal_real(values, entries, mass)
    lost = (mass * np.square(values[:, None] - found).min(axis=1)).sum()
    assert lost == pytest.approx(best[size], rel=1e-9, abs=1e-9)


@given(generators, st.integers(1, 8), st.sampled_from((0.0, 1e6, -1e-6)))
def test_the_order_and_the_place_of_the_values_do_not_matter(generator, entries, place):
    values = generator.normal(size=300)
    one = optimal_real(values, entries)
    other = optimal_real(generator.permutation(values) + place, entries)
    assert other - place == pytest.approx(one, abs=1e-8)


@given(generators, st.integers(1, 20))
def test_every_centroid_is_the_mean_of_the_values_nearest_to_it(generator, entries):
    values = generator.standard_t(3, size=500)
    found = optimal_real(values, entries)
    nearest = np.searchsorted((found[1:] + found[:-1]) / 2, values)
    assert found == pytest.approx([values[nearest == i].mean() for i in range(found.size)], rel=1e-9)


def test_distinct_values_that_fit_are_returned():
    assert optimal_real(np.array([3.0, 1.0, 3.0]), 2).tolist() == [1, 3]
    assert optimal_real(np.array([3.0, 1.0, 2.0]), 4, np.array([1.0, 0.0, 2.0])).tolist() == [2, 3]
    assert optimal_real(np.zeros((0, 4)), 4).size == 0


def test_values_too_close_to_tell_apart_still_make_runs_of_their_own():
    found = optimal_real(np.array([0.0, 1e-300, 2e-300, 1.0, 2.0]), 4)
    assert np.isfinite(found).all()
    assert found[-2:] == pytest.approx([1, 2])
