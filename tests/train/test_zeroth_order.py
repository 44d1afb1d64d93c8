"""The estimator of gradients from forward passes: directions, masks, integer codes, its laws, its memory.

Statistical bounds are five standard errors of the mean over the trials, or wider where it is said.
"""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnaq.errors import DataError
from nnaq.train.zeroth_order.directions import Place, chosen, direction
from nnaq.train.zeroth_order.estimator import Estimator, memory
from nnaq.train.zeroth_order.parameters import Codes, Reals

TRIALS = 4000
KINDS = ("rademacher", "gaussian")


def quadratic(size, seed=0):
    """A loss g'θ + θ'Hθ/2 around θ = 0, and g."""
    generator = np.random.default_rng(seed)
    slope, half = generator.standard_normal(size), generator.standard_normal((size, size)) / size
    return (lambda arrays: float(slope @ arrays[0] + arrays[0] @ half @ half.T @ arrays[0] / 2)), slope


def estimates(kind, size, keep=None, queries=1, trials=TRIALS):
    """Estimates [trials, kept] of the gradient of a quadratic at 0, and that gradient, whole."""
    loss, slope = quadratic(size)
    parameters, how = (Reals(np.zeros(size), keep),), Estimator(5, 0.3, queries, kind)
    count = parameters[0].mask.count
    found = [how.gradient(step, 0, count, how.coefficients(loss, parameters, step)) for step in range(trials)]
    return np.array(found), slope


def must_agree(samples, expected):
    """The mean of samples [trials, …] lies within five standard errors of what is expected."""
    error = samples.std(axis=0) / np.sqrt(len(samples))
    assert np.all(np.abs(samples.mean(axis=0) - expected) <= 5 * error + 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_of_a_quadratic_is_unbiased(kind):
    found, slope = estimates(kind, 10)
    must_agree(found, slope)


def test_gaussian_directions_have_the_square_d_plus_2():
    found, slope = estimates("gaussian", 10)
    must_agree((found**2).sum(axis=1) / (slope @ slope), 12)


def test_signs_have_the_square_d():
    """Every |g|² is d (z'∇L)², whose mean is d |∇L|²."""
    found, slope = estimates("rademacher", 10)
    must_agree((found**2).sum(axis=1) / (slope @ slope), 10)


def test_queries_divide_the_variance():
    """One query has E|g - ∇L|² = (d - 1) |∇L|² for signs, so four have a quarter."""
    found, slope = estimates("rademacher", 10, queries=4, trials=TRIALS // 2)
    must_agree(((found - slope) ** 2).sum(axis=1) / (slope @ slope), 9 / 4)


@pytest.mark.parametrize(("kind", "factor"), [("rademacher", 3), ("gaussian", 5)])
def test_a_mask_leaves_the_noise_of_its_own_parameters_only(kind, factor):
    keep = np.arange(30) % 10 == 0
    found, slope = estimates(kind, 30, keep)
    must_agree(found, slope[keep])
    must_agree((found**2).sum(axis=1) / (slope[keep] @ slope[keep]), factor)


def test_a_mask_of_the_update_alone_keeps_the_noise_of_all():
    """E|g kept|² = (kept |∇L|² + 0) for signs: every kept entry carries the slope of all."""
    keep = np.arange(30) % 10 == 0
    found, slope = estimates("rademacher", 30)
    must_agree((found[:, keep] ** 2).sum(axis=1), 3 * slope @ slope)


@pytest.mark.parametrize(
    ("ratio", "moved", "gain"), [(1, 0.6171, 1.00), (2, 0.3173, 0.99), (4, 0.0455, 0.22), (6, 0.0027, 0.03)]
)
def test_rounding_to_a_grid_has_a_dead_zone(ratio, moved, gain):
    """Of weights on a grid of step s, a gaussian of size e moves P(|z| > s / 2e); the gain is E[z round(z)].

    The gain at s/e = r is the sum over n of 2 r φ((n + 1/2) r), from E[z; z > a] = φ(a).
    """
    z = direction("gaussian", Place(1, ratio), 200_000)
    rounded = ratio * np.rint(z / ratio)
    must_agree((rounded != 0).astype(float), moved) if moved > 0.01 else None
    edges = (np.arange(40) + 0.5) * ratio
    expected = 2 * ratio * np.exp(-(edges**2) / 2).sum() / np.sqrt(2 * np.pi)
    must_agree(z * rounded, expected)
    assert abs((rounded != 0).mean() - moved) < 0.006


def test_a_direction_comes_again_and_no_other_place_has_it():
    for kind in KINDS:
        at = direction(kind, Place(3, 4, 1, 2), 100)
        np.testing.assert_array_equal(at, direction(kind, Place(3, 4, 1, 2), 100))
        np.testing.assert_array_equal(at[:37], direction(kind, Place(3, 4, 1, 2), 37))
        for other in (Place(2, 4, 1, 2), Place(3, 5, 1, 2), Place(3, 4, 0, 2), Place(3, 4, 1, 3)):
            assert not np.array_equal(at, direction(kind, other, 100))


def test_signs_are_the_bits_of_philox():
    """Known words of Philox4x64-10 for key (3, 0) and counter 0, as NumPy 2 promises them for ever."""
    signs = direction("rademacher", Place(3), 130)
    word = int(np.random.Philox(key=3, counter=0).random_raw())
    assert [int(s) for s in signs[:64]] == [2 * ((word >> n) & 1) - 1 for n in range(64)]
    assert signs.dtype == np.int8
    assert set(signs.tolist()) == {-1, 1}


def test_a_batch_has_no_example_twice():
    assert sorted(chosen(Place(1, 2), 10, 10)) == list(range(10))
    assert len(set(chosen(Place(1, 3), 4, 10).tolist())) == 4


codes = st.lists(st.integers(-128, 127), min_size=1, max_size=12)


@given(codes, st.integers(1, 8), st.integers(0, 99))
def test_codes_move_exactly_by_k_steps_either_way(values, k, seed):
    array = np.array(values, np.int8)
    keep = np.random.default_rng(seed).random(len(array)) < 0.7
    tuned = Codes(array, keep, (-128, 127))
    r = direction("rademacher", Place(seed), tuned.mask.count)
    up, down = tuned.moved(r, k).astype(int), tuned.moved(r, -k).astype(int)
    np.testing.assert_array_equal((up - down)[keep], 2 * k * r.astype(int))
    np.testing.assert_array_equal(
        ((up + down) // 2)[keep], np.clip(array.astype(int), -128 + k, 127 - k)[keep]
    )
    np.testing.assert_array_equal(up[~keep], array[~keep])
    np.testing.assert_array_equal(down[~keep], array[~keep])
    np.testing.assert_array_equal(tuned.value, array)


def test_the_ends_of_the_range():
    tuned = Codes(np.array([-128, 127, -127, 126, 0], np.int8))
    assert (tuned.low, tuned.high) == (-128, 127)  # the code -128 widens the range of our own quantiser
    ones = np.ones(5, np.int8)
    assert tuned.moved(ones, 1).tolist() == [-126, 127, -126, 127, 1]
    assert tuned.moved(ones, -1).tolist() == [-128, 125, -128, 125, -1]
    tuned.descend(np.array([5.0, -5.0, 0.4, 0.0, 0.5]))
    assert tuned.value.tolist() == [-128, 127, -127, 126, 0]
    tuned.descend(np.array([-1.0, 1.0, 0.2, -9.0, 0.01]))  # an end holds nobody, nothing is kept beyond it
    assert tuned.value.tolist() == [-127, 126, -128, 127, -1]
    assert Codes(np.array([127], np.int8)).low == -127


@pytest.mark.parametrize("amplitude", [0.5, 128.0])
def test_codes_refuse_what_is_no_step(amplitude):
    with pytest.raises(DataError, match="whole steps"):
        Codes(np.zeros(3, np.int8)).moved(np.ones(3, np.int8), amplitude)


def test_codes_refuse_gaussian_directions():
    with pytest.raises(DataError, match="rademacher"):
        Codes(np.zeros(3, np.int8)).moved(np.ones(3), 1.0)


def test_changes_below_a_step_add_up():
    tuned = Codes(np.zeros(2, np.int8), np.array([True, False]))
    for _ in range(3):
        tuned.descend(np.array([-0.25]))
    assert tuned.value.tolist() == [1, 0]


def test_reals_stay_between_their_bounds():
    tuned = Reals(np.array([1.0, 1.9]), None, 0.5, 2.0)
    assert tuned.moved(np.array([1, 1], np.int8), 0.25).tolist() == [1.25, 2.0]
    tuned.descend(np.array([3.0, 0.0]))
    assert tuned.value.tolist() == [0.5, 1.9]


def test_wrong_masks_and_estimators_are_refused():
    with pytest.raises(DataError, match="shape"):
        Reals(np.zeros(3), np.ones(4, bool))
    with pytest.raises(DataError, match="int8"):
        Codes(np.zeros(3))
    with pytest.raises(DataError, match="amplitude"):
        Estimator(amplitude=0)
    with pytest.raises(DataError, match="finite"):
        Estimator().coefficients(lambda arrays: float("nan"), (Reals(np.zeros(1)),), 0)


def test_the_stated_bytes_hold_what_is_used():
    keep = np.arange(40_000).reshape(200, 200) % 4 == 0
    parameters, how = (Codes(np.zeros((200, 200), np.int8), keep),), Estimator(queries=3)
    stated = memory(parameters, how)
    assert stated.held == 40_000 // 8 + 4 * 10_000
    assert (stated.moved, stated.logged) == (40_000, 24)
    tracemalloc.start()
    found = how.coefficients(lambda arrays: float(arrays[0][0, 0]), parameters, 0)
    how.descend(parameters, 0, found, 1.0)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used <= stated.moved + stated.working + 8192  # Python's own objects
