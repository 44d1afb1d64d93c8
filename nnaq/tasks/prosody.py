"""Prosody: how something is said, as six numbers a frame, none of which looks ahead.

    frame[t]        the window that ends with hop t, without its mean, under a Hann window (LogMel.spectra)
    power[t, k]     |DFT_n(frame[t])|²[k],   k in K: the bins up to `split` hertz
    repeats[t, j]   Σ_K e[k] power[t, k] cos(2 pi k tau[j] / n) / (Σ_K e[k] power[t, k] + floor) / own[j]
    tau[j]          sample_rate / pitch[j],  pitch[j] = lowest 2^(j / per_octave), lowest to highest
    e[k], own[j]    1 for k = 0, else 2;   the same quotient for the Hann window itself
    score[t, j]     repeats[t, j] + octave_cost log2(pitch[j] / lowest)
    track[t, j]     score[t, j] + decay max over |i - j| <= jump of track[t-1, i], `depth` frames deep
    best[t]         the j of the largest track[t, j]
    strength[t]     repeats[t, best[t]] within 0 … 1
    voiced[t]       strength[t] > threshold, and total[t] > -quiet
    p[t]            log2 of the pitch at the top of the parabola through track[t, best[t] - 1 … best[t] + 1]

Repeats is the autocorrelation of the window, over that of the Hann window (Boersma), of what is below
`split` only, where noise does least; it is computed at lags between samples. Track is a Viterbi search that
forgets: its path may bend by `jump` candidates a frame, and nothing is corrected by what comes later.

    feature         value                                                                          unvoiced
    0 voicing       strength[t]
    1 pitch         p[t] - mean of p over the voiced frames of the last `memory`, weights strength    0
    2 slope         least squares over the voiced of the last `reach` frames, octaves a second        0
    3 total         ln(energy[t] + floor) - the largest of it in the last `memory` frames
    4 low           ln(share + 1e-4) of the energy up to `split` hertz
    5 high          ln(1 - share + 1e-4)

energy[t] is Σ over all samples of the frame squared. A slope needs three voiced frames and the last of them
to be t. Frames before the first are silence. All is computed in float64 and returned in float32; nothing is
smaller than silence and nothing depends on how loud a recording is, floor apart.

Sources: P. Boersma, Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise
ratio of a sampled sound, IFA Proceedings 17, 1993 (autocorrelation, octave cost); P. Ghahremani et al., A
pitch extraction algorithm tuned for automatic speech recognition, ICASSP 2014 (pitch less a weighted mean
over 1.5 s); the set of six is that of public successors of the neural prosody encoder (arXiv 2205.05590), a
reconstruction: which features its authors took was not found.
`nnaq.tasks.prosody_module` is the same in torch.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nnaq.errors import DataError
from nnaq.tasks.framing import frames
from nnaq.tasks.log_mel import LogMel

FEATURES = 6
SHARE_FLOOR = 1e-4
FEWEST = 3  # voiced frames of a slope


@dataclass(frozen=True)
class Prosody:
    """Definition of the features; see the module.

    window, hop: samples; lowest, highest, split: hertz; jump: candidates a frame; depth, memory, reach:
    frames; stack: frames that make a step. Raises DataError for sizes that do not go together.
    """

    window: int = 640
    hop: int = 160
    stack: int = 3
    sample_rate: int = 16000
    lowest: float = 62.5
    highest: float = 500.0
    per_octave: int = 48
    split: float = 1500.0
    floor: float = 1e-5
    octave_cost: float = 0.04
    jump: int = 3
    decay: float = 0.8
    depth: int = 4
    threshold: float = 0.55
    quiet: float = 6.0
    memory: int = 150
    reach: int = 7

    def __post_init__(self) -> None:
        if not (0 < self.lowest < self.highest <= self.split <= self.sample_rate / 2 and self.stack > 0):
            raise DataError(f"{self}: expected 0 < lowest < highest <= split <= sample_rate / 2, 0 < stack")
        if self.window % self.hop or self.window < 2 * self.sample_rate / self.lowest:
            raise DataError(f"{self}: expected a window of whole hops and of two periods of the lowest pitch")

    @cached_property
    def shape(self) -> LogMel:
        """What takes the mean off a frame, tapers and transforms it."""
        return LogMel(1, self.window, self.hop, 1, 1, self.sample_rate, 0.0, self.split, remove_mean=True)

    @property
    def features(self) -> int:
        """Numbers per step."""
        return FEATURES * self.stack

    @cached_property
    def bins(self) -> int:
        """How many bins of the transform are heard, 0 hertz the first."""
        return 1 + int(self.split * self.shape.transform / self.sample_rate)

    @cached_property
    def pitches(self) -> np.ndarray:
        """Candidates in octaves above the lowest, float64 [J]."""
        count = 1 + int(np.log2(self.highest / self.lowest) * self.per_octave + 1e-9)
        return np.arange(count) / self.per_octave

    @cached_property
    def waves(self) -> np.ndarray:
        """Power to repeats before their denominator, float64 [bins, J]."""
        lags = self.sample_rate / (self.lowest * 2.0**self.pitches)
        angles = 2 * np.pi * np.outer(np.arange(self.shape.transform // 2 + 1), lags) / self.shape.transform
        waves = self.twice(len(angles))[:, None] * np.cos(angles)
        own = np.square(np.abs(np.fft.rfft(self.shape.weights, self.shape.transform)))
        own = own @ waves / (own @ self.twice(len(own)))
        return np.asarray(waves[: self.bins] / own)

    def twice(self, bins: int) -> np.ndarray:
        """e[k] of so many bins: every bin but the first stands for two of the transform."""
        return np.where(np.arange(bins) == 0, 1.0, 2.0)

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Features float32 [T, 6 stack] of samples in [-1, 1), T = ceil(samples / (stack hop)).

        Frames of a step stand side by side, the oldest first.

        >>> Prosody()(np.zeros(1000)).shape
        (3, 18)
        """
        if not len(audio):
            return np.zeros((0, self.features), np.float32)
        whole = np.pad(np.asarray(audio, np.float32), (0, -len(audio) % (self.stack * self.hop)))
        return self.of_frames(whole).astype(np.float32).reshape(-1, self.features)

    def of_frames(self, audio: np.ndarray) -> np.ndarray:
        """Features float64 [frames, 6]."""
        strength, octaves, total, share = self.measured(audio)
        voiced = self.voiced(strength, total)
        weight = np.where(voiced, strength, 0.0)
        mean = _sums(weight * octaves, self.memory) / np.maximum(_sums(weight, self.memory), 1e-9)
        return np.stack(
            [
                strength,
                np.where(voiced, octaves - mean, 0.0),
                np.where(voiced, self._slope(octaves, voiced), 0.0),
                total,
                np.log(share + SHARE_FLOOR),
                np.log(np.maximum(1 - share, 0) + SHARE_FLOOR),
            ],
            axis=1,
        )

    def measured(self, audio: np.ndarray) -> tuple[np.ndarray, ...]:
        """strength, p in octaves above the lowest pitch, total, share of energy up to split; float64."""
        sound = frames(audio, self.hop, self.window - self.hop)
        spectrum = self.shape.spectra(sound)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        weights = self.twice(power.shape[1])
        weights[-1] = 1.0
        total = power @ weights / self.shape.transform
        low = power[:, : self.bins] @ self.twice(self.bins)
        repeats = power[:, : self.bins] @ self.waves / (low + self.floor * self.shape.transform)[:, None]
        level = np.log(total + self.floor)
        padded = np.pad(level, (self.memory - 1, 0), constant_values=np.log(self.floor))
        loudest = sliding_window_view(padded, self.memory).max(axis=1, initial=-np.inf)
        return *self.tracked(repeats), level - loudest, low / self.shape.transform / (total + self.floor)

    def voiced(self, strength: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Which frames have a pitch, bool."""
        return (strength > self.threshold) & (total > -self.quiet)

    def tracked(self, repeats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Strength and p of repeats [frames, J]."""
        score = repeats + self.octave_cost * self.pitches
        track = score
        for _ in range(self.depth):
            wide = np.pad(track[:-1], ((1, 0), (self.jump, self.jump)), constant_values=-np.inf)
            wide[:1] = 0.0
            track = score + self.decay * sliding_window_view(wide, 2 * self.jump + 1, axis=1).max(axis=2)
        best = track[:, 1:-1].argmax(axis=1) + 1
        here = np.arange(len(track))
        left, top, right = (track[here, best + n] for n in (-1, 0, 1))
        bend = np.minimum(left - 2 * top + right, -1e-9)
        octaves = self.pitches[best] + np.clip(0.5 * (left - right) / bend, -0.5, 0.5) / self.per_octave
        return np.clip(repeats[here, best], 0.0, 1.0), octaves

    def _slope(self, octaves: np.ndarray, voiced: np.ndarray) -> np.ndarray:
        """Octaves a second, 0 where too few frames are voiced."""
        weight = voiced.astype(np.float64)
        place = np.arange(self.reach)[::-1] * (-self.hop / self.sample_rate)
        n, t, tt = (_weighted(weight, place**power) for power in (0, 1, 2))
        y, ty = (_weighted(weight * octaves, place**power) for power in (0, 1))
        return np.where(n >= FEWEST, (n * ty - t * y) / np.maximum(n * tt - t * t, 1e-9), 0.0)


def _sums(values: np.ndarray, count: int) -> np.ndarray:
    """Sums over the last `count` frames."""
    return _weighted(values, np.ones(count))


def _weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sums over the last frames, the weight of the present one last."""
    return np.asarray(np.convolve(values, weights[::-1])[: len(values)])
