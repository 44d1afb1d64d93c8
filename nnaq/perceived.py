"""What a speaker waits for: a lowered recogniser that hears recordings in real time on a target.

Two waits are told of an utterance, in time on the machine's clock:

    last word   from the end of speech to when its last word is told. The end of speech is the end of the
                last 10 ms that are less than 35 dB below the loudest (`mixing.energy_labels`); a word is told
                when the work on the chunk of its last label is done. The wait holds the frame that has to be
                heard to its end, the hesitation of the model, and the machine; it is below zero where the
                model is sure of a word before it has ended.
    result      from the end of the recording to when nothing is left to do: the machine alone.

Labels are those of greedy search on the integers, frame by frame; what they and the frames take on the
machine is in `nnaq.simulate.transducer`. Features are the host's; with a real FFT of n points, as customary,

    operations of a hop = window + 2.5 n log2 n + 3 bins + 2 * non-zeros of the filters + bands
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, log2
from pathlib import Path
from typing import Any

import numpy as np

from nnaq.errors import DataError
from nnaq.package import Package
from nnaq.simulate.stream import Streamed
from nnaq.simulate.transducer import Framing, Spoken, Turns, sizes, take_turns
from nnaq.targets import Target
from nnaq.tasks.hearing import Hearing
from nnaq.tasks.log_mel import LogMel
from nnaq.tasks.mixing import energy_labels
from nnaq.tasks.recordings import find_recordings, read_audio
from nnaq.tasks.transducer_parts import IntegerParts
from nnaq.tasks.transducer_search import MOST, Greedy, transcribe

SPEECH_HOPS = 100  # a second: what the end of speech is told in


@dataclass(frozen=True)
class Perceived:
    """Recordings in real time on a target: by path what was spoken, and how the machine kept up."""

    turns: Turns
    framing: Framing
    spoken: Mapping[Path, Spoken]

    @cached_property
    def streamed(self) -> dict[Path, Streamed]:
        """Every recording in real time."""
        return {path: self.turns.hear(spoken, self.framing) for path, spoken in self.spoken.items()}

    def last_word_seconds(self, path: Path) -> float | None:
        """From the end of speech to the last word; None where nothing was said."""
        spoken, streamed = self.spoken[path], self.streamed[path]
        said = [n for n, count in enumerate(spoken.labels) if count]
        if not said:
            return None
        done = streamed.chunks[said[-1] // self.framing.chunk].done
        return done / self.turns.target.clock_hz - spoken.speech_samples / self.framing.sample_rate

    def result_seconds(self, path: Path) -> float:
        """From the last sound to the final result."""
        return self.streamed[path].perceived / self.turns.target.clock_hz

    @property
    def work(self) -> dict[str, int]:
        """Cycles of all recordings by who works."""
        each = [self.turns.work(spoken, self.framing.chunk) for spoken in self.spoken.values()]
        return {who: sum(one[who] for one in each) for who in each[0]}

    @property
    def sound_seconds(self) -> float:
        return sum(spoken.samples for spoken in self.spoken.values()) / self.framing.sample_rate

    @property
    def real_time_factor(self) -> float:
        """Time of all work over the time the sound lasts; above 1 the machine falls behind."""
        return sum(self.work.values()) / self.turns.target.clock_hz / self.sound_seconds

    def to_json(self) -> dict[str, Any]:
        """Plain data; waits in milliseconds."""
        words = {path: self.last_word_seconds(path) for path in self.spoken}
        known = [wait for wait in words.values() if wait is not None]
        whole = sum(self.work.values())
        return {
            "target": self.turns.target.name,
            "recordings": len(self.spoken),
            "seconds": self.sound_seconds,
            "frame_seconds": self.framing.hop / self.framing.sample_rate,
            "chunk": self.framing.chunk,
            "frames": sum(len(spoken.labels) for spoken in self.spoken.values()),
            "labels": sum(sum(spoken.labels) for spoken in self.spoken.values()),
            "real_time_factor": self.real_time_factor,
            "last_word_milliseconds": {
                **waits(known), "recordings": len(known), "before_the_end": sum(wait < 0 for wait in known),
            },
            "perceived_latency_milliseconds": waits([self.result_seconds(path) for path in self.spoken]),
            "shares": {who: cycles / whole for who, cycles in self.work.items()},
            "parts": {
                name: {"cycles": part.timing.cycles, "dram_bytes": part.dram_bytes}
                for name, part in zip(("encoder", "predictor", "joint"), self.turns.parts, strict=True)
            },
            "setup_milliseconds": self.turns.target.microseconds(self.turns.setup_cycles) / 1e3,
            "sram": {**self.turns.resting, "fits": self.turns.fits},
            "utterances": [self._row(path, wait) for path, wait in words.items()],
        }  # fmt: skip

    def _row(self, path: Path, last_word: float | None) -> dict[str, Any]:
        spoken = self.spoken[path]
        return {
            "path": str(path),
            "seconds": spoken.samples / self.framing.sample_rate,
            "speech_seconds": spoken.speech_samples / self.framing.sample_rate,
            "labels": sum(spoken.labels),
            "last_word_milliseconds": None if last_word is None else 1e3 * last_word,
            "perceived_latency_milliseconds": 1e3 * self.result_seconds(path),
        }

    def show(self) -> str:
        """The figures as a table of text."""
        return "\n".join(f"{name:<26} {value}" for name, value in _rows(self.to_json()).items())


def perceive(package: Package, target: Target, path: Path, chunk: int = 1) -> Perceived:
    """A recording, or those of a folder, as a package hears them in real time, so many frames at a time.

    Raises DataError where there is none, or one is no audio.
    """
    recordings = recordings_at(path)
    hearing, parts = package.hearing, IntegerParts(package.graphs)
    spoken = {path: _spoken(path, hearing, parts) for path in recordings}
    every = {size for one in spoken.values() for size in sizes(len(one.labels), chunk)}
    graphs = package.graphs
    operations = feature_operations(hearing.log_mel, hearing.samples)
    turns = take_turns(graphs.encoder, graphs.predictor, graphs.joint, target, every, operations)
    return Perceived(turns, Framing(hearing.samples, hearing.log_mel.sample_rate, chunk), spoken)


def recordings_at(path: Path) -> list[Path]:
    """A recording, or those of a folder, by name. Raises DataError where a folder holds none."""
    if not path.is_dir():
        return [path]
    found = [one.path for one in find_recordings(path) if one.is_audio]
    if not found:
        raise DataError(f"{path} holds no .wav and no .flac, which alone a recogniser hears")
    return found


def feature_operations(log_mel: LogMel, samples: int) -> int:
    """Operations of the host for the features of so many new samples; see the module."""
    points = log_mel.transform
    filtered = 2 * int(np.count_nonzero(log_mel.filters))
    hop = log_mel.window + 2.5 * points * log2(points) + 3 * log_mel.bins + filtered + log_mel.bands
    return ceil(hop * samples / log_mel.hop)


def waits(seconds: Sequence[float]) -> dict[str, float | None]:
    """Median and 95th percentile by nearest rank, in milliseconds; None where there are none.

    >>> waits([0.3, 0.1, 0.2])
    {'median': 200.0, 'p95': 300.0}
    """
    ranked = sorted(seconds)
    at = {"median": 0.5, "p95": 0.95}
    return {
        name: 1e3 * ranked[max(ceil(part * len(ranked)), 1) - 1] if ranked else None
        for name, part in at.items()
    }


def _spoken(path: Path, hearing: Hearing, parts: IntegerParts) -> Spoken:
    rate = hearing.log_mel.sample_rate
    audio = read_audio(path, rate)
    parts.reset()
    frames = parts.hear(hearing.features(audio))
    said = transcribe(Greedy(parts), frames)
    labels = np.bincount([one.frame for one in said], minlength=len(frames)).tolist()
    hop = rate // SPEECH_HOPS
    loud = np.flatnonzero(energy_labels(audio, hop))
    end = min((int(loud[-1]) + 1) * hop, len(audio)) if len(loud) else 0
    return Spoken(len(audio), end, tuple(labels), tuple(count + (count < MOST) for count in labels))


def _rows(plain: Mapping[str, Any]) -> dict[str, str]:
    words, result, sram = (
        plain[key] for key in ("last_word_milliseconds", "perceived_latency_milliseconds", "sram")
    )
    behind = ": it falls behind" if plain["real_time_factor"] > 1 else ""
    after = (
        f"median {words['median']:.1f} ms, p95 {words['p95']:.1f} ms from the end of speech; "
        f"{words['before_the_end']} of {words['recordings']} before it"
        if words["recordings"]
        else "no words"
    )
    return {
        "sound": f"{plain['seconds']:g} s in {plain['recordings']} recordings, {plain['frames']:,} frames of "
        f"{1e3 * plain['frame_seconds']:g} ms, {plain['chunk']} at a time, {plain['labels']:,} labels",
        "real-time factor": f"{plain['real_time_factor']:.4g}{behind}",
        "last word": after,
        "perceived latency": f"median {result['median']:.3f} ms, p95 {result['p95']:.3f} ms from last sound "
        "to result",
        "work": ", ".join(f"{who} {share:.1%}" for who, share in plain["shares"].items()),
        "each time": ", ".join(f"{name} {part['cycles']:,} cycles" for name, part in plain["parts"].items()),
        "before the first sound": f"{plain['setup_milliseconds']:.3f} ms",
        "stays in SRAM": f"{sram['pinned_bytes']:,} bytes of constants, {sram['state_bytes']:,} of states, "
        f"{sram['meeting_bytes']:,} where the parts meet",
        "SRAM": f"{sram['peak_bytes']:,} of {sram['bytes']:,} bytes"
        + ("" if sram["fits"] else ": it does not fit"),
    }
