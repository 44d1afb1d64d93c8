"""CMU AN4: spoken letters, digits and words, close to the microphone, 16 kHz.

About 50 minutes by 84 people, recorded at Carnegie Mellon University in 1991 (A. Acero, Acoustical
and environmental robustness in automatic speech recognition, Kluwer 1993), free for any purpose. The
original is `an4_raw.bigendian.tar.gz` on http://www.speech.cs.cmu.edu/databases/an4/. The loader takes a
folder with two tables beside the sound:

    train.tsv, test.tsv   columns path, speaker, seconds, text, parted by tabs; the first row names them
    path                  a mono 16 kHz flac or wav file, below the folder
    text                  the words in capitals, parted by spaces, without the silences of the original

The tables of train and test have no speaker in common. The development set is cut from train.tsv by
whole speakers, so that a model is chosen by voices it never heard, and test.tsv stays unseen.
"""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnaq.errors import DataError

SAMPLE_RATE = 16000
COLUMNS = ("path", "speaker", "seconds", "text")
TABLES = ("train.tsv", "test.tsv")
_SOURCE = "AN4 (http://www.speech.cs.cmu.edu/databases/an4/)"


@dataclass(frozen=True)
class Spoken:
    """An utterance: its file, who speaks, how long, and the words in capitals."""

    path: Path
    speaker: str
    seconds: float
    text: str


@dataclass(frozen=True)
class Sets:
    """Utterances to train on, to choose by, and to judge by at the very end; no speaker is in two of them."""

    train: tuple[Spoken, ...]
    development: tuple[Spoken, ...]
    test: tuple[Spoken, ...]


def read_sets(folder: str | Path, development_speakers: int = 8) -> Sets:
    """The three sets of the AN4 folder. Raises DataError: what is missing, and where it comes from."""
    train, test = (read_table(Path(folder), name) for name in TABLES)
    rest, held_out = split_by_speaker(train, development_speakers)
    common = {s.speaker for s in train} & {s.speaker for s in test}
    if common:
        raise DataError(
            f"{folder}: speaker {min(common)} is in both tables; test.tsv must have speakers of its own"
        )
    return Sets(rest, held_out, test)


def read_table(folder: Path, name: str) -> tuple[Spoken, ...]:
    """The utterances of one table, in its order. Raises DataError where it is absent or malformed."""
    rows = read_rows(folder, name, COLUMNS, _SOURCE)
    return tuple(_spoken(folder, folder / name, number, row) for number, row in enumerate(rows, 2))


def read_rows(folder: Path, name: str, columns: Sequence[str], source: str) -> list[dict[str, str]]:
    """The rows of a table beside its sound, which exists. Raises DataError: what is missing, whence it comes.

    Every row has the columns, and text in the columns path and text.
    """
    table = folder / name
    if not table.is_file():
        raise DataError(
            f"there is no {table}; make a folder of {source} with {' and '.join(TABLES)}, "
            f"columns {', '.join(columns)} parted by tabs"
        )
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or not set(columns) <= rows[0].keys():
        raise DataError(f"{table}: expected rows with columns {', '.join(columns)}, parted by tabs")
    for line, row in enumerate(rows, 2):
        if not row["path"] or not (row["text"] or "").split() or None in row.values():
            raise DataError(f"{table}, line {line}: path, text or another column is missing; found {row}")
        if not (folder / row["path"]).is_file():
            raise DataError(
                f"{table}, line {line}: there is no file {folder / row['path']}; copy the sound there too"
            )
    return rows


def _spoken(folder: Path, table: Path, line: int, row: dict[str, str]) -> Spoken:
    path, speaker, seconds, text = (row[column] for column in COLUMNS)
    if not speaker:
        raise DataError(f"{table}, line {line}: path, speaker or text is missing; found {row}")
    try:
        return Spoken(folder / path, speaker, float(seconds or ""), " ".join(text.upper().split()))
    except ValueError:
        raise DataError(f"{table}, line {line}: found {seconds!r}, expected a number of seconds") from None


def split_by_speaker(
    utterances: Sequence[Spoken], held_out: int
) -> tuple[tuple[Spoken, ...], tuple[Spoken, ...]]:
    """(the rest, all utterances of `held_out` speakers), in order.

    Which speakers is drawn by a digest of their names: it never changes, and neither the order of the table
    nor the alphabet decides. Raises DataError where none would be left on a side.
    """
    speakers = sorted({u.speaker for u in utterances}, key=_digest)
    if not 0 < held_out < len(speakers):
        raise DataError(
            f"found {len(speakers)} speakers to train on; cannot hold {held_out} of them out, "
            "expected at least 1 on both sides"
        )
    drawn = set(speakers[:held_out])
    return _of(utterances, drawn, False), _of(utterances, drawn, True)


def _of(utterances: Iterable[Spoken], speakers: set[str], inside: bool) -> tuple[Spoken, ...]:
    return tuple(u for u in utterances if (u.speaker in speakers) == inside)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
