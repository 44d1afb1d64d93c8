"""Sets of speech with their words: one set in a folder of its own, or several under their names in one.

A folder holds

    train.tsv         a set by itself: AN4 if its table has speakers, else speech-to-intent
    an4, s2i          both: training on all, development and test on AN4's
    train-clean-100   LibriSpeech: all parts for training that are there; dev-clean and test-clean
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnaq.errors import DataError
from nnaq.tasks import librispeech
from nnaq.tasks.an4 import SAMPLE_RATE, Spoken, read_sets, split_by_speaker
from nnaq.tasks.recordings import read_audio
from nnaq.tasks.s2i import read_orders

NOISE = Path("noise", "kitchen.flac")
LIBRISPEECH = ("train-clean-100", "train-clean-360", "train-other-500")


@dataclass(frozen=True, eq=False)
class Speech:
    """Utterances to train on, to choose by, to judge by at the end; noise to mix in, where there is some."""

    train: tuple[Spoken, ...]
    development: tuple[Spoken, ...]
    test: tuple[Spoken, ...]
    noise: np.ndarray | None = None


def read_speech(folder: Path) -> Speech:
    """The sets of a folder; see the module. Raises DataError: what is missing, and where it comes from."""
    an4, s2i = folder / "an4", folder / "s2i"
    if an4.is_dir() and s2i.is_dir():
        own, orders = read_speech(an4), read_speech(s2i)
        return Speech(own.train + orders.train, own.development, own.test, orders.noise)
    parts = [part for part in LIBRISPEECH if (folder / part).is_dir()]
    if parts:
        read = librispeech.read_sets(folder, train=parts)
        return Speech(read.train, read.development, read.test)
    if not (folder / "train.tsv").is_file():
        raise DataError(
            f"folder {folder} holds no train.tsv, no folders an4 and s2i, and no train-clean-100; see "
            "nnaq.tasks.an4, s2i and librispeech for the sets and where they come from"
        )
    if "speaker" in (folder / "train.tsv").read_text(encoding="utf-8").partition("\n")[0].split("\t"):
        sets = read_sets(folder)
        return Speech(sets.train, sets.development, sets.test)
    train, test = (read_orders(folder, name) for name in ("train.tsv", "test.tsv"))
    rest, held_out = split_by_speaker(train, max(1, len(train) // 10))
    noise = read_audio(folder / NOISE, SAMPLE_RATE) if (folder / NOISE).is_file() else None
    return Speech(rest, held_out, test, noise)
