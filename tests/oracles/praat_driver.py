"""Pitch as Praat finds it: its autocorrelation method, 75 to 500 hertz, every 10 ms.

    .oracles/praat/bin/python tests/oracles/praat_driver.py glides 7 OUT.npz
    .oracles/praat/bin/python tests/oracles/praat_driver.py speech 7 OUT.npz
    .oracles/praat/bin/python tests/oracles/praat_driver.py --list

`glides`: pulse trains through two resonances whose pitch glides. A case holds `samples` (i16, 16 kHz), `true`
(hertz at the middle of every frame, 0 where nothing sounds) and `pitch`, what Praat finds, 0 for unvoiced.
`speech`: the recordings of examples/speech, which are AN4's; a case holds `name` (bytes, u8) and `pitch`.

Frame t is the middle of the 640 samples that end with sample 160 (t + 1): nnaq.tasks.prosody's. In `noisy` is
what Praat finds after white noise was added at 20, 10 and 5 dB, [3, frames]; noise is drawn by
`random.Generator(PCG64(noise))`. parselmouth is GPL; nothing of nnaq imports it. No replica stands beside
the runtime: nnaq.tasks.prosody is what is tested.
"""

import importlib.metadata
from pathlib import Path

import numpy as np
import parselmouth
import soundfile
import vectors

RATE, HOP, WINDOW = 16000, 160, 640
SNR_DB = 20, 10, 5
SPEECH = Path(__file__).resolve().parents[2] / "examples" / "speech"


def pitch_of(samples):
    """float32 [frames] in hertz, 0 where unvoiced, of samples in [-1, 1)."""
    found = parselmouth.Sound(np.asarray(samples, np.float64), RATE).to_pitch_ac(
        time_step=0.01, pitch_floor=75, pitch_ceiling=500
    )
    frames = -(-len(samples) // HOP)
    middles = (HOP * (np.arange(frames) + 1) - WINDOW / 2) / RATE
    return np.nan_to_num([found.get_value_at_time(time) for time in middles]).astype(np.float32)


def noisy(samples, seed):
    """The samples with white noise at 20, 10 and 5 dB, as nnaq's test adds it."""
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(len(samples))
    power = np.mean(np.square(samples)) / np.mean(np.square(noise))
    return [samples + noise * np.sqrt(power / 10 ** (snr / 10)) for snr in SNR_DB]


def glide(start, end, count):
    """Samples in [-1, 1) and the pitch at every one of them: it moves evenly in octaves, silence around."""
    hertz = start * (end / start) ** np.linspace(0, 1, count)
    beats = np.diff(np.floor(np.cumsum(hertz) / RATE), prepend=0)
    for place, width in ((650, 80), (1200, 120)):
        radius, turn = np.exp(-np.pi * width / RATE), 2 * np.pi * place / RATE
        made = np.zeros(count + 2)
        for n in range(count):
            made[n + 2] = beats[n] + 2 * radius * np.cos(turn) * made[n + 1] - radius**2 * made[n]
        beats = made[2:]
    quiet = np.zeros(RATE // 10)
    return np.concatenate([quiet, beats / np.abs(beats).max() / 2, quiet]), np.concatenate(
        [quiet, hertz, quiet]
    )


def make_glides(random, collector):
    """Rises, falls and level tones from 80 to 400 hertz, 0.6 s each."""
    for start, end in ((90, 180), (180, 90), (120, 120), (220, 400), (400, 220), (300, 310), (80, 130)):
        sound, hertz = glide(start, end, 9600)
        samples = np.round(sound * 2**15).astype(np.int16)
        frames = np.minimum(HOP * (np.arange(-(-len(samples) // HOP)) + 1) - WINDOW // 2, len(samples) - 1)
        true = np.where(frames >= 0, hertz[np.maximum(frames, 0)], 0).astype(np.float32)
        add(collector, samples / 2**15, int(random.integers(2**31)), samples=samples, true=true)


def make_speech(random, collector):
    """All recordings of examples/speech, in order of their names."""
    for path in sorted(SPEECH.glob("*/*.flac")):
        name = np.frombuffer(str(path.relative_to(SPEECH)).encode(), np.uint8)
        add(collector, soundfile.read(path)[0], int(random.integers(2**31)), name=name)


def add(collector, sound, noise, **fields):
    pitch, worse = pitch_of(sound), [pitch_of(one) for one in noisy(sound, noise)]
    collector.values_compared += 4 * pitch.size
    collector.add(noise=np.int64(noise), pitch=pitch, noisy=np.array(worse, np.float32), **fields)


VERSIONS = {name: importlib.metadata.version(name) for name in ("praat-parselmouth", "numpy")}
OPERATORS = {"glides": ("float32", make_glides), "speech": ("float32", make_speech)}

if __name__ == "__main__":
    vectors.run_driver("praat", VERSIONS, OPERATORS)
