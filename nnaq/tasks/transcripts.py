"""What is said in the recordings of a folder: the truth that a recogniser is judged by.

A table beside the sound, such as `test.tsv`, has columns path and text, parted by tabs; paths are below the
folder. A part of LibriSpeech, such as `test-clean`, has transcripts of its own. Words are compared in
capitals.
"""

import csv
from pathlib import Path

from nnaq.errors import DataError
from nnaq.tasks import librispeech

TABLES = ("train.tsv", "transcripts.tsv", "test.tsv")


def texts_of(folder: Path) -> dict[str, str]:
    """The words by a recording's path below the folder, of all tables there; empty where there is none."""
    found = _of_librispeech(folder)
    for name in TABLES:
        if (folder / name).is_file():
            found |= read_texts(folder, name)
    return found


def _of_librispeech(folder: Path) -> dict[str, str]:
    """The words in a part of LibriSpeech; empty for any other folder."""
    if not any(folder.glob("*/*/*.trans.txt")):
        return {}
    part = folder.resolve()
    rows = librispeech.read_part(part.parent, part.name)
    return {row.path.relative_to(part).as_posix(): row.text for row in rows}


def read_texts(folder: Path, name: str) -> dict[str, str]:
    """The words of one table, in its order. Raises DataError where it is absent or has not these columns."""
    path = folder / name
    if not path.exists() and (found := _of_librispeech(folder)):
        return found
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except FileNotFoundError:
        raise DataError(f"there is no {path}; write one with columns path and text, parted by tabs") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    found = {row["path"]: row["text"].upper() for row in rows if row.get("path") and row.get("text")}
    if not found:
        raise DataError(f"{path}: expected rows with columns path and text, parted by tabs")
    return found
