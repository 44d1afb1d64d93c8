"""Model files that nnaq cannot take: one sentence, exit code 2, nothing left behind."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import files, lower_words, one_line, refused
from frontends.onnx_models import model
from voice_models import detector


def truncated(place: Path) -> None:
    path = place / "model.onnx"
    path.write_bytes(path.read_bytes()[:-200])


def outside(place: Path) -> None:
    made = onnx.load(place / "model.onnx")
    onnx.save(
        made, place / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )


def not_finite(place: Path) -> None:
    made = detector(weight=np.nan)
    onnx.save(made, place / "model.onnx")


def unknown_operators(place: Path) -> None:
    onnx.save(
        detector("wild = Acosh(logit) wilder = Asinh(wild) score = Sigmoid(wilder)"), place / "model.onnx"
    )


def text_file(place: Path) -> None:
    (place / "model.onnx").write_text("this is no model")


def empty_file(place: Path) -> None:
    (place / "model.onnx").write_bytes(b"")


def no_file(place: Path) -> None:
    (place / "model.onnx").unlink()


def folder_for_a_model(place: Path) -> None:
    no_file(place)
    (place / "model.onnx").mkdir()


def empty_graph(place: Path) -> None:
    onnx.save(model("(float[T,4] x) => (float[T,4] x) { }"), place / "model.onnx")


MODELS = [
    (truncated, ["model.onnx"]),
    (outside, ["external data", "'w'"]),
    (not_finite, ["'w' holds NaN"]),
    (unknown_operators, ["Acosh", "Asinh", "2 nodes that cannot be imported"]),
    (text_file, ["model.onnx", "not an ONNX file"]),
    (empty_file, ["empty or not an ONNX file"]),
    (no_file, ["model.onnx"]),
    (folder_for_a_model, ["model.onnx"]),
    (empty_graph, ["has no nodes"]),
]


@pytest.mark.parametrize(("spoil", "words"), MODELS, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize("command", ["lower", "check", "show"])
def test_a_bad_model_is_refused_in_one_sentence(nnaq, place, spoil, words, command):
    spoil(place)
    before = files(place)
    recipe = ["--recipe", place / "recipe.toml"]
    rest = lower_words(place) if command == "lower" else [place / "model.onnx", *recipe]
    said = nnaq(command, *rest)
    refused(said, *words)
    one_line(said)
    assert files(place) == before


def test_check_lists_problems_as_json_too(nnaq, place):
    unknown_operators(place)
    said = nnaq("check", place / "model.onnx", "--recipe", place / "recipe.toml", "--json")
    assert said.code == 2
    assert len(json.loads(said.out)["problems"]) == 2
