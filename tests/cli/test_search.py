"""`nnaq search`: what it writes, what it refuses, and that a killed one ends the same."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import files, one_line, refused

from nnaq.search.journal import JournalError, opened

WRITTEN = ["front.csv", "front.png", "recipe.toml", "search.json", "sensitivity.csv"]


def words(place: Path, *more: object, budget: str = "sqnr>=25", bits: str = "2,4") -> list[object]:
    return [
        "search", place / "model.onnx", "--recipe", place / "recipe.toml", "--calibrate", place / "data",
        "--evaluate", place / "held", "--activations", "8", "--bits", bits, "--budget", budget,
        "-o", place / "found", *more,
    ]  # fmt: skip


@pytest.fixture(scope="session")
def searched(_scene, nnaq_once, tmp_path_factory) -> Path:
    """The folder of one good search, and what it printed in said.json; not to be written to."""
    place = shutil.copytree(_scene, tmp_path_factory.mktemp("searched") / "scene")
    (place / "said.json").write_text(nnaq_once(*words(place, "--json")))
    return place


def read(place: Path):
    return json.loads((place / "found" / "search.json").read_text())


def rows(place: Path, name: str):
    return list(csv.DictReader((place / "found" / name).read_text().splitlines()))


def test_a_search_writes_its_folder_and_leaves_nothing_beside_it(searched):
    assert files(searched / "found") == WRITTEN
    assert [name for name in files(searched) if name.startswith("found.")] == []
    assert (searched / "found" / "front.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((searched / "said.json").read_text()) == read(searched)


def test_the_chosen_model_keeps_the_budget_as_measured(searched):
    found = read(searched)
    measured = found["chosen"]["measured"]
    assert measured["figures"]["sqnr:score"]["integer"] >= 25
    keeping = [
        p["measured"] for p in found["measured"] if p["measured"]["figures"]["sqnr:score"]["integer"] >= 25
    ]
    assert measured["bytes"] == min(p["bytes"] for p in keeping)
    assert len(found["measured"]) >= 6
    assert all(p["held_out"]["sqnr:score"]["integer"] for p in found["measured"])


def test_the_front_and_the_sensitivities_say_the_same(searched):
    found, front, alone = read(searched), rows(searched, "front.csv"), rows(searched, "sensitivity.csv")
    (chosen,) = [row for row in front if row["kind"] == "chosen"]
    assert int(chosen["measured_bytes"]) == found["chosen"]["measured"]["bytes"]
    assert [row["weight"] for row in alone] == ["", *(name for name in ("w", "wx", "wh", "v") for _ in "24")]
    assert [row["bits"] for row in alone] == ["8", *"24242424"]
    # Bytes add up exactly: what every weight saves alone, it saves in the chosen model.
    base = int(alone[0]["bytes"])
    saved = {(row["weight"], int(row["bits"])): base - int(row["bytes"]) for row in alone[1:]}
    palettes = found["chosen"]["palettes"]
    assert base - sum(saved[name, p["bits"]] for name, p in palettes.items()) == int(chosen["measured_bytes"])


def test_lowering_with_the_recipe_gives_what_was_measured(nnaq, searched, tmp_path):
    found = read(searched)["chosen"]
    text = (searched / "found" / "recipe.toml").read_text()
    assert [f"[palettes.{name}]" in text for name in ("w", "wx", "wh", "v")] == [
        name in found["palettes"] for name in ("w", "wx", "wh", "v")
    ]
    said = nnaq(
        "lower", searched / "model.onnx", "--recipe", searched / "found" / "recipe.toml",
        "--target", "edge8-sub8", "--calibrate", searched / "data", "--evaluate", searched / "held",
        "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    report = json.loads(said.out)
    assert report["memory"]["weight_bytes"] == found["measured"]["bytes"]
    assert report["latency"]["cycles_per_step"] == found["measured"]["cycles"]
    assert report["accuracy"] == found["held_out"]


def test_the_table_has_the_chosen_point(nnaq, place):
    said = nnaq(*words(place, "--points", "1", budget="bytes<=800"))
    assert said.code == 0
    (line,) = [line for line in said.out.splitlines() if line.startswith("chosen")]
    assert line.split()[1] == str(read(place)["chosen"]["measured"]["bytes"])
    assert read(place)["chosen"]["measured"]["bytes"] <= 800
    assert said.out.endswith(f"wrote {place / 'found'}\n")


def test_an_empty_folder_is_written_from_within(nnaq, place, monkeypatch):
    """`-o .` has no name of its own, its place has."""
    (place / "found").mkdir()
    monkeypatch.chdir(place / "found")
    assert nnaq(*words(place, "--points", "0", "-o", ".", bits="2", budget="bytes<=850")).code == 0
    assert files(place / "found") == WRITTEN
    assert [name for name in files(place) if name.startswith("found.")] == []


def test_the_journal_is_held_until_it_is_gone(nnaq, place, monkeypatch):
    """Another search that begins between the folder and the journal's end is told so, and loses nothing."""
    said, unlink = [], Path.unlink

    def watched(path, *args, **kwargs):
        if path == journal_of(place):
            with pytest.raises(JournalError, match="in use by another run"), opened(path, {}):
                pass
            said.append(path)
        unlink(path, *args, **kwargs)

    monkeypatch.setattr(Path, "unlink", watched)
    assert nnaq(*words(place, "--points", "0", bits="2", budget="bytes<=850")).code == 0
    assert said == [journal_of(place)]
    assert not journal_of(place).exists()


def test_an_exact_search_is_at_least_as_good(nnaq, place, searched):
    assert nnaq(*words(place, "--exact", "--json")).code == 0
    exact, greedy = (read(p)["chosen"]["measured"]["bytes"] for p in (place, searched))
    assert exact <= greedy


def test_palettes_of_every_kind_are_tried(nnaq, place):
    kinds = ["--granularity", "per_tensor,per_gate", "--weighting", "none,activations", "--points", "0"]
    assert nnaq(*words(place, *kinds, bits="3", budget="bytes<=850")).code == 0
    tried = [row["palette"] for row in rows(place, "sensitivity.csv") if row["weight"] == "wx"]
    assert tried == ["3 bits", "3 bits activations", "3 bits per_gate", "3 bits per_gate activations"]
    assert [row["weight"] for row in rows(place, "sensitivity.csv")].count("w") == 2


def test_a_preselection_measures_less(nnaq, place):
    kinds = ["--method", "optimal,power_of_two", "--preselect", "--points", "1"]
    said = nnaq(*words(place, *kinds, bits="2,4,6", budget="sqnr>=25"))
    assert said.code == 0
    tried = len(rows(place, "sensitivity.csv")) - 1
    assert f"preselected {tried} of 24 palettes by curvature" in said.err
    assert tried < 24
    assert read(place)["chosen"]["measured"]["figures"]["sqnr:score"]["integer"] >= 25


def journal_of(place: Path) -> Path:
    return place / "found.journal.jsonl"


def test_a_budget_out_of_reach_ends_with_3_and_tells_the_nearest(nnaq, place):
    said = nnaq(*words(place, budget="bytes<=500"))
    assert (said.code, said.out) == (3, "")
    assert said.err.splitlines()[-1].startswith(
        "nnaq: budget 'bytes<=500' cannot be met: the least found with these palettes is 712 bytes, "
    )
    assert not (place / "found").exists()
    # What was measured is kept for a budget within reach.
    said = nnaq(*words(place, "--points", "9", budget="bytes<=800"))
    assert said.code == 0
    assert "in the journal already" in said.err
    assert not journal_of(place).exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            ["--budget", "wer<=3"],
            "gives no figure 'wer', only bytes, latency, energy, mean_absolute_error, sqnr",
        ),
        (["--budget", "sqnr<=3"], "sqnr is better when higher; write sqnr>="),
        (["--budget", "sqnr>=26"], "bounds 'sqnr' twice"),
        (["--target", "edge8"], "target 'edge8' does not decompress indices"),
        (["--bits", "2,8"], "expands indices of 1, 2, 3, 4, 5, 6 bits, not 8"),
        (["--granularity", "per_word"], "granularity is one of per_tensor, per_gate"),
        (["--minimize", "speed"], "--minimize takes bytes, latency, energy, found 'speed'"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(nnaq, place, more, told):
    said = nnaq(*words(place, *more))
    refused(said, told)
    one_line(said)
    assert not (place / "found").exists()


def test_a_folder_of_something_else_is_left_alone_and_one_of_a_search_takes_force(nnaq, place, searched):
    (place / "found").mkdir()
    (place / "found" / "mine.txt").write_text("mine")
    refused(nnaq(*words(place)), "is not empty and was not written by nnaq")
    assert files(place / "found") == ["mine.txt"]
    shutil.rmtree(place / "found")
    shutil.copytree(searched / "found", place / "found")
    refused(nnaq(*words(place)), "holds an earlier result; use --force")
    assert nnaq(*words(place, "--force", budget="bytes<=800")).code == 0
    assert read(place)["budgets"] == ["bytes<=800"]


def test_a_journal_of_another_question_is_told_and_fresh_forgets_it(nnaq, place):
    assert nnaq(*words(place, budget="bytes<=500")).code == 3
    with (place / "data" / "0.wav").open("r+b") as file:
        file.seek(100)
        file.write(b"\x01\x02")
    refused(nnaq(*words(place)), "found.journal.jsonl belongs to another run", "--fresh")
    assert nnaq(*words(place, "--fresh")).code == 0


def test_a_killed_search_ends_the_same(nnaq, place, searched):
    """Killed for good amid its jobs, in two processes; taken up in one."""
    command = [sys.executable, "-m", "nnaq", *map(str, words(place, "--jobs", 2))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as search:
        while search.poll() is None and lines(place) < 4:
            time.sleep(0.001)
        os.kill(search.pid, signal.SIGKILL)
    assert search.returncode == -signal.SIGKILL
    assert not (place / "found").exists()
    said = nnaq(*words(place))
    assert said.code == 0
    assert "in the journal already" in said.err
    for name in WRITTEN:
        assert (place / "found" / name).read_bytes() == (searched / "found" / name).read_bytes(), name
    assert [name for name in files(place) if name.startswith("found.")] == []


def lines(place: Path) -> int:
    return journal_of(place).read_bytes().count(b"\n") if journal_of(place).exists() else 0
