"""The output folder: whole or not at all, and never somebody else's."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnaq import artifact
from nnaq.artifact import is_written_by_nnaq, read_golden, result_arrays, write_golden, writing
from nnaq.errors import ArtifactError
from nnaq.interpret import Result
from nnaq.ir.build import Builder
from nnaq.ir.types import TensorType

REPORT = json.dumps({"versions": {"nnaq": "0.1.0"}})


def fill(out: Path, word: str, force: bool = False) -> None:
    with writing(out, force) as folder:
        (folder / "report.json").write_text(REPORT)
        (folder / "passes").mkdir()
        (folder / "passes" / "00.txt").write_text(word)


def word(out: Path) -> str:
    return (out / "passes" / "00.txt").read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_appears_at_the_end(tmp_path):
    out = tmp_path / "out"
    with writing(out) as folder:
        assert folder.parent == out.parent
        assert not out.exists()
        assert names(tmp_path) == sorted([folder.name, "out.lock"])
        (folder / "report.json").write_text(REPORT)
    assert names(tmp_path) == ["out"]
    assert is_written_by_nnaq(out)


def test_an_empty_folder_is_a_place(tmp_path):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "new")
    assert word(tmp_path / "out") == "new"


def test_an_earlier_result_needs_force(tmp_path):
    fill(tmp_path / "out", "first")
    with pytest.raises(ArtifactError, match="holds an earlier result; use --force"):
        fill(tmp_path / "out", "second")
    assert word(tmp_path / "out") == "first"
    fill(tmp_path / "out", "third", force=True)
    assert word(tmp_path / "out") == "third"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"versions": 3}', '{"versions": ["nnaq"]}', '{"versions": {"other": "1"}}', "\udcff"],
)
def test_a_folder_of_somebody_else_is_never_replaced(tmp_path, content):
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ArtifactError, match="not written by nnaq; name another one"):
        fill(out, "new", force=True)
    assert names(out) == ["report.json"]
    assert names(tmp_path) == ["out"]


def test_places_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="is a file; name a folder"):
        fill(tmp_path / "file", "x", force=True)
    with pytest.raises(ArtifactError, match=r"cannot write .*No such file or directory"):
        fill(tmp_path / "nowhere" / "out", "x")
    with pytest.raises(ArtifactError, match=r"cannot write .*Not a directory"):
        fill(tmp_path / "file" / "out", "x")
    with pytest.raises(ArtifactError, match="name a folder"):
        fill(Path("/"), "x")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_nothing_behind(tmp_path, error):
    fill(tmp_path / "out", "first")

    def fails() -> None:
        with writing(tmp_path / "out", force=True) as folder:
            (folder / "half").write_text("half")
            raise error

    with pytest.raises(error):
        fails()
    assert names(tmp_path) == ["out"]
    assert word(tmp_path / "out") == "first"


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(ArtifactError, match=r"cannot write .*No space left"), writing(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), writing(tmp_path / "out"):
        raise FileNotFoundError(errno.ENOENT, "something else")
    assert names(tmp_path) == []


def test_two_writers_one_wins(tmp_path):
    out = tmp_path / "out"
    script = (
        "import sys\nfrom nnaq.artifact import writing\nfrom nnaq.errors import ArtifactError\n"
        "try:\n    with writing(sys.argv[1], force=True): print('written')\n"
        "except ArtifactError as error: print(error)\n"
    )
    run = [sys.executable, "-c", script, str(out)]
    with writing(out) as folder:
        (folder / "report.json").write_text(REPORT)
        second = subprocess.run(run, capture_output=True, text=True, check=True).stdout
        with pytest.raises(ArtifactError, match="being written by another process"), writing(out):
            pass
        assert folder.exists()
    assert "being written by another process (out.lock is locked)" in second
    assert is_written_by_nnaq(out)
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "written\n"


def test_a_writer_that_died_is_cleaned_up_after(tmp_path):
    out = tmp_path / "out"
    script = (
        "import os, sys\nfrom nnaq.artifact import writing\n"
        "with writing(sys.argv[1]) as folder: os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(out)], check=False).returncode == 9
    assert len(names(tmp_path)) == 2
    fill(out, "new")
    assert names(tmp_path) == ["out"]


def test_death_between_the_two_renames_brings_the_old_folder_back(tmp_path):
    out = tmp_path / "out"
    fill(out, "first")
    out.rename(tmp_path / "out.old-7")
    (tmp_path / "out.tmp-7").mkdir()
    with pytest.raises(ArtifactError, match="--force"):
        fill(out, "second")
    assert word(out) == "first"
    assert names(tmp_path) == ["out"]


def test_death_after_the_two_renames_keeps_the_new_folder(tmp_path):
    out = tmp_path / "out"
    fill(out, "second")
    fill(tmp_path / "out.old-7", "first")
    with pytest.raises(ArtifactError, match="--force"):
        fill(out, "third")
    assert word(out) == "second"
    assert names(tmp_path) == ["out"]


def test_recovery_touches_nothing_else(tmp_path):
    others = ["out.old-x", "out.tmp-", "outer.tmp-1", "xout.old-1", "out.tmp-1.txt"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / "out.tmp-2").write_text("a file")
    fill(tmp_path / "out", "new")
    assert names(tmp_path) == sorted(["out", "out.tmp-2", *others])


def test_a_failed_second_rename_brings_the_old_folder_back(tmp_path, monkeypatch):
    out = tmp_path / "out"
    fill(out, "first")
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if ".tmp-" in self.name:
            raise OSError(errno.EBUSY, "busy")
        return rename(self, target)

    monkeypatch.setattr(artifact.Path, "rename", fails)
    with pytest.raises(OSError, match="busy"):
        fill(out, "second", force=True)
    assert word(out) == "first"
    assert names(tmp_path) == ["out"]


def test_a_link_to_a_folder_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    fill(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert word(tmp_path / "real") == "new"


def known_answers() -> tuple:
    b = Builder("net")
    x = b.input("x", TensorType("i8", (1, 3, "T")), time_axis=2)
    b.output(x, time_axis=2)
    inputs = {"x": np.arange(6, dtype=np.int8).reshape(1, 3, 2)}
    result = Result(dict(inputs), {"h": np.array([7], np.int16)}, {"a/b": np.array([2**40], np.int64)})
    return b.build(), inputs, result


def test_golden_arrays_are_named_by_kind_and_time_first(tmp_path):
    graph, inputs, result = known_answers()
    write_golden(tmp_path / "golden.npz", graph, inputs, result)
    with np.load(tmp_path / "golden.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert sorted(arrays) == ["activation:a/b", "input:x", "output:x", "state:h"]
    assert arrays["input:x"].tolist() == [[[0, 2, 4]], [[1, 3, 5]]]
    assert [arrays[name].dtype.name for name in sorted(arrays)] == ["int64", "int8", "int8", "int16"]


def test_golden_arrays_come_back_as_the_interpreter_takes_them(tmp_path):
    graph, inputs, result = known_answers()
    write_golden(tmp_path / "golden.npz", graph, inputs, result)
    read_inputs, read = read_golden(tmp_path / "golden.npz", graph)
    for before, after in [
        (inputs, read_inputs),
        (result.outputs, read.outputs),
        (result.states, read.states),
        (result.values, read.values),
    ]:
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in before)


def test_golden_files_that_do_not_fit_are_refused(tmp_path):
    graph, _, _ = known_answers()
    np.savez(tmp_path / "a.npz", y=np.zeros(1))
    with pytest.raises(ArtifactError, match="has no array 'input:x', which model 'net' needs"):
        read_golden(tmp_path / "a.npz", graph)
    (tmp_path / "b.npz").write_text("no arrays")
    with pytest.raises(ArtifactError, match="cannot be read as known answers"):
        read_golden(tmp_path / "b.npz", graph)
    with pytest.raises(ArtifactError, match="cannot be read as known answers"):
        read_golden(tmp_path / "gone.npz", graph)


def test_results_have_the_layout_of_golden_arrays_with_steps_in_front(tmp_path):
    graph, inputs, result = known_answers()
    write_golden(tmp_path / "golden.npz", graph, inputs, result)
    arrays = result_arrays(graph, result)
    with np.load(tmp_path / "golden.npz") as golden:
        assert sorted(arrays) == ["output:x", "state:h"]
        assert all(np.array_equal(golden[name], array) for name, array in arrays.items())
    stacked = {name: np.stack([array, array + 1]) for name, array in result.outputs.items()}
    steps = result_arrays(graph, Result(stacked, result.states), steps=True)
    assert np.array_equal(steps["output:x"], np.stack([arrays["output:x"], arrays["output:x"] + 1]))
    assert np.array_equal(steps["state:h"], result.states["h"])
