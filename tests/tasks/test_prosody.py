"""Prosody: pitch against Praat's and against glides of known pitch, and what features may not depend on."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import nnaq
from nnaq.errors import DataError, FrontendError
from nnaq.tasks.prosody import FEATURES, Prosody
from nnaq.tasks.prosody_module import ProsodyModule
from nnaq.tasks.recordings import read_audio

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # behind the tests, whose folders share names with its files

from pitch import errors, hertz, noisy, read  # noqa: E402

VOICING, PITCH, SLOPE, TOTAL, LOW, HIGH = range(FEATURES)
SPEECH = ROOT / "examples" / "speech" / "evaluate" / "an396-miry-b.flac"


@pytest.fixture(scope="module")
def speech():
    return read_audio(SPEECH, 16000)


@pytest.mark.parametrize("place", range(4))
def test_glides_have_the_pitch_they_were_made_with(place):
    cases = list(read("glides"))
    found = [hertz(sounds[place]) for sounds, _, _ in cases]
    gross, voicing, frames = errors(found, [true for _, _, true in cases])
    assert frames == 560 and gross == 0 and voicing < 0.03
    ours, true = np.concatenate(found), np.concatenate([true for _, _, true in cases])
    both = (ours > 0) & (true > 0)
    assert np.abs(np.log2(ours[both] / true[both])).max() < 0.1


@pytest.mark.parametrize("place", [0, 3])
def test_speech_has_the_pitch_that_praat_finds(place):
    cases = list(read("speech"))
    found = [hertz(sounds[place]) for sounds, _, _ in cases]
    gross, voicing, frames = errors(found, [truth for _, _, truth in cases])
    assert frames == 5790 and gross < 0.025 and voicing < 0.07


def test_slopes_are_octaves_a_second():
    for (clean, *_), _, true in read("glides"):
        features = Prosody(stack=1)(np.asarray(clean, np.float32))
        inside = slice(20, 62)  # away from both ends
        wanted = np.log2(true[61] / true[20]) / 0.41
        assert np.abs(np.median(features[inside, SLOPE]) - wanted) < 0.05


def test_pitch_is_around_that_of_the_last_frames():
    """The mean of an even rise lies half of it back."""
    (clean, *_), _, true = next(read("glides"))
    features = Prosody(stack=1)(np.asarray(clean, np.float32))
    voiced = np.flatnonzero(features[:, SLOPE])
    last = voiced[-5]
    assert abs(features[last, PITCH] - np.log2(true[last] / true[voiced[0]]) / 2) < 0.08


def test_unvoiced_frames_have_no_pitch(speech):
    noise = np.random.default_rng(0).standard_normal(8000).astype(np.float32) * 0.1
    features = Prosody(stack=1)(noise)
    unvoiced = features[:, VOICING] <= Prosody().threshold
    assert unvoiced.mean() > 0.95
    assert not features[unvoiced][:, [PITCH, SLOPE]].any()


def test_silence_is_unvoiced_and_as_loud_as_ever():
    features = Prosody(stack=1)(np.zeros(1600))
    assert features.shape == (10, 6) and not features[:, [VOICING, PITCH, SLOPE, TOTAL]].any()


def test_nothing_looks_ahead(speech):
    whole = Prosody()(speech)
    cut = 480 * (len(whole) // 2)
    assert np.array_equal(Prosody()(speech[:cut]), whole[: len(whole) // 2])


def test_loudness_is_not_heard(speech):
    """Only the floor knows it: with a floor of next to nothing, twice as loud is the same."""
    prosody = Prosody(floor=1e-12)
    assert np.abs(prosody(speech) - prosody(2 * speech))[30:].max() < 1e-3


def test_energy_is_parted_at_the_split():
    seconds = np.arange(8000) / 16000
    for tone, more, less in ((500, LOW, HIGH), (3000, HIGH, LOW)):
        features = Prosody(stack=1)(np.sin(2 * np.pi * tone * seconds).astype(np.float32) * 0.1)
        assert np.abs(features[8:, more]).max() < 0.01 and features[8:, less].max() < -6


@pytest.mark.parametrize("snr", [None, 10])
def test_the_module_has_the_same_features(speech, snr):
    sound = speech if snr is None else noisy(speech, 7)[1].astype(np.float32)
    module = ProsodyModule(Prosody())
    with torch.no_grad():
        made = module(torch.from_numpy(module.hops(sound)))[:, 0].numpy()
    wanted = Prosody()(sound)
    assert made.shape == wanted.shape
    apart = np.abs(made - wanted).reshape(-1, FEATURES)
    assert apart.max() < 2e-3 and apart[:, :HIGH].max() < 5e-4


def test_the_module_is_exported_with_time_and_batch_open():
    module = ProsodyModule(Prosody())
    steps, batch = torch.export.Dim("steps", min=2), torch.export.Dim("batch", min=1)
    program = torch.export.export(
        module, (torch.zeros(12, 2, 160),), dynamic_shapes={"sound": {0: 3 * steps, 1: batch}}
    )
    sound = torch.randn(30, 3, 160, generator=torch.Generator().manual_seed(0)) * 0.1
    assert torch.equal(program.module()(sound), module(sound))


def test_pitch_stays_with_the_host():
    with pytest.raises(FrontendError, match="argmax"):
        nnaq.load_module(
            ProsodyModule(Prosody()), torch.zeros(12, 2, 160), nnaq.ImportOptions(time={"sound": 0})
        )


@pytest.mark.parametrize("sizes", [{"lowest": 600.0}, {"window": 320}, {"window": 650}, {"stack": 0}])
def test_sizes_that_do_not_go_together_are_refused(sizes):
    with pytest.raises(DataError, match="expected"):
        Prosody(**sizes)


def test_nothing_has_no_features():
    assert Prosody()(np.zeros(0)).shape == (0, 18)
