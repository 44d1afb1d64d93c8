"""Noisy speech with known labels: clean speech labelled by its energy, then mixed with noise."""

import numpy as np

from nnaq.errors import DataError
from nnaq.tasks.framing import frames

BELOW_LOUDEST_DB = 35.0


def mix(speech: np.ndarray, noise: np.ndarray, snr_db: float, seed: int = 0) -> np.ndarray:
    """speech + g * noise, float32 [samples], with mean power of speech over noise at `snr_db`.

    The noise starts at a place drawn by `seed` and is repeated where it is too short. Nothing is
    clipped: samples may leave [-1, 1). Raises DataError where either is silent.
    """
    start = int(np.random.default_rng(seed).integers(len(noise))) if len(noise) else 0
    cut = np.resize(
        np.take(noise, np.arange(start, start + min(len(noise), len(speech))), mode="wrap"), len(speech)
    ).astype(np.float64)
    powers = [float(np.square(np.asarray(part, np.float64)).sum()) for part in (speech, cut)]
    if not all(powers):
        raise DataError(f"{'speech' if not powers[0] else 'noise'} to be mixed is silent; an SNR needs both")
    gain = np.sqrt(powers[0] / powers[1] / 10 ** (snr_db / 10))
    return np.asarray(speech + gain * cut, np.float32)


def energy_labels(clean: np.ndarray, hop: int) -> np.ndarray:
    """Which frames of a clean recording hold speech, bool [T]; frames as in `framing.frames`.

    Rule: the power of the frame's own hop is less than 35 dB below that of the loudest frame. Fit for
    close-talk recordings without noise only; all False where the recording is silent.
    """
    power = np.square(frames(clean, hop), dtype=np.float64).mean(axis=1)
    loudest = power.max(initial=0.0)
    return np.asarray((power > loudest * 10 ** (-BELOW_LOUDEST_DB / 10)) & (power > 0))
