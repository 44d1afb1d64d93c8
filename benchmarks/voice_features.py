"""What the speaker encoder hears: windows of 160 frames of 40 mel powers, as Resemblyzer 0.1.4 makes them.

After the package's `audio.py`, `hparams.py` and `compute_partial_slices`, with one difference: long
silences are not cut out, which the package does with a voice activity detector (webrtcvad).

    volume     raised to -30 dB of full scale (RMS) where it is lower
    mel[t, k]  sum over f of filter[k, f] |DFT_400(hann * samples[160 t - 200 : 160 t + 200])|^2
    filters    40 triangles on Slaney's mel scale from 0 to 8 kHz, each of area 1: no logarithm
    windows    160 frames, `rate` per second; the last is padded with silence, or dropped where less
               than `min_coverage` of it is sound
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

SAMPLE_RATE, WINDOW, HOP = 16000, 400, 160
BANDS, FRAMES = 40, 160
LOUDNESS_DB = -30.0
_LINEAR_TO, _HERTZ_PER_MEL, _LOG_STEP = 1000.0, 200 / 3, np.log(6.4) / 27  # Slaney's scale


def utterance_windows(audio: np.ndarray, rate: float = 1.3, min_coverage: float = 0.75) -> np.ndarray:
    """The features of every window of an utterance, float32 [W,160,40], W >= 1."""
    starts = window_starts(len(audio), rate, min_coverage)
    end = (starts[-1] + FRAMES) * HOP
    louder = normalise_volume(np.asarray(audio, np.float64))
    mels = mel_powers(np.pad(louder, (0, max(0, end - len(audio)))))
    return np.stack([mels[start : start + FRAMES] for start in starts])


def normalise_volume(audio: np.ndarray) -> np.ndarray:
    """Audio of at least -30 dB of full scale; what is louder stays as it is."""
    rms = float(np.sqrt(np.square(audio).mean()))
    return np.asarray(audio * max(1.0, 10 ** (LOUDNESS_DB / 20) / rms)) if rms > 0 else audio


def window_starts(samples: int, rate: float, min_coverage: float) -> list[int]:
    """First frames of the windows over an utterance, as the package's `compute_partial_slices`."""
    step = round(SAMPLE_RATE / rate / HOP)
    frames = -(-(samples + 1) // HOP)
    starts = list(range(0, max(1, frames - FRAMES + step + 1), step))
    covered = (samples - starts[-1] * HOP) / (FRAMES * HOP)
    return starts[:-1] if covered < min_coverage and len(starts) > 1 else starts


def mel_powers(audio: np.ndarray) -> np.ndarray:
    """Mel powers float32 [1 + samples // 160, 40]; frames are centred, with zeros around the audio."""
    padded = np.pad(np.asarray(audio, np.float64), WINDOW // 2)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    spectrum = np.fft.rfft(sliding_window_view(padded, WINDOW)[::HOP] * hann)
    return np.asarray(np.square(np.abs(spectrum)) @ mel_filters().T, np.float32)


def mel_filters() -> np.ndarray:
    """Triangles of equal area over the bins of the DFT, float64 [40, 201]."""
    bins = np.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    edges = _hertz(np.linspace(0, _mel(SAMPLE_RATE / 2), BANDS + 2))
    widths = np.diff(edges)[:, None]
    distance = bins[None, :] - edges[:, None]
    rising, falling = distance[:-2] / widths[:-1], -distance[2:] / widths[1:]
    return np.asarray(np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None])


def _mel(hertz: float) -> float:
    """Slaney's scale: linear up to 1 kHz, logarithmic above; `hertz` is above."""
    return float(_LINEAR_TO / _HERTZ_PER_MEL + np.log(hertz / _LINEAR_TO) / _LOG_STEP)


def _hertz(mel: np.ndarray) -> np.ndarray:
    linear_to = _LINEAR_TO / _HERTZ_PER_MEL
    above = _LINEAR_TO * np.exp(_LOG_STEP * np.maximum(0, mel - linear_to))
    return np.where(mel < linear_to, mel * _HERTZ_PER_MEL, above)
