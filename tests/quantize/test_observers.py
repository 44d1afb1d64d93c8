"""Observers: the range of what was seen, whatever pieces it came in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnaq.errors import RecipeError
from nnaq.quantize.observers import BINS, OBSERVERS, Observer


def observed(kind: str, *pieces: np.ndarray, percentile: float = 0.9999) -> tuple[float, float]:
    observer = Observer(kind, percentile)
    for piece in pieces:
        observer.update(piece)
    return observer.range()


def gauss(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1), st.data())
def test_min_max_is_the_extremes_in_any_pieces(values, data):
    cut = data.draw(st.integers(0, len(values)))
    array = np.array(values, np.float32)
    assert observed("min_max", array[:cut], array[cut:]) == (array.min(), array.max())


@pytest.mark.parametrize("kind", OBSERVERS)
def test_streaming_equals_batch(kind):
    """Exactly: where the first piece holds the largest value, the bins are the same from the start on."""
    values = gauss(20_000)
    values = np.concatenate([values[np.abs(values).argmax()][None], values])
    batch = observed(kind, values, percentile=0.99)
    for size in (1_000, 77):
        pieces = [values[i : i + size] for i in range(0, len(values), size)]
        assert observed(kind, *pieces, percentile=0.99) == batch


@pytest.mark.parametrize("kind", ["percentile", "mse"])
def test_a_span_that_grows_loses_no_count(kind):
    """Values of ever larger size: bins merge in pairs, and a count stays within two bins of its place."""
    pieces = [gauss(1_000, seed) * 4.0**seed for seed in range(5)]
    observer = Observer(kind, 0.9)
    for piece in pieces:
        observer.update(piece)
    values = np.concatenate(pieces)
    assert observer.counts.sum() == values.size
    width = 2 * observer.span / BINS
    edges = np.arange(BINS + 1) * width - observer.span
    below = np.cumsum(observer.counts)
    for bin in range(0, BINS, 97):
        exact = [(values < edges[max(bin - 1, 0)]).sum(), (values <= edges[min(bin + 2, BINS)]).sum()]
        assert exact[0] <= below[bin] <= exact[1]


@pytest.mark.parametrize("share", [0.9, 0.99, 0.999])
def test_percentile_cuts_the_tails_to_within_a_bin(share):
    values = gauss(50_000)
    low, high = observed("percentile", values, percentile=share)
    width = 2 * np.abs(values).max() / BINS
    assert abs(low - np.quantile(values, (1 - share) / 2)) <= 2 * width
    assert abs(high - np.quantile(values, (1 + share) / 2)) <= 2 * width


def test_percentile_of_all_is_the_extremes_to_within_a_bin():
    values = gauss(1_000)
    low, high = observed("percentile", values, percentile=1.0)
    width = 2 * np.abs(values).max() / BINS
    assert values.min() <= low <= values.min() + width
    assert values.max() - width <= high <= values.max()


def test_mse_cuts_a_rare_outlier_and_keeps_a_uniform_range():
    rare = np.append(gauss(1_000_000), np.float32(100))
    assert observed("mse", rare)[1] < 80
    uniform = np.linspace(-1, 1, 10_001, dtype=np.float32)
    assert observed("mse", uniform) == (-1.0, 1.0)


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.2])
def test_mse_is_no_worse_than_other_shrunken_ranges(factor):
    """By the true error of rounding to 256 steps, to within what 4,096 bins can tell."""
    values = np.append(gauss(20_000), np.float32(30)).astype(np.float64)

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        rounded = np.rint((np.clip(values, low, high) - low) / step) * step + low
        return float(np.square(values - rounded).mean())

    low, high = observed("mse", values.astype(np.float32))
    assert error(low, high) <= 1.05 * error(values.min() * factor, values.max() * factor)


@pytest.mark.parametrize("kind", OBSERVERS)
def test_nothing_seen_and_one_value_seen(kind):
    assert observed(kind) == (0.0, 0.0)
    assert observed(kind, np.zeros(0, np.float32)) == (0.0, 0.0)
    assert observed(kind, np.zeros(7, np.float32)) == (0.0, 0.0)
    low, high = observed(kind, np.full(5, 3.0, np.float32))
    assert low <= high
    assert high == pytest.approx(3.0, abs=2 * 2 * 3.0 / BINS)


def test_an_unknown_observer_is_refused():
    with pytest.raises(RecipeError, match="no observer 'median'; there are min_max, percentile, mse"):
        Observer("median")
