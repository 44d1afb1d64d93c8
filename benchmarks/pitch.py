"""Pitch of nnaq.tasks.prosody against Praat's: gross pitch errors and voicing errors, clean and noisy.

    python benchmarks/pitch.py

Reads tests/golden/pitch (tests/oracles/praat_driver.py made it) and examples/speech, and writes
results/pitch.json. The truth of speech is what Praat finds in the clean recording, that of glides the pitch
they were made with; noise is the one that Praat heard too.

    gross pitch error   share of the frames voiced in both whose pitch is off by more than a fifth
    voicing error       share of all frames that are voiced in one of the two
"""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnaq.tasks.prosody import Prosody
from nnaq.tasks.recordings import read_audio

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))
from oracles.vectors import load_vectors  # type: ignore[import-not-found]  # noqa: E402

GOLDEN, SPEECH = ROOT / "tests" / "golden" / "pitch", ROOT / "examples" / "speech"
RESULT = Path(__file__).parent / "results" / "pitch.json"
SNR_DB = 20, 10, 5
GROSS = 0.2


def main() -> None:
    rows = [row for what in ("glides", "speech") for row in judged(what)]
    made = {"command": "python benchmarks/pitch.py", "versions": {"nnaq": version("nnaq")}, "rows": rows}
    RESULT.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(row)


def judged(what: str) -> Iterator[dict[str, Any]]:
    """A row for clean sound and for every noise."""
    cases = list(read(what))
    for place, snr in enumerate((None, *SNR_DB)):
        ours = [hertz(sounds[place]) for sounds, _, _ in cases]
        for who, found in (("nnaq", ours), ("Praat", [theirs[place] for _, theirs, _ in cases])):
            gross, voicing, frames = errors(found, [truth for _, _, truth in cases])
            yield {
                "sound": what,
                "snr_db": snr,
                "tracker": who,
                "gross": gross,
                "voicing": voicing,
                "frames": frames,
            }


def read(what: str) -> Iterator[tuple[list[np.ndarray], list[np.ndarray], np.ndarray]]:
    """Of every case: the sound clean and noisy, what Praat finds in each, and the truth."""
    _, cases, _ = load_vectors(GOLDEN / f"praat__{what}.npz")
    for case in cases:
        name = case["name"].tobytes().decode() if "name" in case else None
        clean = case["samples"] / 2**15 if name is None else read_audio(SPEECH / name, 16000)
        truth = case["true"] if name is None else case["pitch"]
        yield [clean, *noisy(clean, int(case["noise"]))], [case["pitch"], *case["noisy"]], truth


def noisy(clean: np.ndarray, seed: int) -> list[np.ndarray]:
    """The sound with white noise, as tests/oracles/praat_driver.py adds it."""
    clean = np.asarray(clean, np.float64)
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(len(clean))
    power = np.mean(np.square(clean)) / np.mean(np.square(noise))
    return [clean + noise * np.sqrt(power / 10 ** (snr / 10)) for snr in SNR_DB]


def hertz(sound: np.ndarray) -> np.ndarray:
    """Pitch by nnaq, 0 where unvoiced, float64 [frames]."""
    prosody = Prosody()
    strength, octaves, total, _ = prosody.measured(np.asarray(sound, np.float32))
    return np.where(prosody.voiced(strength, total), prosody.lowest * 2**octaves, 0.0)


def errors(found: list[np.ndarray], truths: list[np.ndarray]) -> tuple[float, float, int]:
    """Gross pitch error, voicing error, and how many frames are judged."""
    ours, true = (np.concatenate(arrays).astype(np.float64) for arrays in (found, truths))
    both = (ours > 0) & (true > 0)
    off = np.abs(ours[both] / true[both] - 1) > GROSS
    return float(off.mean()), float(((ours > 0) != (true > 0)).mean()), len(true)


if __name__ == "__main__":
    main()
