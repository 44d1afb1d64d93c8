"""Codebooks: the exact optimum of one-dimensional k-means, against every partition there is."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnaq.codebooks.kmeans import _partition, indices, nearest, optimal_palette

codes = st.lists(st.integers(-127, 127), min_size=1, max_size=40).map(lambda v: np.array(v, np.int8))


def cost(values: np.ndarray, counts: np.ndarray, starts: tuple[int, ...]) -> float:
    """Σ count (v - mean)² over groups that begin at `starts`."""
    total = 0.0
    for first, last in zip(starts, (*starts[1:], values.size), strict=True):
        part, weight = values[first:last], counts[first:last]
        total += float((weight * (part - np.average(part, weights=weight)) ** 2).sum())
    return total


@settings(max_examples=200)
@given(st.sets(st.integers(-127, 127), min_size=3, max_size=9), st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_the_partition_is_the_best_of_all(distinct, seed, groups):
    values = np.array(sorted(distinct), np.float64)
    counts = np.random.default_rng(seed).integers(1, 50, values.size).astype(np.float64)
    groups = min(groups, values.size)
    found = cost(values, counts, tuple(_partition(values, counts, groups)))
    every = (cost(values, counts, (0, *cut)) for cut in combinations(range(1, values.size), groups - 1))
    assert found == pytest.approx(min(every), rel=1e-9, abs=1e-6)


@given(codes, st.integers(1, 8))
def test_a_palette_is_sorted_distinct_and_small_enough(array, bits):
    palette = optimal_palette(array, bits)
    assert palette.bits == bits
    assert 1 <= len(palette.table) <= 2**bits
    assert list(palette.table) == sorted(set(palette.table))
    assert min(palette.table) >= array.min()
    assert max(palette.table) <= array.max()


@given(codes)
def test_enough_entries_lose_nothing(array):
    bits = max(1, int(np.ceil(np.log2(np.unique(array).size))))
    palette = optimal_palette(array, bits)
    assert palette.table == tuple(np.unique(array).tolist())
    assert np.array_equal(nearest(array, palette), array)


@given(codes, st.integers(1, 4))
def test_every_code_goes_to_its_nearest_entry_the_lower_of_two(array, bits):
    palette = optimal_palette(array, bits)
    for code, moved in zip(array.tolist(), nearest(array, palette).tolist(), strict=True):
        assert moved == min(palette.table, key=lambda entry: (abs(entry - code), entry))


@given(codes, st.integers(1, 4))
def test_indices_point_into_the_table(array, bits):
    palette = optimal_palette(array, bits)
    found = indices(array, palette)
    assert found.dtype == np.uint8
    assert np.array_equal(np.array(palette.table, np.int8)[found], nearest(array, palette))


@given(codes, st.integers(1, 3))
def test_more_bits_never_lose_more_than_rounding(array, bits):
    """Entries are rounded to codes: a mean moves by at most 1/2, which costs at most 1/4 a value."""

    def loss(bits: int) -> float:
        moved = nearest(array, optimal_palette(array, bits)).astype(float)
        return float(np.square(array - moved).sum())

    assert loss(bits + 1) <= loss(bits) + array.size / 4
