"""Speaker verification: are two utterances of one speaker? Judged by the equal error rate.

A trial is a pair of utterances, its score the cosine of their embeddings; it is accepted where the
score reaches a threshold. Over all thresholds,

    false accepts(t) = share of the trials of two speakers with score >= t
    false rejects(t) = share of the trials of one speaker with score < t

The equal error rate is where the two are equal. Trials of one score are accepted together, and
between neighbouring thresholds both shares are joined by a straight line, so that the rate needs
no threshold at which they meet exactly.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnaq.errors import DataError

COLUMNS = ("path", "speaker", "seconds")


@dataclass(frozen=True)
class Utterance:
    """A recording and who speaks in it; `name` is its path below the folder."""

    name: str
    path: Path
    speaker: str
    seconds: float


def read_utterances(folder: str | Path, lists: Iterable[str]) -> list[Utterance]:
    """The utterances that tables in `folder` list: tab-separated, with columns path, speaker, seconds.

    Raises DataError naming what is missing.
    """
    return [utterance for name in lists for utterance in _read(Path(folder), name)]


def _read(folder: Path, name: str) -> list[Utterance]:
    table = folder / name
    if not table.is_file():
        raise DataError(f"there is no table {table}; it lists utterances by {', '.join(COLUMNS)}")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    missing = [column for column in COLUMNS if not rows or rows[0].get(column) is None]
    if missing:
        raise DataError(f"{table} has no column {', '.join(missing)}, or no rows; columns are parted by tabs")
    try:
        return [
            Utterance(row["path"], folder / row["path"], row["speaker"], float(row["seconds"]))
            for row in rows
        ]
    except (TypeError, ValueError) as error:
        raise DataError(f"{table}: a row has no path or no number of seconds: {error}") from None


def all_trials(embeddings: np.ndarray, speakers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of utterances once: scores float64 [N(N-1)/2] and whether both are of one speaker.

    embeddings: [N, E], of any length but 0. Raises DataError for an embedding of zeros, which has no
    direction, or for another number of speakers.
    """
    wide = np.asarray(embeddings, np.float64)
    if len(wide) != len(speakers):
        raise DataError(f"found {len(speakers)} speakers for {len(wide)} embeddings")
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    if not (length > 0).all():
        raise DataError(
            f"embedding {int(np.argmin(length))} holds only zeros: it has no direction to compare"
        )
    first, second = np.triu_indices(len(wide), 1)
    names = np.asarray(speakers)
    unit = wide / length
    return (unit @ unit.T)[first, second], names[first] == names[second]


def equal_error_rate(scores: np.ndarray, same: np.ndarray) -> float:
    """The equal error rate of trials, 0 … 1; see the module for its interpolation.

    scores: [N], higher means more alike; same: bool [N]. Raises DataError where no trial is of one
    speaker, none of two, or a score is NaN.

    >>> equal_error_rate(np.array([0.9, 0.4, 0.6, 0.1]), np.array([True, True, False, False]))
    0.5
    """
    scores, same = np.ravel(scores), np.ravel(np.asarray(same, bool))
    if scores.shape != same.shape or np.isnan(scores).any():
        raise DataError(f"found {scores.size} scores (or NaN among them) for {same.size} trials")
    if same.all() or not same.any():
        raise DataError("an equal error rate needs trials of one speaker and trials of two")
    values, place = np.unique(scores, return_inverse=True)
    accepts, rejects = (_shares(place, kind, values.size) for kind in (~same, same))
    # From the highest threshold down: false accepts rise from 0 to 1, false rejects fall from 1 to 0.
    above, below = accepts, 1.0 - rejects
    end = int(np.argmax(above >= below))
    gap_before, gap = below[end - 1] - above[end - 1], below[end] - above[end]
    part = gap_before / (gap_before - gap)
    return float(above[end - 1] + part * (above[end] - above[end - 1]))


def _shares(place: np.ndarray, kind: np.ndarray, values: int) -> np.ndarray:
    """The share of the trials of a kind that is accepted, from none of the values to all of them."""
    counts = np.bincount(place[kind], minlength=values)[::-1]
    return np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
