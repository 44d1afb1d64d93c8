"""SpecAugment: features with stretches of time and of frequency blanked out, so that no model leans on one.

After Park et al., SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition,
Interspeech 2019, without time warping: some masks, each of a width drawn evenly from 0 … widest, at a
place drawn evenly. Blanked values become 0, which is the mean of normalised features. A mask of time covers
at most a share of the utterance.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SpecAugment:
    """How much is blanked out. bands: of each frame in a step; the same ones in all of them.

    frequency_width: in bands; time_width: in steps; time_share: of the steps, for the widest mask of time.
    """

    bands: int
    frequency_masks: int = 2
    frequency_width: int = 6
    time_masks: int = 2
    time_width: int = 6
    time_share: float = 0.2

    def __call__(self, features: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """A copy of features float32 [T, stack*bands], masked by what the generator draws."""
        masked = features.copy()
        frames = masked.reshape(len(features), features.shape[1] // self.bands, self.bands)
        for _ in range(self.frequency_masks):
            frames[:, :, _stretch(self.bands, self.frequency_width, generator)] = 0
        widest = min(self.time_width, int(self.time_share * len(features)))
        for _ in range(self.time_masks):
            frames[_stretch(len(features), widest, generator)] = 0
        return masked


def _stretch(size: int, widest: int, generator: np.random.Generator) -> slice:
    """A stretch of 0 … widest places among `size`."""
    width = int(generator.integers(min(widest, size) + 1))
    start = int(generator.integers(size - width + 1))
    return slice(start, start + width)
