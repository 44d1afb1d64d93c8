"""How well a lowered recogniser hears: word errors on recordings whose words are known."""

import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import soundfile
from rich.console import Console
from rich.table import Table

from nnaq.crossing import Reporter
from nnaq.package import Package
from nnaq.tasks.decoding import NO_ERRORS, Errors, word_errors_by_utterance
from nnaq.tasks.intervals import Scores, rate_interval
from nnaq.tasks.recordings import read_audio
from nnaq.tasks.transcripts import read_texts

SHOWN = 10  # recordings with errors in the table; --json has all


@dataclass(frozen=True)
class Evaluation:
    """Word errors over all recordings.

    interval: of the word error rate, 95 %, by bootstrap over recordings. texts: by recording, what was said
    and what was heard. sound, seconds: of all recordings, and taken to hear them on this CPU.
    """

    errors: Errors
    interval: tuple[float, float]
    texts: Mapping[str, tuple[str, str]]
    sound: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data, the rate beside its parts."""
        return {
            "word_error_rate": self.errors.rate,
            "interval_95": list(self.interval),
            **asdict(self.errors),
            "recordings": len(self.texts),
            "sound_seconds": round(self.sound, 2),
            "real_time_factor_here": round(self.seconds / self.sound, 4) if self.sound else None,
            "texts": [{"path": p, "said": said, "heard": heard} for p, (said, heard) in self.texts.items()],
        }

    def show(self) -> None:
        """The figures, and the first recordings that were not heard right."""
        console, errors = Console(file=sys.stdout), self.errors
        low, high = self.interval
        console.print(
            f"word error rate {errors.rate:.2%}  (95 %: {low:.2%} to {high:.2%}; bootstrap over "
            f"{len(self.texts)} recordings)",
            highlight=False,
        )
        console.print(
            f"{errors.total} words: {errors.substitutions} substituted, {errors.deletions} left out, "
            f"{errors.insertions} put in",
            highlight=False,
        )
        console.print(
            f"{self.sound:.0f} s of sound heard in {self.seconds:.1f} s on this CPU", highlight=False
        )
        table = Table("recording", "said", "heard", box=None)
        wrong = [(path, said, heard) for path, (said, heard) in self.texts.items() if said != heard]
        for row in wrong[:SHOWN]:
            table.add_row(*row)
        if wrong:
            console.print(table)


def evaluate(package: Package, folder: Path, table: str, beam: int, reporter: Reporter) -> Evaluation:
    """Word errors of a package on the recordings of a table. Raises DataError."""
    texts = read_texts(folder, table)
    start = time.perf_counter()
    heard = heard_texts(package, folder, texts, beam, reporter)
    seconds = time.perf_counter() - start
    errors = word_errors_by_utterance(texts.values(), heard)
    between = rate_interval(Scores.of(errors))
    pairs = {path: (texts[path], text) for path, text in zip(texts, heard, strict=True)}
    sound = sum(seconds_of(folder / path) for path in texts)
    return Evaluation(sum(errors, NO_ERRORS), (between.low, between.high), pairs, sound, seconds)


def heard_texts(
    package: Package, folder: Path, paths: Collection[str], beam: int, reporter: Reporter
) -> list[str]:
    """What a package hears in recordings of a folder."""
    transcriber, rate = package.transcriber(beam), package.hearing.log_mel.sample_rate
    recordings = reporter.track(paths, "transcribing", len(paths))
    return [transcriber.transcribe(read_audio(folder / path, rate)) for path in recordings]


def seconds_of(path: Path) -> float:
    """How long a recording is."""
    return float(soundfile.info(path).duration)
