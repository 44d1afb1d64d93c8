"""Picovoice speech-to-intent: spoken orders of coffee, 16 kHz, by people with many accents.

About 70 minutes, Apache-2.0, from https://github.com/Picovoice/speech-to-intent-benchmark. The loader takes
a folder with two tables beside the sound:

    train.tsv, test.tsv   columns path, seconds, edit_distance, words, text, intent, slots, parted by tabs
    path                  a mono 16 kHz flac or wav file, below the folder
    text                  the words; slots are given by the speaker's order, the words around them inferred
    edit_distance         how far the inferred words are from the order as it was written; of `words` words
    noise/kitchen.flac    noise to mix in

Nobody knows who speaks: a recording stands for its own speaker. Rows whose text is unsure
(edit_distance > words / 4) are left out.
"""

from pathlib import Path

from nnaq.errors import DataError
from nnaq.tasks.an4 import Spoken, read_rows

COLUMNS = ("path", "seconds", "edit_distance", "words", "text")
SOURCE = "speech-to-intent orders (https://github.com/Picovoice/speech-to-intent-benchmark)"
UNSURE = 0.25


def read_orders(folder: Path, name: str) -> tuple[Spoken, ...]:
    """The utterances of one table whose text is sure, in its order, in capitals. Raises DataError."""
    rows = read_rows(folder, name, COLUMNS, SOURCE)
    return tuple(
        Spoken(folder / row["path"], row["path"], _number(folder, row["seconds"]), row["text"].upper())
        for row in rows
        if _number(folder, row["edit_distance"]) <= UNSURE * _number(folder, row["words"])
    )


def _number(folder: Path, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{folder}: found {text!r} in a table, expected a number") from None
