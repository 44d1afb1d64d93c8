"""Frames that look like a spectrogram of speech, drawn by whole numbers only: the same on every machine."""

import numpy as np

BANDS, STRIDE = 40, 3  # what a wake-word model takes: three frames of forty bands at a time
LOW, HIGH = -128, 127


def wave(random, frames, top, longest):
    """Zigzag between 0 and `top`, with straight pieces of random lengths."""
    lengths = random.integers(2, longest, frames)
    ends = random.integers(0, top + 1, frames + 1)
    pieces = [a + (b - a) * np.arange(n) // n for a, b, n in zip(ends[:-1], ends[1:], lengths, strict=True)]
    return np.concatenate(pieces)[:frames]


def spectrogram(random, steps):
    """int8 codes [steps, 1, STRIDE, BANDS]: moving formants over a floor, bursts of noise, silence."""
    frames = steps * STRIDE
    bands, energy = 16 * np.arange(BANDS), np.full((frames, BANDS), 0)
    for _ in range(4):
        centre, width = wave(random, frames, 16 * BANDS, 60), 1 + wave(random, frames, 11, 90)
        gain = wave(random, frames, 255, 40)
        energy = np.maximum(energy, gain[:, None] - np.abs(bands - centre[:, None]) * 4 // width[:, None])
    loudness = wave(random, frames, 4, 200)[:, None]
    energy = energy * np.minimum(loudness, 2) // 2
    energy = energy + np.abs(random.integers(-24, 25, energy.shape)) * (loudness > 0)
    return np.clip(LOW + energy, LOW, HIGH).astype(np.int8).reshape(steps, 1, STRIDE, BANDS)
