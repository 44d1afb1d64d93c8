"""`nnaq run`: the integers of the interpreter, for any chunk; what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import files, one_line, refused
from frontends.onnx_models import model, normal
from voice_models import FRAME

from nnaq.export.read import read_lowered
from nnaq.interpret import run


@pytest.fixture
def frames(tmp_path) -> Path:
    path = tmp_path / "frames.npz"
    np.savez(path, x=normal(23, FRAME))
    return path


def test_run_gives_the_integers_of_the_interpreter_for_any_chunk(nnaq, lowered, frames, tmp_path):
    graph = read_lowered(lowered / "model.onnx")
    expected = run(graph, {"x": np.load(frames)["x"]})
    for number, options in enumerate([[], ["--chunk", 1], ["--chunk", 7], ["--reference"]]):
        out = tmp_path / f"{number}.npz"
        said = nnaq("run", lowered / "model.onnx", frames, "-o", out, "--json", *options)
        assert (said.code, said.err) == (0, "")
        assert json.loads(said.out) == {
            "output:score": [23, 1], "state:h": [1, 1, 8], "state:c": [1, 1, 8],
        }  # fmt: skip
        with np.load(out) as found:
            assert np.array_equal(found["output:score"], expected.outputs["score"])
            assert all(np.array_equal(found[f"state:{n}"], a) for n, a in expected.states.items())


def test_run_takes_the_output_folder_too(nnaq, lowered, frames, tmp_path):
    outs = [tmp_path / "file.npz", tmp_path / "folder.npz"]
    for place, out in zip((lowered / "model.onnx", lowered), outs, strict=True):
        assert nnaq("run", place, frames, "-o", out, "--json").code == 0
    with np.load(outs[0]) as file, np.load(outs[1]) as folder:
        assert set(file.files) == set(folder.files)
        assert all(np.array_equal(file[name], folder[name]) for name in file.files)


def foreign(place: Path) -> tuple[Path, str]:
    return place / "model.onnx", "is not a lowered nnaq model; run `nnaq lower"


def another_version(place: Path) -> tuple[Path, str]:
    made = onnx.load(place / "lowered.onnx")
    next(e for e in made.metadata_props if e.key == "nnaq.version").value = "0.0.1"
    onnx.save(made, place / "lowered.onnx")
    return place / "lowered.onnx", "was lowered by nnaq 0.0.1"


def touched(place: Path) -> tuple[Path, str]:
    made = onnx.load(place / "lowered.onnx")
    made.graph.initializer[0].raw_data = bytes(len(made.graph.initializer[0].raw_data))
    made.graph.node[0].name = "mine"
    onnx.save(made, place / "lowered.onnx")
    return place / "lowered.onnx", "was changed after nnaq wrote it"


def another_build(place: Path) -> tuple[Path, str]:
    made = onnx.load(place / "lowered.onnx")
    made.functions[0].doc_string = "other words"
    onnx.save(made, place / "lowered.onnx")
    return place / "lowered.onnx", "was written by another build of nnaq, or changed since"


def cut(place: Path) -> tuple[Path, str]:
    path = place / "lowered.onnx"
    path.write_bytes(path.read_bytes()[:-99])
    return path, "lowered.onnx"


def text(place: Path) -> tuple[Path, str]:
    return place / "recipe.toml", "is not an ONNX file"


def gone(place: Path) -> tuple[Path, str]:
    return place / "gone.onnx", "cannot be read: No such file"


def folder(place: Path) -> tuple[Path, str]:
    return place / "data", "model.onnx cannot be read: No such file"


@pytest.mark.parametrize("spoil", [foreign, another_version, another_build, touched, cut, text, gone, folder])
def test_run_refuses_what_nnaq_did_not_write(nnaq, place, lowered, frames, tmp_path, spoil):
    shutil.copy(lowered / "model.onnx", place / "lowered.onnx")
    path, told = spoil(place)
    said = nnaq("run", path, frames, "-o", tmp_path / "out.npz")
    refused(said, told)
    one_line(said)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"y": np.zeros((3, 16))}, "found arrays y"),
        ({"x": np.zeros((3, 15))}, "array 'x'"),
        ({"x": np.full((3, 16), np.nan)}, "NaN"),
        ({}, "found arrays none"),
        (None, "is no npz file"),
    ],
)
def test_run_refuses_arrays_that_do_not_fit(nnaq, lowered, tmp_path, arrays, told):
    path = tmp_path / "in.npz"
    if arrays is None:
        path.write_text("no arrays")
    else:
        np.savez(path, **arrays)
    said = nnaq("run", lowered / "model.onnx", path, "-o", tmp_path / "out.npz")
    refused(said, told)
    one_line(said)
    assert files(tmp_path) == ["in.npz"]


def test_run_without_inputs_or_without_a_place_to_write(nnaq, lowered, frames, tmp_path):
    refused(nnaq("run", lowered / "model.onnx", tmp_path / "no.npz", "-o", tmp_path / "o.npz"), "no.npz")
    refused(nnaq("run", lowered / "model.onnx", frames, "-o", tmp_path / "no" / "o.npz"), "o.npz")
    refused(nnaq("run", lowered / "model.onnx", frames, "-o", tmp_path), "cannot write")
    assert files(tmp_path) == ["frames.npz"]


def test_steps_carry_the_states_from_entry_to_entry(nnaq, lowered, frames, tmp_path):
    whole, steps = tmp_path / "whole.npz", tmp_path / "steps.npz"
    x = np.load(frames)["x"]
    np.savez(tmp_path / "one_by_one.npz", x=x[:, None])
    assert nnaq("run", lowered, frames, "-o", whole).code == 0
    assert nnaq("run", lowered, tmp_path / "one_by_one.npz", "-o", steps, "--steps").code == 0
    with np.load(whole) as expected, np.load(steps) as found:
        assert np.array_equal(found["output:score"][:, 0], expected["output:score"])
        for name in ("state:h", "state:c"):
            assert np.array_equal(found[name], expected[name])


def test_steps_and_chunks_exclude_each_other(nnaq, lowered, frames, tmp_path):
    said = nnaq("run", lowered, frames, "-o", tmp_path / "out.npz", "--steps", "--chunk", 2)
    refused(said, "give one of them")
    one_line(said)


@pytest.fixture
def sideways(tmp_path) -> Path:
    """A lowered model with time last: x[1,4,T] in, y[1,3,T] out."""
    made = model("(float[1,4,T] x) => (float[1,3,T] y) { y = Conv(x, w) }", {"w": normal(3, 4, 1)})
    onnx.save(made, tmp_path / "sideways.onnx")
    (tmp_path / "sounds").mkdir()
    for seed in range(2):
        np.savez(tmp_path / "sounds" / f"{seed}.npz", x=normal(9, 1, 4, seed=seed))
    return tmp_path / "sideways.onnx"


def test_outputs_are_written_time_first_as_in_golden(nnaq, sideways, tmp_path):
    out, result, steps = tmp_path / "out", tmp_path / "result.npz", tmp_path / "steps.npz"
    words = ["--calibrate", tmp_path / "sounds", "-o", out, "--time", "x:2", "--time", "y:2"]
    said = nnaq("lower", sideways, *words, "--activations", "8", "--json")
    assert said.code == 0, said.err
    golden = dict(np.load(out / "golden.npz"))
    np.savez(tmp_path / "in.npz", x=golden["input:x"])
    np.savez(tmp_path / "in_steps.npz", x=golden["input:x"][:, None])
    assert nnaq("run", out, tmp_path / "in.npz", "-o", result).code == 0
    assert nnaq("run", out, tmp_path / "in_steps.npz", "-o", steps, "--steps").code == 0
    assert golden["output:y"].shape[1:] == (1, 3)
    assert np.array_equal(np.load(result)["output:y"], golden["output:y"])
    assert np.array_equal(np.load(steps)["output:y"][:, 0], golden["output:y"])
