"""Log mel energies: what speech recognisers hear, a few numbers per step instead of samples.

    frame[t]       = samples[t*hop + hop - window - delay : t*hop + hop - delay], the hop and what came before
    shaped[t]      = taper * emphasised(centred(frame[t]))
    power[t, k]    = |DFT_n(shaped[t])|²[k],   n = the first power of two >= window
    energy[t, b]   = sum over k of filter[b, k] power[t, k]
    log_mel[t, b]  = ln(energy[t, b] + floor), or ln(max(energy[t, b], floor)) where floored = "maximum"
    step[s]        = log_mel[s*stride + stride - stack : s*stride + stride], oldest frame first, flattened

Nothing looks ahead: step s is complete with sample (s+1)*stride*hop - delay, so that a device makes it as
soon as that sound arrived. Sound before the first sample is silence, and an incomplete last step is filled
with silence: T = ceil(samples / (stride*hop)).

    centred        frame - mean of frame where remove_mean, else the frame itself
    emphasised     y[i] = x[i] - preemphasis x[i-1], y[0] = x[0] - preemphasis x[0]; as it is for 0
    taper          hann: the periodic window 0.5 - 0.5 cos(2 pi i / window);
                   povey: the symmetric (0.5 - 0.5 cos(2 pi i / (window - 1)))^0.85
    filter         triangles of height 1 over the bins' frequencies, their edges equally spaced on the scale
                   mel(f) = 2595 log10(1 + f/700), each from the peak before it to the peak after it; their
                   sides are straight over hertz, or over mel where triangles = "mel"
    floor          what digital silence counts as; it keeps the range of the features within what was heard in
                   a quiet room, which 8-bit codes of the features then resolve

Features are computed in float64 and returned in float32. `LogMel.kaldi` has the features of Kaldi's `fbank`.
`nnaq.tasks.log_mel_module` is the same in torch, which a device can run in integers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from nnaq.errors import DataError
from nnaq.tasks.framing import frames

LONGEST = 2**20  # samples of a window: a table of features in a file must not fill the memory
BLOCK = 4096  # frames at a time: bounds the memory of a long recording
CHOICES = {"floored": ("sum", "maximum"), "taper": ("hann", "povey"), "triangles": ("hertz", "mel")}


@dataclass(frozen=True)
class LogMel:
    """Log mel features; see the module. window, hop, delay: samples; stack, stride: frames; low, high: hertz.

    A delay moves the frames within the hops that hold them: 0 … ceil(window / hop) hop - window. Raises
    DataError for sizes that do not go together.
    """

    bands: int = 40
    window: int = 400
    hop: int = 160
    stack: int = 3
    stride: int = 3
    sample_rate: int = 16000
    low: float = 20.0
    high: float = 8000.0
    floor: float = 1e-5
    floored: Literal["sum", "maximum"] = "sum"
    remove_mean: bool = False
    preemphasis: float = 0.0
    taper: Literal["hann", "povey"] = "hann"
    triangles: Literal["hertz", "mel"] = "hertz"
    delay: int = 0

    def __post_init__(self) -> None:
        sizes = 0 < self.hop <= self.window <= LONGEST and 0 < self.stride <= self.stack and self.floor > 0
        if not sizes or not 0 <= self.low < self.high <= self.sample_rate / 2:
            raise DataError(
                f"{self}: expected 0 < hop <= window <= {LONGEST}, 0 < stride <= stack, 0 < floor and "
                "0 <= low < high <= sample_rate / 2"
            )
        for name, words in CHOICES.items():
            if getattr(self, name) not in words:
                raise DataError(f"{name} is {' or '.join(map(repr, words))}, found {getattr(self, name)!r}")
        if not (0 <= self.preemphasis <= 1 and 0 <= self.delay <= -self.window % self.hop):
            raise DataError(
                f"{self}: expected 0 <= preemphasis <= 1 and 0 <= delay <= {-self.window % self.hop}, "
                "which is what the window lacks to whole hops"
            )
        if self.bands < 1 or not self.filters.any(axis=1).all():
            raise DataError(
                f"{self.bands} bands between {self.low:g} and {self.high:g} Hz: expected at least 1, and so "
                f"few that each holds one of the {self.bins} bins; take fewer bands or a longer window"
            )

    @classmethod
    def kaldi(cls, bands: int = 80, sample_rate: int = 16000) -> "LogMel":
        """The features of Kaldi's `fbank` and of kaldi-native-fbank: their defaults with dither 0.

        25 ms every 10 ms, the mean removed, pre-emphasis 0.97, the povey window, triangles over mel from
        20 Hz to half the sample rate, ln(max(energy, 2^-23)); a frame per step. Kaldi's scale
        1127 ln(1 + f/700) is the scale of this module up to a factor, which leaves the triangles as they are.

        Kaldi keeps the frames that lie wholly within the sound, 1 + (samples - window) // hop of them, and
        frame t starts with sample t*hop. With h = ceil(window / hop) hops per frame it is step t + h - 1
        here: the delay lets frames start with hops. What remains of a difference: Kaldi computes in float32,
        and it is mostly fed 16-bit whole numbers, which are 32768 times the samples of this module and
        add 2 ln 32768 = 20.79 to every feature above the floor.
        """
        window, hop = sample_rate * 25 // 1000, sample_rate // 100
        return cls(
            bands, window, hop, 1, 1, sample_rate, high=sample_rate / 2, floor=2.0**-23, floored="maximum",
            remove_mean=True, preemphasis=0.97, taper="povey", triangles="mel", delay=-window % hop,
        )  # fmt: skip

    @property
    def features(self) -> int:
        """Numbers per step."""
        return self.bands * self.stack

    @property
    def samples_per_step(self) -> int:
        return self.hop * self.stride

    @property
    def seconds_per_step(self) -> float:
        return self.samples_per_step / self.sample_rate

    @property
    def transform(self) -> int:
        """Points of the DFT."""
        return 1 << (self.window - 1).bit_length()

    @property
    def bins(self) -> int:
        """Frequencies of the DFT, 0 and the highest included."""
        return self.transform // 2 + 1

    @cached_property
    def filters(self) -> np.ndarray:
        """The triangles, float64 [bands, bins]."""
        places = np.arange(self.bins) * self.sample_rate / self.transform
        edges = np.linspace(_mel(self.low), _mel(self.high), self.bands + 2)
        if self.triangles == "mel":
            places = np.asarray([_mel(hertz) for hertz in places])
        else:
            edges = _hertz(edges)
        rising, falling = (places - edges[:, None])[:-2], (edges[:, None] - places)[2:]
        width = np.diff(edges)[:, None]
        return np.asarray(np.maximum(0.0, np.minimum(rising / width[:-1], falling / width[1:])))

    @cached_property
    def weights(self) -> np.ndarray:
        """The taper, float64 [window]."""
        if self.taper == "hann":
            return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        return np.asarray(
            (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / (self.window - 1))) ** 0.85
        )

    def spectra(self, sound: np.ndarray) -> np.ndarray:
        """Frames [frames, window] shaped and transformed: complex128 [frames, bins], linear in them."""
        if self.remove_mean:
            sound = sound - sound.mean(axis=1, dtype=np.float64, keepdims=True)
        if self.preemphasis:
            sound = sound - self.preemphasis * np.concatenate([sound[:, :1], sound[:, :-1]], axis=1)
        return np.fft.rfft(sound * self.weights, self.transform)

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Features float32 [T, features] of samples [any number of them] in [-1, 1).

        >>> LogMel(bands=8, stack=3, stride=3)(np.zeros(1000)).shape
        (3, 24)
        """
        steps = -(-len(audio) // self.samples_per_step)
        before = (self.stack - self.stride) * self.hop
        padded = np.zeros(before + steps * self.samples_per_step, np.float32)
        heard = padded[before + self.delay :]
        heard[: len(audio)] = audio[: len(heard)]
        energies = self._log_energies(frames(padded, self.hop, self.window - self.hop))
        if not steps:
            return np.zeros((0, self.features), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(energies, self.stack, axis=0)[:: self.stride]
        return np.ascontiguousarray(windows.transpose(0, 2, 1)).reshape(steps, self.features)

    def _log_energies(self, sound: np.ndarray) -> np.ndarray:
        """float32 [frames, bands]."""
        made = np.empty((len(sound), self.bands), np.float32)
        for start in range(0, len(sound), BLOCK):
            spectrum = self.spectra(sound[start : start + BLOCK])
            power = np.square(spectrum.real) + np.square(spectrum.imag)
            energy = power @ self.filters.T
            audible = energy + self.floor if self.floored == "sum" else np.maximum(energy, self.floor)
            made[start : start + BLOCK] = np.log(audible)
        return made


@dataclass(frozen=True, eq=False)
class Normalization:
    """Each feature minus its mean, over its standard deviation: float32 [features] each."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, utterances: Iterable[np.ndarray]) -> "Normalization":
        """What makes these utterances (each [T, features]) have mean 0 and deviation 1, feature by feature.

        Frames count alike, whatever utterance they are from. Raises DataError where there is no frame, or a
        feature never changes.
        """
        count, total, squares = 0, np.float64(0), np.float64(0)
        for utterance in utterances:
            wide = np.asarray(utterance, np.float64)
            count += len(wide)
            total, squares = total + wide.sum(axis=0), squares + np.square(wide).sum(axis=0)
        if not count:
            raise DataError("features cannot be normalised: the utterances hold no frame")
        mean = total / count
        variance = np.asarray(squares / count - np.square(mean))
        if not (variance > 1e-9 * np.square(mean)).all():
            raise DataError("features cannot be normalised: at least one has the same value in every frame")
        return cls(np.asarray(mean, np.float32), np.asarray(np.sqrt(variance), np.float32))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """float32, of the same shape."""
        return np.asarray((features - self.mean) / self.deviation, np.float32)


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mel: np.ndarray) -> np.ndarray:
    return np.asarray(700 * (10 ** (mel / 2595) - 1))
