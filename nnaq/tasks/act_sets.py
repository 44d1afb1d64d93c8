"""Utterances with their dialogue acts: any folder with tables, or the orders of Picovoice by a weak label.

    train.tsv, test.tsv   columns path, speaker, seconds, act, parted by tabs; the first row names them
    dev.tsv               the same, if there is one; else a tenth of the training speakers is held out
    path                  a mono 16 kHz flac or wav file, below the folder

`benchmarks/dialogue_voices.py` makes such folders. A folder of speech-to-intent (nnaq.tasks.s2i), whose
tables have no acts, gets two from how an order begins, whatever it sounds like:

    asking       "can i …", "may i …", "could i …"
    commanding   "make …", "give …", "get …", "brew …"

Orders that begin otherwise ("i want", "i'd like") are neither and are left out. **The label is weak**: it
follows from the first words alone, which are heard without any prosody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnaq.errors import DataError
from nnaq.tasks.an4 import Spoken, read_rows, split_by_speaker
from nnaq.tasks.s2i import read_orders

COLUMNS = ("path", "speaker", "seconds", "act", "text")
SOURCE = "dialogue acts (benchmarks/dialogue_voices.py makes one)"
BEGINNINGS = {
    "CAN": "asking", "MAY": "asking", "COULD": "asking",
    "MAKE": "commanding", "GIVE": "commanding", "GET": "commanding", "BREW": "commanding",
}  # fmt: skip


@dataclass(frozen=True)
class Acted:
    """An utterance and what it does."""

    spoken: Spoken
    act: str


@dataclass(frozen=True)
class ActSets:
    """Utterances to train on, to choose by, and to judge by at the very end; acts in alphabetical order."""

    train: tuple[Acted, ...]
    development: tuple[Acted, ...]
    test: tuple[Acted, ...]

    def __post_init__(self) -> None:
        unknown = {one.act for one in (*self.development, *self.test)} - set(self.acts)
        if len(self.acts) < 2 or unknown:
            raise DataError(
                f"found acts {', '.join(self.acts) or 'none'} to train on; expected two or more, and all "
                f"acts of the other tables; missing {', '.join(sorted(unknown)) or 'none'}"
            )

    @property
    def acts(self) -> tuple[str, ...]:
        return tuple(sorted({one.act for one in self.train}))


def read_acts(folder: Path) -> ActSets:
    """The sets of a folder; see the module. Raises DataError: what is missing, and where it comes from."""
    table = folder / "train.tsv"
    columns = table.read_text(encoding="utf-8").partition("\n")[0].split("\t") if table.is_file() else []
    read = _weak if "edit_distance" in columns else _labelled
    train, test = read(folder, "train.tsv"), read(folder, "test.tsv")
    if (folder / "dev.tsv").is_file():
        return ActSets(train, read(folder, "dev.tsv"), test)
    speakers = len({one.spoken.speaker for one in train})
    rest, held_out = split_by_speaker([one.spoken for one in train], max(1, speakers // 10))
    by_path = {one.spoken.path: one for one in train}
    return ActSets(_again(by_path, rest), _again(by_path, held_out), test)


def _again(acted: Mapping[Path, Acted], spoken: Sequence[Spoken]) -> tuple[Acted, ...]:
    return tuple(acted[one.path] for one in spoken)


def _labelled(folder: Path, name: str) -> tuple[Acted, ...]:
    return tuple(_acted(folder, name, row) for row in read_rows(folder, name, COLUMNS, SOURCE))


def _acted(folder: Path, name: str, row: Mapping[str, str]) -> Acted:
    try:
        seconds = float(row["seconds"])
    except ValueError:
        raise DataError(f"{folder / name}: found {row['seconds']!r}, expected a number of seconds") from None
    if not row["act"] or not row["speaker"]:
        raise DataError(f"{folder / name}: act or speaker is missing; found {row}")
    return Acted(Spoken(folder / row["path"], row["speaker"], seconds, row["text"].upper()), row["act"])


def _weak(folder: Path, name: str) -> tuple[Acted, ...]:
    orders = read_orders(folder, name)
    return tuple(
        Acted(order, BEGINNINGS[order.text.split()[0]])
        for order in orders
        if order.text.split()[0] in BEGINNINGS
    )
