"""Dialogue acts voiced by espeak-ng: sets in which only prosody tells the act, or in which it tells nothing.

    python benchmarks/dialogue_voices.py OUT [--set controlled control] [--draws 3]

OUT/controlled  the same words as statement, question, back-channel and agreement: pitch alone differs
OUT/control     the act follows from the words, and pitch is drawn without a look at it

Each set holds train.tsv, dev.tsv and test.tsv, columns path, speaker, seconds, act, contour, text, parted by
tabs, beside its sound: mono, 16 kHz, 16 bits. Pitch contours:

    falls     a sentence that ends with a full stop
    rises     one that ends with a question mark
    level     a pitch range of nothing
    high      one that ends with an exclamation mark, in a wide pitch range

A speaker is an accent and a variant of espeak-ng. No speaker is in two of the tables; test speakers have
accents that no other table has, a pitch below or above all others' and, in half of the recordings, noise of
another colour (power falling by 6 dB an octave; in training by 0 or 3). Speed, loudness, pauses before and
after and the signal-to-noise ratio are drawn alike for all acts, from --seed. What is there already is not
made again, so that a run that was stopped goes on. espeak-ng is a program of its own (GPL), found on PATH.
"""

import argparse
import csv
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
from rich.progress import track

from nnaq.errors import DataError
from nnaq.tasks.an4 import SAMPLE_RATE
from nnaq.tasks.augment import at_speed
from nnaq.tasks.mixing import mix

MISSING = (
    "there is no program espeak-ng on PATH; install it with `apt-get install espeak-ng` (Debian), "
    "`brew install espeak-ng`, or from https://github.com/espeak-ng/espeak-ng/releases"
)
AT_ONCE = 4  # espeak-ng sleeps most of the fifth of a second that a line takes it
CONTOURS = {"falls": ("100", "."), "rises": ("100", "?"), "level": ("0", "."), "high": ("180", "!")}
CONTOUR_OF = {"statement": "falls", "question": "rises", "back-channel": "level", "agreement": "high"}
SAME_WORDS = (
    "yes", "no", "right", "okay", "really", "sure", "all of it", "you are ready", "that works", "we can go",
    "tomorrow morning", "it is done",
)  # fmt: skip
OWN_WORDS = {
    "statement": ("it is done", "we can go", "the train is late"),
    "question": ("is it done", "can we go", "where is the train"),
    "back-channel": ("hmm", "i see", "uh huh"),
    "agreement": ("exactly", "that is right", "i agree"),
}


@dataclass(frozen=True)
class Cast:
    """Who speaks in a table, and how. pitches: of espeak-ng, 0 to 99; colours: dB an octave."""

    table: str
    accents: tuple[str, ...]
    variants: tuple[str, ...]
    pitches: tuple[tuple[int, int], ...]
    colours: tuple[float, ...]
    snr_db: tuple[float, float]


ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-us-nyc")
CASTS = (
    Cast("train", ACCENTS, ("m1", "m3", "m5", "m7", "f1", "f3", "f5"), ((30, 65),), (0.0, 3.0), (10, 30)),
    Cast("dev", ACCENTS, ("m8", "f4"), ((30, 65),), (0.0, 3.0), (10, 30)),
    Cast(
        "test", ("en-gb-scotland", "en-gb-x-gbclan", "en-029"), ("m2", "m4", "m6", "f2"),
        ((8, 25), (70, 90)), (6.0,), (10, 30),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """What is to be said: a row of a table, and the seed of what is drawn for it."""

    path: str
    speaker: str
    act: str
    contour: str
    text: str
    cast: Cast
    seed: tuple[int, ...]


def lines(kind: str, cast: Cast, draws: int, seed: int) -> Iterator[Line]:
    """All lines of a table: every speaker says something of every act, `draws` times."""
    speakers = [f"{accent}+{variant}" for accent in cast.accents for variant in cast.variants]
    number = 0
    for speaker in speakers:
        for act in CONTOUR_OF:
            for _ in range(draws):
                place = (seed, sorted(("controlled", "control")).index(kind), CASTS.index(cast), number)
                random = np.random.default_rng(place)
                contour = CONTOUR_OF[act] if kind == "controlled" else str(random.choice(list(CONTOURS)))
                text = str(random.choice(SAME_WORDS if kind == "controlled" else OWN_WORDS[act]))
                path = f"{cast.table}/{number:05d}.wav"
                yield Line(path, speaker, act, contour, text, cast, (*place, 1))
                number += 1


def voiced(line: Line) -> np.ndarray:
    """Samples float32 of a line, in [-1, 1)."""
    random, cast = np.random.default_rng(line.seed), line.cast
    low, high = cast.pitches[int(random.integers(len(cast.pitches)))]
    pitch, speed = int(random.integers(low, high + 1)), int(random.integers(140, 191))
    prosody_range, mark = CONTOURS[line.contour]
    said = f'<prosody range="{prosody_range}%">{line.text}{mark}</prosody>'
    speech = without_silence(spoken(said, line.speaker, pitch, speed))
    before, after = (random.integers(800, 4000, 2)).tolist()
    speech = np.pad(speech, (before, after))
    noise = coloured(random, len(speech), cast.colours[int(random.integers(len(cast.colours)))])
    noisy, snr = random.random() < 0.5, random.uniform(*cast.snr_db)
    made = mix(speech, noise, snr if noisy else 50.0)
    return made * (random.uniform(0.1, 0.5) / np.abs(made).max())


def spoken(ssml: str, voice: str, pitch: int, speed: int) -> np.ndarray:
    """What espeak-ng says, float32 at 16 kHz. Raises DataError where it fails."""
    command = ["espeak-ng", "-m", "-v", voice, "-p", str(pitch), "-s", str(speed), "--stdout", ssml]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode or not done.stdout:
        raise DataError(f"espeak-ng did not say {ssml!r} as {voice}: {done.stderr.decode().strip()}")
    samples, rate = soundfile.read(BytesIO(done.stdout), dtype="float32")
    return at_speed(samples, rate / SAMPLE_RATE)


def without_silence(speech: np.ndarray) -> np.ndarray:
    """From the first sample to the last that is within 40 dB of the loudest: pauses tell nothing then."""
    heard = np.flatnonzero(np.abs(speech) > 0.01 * np.abs(speech).max())
    return speech[heard[0] : heard[-1] + 1]


def coloured(random: np.random.Generator, count: int, falls: float) -> np.ndarray:
    """Noise whose power falls by so many dB an octave, from 50 hertz on."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    hertz = np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE), 50.0)
    return np.asarray(np.fft.irfft(spectrum * (hertz / 50) ** (-falls / 6.02), count), np.float32)


def make(folder: Path, kind: str, draws: int, seed: int) -> None:
    """One set: the sound that is not there yet, then its tables."""
    for cast in CASTS:
        (folder / cast.table).mkdir(parents=True, exist_ok=True)
        said = list(lines(kind, cast, draws, seed))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            made = pool.map(lambda line: written(folder / line.path, line), said)
            list(track(made, f"{kind}, {cast.table}", len(said), disable=not sys.stderr.isatty()))
        write_table(folder, cast.table, said)


def written(path: Path, line: Line) -> None:
    """The sound of a line, whole or not at all."""
    if not path.exists():
        part = path.with_suffix(".part")
        soundfile.write(part, voiced(line), SAMPLE_RATE, subtype="PCM_16", format="WAV")
        part.replace(path)


def write_table(folder: Path, table: str, said: Iterable[Line]) -> None:
    with (folder / f"{table}.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("path", "speaker", "seconds", "act", "contour", "text"))
        for line in said:
            seconds = f"{soundfile.info(folder / line.path).duration:.2f}"
            writer.writerow((line.path, line.speaker, seconds, line.act, line.contour, line.text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the sets")
    parser.add_argument(
        "--set", nargs="+", choices=("controlled", "control"), default=["controlled", "control"]
    )
    parser.add_argument("--draws", type=int, default=12, help="recordings by a speaker of an act")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        sys.exit(MISSING)
    for kind in given.set:
        make(given.out / kind, kind, given.draws, given.seed)


if __name__ == "__main__":
    main()
