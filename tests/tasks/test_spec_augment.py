"""What masks may touch, and that the generator alone decides."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nnaq.tasks.spec_augment import SpecAugment

BANDS, STACK = 6, 2


def ones(steps):
    return np.ones((steps, STACK * BANDS), np.float32)


@given(st.integers(0, 30), st.integers(0, 2**32))
def test_masks_are_whole_rows_and_whole_bands_of_limited_width(steps, seed):
    augment = SpecAugment(BANDS, 1, 4, 1, 8, 0.25)
    masked = augment(ones(steps), np.random.default_rng(seed))
    frames = masked.reshape(steps, STACK, BANDS)
    rows, bands = (frames == 0).all(axis=(1, 2)), (frames == 0).all(axis=(0, 1))
    assert np.array_equal(frames == 0, np.broadcast_to(rows[:, None, None] | bands, frames.shape))
    assert set(np.unique(masked)) <= {0, 1}
    if steps:
        assert rows.sum() <= min(8, 0.25 * steps) and bands.sum() <= 4
    for masks in (rows, bands) if not (rows.all() or bands.all()) else ():
        assert np.count_nonzero(np.diff(masks.astype(int), prepend=0) == 1) <= 1  # in one piece


def test_every_place_and_every_width_is_drawn():
    augment, generator = SpecAugment(BANDS, 1, 2, 1, 2, 1.0), np.random.default_rng(0)
    drawn = [augment(ones(5), generator) for _ in range(300)]
    assert {int((d == 0).all(axis=1).sum()) for d in drawn} == {0, 1, 2}
    assert {int((d == 0).all(axis=0).sum()) for d in drawn} == {0, 2, 4}  # each band is in both frames
    assert all(any((d[step] == 0).all() for d in drawn) for step in range(5))
    assert all(any((d[:, band] == 0).all() for d in drawn) for band in range(BANDS))


def test_the_generator_decides_and_the_features_stay():
    features, augment = ones(20), SpecAugment(BANDS)
    again = [augment(features, np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(*again)
    assert not np.array_equal(again[0], augment(features, np.random.default_rng(4)))
    assert (features == 1).all()


def test_no_masks_change_nothing():
    augment = SpecAugment(BANDS, frequency_masks=0, time_masks=0)
    assert np.array_equal(augment(ones(7), np.random.default_rng(0)), ones(7))
