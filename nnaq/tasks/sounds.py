"""Recordings to train on, as features: at their own speed and at others, with noise and without."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nnaq.tasks.an4 import SAMPLE_RATE, Spoken
from nnaq.tasks.augment import Augment
from nnaq.tasks.log_mel import LogMel
from nnaq.tasks.recordings import read_audio

KEPT = 10  # hours of sound whose features stay in memory


class Sounds:
    """The features of recordings, made when first asked for.

    Those of sets of up to KEPT hours are kept in memory, some 60 MB an hour and speed; larger sets are read
    anew each time.
    """

    def __init__(self, utterances: Sequence[Spoken], log_mel: LogMel, augment: Augment) -> None:
        self.utterances, self.log_mel, self.augment = utterances, log_mel, augment
        self._keeps = sum(utterance.seconds for utterance in utterances) <= 3600 * KEPT
        self._kept: dict[tuple[int, float], np.ndarray] = {}

    def audio(self, number: int) -> np.ndarray:
        """Samples float32."""
        return read_audio(self.utterances[number].path, SAMPLE_RATE)

    def plain(self, number: int, speed: float = 1.0) -> np.ndarray:
        """Features float32 [T,F] without noise."""
        made = self._kept.get((number, speed))
        if made is None:
            only = replace(self.augment, speeds=(speed,), noise=None)
            made = self.log_mel(only(self.audio(number), np.random.default_rng(0)))
            if self._keeps:
                self._kept[number, speed] = made
        return made

    def drawn(self, number: int, generator: np.random.Generator) -> np.ndarray:
        """Features as the generator draws speed and noise; only what has noise is made anew."""
        augment = self.augment
        if augment.noise is not None and generator.random() < augment.noisy:
            return self.log_mel(replace(augment, noisy=1.0)(self.audio(number), generator))
        return self.plain(number, augment.speeds[int(generator.integers(len(augment.speeds)))])


def spread(count: int, most: int) -> list[int]:
    """At most `most` numbers below `count`, evenly spread.

    >>> spread(5, 9), spread(100, 3)
    ([0, 1, 2, 3, 4], [0, 50, 99])
    """
    places = np.linspace(0, count - 1, min(most, count)).round().astype(int)
    return [int(place) for place in places]
