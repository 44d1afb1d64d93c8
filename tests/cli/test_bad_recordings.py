"""Recordings that nnaq cannot take: one sentence, exit code 2, nothing left behind."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import files, lower_words, one_line, refused
from voice_models import RECIPE, write_sound


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
