"""The command line, as a hostile user and as a new one: one sentence, exit code 2, nothing left behind."""

import json
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from frontends.onnx_models import model, normal
from voice_models import FRAME, RECIPE, detector, scene, write_sound

from nnaq.cli import main
from nnaq.interpret import run
from nnaq.export.read import read_lowered


class Said(NamedTuple):
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def nnaq(monkeypatch, capsys) -> Callable[..., Said]:
    """The command line in this process: `nnaq("lower", …)`."""

    def call(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["nnaq", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Said(ended.value.code or 0, out, err)

    return call


@pytest.fixture(scope="session")
def _scene(tmp_path_factory) -> Path:
    return scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="session")
def lowered(_scene, tmp_path_factory) -> Path:
    """The output folder of one good lowering; not to be written to."""
    folder = shutil.copytree(_scene, tmp_path_factory.mktemp("lowered") / "scene")
    sys.argv = ["nnaq", "lower", *map(str, lower_words(folder)), "--evaluate", str(folder / "held"), "--json"]
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return folder / "out"


@pytest.fixture
def place(_scene, tmp_path) -> Path:
    """A folder with model, recipe and recordings of one's own."""
    return shutil.copytree(_scene, tmp_path / "scene")


def lower_words(place: Path) -> list[object]:
    return [
        place / "model.onnx", "--recipe", place / "recipe.toml", "--calibrate", place / "data",
        "-o", place / "out", "--activations", "8",
    ]  # fmt: skip


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refused(said: Said, *words: str) -> None:
    """One sentence on standard error, nothing on standard output, exit code 2."""
    assert said.code == 2, said
    assert said.out == ""
    assert said.err.startswith("nnaq: "), said.err
    assert "Traceback" not in said.err
    assert said.err.count("nnaq: ") == 1
    for word in words:
        assert word in said.err, said.err


def one_line(said: Said) -> None:
    assert said.err.strip().count("\n") == 0, said.err


# --- model files


def truncated(place: Path) -> None:
    path = place / "model.onnx"
    path.write_bytes(path.read_bytes()[:-200])


def outside(place: Path) -> None:
    made = onnx.load(place / "model.onnx")
    onnx.save(made, place / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)


def not_finite(place: Path) -> None:
    made = detector(weight=np.nan)
    onnx.save(made, place / "model.onnx")


def unknown_operators(place: Path) -> None:
    onnx.save(detector("wild = Erf(logit) wilder = Mish(wild) score = Sigmoid(wilder)"), place / "model.onnx")


def text_file(place: Path) -> None:
    (place / "model.onnx").write_text("this is no model")


def empty_file(place: Path) -> None:
    (place / "model.onnx").write_bytes(b"")


def no_file(place: Path) -> None:
    (place / "model.onnx").unlink()


def folder_for_a_model(place: Path) -> None:
    no_file(place)
    (place / "model.onnx").mkdir()


MODELS = [
    (truncated, ["model.onnx"]),
    (outside, ["external data", "'w'"]),
    (not_finite, ["'w' holds NaN"]),
    (unknown_operators, ["Erf", "Mish", "2 nodes that cannot be imported"]),
    (text_file, ["model.onnx", "not an ONNX file"]),
    (empty_file, ["empty or not an ONNX file"]),
    (no_file, ["model.onnx"]),
    (folder_for_a_model, ["model.onnx"]),
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


# --- recordings


def arrays(**named: np.ndarray) -> Callable[[Path], None]:
    def spoil(place: Path) -> None:
        np.savez(place / "data" / "more.npz", **named)

    return spoil


def empty_folder(place: Path) -> None:
    shutil.rmtree(place / "data")
    (place / "data").mkdir()


def missing_folder(place: Path) -> None:
    shutil.rmtree(place / "data")


def file_for_a_folder(place: Path) -> None:
    missing_folder(place)
    (place / "data").write_text("no folder")


def stereo(place: Path) -> None:
    write_sound(place / "data" / "a b.wav", 7, rate=44100, channels=2)


def no_sound(place: Path) -> None:
    (place / "data" / "0.wav").write_bytes(b"RIFF, but no wave")


def only_one(place: Path) -> None:
    for name in ("1.wav", "2.wav"):
        (place / "data" / name).unlink()


def copies(place: Path) -> None:
    for name in ("1.wav", "2.wav"):
        shutil.copy(place / "data" / "0.wav", place / "data" / name)


def no_input(place: Path) -> None:
    text = RECIPE.replace(RECIPE[RECIPE.index("[input]") : RECIPE.index("[ports]")], "")
    (place / "recipe.toml").write_text(text)


def pickled(place: Path) -> None:
    arrays(x=np.array([{"a": 1}], dtype=object))(place)


RECORDINGS = [
    (arrays(x=np.zeros((5, 17))), ["more.npz: array 'x'", "[5, 17]"], "wrong shape"),
    (arrays(x=np.zeros(80)), ["more.npz: array 'x'"], "wrong rank"),
    (arrays(y=np.zeros((5, 16))), ["found arrays y", "takes x"], "wrong name"),
    (arrays(x=np.zeros((0, 16))), ["holds no frames"], "no frames"),
    (arrays(x=np.full((5, 16), np.inf)), ["NaN or infinite"], "infinite"),
    (arrays(x=np.full((5, 16), "a")), ["more.npz: array 'x' holds"], "text"),
    (pickled, ["more.npz cannot be read"], "pickle"),
    (empty_folder, ["holds no recordings"], "empty folder"),
    (missing_folder, ["does not exist"], "missing folder"),
    (file_for_a_folder, ["is a file"], "file"),
    (stereo, ["found 44100 Hz 2 channels", "8000 Hz mono", "ffmpeg"], "stereo"),
    (no_sound, ["cannot be read as audio"], "no sound"),
    (only_one, ["at least 2 different ones, found 1"], "only one"),
    (copies, ["at least 2 different ones, found 1"], "copies"),
    (no_input, ["[input]"], "no input"),
]


@pytest.mark.parametrize(("spoil", "words"), [r[:2] for r in RECORDINGS], ids=[r[2] for r in RECORDINGS])
def test_bad_recordings_are_refused_in_one_sentence(nnaq, place, spoil, words):
    spoil(place)
    before = files(place)
    said = nnaq("lower", *lower_words(place), "--json")
    refused(said, *words)
    one_line(said)
    assert files(place) == before


def test_a_recording_in_both_folders_is_refused(nnaq, place):
    shutil.copy(place / "data" / "1.wav", place / "held" / "renamed.wav")
    before = files(place)
    said = nnaq("lower", *lower_words(place), "--evaluate", place / "held", "--json")
    refused(said, "renamed.wav is also calibrated on", "1.wav")
    one_line(said)
    assert files(place) == before


# --- targets and recipes


def target_text(exclude: str = "") -> str:
    """The shipped target as a file of one's own."""
    import nnaq.targets

    text = (Path(nnaq.targets.__file__).parent / "edge8.toml").read_text(encoding="utf-8")
    return text.replace("exclude = []", f"exclude = [{exclude}]").replace('"edge8"', '"own"', 1)


def test_every_mistake_of_a_target_is_told_at_once(nnaq, place):
    text = target_text().replace("rows = 32", "rows = 0").replace("vector_lanes", "vector_lane")
    (place / "own.toml").write_text(text.replace('"half_even"', '"half_evn"', 1))
    before = files(place)
    said = nnaq("lower", *lower_words(place), "--target", place / "own.toml", "--json")
    refused(said, "array.rows", "vector_lane", "input_rounding", "line ")
    assert files(place) == before


def test_every_mistake_of_a_recipe_is_told_at_once(nnaq, place):
    text = RECIPE.replace("hop = 16", "hop = 0").replace("[states]", "[state]")
    (place / "recipe.toml").write_text(text + '[quantize]\nactivations = "12"\n')
    before = files(place)
    said = nnaq("lower", *lower_words(place), "--json")
    refused(said, "3 mistakes", "input.hop", "did you mean 'states'", "quantize.activations")
    assert files(place) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--target", "edg8"], "did you mean 'edge8'"),
        (["--target", "none.toml"], "no target file"),
        (["--recipe", "silero_vat"], "did you mean 'silero_vad'"),
        (["--metric", "accuracy"], "no metric 'accuracy'"),
        (["--metric", "decision:scare>0.5"], "has no output 'scare'"),
        (["--goal", "2"], "goal"),
        (["--seed", "-1"], "seed"),
        (["--activations", "4"], "activations"),
        (["--time", "x"], "--time takes NAME:VALUE, found 'x'"),
        (["--time", "x:first"], "--time takes"),
        (["--time", "z:0"], "'z'"),
        (["--state", "h=nothing"], "'nothing'"),
        (["--state", "h"], "--state takes NAME=VALUE"),
        (["--pin", "x=many"], "--pin takes NAME=VALUE"),
        (["--pin", "sr=16000"], "'sr'"),
        (["--pin", "x=1"], "x"),
        (["--pin", "x=nan"], "pin"),
    ],
)
def test_a_wrong_option_is_refused_in_one_sentence(nnaq, place, words, told):
    before = files(place)
    said = nnaq("lower", *lower_words(place), *words, "--json")
    refused(said, told)
    one_line(said)
    assert files(place) == before


@pytest.mark.parametrize(
    "words",
    [
        ["lower"],
        ["lower", "model.onnx", "-o", "out"],
        ["lower", "model.onnx", "--calibrate", "data"],
        ["lower", "model.onnx", "--calibrate", "data", "-o", "out", "--goal", "high"],
        ["run", "model.onnx", "in.npz"],
        ["run", "model.onnx", "in.npz", "-o", "out.npz", "--chunk", "0"],
        ["launder"],
        ["show", "--fill"],
    ],
)
def test_wrong_usage_ends_with_2(nnaq, words):
    said = nnaq(*words)
    assert said.code == 2
    assert "Usage: nnaq" in said.err
    assert "Traceback" not in said.err


# --- where the result goes


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


# --- good input


WRITTEN = [
    "golden.npz", "layers.csv", "model.onnx", "plan.json", "recipe.toml", "report.html", "report.json", "trace.json",
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
