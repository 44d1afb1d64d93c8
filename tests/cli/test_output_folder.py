"""The output folder: what it holds, and what keeps it from being written."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
from command_line import files, lower_words, one_line, refused
from voice_models import RECIPE


def parent_missing(place: Path) -> tuple[Path, str]:
    return place / "no" / "out", "No such file or directory"


def file_in_the_way(place: Path) -> tuple[Path, str]:
    (place / "out").write_text("mine")
    return place / "out", "is a file"


def file_as_parent(place: Path) -> tuple[Path, str]:
    (place / "file").write_text("mine")
    return place / "file" / "out", "Not a directory"


def folder_of_others(place: Path) -> tuple[Path, str]:
    return place / "data", "was not written by nnaq"


def long_name(place: Path) -> tuple[Path, str]:
    return place / ("o" * 300), "File name too long"


@pytest.mark.parametrize(
    "choose", [parent_missing, file_in_the_way, file_as_parent, folder_of_others, long_name]
)
def test_an_output_that_cannot_be_written_is_refused(nnaq, place, choose):
    out, told = choose(place)
    before = files(place)
    said = nnaq("lower", *lower_words(place), "-o", out, "--force", "--json")
    refused(said, told)
    one_line(said)
    assert files(place) == before


def test_an_earlier_result_is_kept_without_force(nnaq, lowered, tmp_path):
    place = shutil.copytree(lowered.parent, tmp_path / "scene")
    before = files(place)
    said = nnaq("lower", *lower_words(place), "--json")
    refused(said, "--force")
    one_line(said)
    assert files(place) == before
    (place / "out" / "report.json").write_text('{"versions": {"nnaq": "earlier"}}')
    said = nnaq("lower", *lower_words(place), "--force", "--json")
    assert said.code == 0
    assert json.loads((place / "out" / "report.json").read_text()) == json.loads(said.out)


WRITTEN = [
    "golden.npz", "layers.csv", "model.onnx", "plan.json", "recipe.toml", "report.html", "report.json",
    "trace.json",
]  # fmt: skip


def test_lower_writes_what_it_says(lowered):
    assert files(lowered) == WRITTEN
    assert files(lowered.parent)[0].startswith("data")
    report = json.loads((lowered / "report.json").read_text())
    assert report["checks"]["file_equals_simulator"] == {"values": 40 + 16, "mismatches": 0}
    assert report["versions"]["nnaq"] == version("nnaq")
    assert report["islands"] == []


def test_lower_for_people_shows_the_report_and_the_folder(nnaq, place):
    said = nnaq("lower", *lower_words(place), "--dump", "--strict")
    assert said.code == 0
    assert f"wrote {place / 'out'}" in said.out.replace("\n", "")
    assert "held out 1 of 3 recordings for evaluation (seed 0)" in said.err
    assert [name[3:] for name in files(place / "out" / "passes")] == [
        "fold-constants.txt", "fuse-activation.txt", "canonicalize.txt", "insert-fake-quant.txt",
        "assign-codebooks.txt", "lower-to-integer.txt", "canonicalize.txt",
    ]  # fmt: skip


def test_strict_ends_with_3_where_the_goal_is_missed(nnaq, place):
    (place / "recipe.toml").write_text(RECIPE.replace("[input]", 'metric = "decision:score>0.5"\n[input]'))
    said = nnaq("lower", *lower_words(place), "--goal", "1", "--strict", "--json")
    found = json.loads(said.out)["accuracy"]["agreement"]["integer"]
    assert said.code == (3 if found < 1 else 0)
