"""LibriSpeech: about 1,000 hours of read English books, 16 kHz, by 2,484 people.

V. Panayotov, G. Chen, D. Povey, S. Khudanpur, Librispeech: an ASR corpus based on public domain audio books,
ICASSP 2015; CC BY 4.0, from https://www.openslr.org/12. Unpack its archives into one folder:

    train-clean-100 (100 h, 6 GB), train-clean-360, train-other-500,
    dev-clean, dev-other, test-clean, test-other

    for part in train-clean-100 dev-clean test-clean; do
        curl -L https://www.openslr.org/resources/12/$part.tar.gz | tar -xz
    done

which makes

    LibriSpeech/PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac      mono, 16 kHz
    LibriSpeech/PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt        lines: name, space, words

Rows are listed without sound being read: seconds come from the header of each file, so that 960 hours are
listed in minutes and listened to utterance by utterance.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import soundfile

from nnaq.errors import DataError
from nnaq.tasks.an4 import SAMPLE_RATE, Sets, Spoken

SOURCE = "https://www.openslr.org/12"
TRAIN = ("train-clean-100",)
DEVELOPMENT = ("dev-clean",)
TEST = ("test-clean",)


def read_sets(
    folder: str | Path,
    train: Sequence[str] = TRAIN,
    development: Sequence[str] = DEVELOPMENT,
    test: Sequence[str] = TEST,
) -> Sets:
    """The three sets of the folder `LibriSpeech`, of one or more parts each.

    Raises DataError: what is missing and where it comes from, or a speaker in two of the sets.
    """
    train_set, development_set, test_set = (
        tuple(row for part in parts for row in read_part(folder, part))
        for parts in (train, development, test)
    )
    speakers = [{row.speaker for row in rows} for rows in (train_set, development_set, test_set)]
    common = (speakers[0] & speakers[1]) | ((speakers[0] | speakers[1]) & speakers[2])
    if common:
        raise DataError(f"{folder}: speaker {min(common)} is in two sets; each set needs speakers of its own")
    return Sets(train_set, development_set, test_set)


def read_part(folder: str | Path, part: str) -> tuple[Spoken, ...]:
    """The utterances of a part such as `train-clean-100`, by the names of their files.

    Raises DataError where the part is absent or malformed.
    """
    place = Path(folder) / part
    if not place.is_dir():
        raise DataError(
            f"there is no folder {place}; unpack {part}.tar.gz of LibriSpeech ({SOURCE}) and name the folder "
            "`LibriSpeech`, which holds it"
        )
    rows = [row for transcript in sorted(place.glob("*/*/*.trans.txt")) for row in _chapter(transcript)]
    if not rows:
        raise DataError(
            f"{place} holds no SPEAKER/CHAPTER/*.trans.txt with a line; unpack {part}.tar.gz again"
        )
    return tuple(rows)


def _chapter(transcript: Path) -> Iterator[Spoken]:
    """The utterances of one chapter, in the order of its transcript."""
    for number, line in enumerate(transcript.read_text(encoding="utf-8").splitlines(), 1):
        name, _, text = line.partition(" ")
        where = f"{transcript}, line {number}"
        if not text.split():
            raise DataError(f"{where}: found {line!r}, expected a name, a space and words")
        path = transcript.parent / f"{name}.flac"
        yield Spoken(path, transcript.parts[-3], _seconds(path, where), " ".join(text.upper().split()))


def _seconds(path: Path, where: str) -> float:
    """How long a file is, by its header."""
    if not path.is_file():
        raise DataError(f"{where}: there is no file {path}; unpack the archive of this part again")
    try:
        found = soundfile.info(path)
    except soundfile.SoundFileError as error:
        raise DataError(f"{where}: {path} cannot be read as audio: {error}") from None
    if found.samplerate != SAMPLE_RATE or found.channels != 1:
        raise DataError(
            f"{where}: {path} has {found.channels} channels at {found.samplerate} Hz, "
            f"expected 1 at {SAMPLE_RATE} Hz"
        )
    return float(found.frames / found.samplerate)
