"""Speed and noise: what length, which frequency, how loud, and the same again from the same generator."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnaq.tasks.augment import Augment, at_speed

FACTORS = (0.5, 0.9, 1.0, 1.1, 2.0)


def noise(samples, seed=0, loudness=0.3):
    return (loudness * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def tone(hertz, samples=16000):
    return np.sin(2 * np.pi * hertz * np.arange(samples) / 16000).astype(np.float32)


def loudest_hertz(audio):
    """The frequency that is loudest, to the nearest hertz."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 16000))
    return int(spectrum.argmax())


# --- speed


@given(st.integers(2, 400), st.sampled_from(FACTORS))
def test_length_goes_by_the_speed(samples, factor):
    made = at_speed(noise(samples), factor)
    assert len(made) == round(samples / factor)
    assert made.dtype == np.float32


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("hertz", [200, 1000, 3500])
def test_a_tone_rises_with_the_speed_and_is_as_loud(hertz, factor):
    made = at_speed(tone(hertz), factor)
    assert abs(loudest_hertz(made) - hertz * factor) <= 1
    inner = made[len(made) // 4 : -len(made) // 4]
    assert np.sqrt(2 * np.mean(np.square(inner))) == pytest.approx(1, abs=0.01)


def test_what_would_be_too_high_is_silent_and_not_mirrored():
    assert np.abs(at_speed(tone(6000), 2.0)).max() < 1e-5


def test_the_same_speed_is_the_same_sound():
    audio = noise(1000)
    assert np.array_equal(at_speed(audio, 1.0), audio)


# --- noise


def decibels(speech, mixed):
    rest = mixed.astype(np.float64) - speech
    return 10 * np.log10(np.square(speech, dtype=np.float64).sum() / np.square(rest).sum())


def drawn(augment, audio, seeds):
    return [augment(audio, np.random.default_rng(seed)) for seed in seeds]


@pytest.mark.parametrize("samples", [500, 4000, 9000])
def test_noise_is_as_loud_as_asked(samples):
    speech = tone(440, 4000)
    augment = Augment((1.0,), noise(samples), noisy=1.0, snr_db=(5.0, 25.0))
    found = [decibels(speech, mixed) for mixed in drawn(augment, speech, range(40))]
    assert min(found) > 5 - 0.01 and max(found) < 25 + 0.01
    assert min(found) < 8 and max(found) > 22, "drawn over the whole stretch"
    exactly = Augment((1.0,), noise(samples), noisy=1.0, snr_db=(12.0, 12.0))
    for mixed in drawn(exactly, speech, range(5)):
        assert decibels(speech, mixed) == pytest.approx(12, abs=1e-3)


def test_a_share_of_recordings_gets_noise():
    speech = tone(440, 400)
    augment = Augment((1.0,), noise(900), noisy=0.3)
    noisy = sum(not np.array_equal(mixed, speech) for mixed in drawn(augment, speech, range(400)))
    assert 90 <= noisy <= 150
    assert all(np.array_equal(m, speech) for m in drawn(Augment((1.0,), noise(900), 0.0), speech, range(20)))
    assert all(np.array_equal(m, speech) for m in drawn(Augment((1.0,), None, 1.0), speech, range(20)))


def test_all_speeds_are_drawn():
    lengths = [len(made) for made in drawn(Augment(), noise(990), range(60))]
    assert {length: lengths.count(length) > 10 for length in set(lengths)} == {
        1100: True,
        990: True,
        900: True,
    }


def test_a_generator_repeats_what_it_drew():
    augment, audio = Augment(noise=noise(5000), noisy=1.0), tone(300, 3000)
    first, again, other = (drawn(augment, audio, seeds) for seeds in (range(20), range(20), range(20, 40)))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_nothing_is_clipped():
    """Samples may leave [-1, 1): a mixture is the sum of its parts wherever it is loud."""
    speech, behind = tone(440, 1000), noise(1000, loudness=1.0)
    augment = Augment((1.0,), behind, noisy=1.0, snr_db=(0.0, 0.0))
    (mixed,) = drawn(augment, speech, [3])
    rest = mixed - speech
    starts = [np.corrcoef(np.roll(behind, -start), rest)[0, 1] for start in range(len(behind))]
    assert np.abs(mixed).max() > 1.5
    assert max(starts) == pytest.approx(1, abs=1e-6), "clipped noise would be another sound"
    assert np.abs(at_speed(np.sign(tone(440)), 0.9)).max() > 1, "a corner rings, and is not cut"


def test_silence_stays_silence():
    silence = np.zeros(990, np.float32)
    for made in drawn(Augment(noise=noise(500), noisy=1.0), silence, range(6)):
        assert not made.any() and len(made) in (900, 990, 1100)
