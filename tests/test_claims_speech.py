"""The harness of the claims on speech recognition: its jobs, its budget, its mechanical verdicts."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # behind the tests, whose folders share names with its files

pytest.importorskip("torch")

from claims_speech import arguments, budget, jobs_of, known, name_of  # noqa: E402
from claims_speech_jobs import NARROW, Job, Study, machine, recipe_of  # noqa: E402
from claims_speech_verdicts import verdicts  # noqa: E402

from nnaq.quantize.recipe import parse_recipe  # noqa: E402

GIVEN = ["--data", "an4", "--work", "work", "--float", "S=s/{seed}", "M=m/{seed}"]


def row(model, way, seed, errors, **figures):
    return {
        "model": model, "way": way, "seed": seed, "machine": "as shipped", "seconds": 60.0,
        "errors": errors, "words": [4] * len(errors), "frame_bytes": 100, "frame_microseconds": 10.0,
        "perceived_milliseconds": 1.0,
        **figures,
    }  # fmt: skip


@pytest.mark.parametrize(("what", "count"), [("s8bqat", 15), ("gq", 18), ("awareness", 27), ("convrnnt", 12)])
def test_jobs_have_names_of_their_own(what, count):
    other = ["C=c/{seed}"] if what == "convrnnt" else []
    jobs = list(jobs_of(arguments([what, *GIVEN, *other])))
    assert len({job.name for job in jobs}) == len(jobs) == count
    for job in jobs:
        made = {"model": job.model, "way": job.way, "seed": job.seed, "machine": job.machine}
        assert name_of(made) == job.name
        assert machine(job).has_accelerator


def test_rows_of_another_study_are_left_out(tmp_path):
    mine, other = Study(rate=0.75), Study(rate=0.5)
    lines = [{"nnaq_journal": 1}]
    for seed, study in ((0, mine), (1, other)):
        found = row("S", "int8", seed, [1], study=repr(study))
        lines.append({"id": f"int8 model=S seed={seed}", "result": found})
    (tmp_path / "a.journal").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert list(known(tmp_path, mine)) == ["int8 model=S seed=0"]


def test_a_way_is_a_recipe():
    for way, (bits, scheme) in NARROW.items():
        recipe = recipe_of(way)
        widths = [o.palette.bits for o in recipe.overrides if o.palette is not None]
        assert widths == list(bits.values()) and recipe.training.scheme == scheme
        assert recipe == parse_recipe(recipe.to_toml())
        assert recipe.training.emulate == "integers"
    assert recipe_of("plain") == recipe_of("int8")


def test_the_budget_is_minutes_times_runs(capsys):
    jobs = [Job("S", "int8", seed) for seed in range(3)]
    assert budget(jobs, {"x": row("S", "int8", 0, [1], seconds=90.0)}) == pytest.approx(4.5)
    assert "3 runs, 1.50 minutes each" in capsys.readouterr().out
    assert budget([*jobs, Job("M", "s8bqat5", 0)], {"x": row("S", "int8", 0, [1])}) is None
    assert "not measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("after", "verdict"),
    [([1] * 30, "confirmed"), ([4] * 30, "refuted"), ([2] * 15 + [1, 3] * 7 + [2], "undecidable")],
)
def test_word_errors_are_judged_by_their_bounds(after, verdict):
    before = [2] * 15 + [3, 1] * 7 + [2]
    rows = [row("S", "int8", s, before) for s in (0, 1)] + [row("M", "s8bqat5", s, after) for s in (0, 1)]
    found = next(r for r in verdicts(rows) if "errors" in r["paper"])
    assert found["verdict"] == verdict
    assert found["seeds"] == 2 and found["words"] == 120
    assert found["ours"] == pytest.approx(sum(after) / sum(before) - 1, abs=1e-4)


def test_the_goal_of_the_integers_is_in_points():
    rows = [row("S", "float", s, [2, 1] * 15) for s in (0, 1)]
    rows += [row("S", "gq5", s, [2, 1] * 14 + [3, 1]) for s in (0, 1)]
    (found,) = (r for r in verdicts(rows) if r.get("unit") == "points")
    assert found["ours"] == pytest.approx(1 / found["words"], abs=1e-4)


def test_bytes_and_times_are_judged_over_the_seeds():
    rows = [row("S", "int8", s, [1]) for s in (0, 1)]
    rows += [row("M", "s8bqat5", s, [1], frame_microseconds=time) for s, time in ((0, 9.0), (1, 9.8))]
    found = {r["claim"].rpartition(": ")[2]: r for r in verdicts(rows)}
    assert found["bytes of a frame"]["verdict"] == "confirmed"
    assert found["time of a frame"]["verdict"] == "undecidable"
    assert found["time of a frame"]["low"] == pytest.approx(-0.1)
    assert verdicts(rows[:2]) == []


def test_what_is_missing_is_told(capsys):
    with pytest.raises(SystemExit):
        arguments(["s8bqat", "--data", "an4", "--work", "work", "--float", "S=s"])
    assert "needs --float M=FOLDER" in capsys.readouterr().err
