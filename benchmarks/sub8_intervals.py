"""How far an equal error rate lies from the float model's, with a confidence interval.

Trials that share a speaker are not independent, so speakers are resampled, not trials. A resample draws as
many speakers as there are, with replacement; a speaker drawn c times gives

    weight of a trial of one speaker     c
    weight of a trial of two speakers    c1 * c2

and no trials between copies of one speaker, which would be of one recording. Float and integer model are
judged on the same resamples; `nnaq.tasks.intervals` draws them and gives the interval of the differences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnaq.tasks.intervals import draws
from nnaq.tasks.verification import all_trials

RESAMPLES = 1000


@dataclass(frozen=True)
class Trials:
    """All pairs of utterances: scores [N], whether of one speaker [N], numbers of the speakers [2, N]."""

    scores: np.ndarray
    same: np.ndarray
    speakers: np.ndarray

    @classmethod
    def of(cls, embeddings: np.ndarray, speakers: Sequence[str]) -> "Trials":
        """The trials of utterances with embeddings [U, E]."""
        numbers = np.unique(np.asarray(speakers), return_inverse=True)[1]
        first, second = np.triu_indices(len(numbers), 1)
        return cls(*all_trials(embeddings, speakers), np.stack([numbers[first], numbers[second]]))

    def ordered(self) -> "Trials":
        """The same from the highest score down."""
        order = np.argsort(-self.scores, kind="stable")
        return Trials(self.scores[order], self.same[order], self.speakers[:, order])

    def weights(self, counts: np.ndarray) -> np.ndarray:
        """What each trial weighs where speaker s was drawn counts[s] times."""
        one, other = counts[self.speakers]
        return np.where(self.same, one, one * other)


def weighted_rate(trials: Trials, weights: np.ndarray) -> float:
    """The equal error rate of ordered trials of distinct scores, interpolated as
    `nnaq.tasks.verification.equal_error_rate` does it."""
    accepts = _shares(np.where(trials.same, 0, weights))
    rejects = 1.0 - _shares(np.where(trials.same, weights, 0))
    end = int(np.argmax(accepts >= rejects))
    gap_before, gap = rejects[end - 1] - accepts[end - 1], rejects[end] - accepts[end]
    part = gap_before / (gap_before - gap)
    return float(accepts[end - 1] + part * (accepts[end] - accepts[end - 1]))


def _shares(weights: np.ndarray) -> np.ndarray:
    """The share of a kind that is accepted: nothing, the highest score, the two highest, … all."""
    total = np.concatenate([[0], np.cumsum(weights)])
    return np.asarray(total / total[-1])


def resampled_rates(trials: Trials, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """The rate on each resample of speakers, [resamples]; the same seed draws the same ones."""
    ordered = trials.ordered()
    count = int(trials.speakers.max()) + 1
    chance = np.random.default_rng(seed)
    drawn = draws(chance, count, resamples)
    return np.array([weighted_rate(ordered, ordered.weights(counts)) for counts in drawn])
