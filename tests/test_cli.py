"""The command line, as a hostile user and as a new one: one sentence, exit code 2, nothing left behind."""

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from frontends.onnx_models import model, normal
from voice_models import FRAME, RECIPE, detector, scene, write_sound

from nnaq import targets
from nnaq.cli import main
from nnaq.export.read import read_lowered
from nnaq.interpret import run
from nnaq.ir.op import table
from nnaq.ir.text import parse_graph, print_graph
from nnaq.passes import PIPELINE


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
    onnx.save(
        made, place / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )


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


def empty_graph(place: Path) -> None:
    onnx.save(model("(float[T,4] x) => (float[T,4] x) { }"), place / "model.onnx")


MODELS = [
    (truncated, ["model.onnx"]),
    (outside, ["external data", "'w'"]),
    (not_finite, ["'w' holds NaN"]),
    (unknown_operators, ["Erf", "Mish", "2 nodes that cannot be imported"]),
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


def boundless(place: Path) -> None:
    """A few bytes that claim to be terabytes."""
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 16)}".ljust(118)
    with zipfile.ZipFile(place / "data" / "more.npz", "w") as file:
        file.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)


RECORDINGS = [
    (arrays(x=np.zeros((5, 17))), ["more.npz: array 'x'", "[5, 17]"], "wrong shape"),
    (arrays(x=np.zeros(80)), ["more.npz: array 'x'"], "wrong rank"),
    (arrays(y=np.zeros((5, 16))), ["found arrays y", "takes x"], "wrong name"),
    (arrays(x=np.zeros((0, 16))), ["holds no frames"], "no frames"),
    (arrays(x=np.full((5, 16), np.inf)), ["NaN or infinite"], "infinite"),
    (arrays(x=np.full((5, 16), "a")), ["more.npz: array 'x' holds"], "text"),
    (arrays(x=np.full((5, 16), 1e300)), ["NaN or infinite"], "beyond float32"),
    (boundless, ["more.npz cannot be read as npz arrays"], "boundless"),
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
    text = (Path(targets.__file__).parent / "edge8.toml").read_text(encoding="utf-8")
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


VALUES = [
    (
        'made]\ndtype = "i8"\nlow = -1.0\nhigh = 1.0',
        "'made' of [values] goes into the operator",
    ),
    ('mode]\ndtype = "i8"\nlow = -1.0\nhigh = 1.0', "did you mean 'made'"),
    ('c]\ndtype = "i8"\nlow = -1.0\nhigh = 1.0', "must be i16 power_of_two, as its operator insists, not i8"),
    ('kept]\ndtype = "i8"\nlow = -1.0\nhigh = 1e300', "expected reals up to 1e+30"),
    ('kept]\ndtype = "i8"\nlow = 1.0\nhigh = 0.0', "low must not be above high"),
]


@pytest.mark.parametrize(("table", "told"), VALUES)
def test_a_value_the_recipe_cannot_have_is_refused(nnaq, place, table, told):
    (place / "recipe.toml").write_text(f"{RECIPE}[values.{table}\n")
    before = files(place)
    said = nnaq("lower", *lower_words(place), "--json")
    refused(said, told)
    one_line(said)
    assert files(place) == before


def test_a_lowered_model_is_not_lowered_again(nnaq, place, lowered):
    shutil.copy(lowered / "model.onnx", place / "model.onnx")
    for command, words in (("lower", lower_words(place)), ("check", [place / "model.onnx"])):
        said = nnaq(command, *words)
        refused(said, "is lowered already; run it with `nnaq run`")
        one_line(said)


def test_a_model_of_any_name_is_lowered(nnaq, place):
    path = (place / "model.onnx").rename(place / "modèle 😀.onnx")
    assert nnaq("lower", path, *lower_words(place)[1:], "--json").code == 0


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


# --- host islands


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


# --- run


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


def cut(place: Path) -> tuple[Path, str]:
    path = place / "lowered.onnx"
    path.write_bytes(path.read_bytes()[:-99])
    return path, "lowered.onnx"


def text(place: Path) -> tuple[Path, str]:
    return place / "recipe.toml", "is not an ONNX file"


def gone(place: Path) -> tuple[Path, str]:
    return place / "gone.onnx", "cannot be read: No such file"


def folder(place: Path) -> tuple[Path, str]:
    return place, "cannot be read: Is a directory"


@pytest.mark.parametrize("spoil", [foreign, another_version, touched, cut, text, gone, folder])
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


# --- show, check, ops, passes, targets


def test_show_prints_what_was_imported_and_what_was_lowered(nnaq, lowered):
    place = lowered.parent
    said = nnaq("show", place / "model.onnx", "--recipe", place / "recipe.toml")
    assert said.out.startswith("graph model {\n  input x: f32[T,16] time=0\n")
    for path in (lowered, lowered / "model.onnx"):
        said = nnaq("show", path, "--full")
        assert (said.code, said.err) == (0, "")
        assert (
            print_graph(parse_graph(said.out))
            == said.out
            == print_graph(read_lowered(lowered / "model.onnx"))
        )


def test_show_prints_the_graph_after_a_pass(nnaq, place):
    words = [*lower_words(place), "--evaluate", place / "held", "--dump", "--json"]
    assert nnaq("lower", *words).code == 0
    said = nnaq("show", place / "out", "--stage", "insert-fake-quant", "--full")
    assert (said.code, said.err) == (0, "")
    assert "fake_quantize(" in said.out
    assert print_graph(parse_graph(said.out)) == said.out
    said = nnaq("show", place / "out", "--stage", "nosuch")
    refused(said, "nosuch", "lower-to-integer")
    one_line(said)


def test_show_says_how_to_get_stages(nnaq, lowered):
    said = nnaq("show", lowered, "--stage", "canonicalize")
    refused(said, "--dump")
    one_line(said)


def test_a_shape_may_be_given(nnaq, place):
    said = nnaq("show", place / "model.onnx", "--shape", "x=T,16", "--time", "x:0")
    assert said.out.startswith("graph model {\n  input x: f32[T,16] time=0\n")
    refused(nnaq("show", place / "model.onnx", "--shape", "x"), "--shape", "NAME=VALUE")


@pytest.mark.parametrize("name", ["data", "nothing", "recipe.toml", "data/0.wav"])
def test_show_refuses_what_holds_no_model(nnaq, place, name):
    said = nnaq("show", place / name)
    refused(said, name)
    one_line(said)


def test_check_of_a_good_model(nnaq, place):
    said = nnaq("check", place / "model.onnx", "--recipe", place / "recipe.toml", "--strict")
    assert (said.code, said.err) == (0, "")
    assert "all imported; 0 left to the host by edge8" in said.out


def test_check_lists_problems_as_json_too(nnaq, place):
    unknown_operators(place)
    said = nnaq("check", place / "model.onnx", "--recipe", place / "recipe.toml", "--json")
    assert said.code == 2
    assert len(json.loads(said.out)["problems"]) == 2


def test_ops_and_passes_list_themselves(nnaq):
    assert list(json.loads(nnaq("ops", "--json").out)) == list(table())
    assert [row["name"] for row in json.loads(nnaq("passes", "--json").out)] == [
        s.made_by.name for s in PIPELINE
    ]
    for command, word in (("ops", "fully_connected(x, weight, bias?)"), ("passes", "lower-to-integer")):
        said = nnaq(command)
        assert (said.code, said.err) == (0, "")
        assert word in said.out


def test_targets_are_listed_and_shown(nnaq, place):
    assert nnaq("targets").out.startswith("edge8 ")
    assert list(json.loads(nnaq("targets", "--json").out)) == ["edge8"]
    assert "32 x 32 MACs" in nnaq("targets", "edge8").out
    (place / "own.toml").write_text(target_text('"exp"'))
    assert "all but exp" in nnaq("targets", place / "own.toml").out


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("edge9", "did you mean 'edge8'?"),
        ("zzz", "shipped targets: edge8"),
        ("no.toml", "no target file 'no.toml'"),
    ],
)
def test_an_unknown_target_is_refused(nnaq, name, told):
    said = nnaq("targets", name)
    refused(said, told)
    one_line(said)


def test_a_target_file_that_is_no_text(nnaq, place):
    (place / "own.toml").write_bytes(b"\xff\xfe\x00")
    refused(nnaq("targets", place / "own.toml"), "own.toml")
    (place / "folder.toml").mkdir()
    refused(nnaq("targets", place / "folder.toml"), "folder.toml")


def test_a_recipe_file_that_is_no_text(nnaq, place):
    (place / "recipe.toml").write_bytes(b"\xff\xfe\x00")
    refused(nnaq("lower", *lower_words(place), "--json"), "recipe.toml")


def test_help_and_nothing_at_all(nnaq):
    assert nnaq("--help").code == 0
    assert "Exit codes: 0 done" in " ".join(nnaq("--help").out.split())
    assert nnaq().code in (0, 2)
