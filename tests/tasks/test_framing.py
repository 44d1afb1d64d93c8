"""Framing: every sample lands where the formula says."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from nnaq.errors import DataError, RecipeError
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType
from nnaq.quantize.recipe import load_recipe, parse_recipe
from nnaq.tasks.framing import frame_seconds, frames, model_inputs
from nnaq.tasks.recordings import Recording

RECIPE = 'name = "r"\n[input]\nport = "x"\nsample_rate = 8000\nhop = 4\ncontext = 2'


def net(*names: str, width: int = 6) -> Graph:
    b = Builder("net")
    for name in names:
        b.output(b.input(name, TensorType("f32", ("T", width)), time_axis=0), time_axis=0)
    return b.build()


def recorded(path: Path, samples: int) -> Recording:
    soundfile.write(path, np.arange(1, samples + 1, dtype=np.int16), 8000, subtype="PCM_16")
    return Recording(path.name, path)


@given(st.integers(0, 50), st.integers(1, 9), st.integers(0, 12))
def test_frames_follow_the_formula(samples, hop, context):
    audio = np.arange(1, samples + 1, dtype=np.float32)
    made = frames(audio, hop, context)
    assert made.shape == (-(-samples // hop), context + hop)
    assert made.dtype == np.float32
    for t, frame in enumerate(made):
        places = range(t * hop - context, (t + 1) * hop)
        assert frame.tolist() == [audio[i] if 0 <= i < samples else 0.0 for i in places]


def test_audio_becomes_the_input_of_the_recipe(tmp_path):
    inputs = model_inputs(recorded(tmp_path / "a.wav", 6), parse_recipe(RECIPE), net("x"))
    assert list(inputs) == ["x"]
    assert (inputs["x"] * 32768).tolist() == [[0, 0, 1, 2, 3, 4], [3, 4, 5, 6, 0, 0]]


def test_arrays_pass_by_the_framing(tmp_path):
    x = np.ones((3, 6), np.float32)
    np.savez(tmp_path / "a.npz", x=x)
    inputs = model_inputs(Recording("a", tmp_path / "a.npz"), parse_recipe(RECIPE), net("x"))
    assert np.array_equal(inputs["x"], x)


def test_a_recipe_without_framing_takes_no_audio(tmp_path):
    with pytest.raises(
        DataError, match=r"no \[input\], so model 'net' takes npz files with arrays x, y, not audio"
    ):
        model_inputs(recorded(tmp_path / "a.wav", 6), parse_recipe('name = "r"'), net("x", "y"))


def test_framing_that_does_not_fit_the_model_is_the_recipes_mistake(tmp_path):
    recording, recipe = recorded(tmp_path / "a.wav", 6), parse_recipe(RECIPE)
    with pytest.raises(RecipeError, match="fills 'x'; model 'net' takes y"):
        model_inputs(recording, recipe, net("y"))
    with pytest.raises(RecipeError, match="fills 'x'; model 'net' takes x, y"):
        model_inputs(recording, recipe, net("x", "y"))
    with pytest.raises(RecipeError, match=r"a framed 'x' has shape \[2, 6\], expected \[T,7\]"):
        model_inputs(recording, recipe, net("x", width=7))


def test_frame_seconds():
    assert frame_seconds(load_recipe("silero_vad")) == 0.032
    assert frame_seconds(parse_recipe('name = "r"')) is None
