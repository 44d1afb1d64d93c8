"""The prosody front-end as a torch module: the features of nnaq.tasks.prosody, for many utterances at once.

Of sound by hops, [T,N,hop], it makes p [T / stack,N,6 stack]; T is a multiple of stack. The transform is one
causal convolution whose rows hold mean, taper and DFT, energies are convolutions of the sound and its square,
and sums and maxima over the last frames are those of windows, so that torch.export takes it with T and N
open. Which candidate is the largest (argmax) is no operator of nnaq's integer graphs: this module stays with
the host, and `nnaq.load_module` refuses it by name.

It computes in float32, the definition in float64: features differ by less than 2e-3 (`high`, where hardly
anything is up there; the others by less than 5e-4). Where two candidates, or a strength and the threshold,
are equal within float32 the two may choose differently; in 2,670 frames of speech with and without noise
none did.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nnaq.models.causal import stacked
from nnaq.tasks.framing import frames
from nnaq.tasks.prosody import FEWEST, SHARE_FLOOR, Prosody


class ProsodyModule(nn.Module):
    """Features float32 [T / stack,N,6 stack] of sound float32 [T,N,hop]; see the module."""

    rows: Tensor
    energy: Tensor
    waves: Tensor
    twice: Tensor
    pitches: Tensor
    places: Tensor

    def __init__(self, prosody: Prosody) -> None:
        super().__init__()
        self.prosody = prosody
        spectra = prosody.shape.spectra(np.eye(prosody.window))[:, : prosody.bins].T
        squares = np.square(prosody.shape.weights)
        constants = {
            "rows": _over_hops(np.concatenate([spectra.real, spectra.imag]), prosody.hop),
            "energy": _over_hops(
                np.stack([squares, np.full(prosody.window, 1 / prosody.window)]), prosody.hop
            ),
            "waves": prosody.waves,
            "twice": prosody.twice(prosody.bins),
            "pitches": prosody.pitches,
            "places": np.arange(prosody.reach)[::-1] * (-prosody.hop / prosody.sample_rate),
        }
        for name, array in constants.items():
            self.register_buffer(name, torch.from_numpy(array.astype(np.float32)), persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        repeats, total, share = self._heard(sound)
        strength, octaves = self._tracked(repeats)
        voiced = (strength > self.prosody.threshold) & (total > -self.prosody.quiet)
        weight = torch.where(voiced, strength, 0.0)
        weights = self._sums(weight, strength.new_ones(self.prosody.memory))
        mean = self._sums(weight * octaves, strength.new_ones(self.prosody.memory)) / weights.clamp(min=1e-9)
        features = torch.stack(
            [
                strength,
                torch.where(voiced, octaves - mean, 0.0),
                torch.where(voiced, self._slope(octaves, voiced.to(strength.dtype)), 0.0),
                total,
                torch.log(share + SHARE_FLOOR),
                torch.log((1 - share).clamp(min=0) + SHARE_FLOOR),
            ],
            -1,
        )
        return stacked(features.transpose(0, 1), self.prosody.stack)

    def hops(self, audio: np.ndarray) -> np.ndarray:
        """A recording [samples] as `forward` takes it: float32 [T,1,hop], silence up to a whole step."""
        steps = frames(audio, self.prosody.hop * self.prosody.stack)
        return steps.reshape(-1, 1, self.prosody.hop).copy()

    def _heard(self, sound: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """repeats [N,T,J], total and share [N,T]."""
        own = self.prosody
        wave = functional.pad(sound.permute(1, 2, 0), (own.window // own.hop - 1, 0))
        parts = functional.conv1d(wave, self.rows).square()
        power = (parts[:, : own.bins] + parts[:, own.bins :]).transpose(1, 2)
        squares = functional.conv1d(wave.square(), self.energy[:1]).squeeze(1)
        tapered, mean = functional.conv1d(wave, self.energy).unbind(1)
        whole = self.energy[0].sum()
        energy = (squares - 2 * mean * tapered + mean.square() * whole).clamp(min=0)
        low = power @ self.twice
        repeats = power @ self.waves / (low + own.floor * own.shape.transform).unsqueeze(-1)
        level = torch.log(energy + own.floor)
        past = functional.pad(level, (own.memory - 1, 0), value=math.log(own.floor))
        # over one row of an image: of max_pool1d torch.export keeps the length as it was
        loudest = functional.max_pool2d(past[:, None, None], (1, own.memory), 1)[:, 0, 0]
        return repeats, level - loudest, low / own.shape.transform / (energy + own.floor)

    def _tracked(self, repeats: Tensor) -> tuple[Tensor, Tensor]:
        """Strength and p, [N,T]."""
        own = self.prosody
        score = repeats + own.octave_cost * self.pitches
        track = score
        for _ in range(own.depth):
            before = functional.pad(track[:, :-1], (0, 0, 1, 0))
            track = score + own.decay * functional.max_pool1d(before, 2 * own.jump + 1, 1, own.jump)
        best = track[..., 1:-1].argmax(-1, keepdim=True) + 1
        left, top, right = (track.gather(-1, best + n).squeeze(-1) for n in (-1, 0, 1))
        bend = (left - 2 * top + right).clamp(max=-1e-9)
        within = (0.5 * (left - right) / bend).clamp(-0.5, 0.5) / own.per_octave
        strength = repeats.gather(-1, best).squeeze(-1).clamp(0.0, 1.0)
        return strength, best.squeeze(-1) / own.per_octave + within

    def _slope(self, octaves: Tensor, voiced: Tensor) -> Tensor:
        """Octaves a second, 0 where too few frames are voiced."""
        n, t, tt = (self._sums(voiced, self.places**power) for power in (0, 1, 2))
        y, ty = (self._sums(voiced * octaves, self.places**power) for power in (0, 1))
        return torch.where(n >= FEWEST, (n * ty - t * y) / (n * tt - t * t).clamp(min=1e-9), 0.0)

    def _sums(self, values: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums over the last frames of [N,T], the weight of the present one last."""
        past = functional.pad(values, (len(weights) - 1, 0)).unsqueeze(1)
        return functional.conv1d(past, weights.view(1, 1, -1)).squeeze(1)


def _over_hops(rows: np.ndarray, hop: int) -> np.ndarray:
    """Rows over the samples of a window, [outputs,window], as weights over its hops: [outputs,hop,hops]."""
    return rows.reshape(len(rows), -1, hop).transpose(0, 2, 1)
