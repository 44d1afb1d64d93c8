"""Log mel features against their formula, sum by sum, and as a device would make them, sound by sound."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnaq.errors import DataError
from nnaq.tasks import log_mel
from nnaq.tasks.log_mel import LogMel, Normalization

SMALL = LogMel(bands=5, window=24, hop=10, stack=2, stride=2, sample_rate=800, low=10, high=400)


def noise(samples, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)


def mel(hertz):
    return 2595 * math.log10(1 + hertz / 700)


def taper(made, i):
    if made.taper == "povey":
        return (0.5 - 0.5 * math.cos(2 * math.pi * i / (made.window - 1))) ** 0.85
    return 0.5 - 0.5 * math.cos(2 * math.pi * i / made.window)


def by_definition(audio, made):
    """The module's formula with plain sums: [T][stack*bands]."""
    points = made.transform
    edges = [
        mel(made.low) + n * (mel(made.high) - mel(made.low)) / (made.bands + 1) for n in range(made.bands + 2)
    ]
    on_scale = mel if made.triangles == "mel" else float
    if made.triangles == "hertz":
        edges = [700 * (10 ** (edge / 2595) - 1) for edge in edges]

    def sound(place):
        return float(audio[place]) if 0 <= place < len(audio) else 0.0

    def shaped(first):
        x = [sound(first + i) for i in range(made.window)]
        if made.remove_mean:
            x = [value - sum(x) / made.window for value in x]
        x = [x[i] - made.preemphasis * x[max(i - 1, 0)] for i in range(made.window)]
        return [x[i] * taper(made, i) for i in range(made.window)]

    def energy(frame, band):
        x = shaped(frame * made.hop + made.hop - made.window - made.delay)
        total = 0.0
        for k in range(points // 2 + 1):
            place = on_scale(k * made.sample_rate / points)
            low, peak, high = edges[band : band + 3]
            height = max(0.0, min((place - low) / (peak - low), (high - place) / (high - peak)))
            turns = [-2 * math.pi * k * i / points for i in range(made.window)]
            real = sum(x[i] * math.cos(turns[i]) for i in range(made.window))
            imaginary = sum(x[i] * math.sin(turns[i]) for i in range(made.window))
            total += height * (real**2 + imaginary**2)
        return math.log(total + made.floor if made.floored == "sum" else max(total, made.floor))

    steps = math.ceil(len(audio) / (made.stride * made.hop))
    frames = [range(s * made.stride + made.stride - made.stack, (s + 1) * made.stride) for s in range(steps)]
    return [[energy(frame, band) for frame in step for band in range(made.bands)] for step in frames]


@pytest.mark.parametrize("samples", [1, 20, 47])
@pytest.mark.parametrize(("stack", "stride"), [(1, 1), (2, 2), (3, 2)])
def test_the_formula_of_the_module(samples, stack, stride):
    made = LogMel(bands=5, window=24, hop=10, stack=stack, stride=stride, sample_rate=800, low=10, high=400)
    audio = noise(samples)
    features = made(audio)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, by_definition(audio, made), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "choice",
    [
        {"floored": "maximum", "floor": 2.0},
        {"remove_mean": True},
        {"preemphasis": 0.97},
        {"taper": "povey"},
        {"triangles": "mel"},
        {"delay": 6},
        {"remove_mean": True, "preemphasis": 0.5, "taper": "povey", "triangles": "mel", "delay": 3},
    ],
    ids=lambda choice: "-".join(choice),
)
def test_every_choice_of_the_formula(choice):
    made, audio = replace(SMALL, **choice), 0.3 + noise(47)
    features = made(audio)
    np.testing.assert_allclose(features, by_definition(audio, made), rtol=1e-6, atol=1e-6)
    assert not np.allclose(features, SMALL(audio), atol=1e-3), "a choice that changes nothing proves nothing"


def test_kaldi_features_of_both_rates():
    for rate, sizes in ((16000, (400, 160, 80)), (8000, (200, 80, 40))):
        made = LogMel.kaldi(23, rate)
        assert (made.window, made.hop, made.delay) == sizes
        assert made(np.zeros(rate)).shape == (100, 23)


@given(st.integers(0, 90), st.integers(0, 90))
def test_features_of_the_past_do_not_change_with_what_comes(before, after):
    audio, step = noise(before + after), SMALL.samples_per_step
    whole, part = SMALL(audio), SMALL(audio[:before])
    complete = before // step
    assert len(whole) == -(-len(audio) // step)
    assert np.array_equal(whole[:complete], part[:complete])


def test_a_long_recording_is_the_same_in_blocks(monkeypatch):
    whole = SMALL(noise(990))
    monkeypatch.setattr(log_mel, "BLOCK", 7)
    assert np.array_equal(SMALL(noise(990)), whole)


def test_a_tone_is_loudest_in_the_band_of_its_frequency():
    made = LogMel(stack=1, stride=1)
    peaks = np.asarray([700 * (10 ** (m / 2595) - 1) for m in np.linspace(mel(20), mel(8000), 42)])[1:-1]
    for band in (5, 20, 38):
        tone = np.sin(2 * np.pi * peaks[band] * np.arange(4000) / 16000)
        assert (made(tone)[3:].argmax(axis=1) == band).all()


def test_silence_is_the_floor_and_no_sound_is_no_step():
    np.testing.assert_allclose(LogMel()(np.zeros(1000)), math.log(1e-5), rtol=1e-6)
    assert LogMel()(np.zeros(0)).shape == (0, 120)


def test_sizes_in_words():
    made = LogMel(bands=64, stack=4, stride=3)
    assert (made.features, made.samples_per_step, made.seconds_per_step, made.transform) == (
        256,
        480,
        0.03,
        512,
    )
    assert LogMel(window=512).transform == 512


@pytest.mark.parametrize(
    "sizes",
    [{"hop": 0}, {"hop": 401}, {"stack": 2}, {"stride": 0}, {"high": 8001}, {"low": 8000}, {"floor": 0}],
)
def test_sizes_that_do_not_go_together_are_refused(sizes):
    with pytest.raises(DataError, match="expected 0 < hop <= window"):
        LogMel(**sizes)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"taper": "sine"}, "taper is 'hann' or 'povey', found 'sine'"),
        ({"floored": "none"}, "floored is 'sum' or 'maximum', found 'none'"),
        ({"triangles": "bark"}, "triangles is 'hertz' or 'mel', found 'bark'"),
        ({"preemphasis": 1.5}, "expected 0 <= preemphasis <= 1 and 0 <= delay <= 80"),
        ({"delay": 81}, "0 <= delay <= 80, which is what the window lacks to whole hops"),
        ({"window": 480, "delay": 1}, "0 <= delay <= 0"),
    ],
)
def test_choices_that_are_none_are_refused(choice, said):
    with pytest.raises(DataError, match=said):
        LogMel(**choice)


@pytest.mark.parametrize("bands", [0, 200])
def test_bands_without_a_bin_are_refused(bands):
    with pytest.raises(DataError, match="take fewer bands or a longer window"):
        LogMel(bands=bands)


def test_normalised_features_have_mean_0_and_deviation_1():
    utterances = [SMALL(noise(500, seed)) for seed in range(4)] + [np.zeros((0, 10), np.float32)]
    made = Normalization.of(utterances)
    together = np.concatenate([made(utterance) for utterance in utterances])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(together.std(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("utterances", [[], [np.zeros((0, 3))]])
def test_nothing_cannot_be_normalised(utterances):
    with pytest.raises(DataError, match="hold no frame"):
        Normalization.of(utterances)


def test_a_feature_that_never_changes_is_refused():
    with pytest.raises(DataError, match="same value in every frame"):
        Normalization.of([SMALL(np.zeros(500))])
