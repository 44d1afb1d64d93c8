"""What a target does not run, and budgets that do not do: told everywhere, and exit code 3 with --strict."""

import json
from pathlib import Path

import onnx
import pytest
from command_line import lower_words, refused, target_text

from nnaq.export.read import read_lowered


@pytest.fixture
def without_sigmoid(place) -> Path:
    """The file of a target that does not run sigmoid."""
    path = place / "own.toml"
    path.write_text(target_text('"sigmoid"'))
    return path


def test_an_island_is_told_everywhere_and_written(nnaq, place, without_sigmoid):
    said = nnaq("lower", *lower_words(place), "--target", without_sigmoid)
    assert said.code == 0
    (island,) = json.loads((place / "out" / "report.json").read_text())["islands"]
    assert (island["name"], island["op"]) == ("score", "sigmoid")
    assert island["reason"] == "target 'own' does not run 'sigmoid'"
    assert island["cycles"] > 0
    told = " ".join(said.out.split())
    assert "score sigmoid target 'own' does not run 'sigmoid'" in told
    graph = read_lowered(place / "out" / "model.onnx")
    assert {graph.types[v].dtype for v in (*graph.node("score").inputs, *graph.node("score").outputs)} == {
        "f32"
    }
    assert "sigmoid" in [node.op_type for node in onnx.load(place / "out" / "model.onnx").graph.node]


def test_check_foresees_the_island_of_the_report(nnaq, place, without_sigmoid):
    nnaq("lower", *lower_words(place), "--target", without_sigmoid)
    words = ["check", place / "model.onnx", "--recipe", place / "recipe.toml", "--target", without_sigmoid]
    said = nnaq(*words)
    assert said.code == 0
    assert "1 left to the host by own" in said.out
    assert "sigmoid 'score'" in said.out
    found = json.loads(nnaq(*words, "--json").out)
    report = json.loads((place / "out" / "report.json").read_text())
    assert found == {"problems": [], "islands": report["islands"]}
    assert nnaq(*words, "--strict").code == 3


def test_strict_ends_with_3_where_there_are_islands(nnaq, place, without_sigmoid):
    said = nnaq("lower", *lower_words(place), "--target", without_sigmoid, "--strict", "--json")
    assert said.code == 3
    assert said.err == (
        "nnaq: --strict: sigmoid 'score' is left to the host: target 'own' does not run 'sigmoid'\n"
    )
    assert json.loads(said.out)["islands"]
    assert (place / "out" / "report.json").is_file()


def test_strict_ends_with_3_where_the_memory_does_not_do(nnaq, place):
    (place / "own.toml").write_text(target_text().replace("bytes = 524_288", "bytes = 64"))
    said = nnaq("lower", *lower_words(place), "--target", place / "own.toml", "--strict", "--json")
    assert said.code == 3
    assert "exceeds the target's 64 bytes" in said.err


def test_a_wrong_metric_is_told_before_recordings_are_read(nnaq, place):
    (place / "data" / "0.wav").write_bytes(b"no sound")
    said = nnaq("lower", *lower_words(place), "--metric", "decision:scare>0.5", "--json")
    refused(said, "the model has no output 'scare', only score")
