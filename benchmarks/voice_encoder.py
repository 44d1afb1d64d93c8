"""The speaker encoder of Resemblyzer 0.1.4 (Apache-2.0), as a torch module of our own.

    pip download --no-deps resemblyzer==0.1.4   # the wheel holds resemblyzer/pretrained.pt

Three LSTM layers of 256 units read windows of mel powers (`voice_features.py`); the last output of the
last goes through a linear layer and a relu and is normalised to length 1. The embedding of an
utterance is the mean over its windows, normalised again.

**Bands are equalised.** Powers of the bands differ by up to 25 dB and the first layer's weights make up
for it, so that one 8-bit scale per row of weights leaves next to nothing of the small ones. A power of
two per band moves the difference into the mel filters, which the host computes in float: features are
multiplied by it, weights divided. The real model stays the same, bit by bit.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from voice_features import BANDS

UNITS = 256
BATCH = 64


class VoiceEncoder(nn.Module):
    """mels [B,T,40] -> embedding [B,256] of length 1.

    A layer each, not one of three: their first states are then constants of their own, and their
    outputs are not tied to one scale.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm0, self.lstm1 = nn.LSTM(BANDS, UNITS), nn.LSTM(UNITS, UNITS)
        self.lstm2, self.linear = nn.LSTM(UNITS, UNITS), nn.Linear(UNITS, UNITS)

    def forward(self, mels: Tensor) -> Tensor:
        y = mels.transpose(0, 1)
        for layer in (self.lstm0, self.lstm1, self.lstm2):
            y, _ = layer(y)
        return nn.functional.normalize(torch.relu(self.linear(y[-1])), dim=1)


def load_encoder(weights: Path, scales: np.ndarray | None = None) -> VoiceEncoder:
    """The trained encoder, for features multiplied by `scales` [40] (powers of two; none: as they are)."""
    stored = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
    named = {}
    for name, tensor in stored.items():
        if name.startswith("lstm."):
            layer = name[-1]
            named[f"lstm{layer}.{name[5:-1]}0"] = tensor
        elif name.startswith("linear."):
            named[name] = tensor
    if scales is not None:
        named["lstm0.weight_ih_l0"] = named["lstm0.weight_ih_l0"] / torch.from_numpy(scales).float()
    encoder = VoiceEncoder()
    encoder.load_state_dict(named)
    return encoder.eval()


def band_scales(features: np.ndarray) -> np.ndarray:
    """Powers of two [40] that bring the RMS of every band of `features` [..., 40] near 1."""
    rms = np.sqrt(np.square(features, dtype=np.float64).reshape(-1, BANDS).mean(axis=0))
    return np.asarray(2.0 ** -np.round(np.log2(rms)), np.float32)


def real_embeddings(encoder: VoiceEncoder, windows: np.ndarray) -> np.ndarray:
    """The embedding of every window, by torch in float32, [W,256]."""
    with torch.no_grad():
        parts = [encoder(torch.from_numpy(part)).numpy() for part in batches(windows)]
    return np.concatenate(parts)


def batches(windows: np.ndarray) -> list[np.ndarray]:
    """The windows cut into batches: what runs at once stays in the caches."""
    return [windows[start : start + BATCH] for start in range(0, len(windows), BATCH)]


def utterance_embeddings(embeddings: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Normalised means over the windows of each utterance, float64; counts: windows per utterance."""
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(int)
    total = np.add.reduceat(np.asarray(embeddings, np.float64), starts, axis=0)
    return np.asarray(total / np.linalg.norm(total, axis=1, keepdims=True))
