"""What tests of the command line share: what a command said, and what a refusal looks like."""

from pathlib import Path
from typing import NamedTuple

from nnaq import targets


class Said(NamedTuple):
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str


def lower_words(place: Path) -> list[object]:
    return [
        place / "model.onnx", "--recipe", place / "recipe.toml", "--calibrate", place / "data",
        "-o", place / "out", "--activations", "8",
    ]  # fmt: skip


def target_text(exclude: str = "") -> str:
    """The shipped target as a file of one's own."""
    text = (Path(targets.__file__).parent / "edge8.toml").read_text(encoding="utf-8")
    return text.replace("exclude = []", f"exclude = [{exclude}]").replace('"edge8"', '"own"', 1)


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
