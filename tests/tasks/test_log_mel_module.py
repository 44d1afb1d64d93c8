"""The front-end in torch against LogMel, and its integers against both."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nnaq
from nnaq.errors import DataError
from nnaq.export.check import file_equals_simulator
from nnaq.export.onnx import export_model
from nnaq.interpret import run
from nnaq.quantize.recipe import parse_recipe
from nnaq.tasks.log_mel import LogMel, Normalization
from nnaq.tasks.log_mel_module import LogMelModule, in_digits, rows_of
from nnaq.tasks.recordings import find_recordings, read_audio

PLAIN = LogMel(bands=6, window=50, hop=20, stack=1, stride=1, sample_rate=2000, high=1000)
KALDI = replace(LogMel.kaldi(6, 2000), low=40.0)
RECIPE = """
name = "front"
[quantize]
activations = "16"
repair = []
[values.x]
dtype = "i16"
low = -1.0
high = 1.0
"""


def noise(samples, seed=0):
    """Bursts: loud, faint and none."""
    generator = np.random.default_rng(seed)
    loudness = np.repeat(10.0 ** generator.uniform(-4, 0, -(-samples // 90)), 90)[:samples]
    return (loudness * generator.uniform(-1, 1, samples)).astype(np.float32)


def heard(module, audio):
    with torch.no_grad():
        return module(torch.from_numpy(module.hops(audio)))[:, 0].numpy()


# --- over the reals


@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize(("stack", "stride"), [(1, 1), (3, 3), (8, 6), (3, 1), (7, 2)])
def test_the_features_of_log_mel(stack, stride, digits):
    made = replace(PLAIN, stack=stack, stride=stride)
    normalization = Normalization.of([made(noise(2000, seed)) for seed in range(3)])
    for samples in (1, 999, 1000):
        audio = noise(samples)
        np.testing.assert_allclose(heard(LogMelModule(made, digits=digits), audio), made(audio), atol=2e-4)
        normalised = heard(LogMelModule(made, normalization, digits), audio)
        np.testing.assert_allclose(normalised, normalization(made(audio)), atol=2e-4)


@pytest.mark.parametrize("made", [KALDI, replace(PLAIN, delay=7), replace(PLAIN, window=60), LogMel()])
def test_other_definitions(made):
    audio = noise(3000)
    features = heard(LogMelModule(made), audio)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, made(audio), atol=2e-4)


@pytest.mark.parametrize("made", [PLAIN, KALDI])
def test_silence_is_zero_before_the_floor_is_added(made):
    module = LogMelModule(made)
    with torch.no_grad():
        assert not module.heard(torch.zeros(1, made.hop, 4)).any()


@given(st.integers(1, 9), st.integers(0, 9))
def test_nothing_looks_ahead(before, after):
    module = LogMelModule(replace(PLAIN, stack=3, stride=2))
    audio = noise(40 * (before + after))
    # Not by equality: torch sums in another order where there is more to do.
    np.testing.assert_allclose(heard(module, audio)[:before], heard(module, audio[: 40 * before]), atol=1e-4)


def test_side_by_side_is_one_after_the_other():
    module, sounds = LogMelModule(PLAIN), [noise(400, seed) for seed in range(3)]
    with torch.no_grad():
        together = module(torch.from_numpy(np.concatenate([module.hops(sound) for sound in sounds], axis=1)))
    for number, sound in enumerate(sounds):
        np.testing.assert_allclose(together[:, number], heard(module, sound), atol=1e-5)


def test_digits_sum_to_the_rows_and_all_but_the_last_are_codes():
    rows = rows_of(PLAIN)
    first, second = in_digits(rows, 2)
    np.testing.assert_allclose(first + second, rows, rtol=0, atol=1e-15)
    scale = np.abs(rows).max(axis=(1, 2), keepdims=True) / 127
    np.testing.assert_allclose(first / scale, np.rint(first / scale), atol=1e-9)
    assert (np.abs(second) <= scale / 2 * (1 + 1e-9)).all()


def test_digits_beyond_two_are_refused():
    with pytest.raises(DataError, match="1 or 2 digits of 8 bits, found 3"):
        LogMelModule(PLAIN, digits=3)


def test_nothing_of_it_is_trained():
    assert not any(parameter.requires_grad for parameter in LogMelModule(PLAIN).parameters())


# --- in integers


def lowered(module, sounds):
    hop = module.log_mel.hop
    options = nnaq.ImportOptions(time={"x": 0}, shapes={"x": ("T", "N", hop)})
    recordings = [{"x": module.hops(sound)} for sound in sounds]
    example = (torch.zeros(module.log_mel.stride * 4, 2, hop),)
    return nnaq.lower(module, example, recordings, recipe=parse_recipe(RECIPE), options=options)


def error_db(integer, module, sounds):
    """Root of the mean squared error of log mel features, in decibels."""
    errors = []
    for sound in sounds:
        (found,) = run(integer, {"x": module.hops(sound)}).outputs.values()
        errors.append((found[:, 0] - module.log_mel(sound)).ravel() * 10 / np.log(10))
    return float(np.sqrt(np.mean(np.square(np.concatenate(errors)))))


@pytest.fixture(scope="module", params=[("sum", 1), ("sum", 2), ("maximum", 1)], ids=str)
def crossed(request):
    floored, digits = request.param
    module = LogMelModule(replace(PLAIN, stack=3, stride=2, floored=floored), digits=digits)
    return module, lowered(module, [noise(4000, seed) for seed in range(3)]).crossing.integer


def test_energies_stay_in_32_bits_until_the_logarithm(crossed):
    integer = crossed[1]
    (logarithm,) = (node for node in integer.nodes if node.op == "log")
    squares = [node for node in integer.nodes if node.op == "square"]
    value = logarithm.inputs[0]
    while integer.producer[value].op != "square":
        kind = integer.types[value]
        assert kind.dtype == "i32" and kind.scale == integer.types[squares[0].outputs[0]].scale
        value = integer.producer[value].inputs[0]
    assert integer.types[logarithm.outputs[0]].dtype == "i16"


def test_integers_are_within_a_decibel(crossed):
    module, integer = crossed
    assert error_db(integer, module, [noise(4000, seed) for seed in range(10, 14)]) < 1.0


class Scored(torch.nn.Module):
    """A front-end within a model: two scores per step."""

    def __init__(self):
        super().__init__()
        self.front, self.score = LogMelModule(PLAIN), torch.nn.Linear(PLAIN.features, 2)

    def forward(self, x):
        return self.score(self.front(x))


def test_one_override_gives_a_front_end_its_bits_within_a_model():
    model = Scored().eval()
    recipe = RECIPE.replace('"16"', '"8"') + "[[overrides]]\nregex = 'front\\..*'\nactivations = \"16\"\n"
    options = nnaq.ImportOptions(time={"x": 0}, shapes={"x": ("T", "N", PLAIN.hop)})
    recordings = [{"x": model.front.hops(noise(4000))}]
    example = (torch.zeros(4, 2, PLAIN.hop),)
    made = nnaq.lower(model, example, recordings, recipe=parse_recipe(recipe), options=options)
    integer = made.crossing.integer
    logarithm, score = (next(n for n in integer.nodes if n.op == op) for op in ("log", "fully_connected"))
    found = [integer.types[v].dtype for v in (logarithm.inputs[0], logarithm.outputs[0], score.outputs[0])]
    assert found == ["i32", "i16", "i8"]


def test_reference_kernels_and_the_exported_file_give_the_same(crossed):
    module, integer = crossed
    feeds = {"x": module.hops(noise(120, 5))}
    fast, reference = (run(integer, feeds, mode=mode) for mode in ("fast", "reference"))
    for name, array in reference.outputs.items():
        assert np.array_equal(fast.outputs[name], array)
    values, mismatches = file_equals_simulator(export_model(integer), integer, feeds)
    assert values and not mismatches


@pytest.mark.skipif("NNAQ_DATA" not in os.environ, reason="set NNAQ_DATA to a folder that holds an4/")
@pytest.mark.parametrize(
    ("made", "digits", "least", "most"),
    [(LogMel(), 1, 0.5, 1.1), (LogMel(), 2, 0.4, 0.8), (LogMel.kaldi(40), 2, 0.4, 0.8)],
    ids=["hann-1", "hann-2", "kaldi-2"],
)
def test_real_speech_is_within_the_stated_error(made, digits, least, most):
    folder = Path(os.environ["NNAQ_DATA"]) / "an4"
    train, test = (
        [read_audio(recording.path, 16000) for recording in find_recordings(folder / name)[::step]]
        for name, step in (("train", 48), ("test", 10))
    )
    module = LogMelModule(made, digits=digits)
    found = error_db(lowered(module, train).crossing.integer, module, test)
    print(f"{made.bands} bands, {digits} digits: {found:.2f} dB")
    assert least < found < most
