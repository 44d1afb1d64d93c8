"""Recordings with what is said in them, in a folder: the truth that a recogniser is judged by.

A table beside the sound, any of `test.tsv`, `train.tsv`, `transcripts.tsv`, has columns path and text, parted
by tabs; paths are below the folder.
"""

import csv
from pathlib import Path

TABLES = ("test.tsv", "transcripts.tsv", "train.tsv")


def texts_of(folder: Path) -> dict[str, str]:
    """The words by a recording's path below the folder, in capitals; empty where no table tells."""
    found: dict[str, str] = {}
    for name in TABLES:
        if (folder / name).is_file():
            with (folder / name).open(encoding="utf-8", newline="") as file:
                rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                found |= {
                    row["path"]: row["text"].upper() for row in rows if row.get("path") and row.get("text")
                }
    return found
