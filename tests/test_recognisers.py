"""The recognisers that ship: small, complete, and able to hear the speech that ships beside them."""

import json
from pathlib import Path

import pytest

from nnaq.errors import DataError
from nnaq.tasks.hearing import SHIPPED, TABLE, WEIGHTS, read_tables, recogniser_at
from nnaq.tasks.recogniser import read_recogniser

ROOT = Path(__file__).parent.parent
SPEECH = ROOT / "examples" / "speech"
FOLDERS = sorted(path for path in SHIPPED.iterdir() if path.is_dir())


def test_there_is_one():
    assert "rnnt" in [folder.name for folder in FOLDERS]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_is_small_and_says_where_it_comes_from(folder):
    assert (folder / WEIGHTS).stat().st_size < 4_000_000
    tables, hearing = read_tables(folder)
    training = tables["training"]
    assert training["test"]["wer"] < 0.5 and training["configuration"]["task"] == "speech"
    assert "data" not in training["configuration"]
    rows = (folder / "log.csv").read_text().splitlines()
    assert len(rows) > training["epochs"]
    module = read_recogniser(folder).module
    assert module.say.out_features == len(hearing.units)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_what_is_published_is_what_ships(folder):
    found = json.loads((ROOT / "benchmarks" / "results" / "recognisers.json").read_text())
    row = next(row for row in found["rows"] if row["model"] == folder.name)
    training = read_tables(folder)[0]["training"]
    assert row["words"] == 773
    # The module was judged in float32 beside others of its batch; it ships in float16.
    assert row["float"]["word_error_rate"] == pytest.approx(training["test"]["wer"], abs=0.01)


def test_a_recogniser_is_found_by_its_name(tmp_path, monkeypatch):
    assert recogniser_at(Path("rnnt")) == SHIPPED / "rnnt"
    with pytest.raises(DataError, match=r"no file or folder rnt, nor .* those that do: convrnnt, rnnt"):
        recogniser_at(Path("rnt"))
    for path in (Path("none.onnx"), Path("none/rnnt")):
        assert recogniser_at(path) == path
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rnnt").mkdir()
    assert recogniser_at(Path("rnnt")) == Path("rnnt")


def test_it_is_lowered_by_name_and_hears_words(nnaq, tmp_path):
    out = tmp_path / "words"
    recordings = ("--calibrate", SPEECH / "calibrate", "--evaluate", SPEECH / "evaluate")
    said = nnaq("lower", "rnnt", *recordings, "-o", out, "--json")
    assert said.code == 0
    report = json.loads(said.out)
    assert report["accuracy"]["word_error_rate"]["integer"] < 0.5
    assert not report["islands"]
    assert report["checks"]["file_equals_simulator"]["mismatches"] == 0
    counted = json.loads(nnaq("evaluate", out, "--data", SPEECH / "evaluate", "--json").out)
    assert counted["word_error_rate"] == report["accuracy"]["word_error_rate"]["integer"]
    assert (out / TABLE).is_file()
