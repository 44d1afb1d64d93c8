"""`nnaq warm`, `nnaq doctor`, `nnaq bench`: what they say, what they leave in the cache, what they refuse."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import Said, one_line, refused

from nnaq import jit, pipeline
from nnaq.export.onnx import save
from nnaq.export.read import read_lowered
from nnaq.interpret import run
from nnaq.quantize.calibrate import calibrate
from nnaq.speed import bench, surroundings
from nnaq.speed.samples import Sample
from nnaq.targets import load_target

COUNT_COMPILATIONS = """
import sys
from numba.core import event

class Listener(event.Listener):
    def on_start(self, event):
        print("COMPILED", event.data["dispatcher"].py_func.__name__)
    def on_end(self, event):
        pass

event.register("numba:compile", Listener())
from nnaq.cli import main
sys.argv = ["nnaq", *sys.argv[1:]]
main()
"""


def apart(cache: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, with a cache of its own, that names what it compiles."""
    command = [sys.executable, "-c", COUNT_COMPILATIONS, *map(str, words)]
    settings = {**os.environ, "NNAQ_CACHE": str(cache)}
    return subprocess.run(command, env=settings, capture_output=True, text=True)


@pytest.fixture
def small(tmp_path) -> Path:
    """A lowered model of one node, which takes little to compile, beside frames for it."""
    sample = Sample("neg", (("T", 4),))
    real, feeds = pipeline.simplify(sample.graph()), sample.feeds(3)
    options = pipeline.Options(load_target("edge8"))
    save(pipeline.cross(real, calibrate(real, [feeds]), options).integer, tmp_path / "model.onnx")
    np.savez(tmp_path / "frames.npz", **feeds)
    return tmp_path / "model.onnx"


def test_after_warming_a_model_nothing_is_compiled_for_it(small, tmp_path):
    cache = tmp_path / "cache"
    warmed = apart(cache, "warm", small)
    assert warmed.returncode == 0, warmed.stderr
    assert "COMPILED" in warmed.stdout
    assert f"{cache}/" in warmed.stdout
    again = apart(cache, "warm", small)
    assert "COMPILED" not in again.stdout
    assert "compiled 0 kernels" in again.stdout
    used = apart(cache, "run", small, tmp_path / "frames.npz", "-o", tmp_path / "made.npz")
    assert used.returncode == 0, used.stderr
    assert "COMPILED" not in used.stdout


def test_warm_counts_in_json(nnaq, lowered):
    said = nnaq("warm", lowered, lowered / "model.onnx", "--json")
    assert (said.code, said.err) == (0, "")
    figures = json.loads(said.out)
    assert figures["folder"] == jit.cache_folder()
    assert figures["kernels"] >= figures["compiled"] >= 0
    assert figures["bytes"] > 0


def test_warm_refuses_what_was_not_lowered(nnaq, place, tmp_path):
    said = nnaq("warm", place / "model.onnx")
    refused(said, "is not a lowered nnaq model")
    one_line(said)
    refused(nnaq("warm", tmp_path / "none"), "cannot be read")


@pytest.fixture
def no_cache(tmp_path) -> Path:
    """A cache folder that cannot be: a file stands in its place."""
    (tmp_path / "file").write_text("not a folder")
    return tmp_path / "file"


def test_warm_refuses_a_cache_that_cannot_be_written(no_cache):
    said = apart(no_cache, "warm")
    found = Said(said.returncode, said.stdout, said.stderr)
    refused(found, f"the cache folder {no_cache}", "set NNAQ_CACHE")
    one_line(found)


def test_without_a_cache_kernels_are_compiled_and_not_kept_beside_the_sources(no_cache, small, tmp_path):
    frames, made = tmp_path / "frames.npz", tmp_path / "made.npz"
    done = apart(no_cache, "run", small, frames, "-o", made)
    assert done.returncode == 0, done.stderr
    assert "COMPILED" in done.stdout
    assert done.stderr.count("compiled anew in every process") == 1
    expected = run(read_lowered(small), dict(np.load(frames)))
    assert np.array_equal(np.load(made)["output:y0"], expected.outputs["y0"])
    assert not list(Path(jit.__file__).parent.parent.glob("kernels/**/__pycache__/*.nb?"))


def test_doctor_tells_what_it_sees(nnaq):
    said = nnaq("doctor", "--json")
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert found["versions"]["numpy"] == np.__version__
    assert found["cpu"]["usable"] >= 1
    assert found["cpu"]["tier"] in found["cpu"]["available"]
    assert found["cache"]["folder"] == jit.cache_folder()
    assert found["cache"]["refusal"] is None
    assert set(found["extras"]) == set(surroundings.EXTRAS)
    page = nnaq("doctor")
    assert (page.code, page.err) == (0, "")
    for word in (
        "versions",
        found["cpu"]["name"],
        found["cpu"]["tier"],
        jit.cache_folder(),
        *found["advice"],
    ):
        assert word in page.out


def test_doctor_says_that_the_cache_cannot_be_written(no_cache):
    said = apart(no_cache, "doctor")
    assert (said.returncode, said.stderr) == (0, "")
    assert "cannot be written" in said.stdout
    assert "set NNAQ_CACHE" in said.stdout


def test_doctor_says_that_a_tier_is_none():
    settings = {**os.environ, "NNAQ_TIER": "none"}
    command = [sys.executable, "-m", "nnaq", "doctor", "--json"]
    done = subprocess.run(command, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cpu = json.loads(done.stdout)["cpu"]
    assert cpu["tier"] is None
    assert "NNAQ_TIER=none" in cpu["fault"]


CPU = surroundings.Cpu("a CPU", 4, 4, "tier", ("tier",))
CACHE = surroundings.Cache("/cache/0", None, 5, 5, 0, 0)
UNSET = dict.fromkeys(surroundings.VARIABLES)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"OMP_NUM_THREADS": "1"}, None),
        ({}, "OMP_NUM_THREADS=1"),
        ({"OMP_NUM_THREADS": "1", "OMP_PROC_BIND": "true"}, "set NUMBA_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "1", "OMP_PROC_BIND": "true", "NUMBA_NUM_THREADS": "2"}, None),
        ({"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}, "unset it"),
        ({"OMP_NUM_THREADS": "1", "NNAQ_THREADS": "2"}, None),
        ({"OMP_NUM_THREADS": "1", "NNAQ_THREADS": "9"}, "NNAQ_THREADS=9: large products take 1 thread"),
        ({"OMP_NUM_THREADS": "1", "NNAQ_THREADS": "all"}, "NNAQ_THREADS=all: large products take 1 thread"),
    ],
)
def test_advice_on_threads(change, told):
    said = surroundings.advice(CPU, surroundings.Threads({**UNSET, **change}, 2, 1), CACHE)
    assert len(said) == (told is not None)
    assert all(told in line for line in said)


def test_advice_on_cache_and_cpus():
    quiet = surroundings.Threads({**UNSET, "OMP_NUM_THREADS": "1"}, 2, None)
    few = surroundings.Cpu("a CPU", 4, 1, "tier", ("tier",))
    assert len(surroundings.advice(few, quiet, CACHE)) == 2  # fewer CPUs than there are, and than threads
    empty = surroundings.Cache("/cache/0", None, 0, 0, 3, 9)
    said = surroundings.advice(CPU, quiet, empty)
    assert [word in line for word, line in zip(("nnaq warm", "/cache"), said, strict=True)] == [True, True]


@pytest.fixture
def briefly(monkeypatch):
    """A race of one turn."""
    monkeypatch.setattr(bench, "ROUNDS", 1)


@pytest.fixture
def alone(monkeypatch, briefly):
    """No ONNX Runtime to race against."""
    monkeypatch.setattr(bench, "is_there", lambda: False)


def test_bench_of_a_lowered_model(nnaq, lowered, alone):
    said = nnaq("bench", lowered, "--json")
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert [race["work"] for race in found["races"]] == ["whole", "frame by frame"]
    assert all(race["seconds"] > 0 and race["peer"] is None for race in found["races"])
    nodes = {node.name for node in read_lowered(lowered / "model.onnx").nodes}
    for rows in (found["whole"], found["step"]):
        assert {row["name"] for row in rows} == nodes
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        assert [row["seconds"] for row in rows] == sorted((r["seconds"] for r in rows), reverse=True)
    assert found["sound_seconds"] == 16 / 8000
    assert found["notes"] == ["inputs: golden.npz", "nobody to race against: pip install onnxruntime"]
    page = nnaq("bench", lowered / "model.onnx")
    assert (page.code, page.err) == (0, "")
    for word in ("frame by frame", "x real time", "where the time goes", "lstm"):
        assert word in page.out


def test_bench_races_against_the_float_model_and_against_the_file(nnaq, lowered, briefly):
    pytest.importorskip("onnxruntime")
    model = lowered.parent / "model.onnx"
    for words, peer in (([], "model.onnx"), (["--float", model], "float32")):
        found = json.loads(nnaq("bench", lowered, *words, "--json").out)
        assert [race["peer"] for race in found["races"]] == [f"ONNX Runtime, {peer}"] * 2, found["notes"]
        assert all(race["peer_seconds"] > 0 and race["ratio"] > 0 for race in found["races"])


def test_bench_says_why_the_peer_does_not_run(nnaq, lowered, briefly, tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "bad.onnx").write_text("this is no model")
    found = json.loads(nnaq("bench", lowered, "--float", tmp_path / "bad.onnx", "--json").out)
    assert found["races"] == []
    assert any("ONNX Runtime did not run the model" in note for note in found["notes"])


def test_bench_of_layers(nnaq, alone, monkeypatch):
    monkeypatch.setattr(bench, "LAYERS", bench.LAYERS[:1])
    said = nnaq("bench")
    assert (said.code, said.err) == (0, "")
    assert "fully_connected [1, 256] x [1024, 256]" in said.out


def test_bench_refuses(nnaq, place, lowered, tmp_path):
    refused(nnaq("bench", place / "model.onnx"), "is not a lowered nnaq model")
    refused(nnaq("bench", "--float", place / "model.onnx"), "name its folder")
    refused(nnaq("bench", lowered, "--float", tmp_path / "no.onnx"), "no.onnx")
