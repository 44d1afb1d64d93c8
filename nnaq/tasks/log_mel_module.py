"""The log mel front-end as a torch module, made so that a device of 16-bit integers can run it.

With the definitions of nnaq.tasks.log_mel, Q(b) the bins of band b, and re, im numbered by c:

    s[t, c, k]     = Σ_i row[c, k, i] sound[t*hop + hop - window - delay + i]       one convolution over hops
    part[t, b, ck] = sqrt(filter[b, k] / floor) s[t, c, k],   k in Q(b)             gather, mul
    level[t, b]    = Σ part[t, b, ck]² = energy[t, b] / floor                       square, sums by halves
    heard[t, b]    = ln(level + 1), or ln(max(level, 1)) where floored = "maximum"  0 for silence
    step[s]        = frames stacked as in LogMel; then + ln floor, or normalised

row[·, k] is the k-th bin of LogMel.spectra for every single sample: mean, pre-emphasis, taper and DFT are
linear, so all of them are in the weights. Silence is 0 until the last line, so that the past before the first
frame is zeros, as it is for every causal layer.

**In integers.** A power in 16 bits spans 45 dB, which is too little for speech: filters that read such powers
leave 18.6 dB of error. Hence filters are applied to amplitudes, where 16 bits span 90 dB; squares of 16-bit
codes are 32-bit ones of exact scale, 32-bit codes are added as they are (only their sums saturate, at 2^31),
and the logarithm reads 32 bits. Sound is 16-bit anyway. What is rounded: s, part and the logarithm, and the
rows to 8 bits. digits = 2 has the rows in 16 bits for twice the multiplications: a second convolution adds
what the 8 bits of the first one leave.

The recipe: activations 16 for this module, and for its input `[values.x]` dtype i16 from -1 to 1. Error of
log mel energies in decibels, root mean square, by how far they are above the floor; calibrated on 20
utterances of AN4's training set and judged on 13 of its test set (4,200 frames, 40 bands):

    definition       digits    all    0-10   10-20   20-30   30-40   above 40 dB
    LogMel()         1         1.03   1.99   0.92    0.23    0.07    0.02
    LogMel()         2         0.73   1.48   0.49    0.13    0.04    0.01
    LogMel.kaldi(40) 1         1.06   3.68   1.45    1.33    1.15    0.22
    LogMel.kaldi(40) 2         0.73   3.68   1.39    0.56    0.15    0.03

Where NNAQ_DATA names the data, the tests measure the column `all` anew, its third row left out, and hold it
between bounds (0.5 to 1.1, 0.4 to 0.8); the other columns were measured once.

A code of 8 bits for the features is 0.3 dB wide. Near the floor it is the 16 bits of s and part that are
heard, two of which are headroom for louder sound; chosen ranges with less of it (1.5 times what calibration
saw, `[values]`) leave 0.57 dB of LogMel() and 2 digits.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nnaq.errors import DataError
from nnaq.models.causal import CausalConv1d, stacked
from nnaq.tasks.framing import frames
from nnaq.tasks.log_mel import LogMel, Normalization

CODES = 127  # the largest of a weight
NEGLIGIBLE = 1e-9  # the height of a triangle where it should be 0


class LogMelModule(nn.Module):
    """Features float32 [T / stride,N,features] of sound float32 [T,N,hop], hop after hop; see the module.

    T is a multiple of stride. digits: 8-bit numbers per weight of the transform, 1 or 2. The parameters are
    those of the definition and not for training. Raises DataError for other digits.
    """

    places: Tensor
    heights: Tensor
    factor: Tensor
    offset: Tensor

    def __init__(self, log_mel: LogMel, normalization: Normalization | None = None, digits: int = 1) -> None:
        super().__init__()
        if digits not in (1, 2):
            raise DataError(f"a weight of the front-end has 1 or 2 digits of 8 bits, found {digits}")
        self.log_mel = log_mel
        rows = in_digits(rows_of(log_mel), digits)
        self.transforms = nn.ModuleList(transform(array) for array in rows)
        places, heights = parts_of(log_mel)
        mean, deviation = (normalization.mean, normalization.deviation) if normalization else (0.0, 1.0)
        shape = (log_mel.features,)
        offset = (math.log(log_mel.floor) - np.broadcast_to(mean, shape)) / deviation
        self.register_buffer("places", torch.from_numpy(places.ravel()))
        self.register_buffer("heights", torch.from_numpy(np.float32(heights.reshape(-1, 1))))
        self.register_buffer("factor", torch.from_numpy(np.float32(1 / np.broadcast_to(deviation, shape))))
        self.register_buffer("offset", torch.from_numpy(np.float32(offset)))
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        heard = self.heard(x.permute(1, 2, 0)).permute(2, 0, 1)
        return self.in_steps(heard) * self.factor + self.offset

    def heard(self, sound: Tensor) -> Tensor:
        """Log mel energies over their floor, [N,bands,T] of sound [N,hop,T]: 0 for silence."""
        spectra = self.transforms[0](sound)
        for transform in self.transforms[1:]:
            spectra = spectra + transform(sound)
        parts = spectra.index_select(1, self.places) * self.heights
        levels = parts.square().unflatten(1, (self.log_mel.bands, -1))
        while levels.shape[2] > 1:
            half = levels.shape[2] // 2
            levels = levels[:, :, :half] + levels[:, :, half:]
        levels = levels.squeeze(2)
        return torch.log(levels + 1 if self.log_mel.floored == "sum" else levels.clamp(min=1))

    def in_steps(self, heard: Tensor) -> Tensor:
        """Frames [T,N,bands] stacked: [T / stride,N,features]; before the first one there is silence."""
        steps = stacked(heard, self.log_mel.stride) if self.log_mel.stride > 1 else heard
        if self.log_mel.stack == self.log_mel.stride:
            return steps
        before = -(-self.log_mel.stack // self.log_mel.stride) - 1
        padded = functional.pad(steps, (0, 0, 0, 0, before, 0))
        past = [padded[n : n - before] for n in range(before)]
        return torch.cat([*past, steps], -1)[..., -self.log_mel.features :]

    def hops(self, audio: np.ndarray) -> np.ndarray:
        """A recording [samples] as `forward` takes it: float32 [T,1,hop], silence up to a whole step."""
        steps = frames(audio, self.log_mel.samples_per_step)
        return steps.reshape(-1, 1, self.log_mel.hop).copy()


def rows_of(log_mel: LogMel) -> np.ndarray:
    """What a bin hears of every sample of its hops: float64 [2 bins,hop,hops], real parts before imaginary.

    Only bins that a band hears.
    """
    spectra = log_mel.spectra(np.eye(log_mel.window))[:, _heard(log_mel)].T
    rows = np.concatenate([spectra.real, spectra.imag])
    lead = -log_mel.window % log_mel.hop - log_mel.delay
    padded = np.pad(rows, ((0, 0), (lead, log_mel.delay)))
    return padded.reshape(len(rows), -1, log_mel.hop).transpose(0, 2, 1)


def in_digits(rows: np.ndarray, digits: int) -> list[np.ndarray]:
    """Arrays whose sum is the rows, each but the last of 8-bit codes per row."""
    found = []
    for _ in range(digits - 1):
        scale = np.abs(rows).max(axis=(1, 2), keepdims=True) / CODES
        found.append(np.rint(rows / scale) * scale)
        rows = rows - found[-1]
    return [*found, rows]


def transform(rows: np.ndarray) -> CausalConv1d:
    """The convolution over hops with these rows."""
    outputs, hop, hops = rows.shape
    layer = CausalConv1d(hop, outputs, hops, bias=False)
    layer.weight.data.copy_(torch.from_numpy(rows))
    return layer


def parts_of(log_mel: LogMel) -> tuple[np.ndarray, np.ndarray]:
    """Which spectra make a band, and how much of each: places int64 and heights float64 [bands,width].

    width is a power of two, for sums by halves; what a band has no bin for is of height 0.
    """
    filters = log_mel.filters[:, _heard(log_mel)]
    used = [np.flatnonzero(row > NEGLIGIBLE) for row in filters]
    width = 1 << (2 * max(map(len, used)) - 1).bit_length()
    places, heights = np.zeros((len(used), width), np.int64), np.zeros((len(used), width))
    for band, bins in enumerate(used):
        places[band, : 2 * len(bins)] = np.concatenate([bins, bins + filters.shape[1]])
        heights[band, : 2 * len(bins)] = np.tile(np.sqrt(filters[band, bins] / log_mel.floor), 2)
    return places, heights


def _heard(log_mel: LogMel) -> np.ndarray:
    """Which bins a band hears, bool [bins]."""
    return np.asarray((log_mel.filters > NEGLIGIBLE).any(axis=0))
