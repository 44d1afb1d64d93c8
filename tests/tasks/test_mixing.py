"""Mixing and labels by energy, on synthetic sound and, where it is there, on AN4."""

import os
from pathlib import Path

import numpy as np
import pytest

from nnaq.errors import DataError
from nnaq.tasks.mixing import energy_labels, mix
from nnaq.tasks.recordings import find_recordings, read_audio

# Powers of two, so that sums and quotients are exact.
SPEECH = np.array([0.5, -0.5] * 8, np.float32)


def test_equal_powers_at_0_db_and_a_hundredth_at_20_db():
    noise = np.array([0.25, 0.25] * 8, np.float32)
    assert np.array_equal(mix(SPEECH, noise, 0.0) - SPEECH, np.full(16, 0.5, np.float32))
    added = mix(SPEECH, noise, 20.0).astype(np.float64) - SPEECH
    assert np.abs(added - 0.05).max() < 2**-24


def test_noise_starts_where_the_seed_says_and_is_repeated():
    noise = np.array([1, 2, 4, 8, 16], np.float32)
    added = mix(SPEECH, noise, 0.0, seed=1) - SPEECH
    assert np.argmax(added[:5]) == np.argmax(added[5:10])
    assert np.array_equal(mix(SPEECH, noise, 0.0, seed=1), mix(SPEECH, noise, 0.0, seed=1))
    assert len({np.argmax(mix(SPEECH, noise, 0.0, seed) - SPEECH) for seed in range(20)}) > 1


@pytest.mark.parametrize(
    ("speech", "noise", "who"), [(SPEECH * 0, SPEECH, "speech"), (SPEECH, SPEECH[:0], "noise")]
)
def test_silence_has_no_snr(speech, noise, who):
    with pytest.raises(DataError, match=f"^{who} to be mixed is silent"):
        mix(speech, noise, 0.0)


def test_frames_within_35_db_of_the_loudest_are_speech():
    levels = np.array([0.0, 1.0, 0.018, 0.0175, 0.001])  # -34.9 dB is in, -35.1 dB is out
    audio = np.repeat(levels, 4).astype(np.float32)
    assert energy_labels(audio, 4).tolist() == [False, True, True, False, False]
    assert energy_labels(audio[:-3], 4).tolist() == [False, True, True, False, False]
    assert energy_labels(np.zeros(8, np.float32), 4).tolist() == [False, False]
    assert energy_labels(np.zeros(0, np.float32), 4).shape == (0,)


@pytest.mark.skipif("NNAQ_DATA" not in os.environ, reason="set NNAQ_DATA to a folder that holds an4/")
def test_an4_utterances_start_in_silence_and_hold_speech():
    recordings = find_recordings(Path(os.environ["NNAQ_DATA"]) / "an4" / "test")[:20]
    labels = [energy_labels(read_audio(recording.path, 16000), 512) for recording in recordings]
    assert all(label.any() and not label.all() for label in labels)
    assert sum(not label[0] for label in labels) > len(labels) / 2
