"""Sound said faster or slower, and with noise behind it: what recordings of a quiet room do not hold.

speed   n samples become round(n / factor), pitch and formants moved with them (Ko et al., Audio
        augmentation for speech recognition, Interspeech 2015)
noise   mixed in at a signal-to-noise ratio drawn evenly between two bounds, in decibels
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnaq.tasks.mixing import mix


def at_speed(audio: np.ndarray, factor: float) -> np.ndarray:
    """Sound at `factor` times its speed, float32 [round(n / factor)].

    Resampled in the frequency domain: the spectrum is cut (factor > 1) or continued by zeros (factor < 1), as
    if the recording were one period of a sound that repeats. Band-limited, nothing is aliased.
    """
    if factor == 1.0:
        return np.asarray(audio, np.float32)
    count = round(len(audio) / factor)
    spectrum = np.fft.rfft(audio)
    return np.asarray(np.fft.irfft(spectrum, count) * (count / len(audio)), np.float32)


@dataclass(frozen=True, eq=False)
class Augment:
    """What may become of a recording before its features are made.

    speeds: one is drawn evenly. noise: samples to mix in, or None; noisy: share of recordings that get some;
    snr_db: lowest and highest ratio of speech to noise.
    """

    speeds: Sequence[float] = (0.9, 1.0, 1.1)
    noise: np.ndarray | None = None
    noisy: float = 0.3
    snr_db: tuple[float, float] = (5.0, 25.0)

    def __call__(self, audio: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """A recording as the generator draws it, float32; silence stays as it is."""
        made = at_speed(audio, self.speeds[int(generator.integers(len(self.speeds)))])
        if self.noise is None or generator.random() >= self.noisy or not made.any():
            return made
        snr = generator.uniform(*self.snr_db)
        return mix(made, self.noise, snr, int(generator.integers(2**31)))
