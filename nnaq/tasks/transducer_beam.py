"""Beam search over a transducer, time-synchronous, with prefix merging.

The probability of a sequence of units y is the sum over its alignments, each of which says at most `most`
units at a frame and then the blank:

    p(y | frames 0 … t) = sum over alignments of y of the product of p(unit | f, g) over all steps
    log p(· | f, g)     = log_softmax(scale logits(f, g))

The beam holds the `width` likeliest sequences after every frame, each once: two alignments of the same
sequence are one hypothesis, their probabilities added. Within a frame the `width` likeliest that have said
n + 1 units at it follow from those that have said n. One that is no likelier than `width` others that are
through with the frame is not followed: every further step only makes it less likely. That saves most of the
work where nothing is said, and costs what its alignments would have added to others; it is followed where the
sequence itself is through already by another alignment. With a beam as wide as there are sequences nothing
is left out, and the score of each is log p(y | frames) itself.

Logits are integer codes of one `scale` (or reals, scale 1); zero points cancel in the softmax. Log-softmax
and sums are host arithmetic in float64: they are not among the integers that are equal everywhere, so that
sequences whose scores agree to some 1e-12 may be ranked otherwise on another machine. Equal scores rank by
the rank of what they continue, then by the lower unit.

Source: G. Saon, Z. Tüske, K. Audhkhasi, Alignment-length synchronous decoding for RNN transducer, ICASSP
2020, which describes this search as its baseline. The alignment-length synchronous search itself is not
here: its hypotheses stand at different frames, so that a stream would have to keep its frames.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from nnaq.errors import DataError
from nnaq.kernels import log_softmax
from nnaq.tasks.transducer_search import Parts, Said, State, at_least_one
from nnaq.tasks.units import BLANK

Labels = tuple[int, ...]
Read = tuple[np.ndarray, State]


@dataclass(frozen=True)
class Hypothesis:
    """Units that are not certain yet and the frames at which they were said.

    score: log of the probability of all units, certain ones too, over the alignments that were followed
    """

    labels: Labels
    frames: tuple[int, ...]
    score: float

    def saying(self, label: int, frame: int, score: float) -> "Hypothesis":
        return Hypothesis((*self.labels, label), (*self.frames, frame), score)


@dataclass(frozen=True)
class BeamStream:
    """The hypotheses, likeliest first, what was read of each, and the number of frames so far."""

    hypotheses: tuple[Hypothesis, ...]
    reads: Mapping[Labels, Read]
    frame: int


@dataclass(frozen=True)
class Beam:
    """The search; see the module. Raises DataError for settings that leave nothing to search.

    width: sequences after every frame
    most: units per frame; a longer burst is found as an alignment that parts it over neighbouring frames
    expand_beam: a unit whose log-probability lies more than this below that of the step's likeliest, the
        blank included, is not tried; with the default all are

    Units are certain once all hypotheses begin with them. They bear the frames at which the likeliest one
    said them, and no unit that follows bears an earlier one.
    """

    parts: Parts
    scale: float = 1.0
    width: int = 4
    most: int = 4
    expand_beam: float = math.inf

    def __post_init__(self) -> None:
        at_least_one("width", self.width)
        at_least_one("most", self.most)
        if not (self.scale > 0 and self.expand_beam >= 0):
            raise DataError(
                f"a beam search needs scale > 0 and expand_beam >= 0, found {self.scale}, {self.expand_beam}"
            )

    def start(self) -> BeamStream:
        return BeamStream((Hypothesis((), (), 0.0),), {(): self.parts.start()}, 0)

    def feed(self, stream: BeamStream, frames: np.ndarray) -> tuple[list[Said], BeamStream]:
        """The units that became certain with frames [T, …], and the stream after them."""
        certain: list[Said] = []
        for f in frames:
            heard = self._after(stream, f)
            said, stream = _parted(heard)
            certain += said
        return certain, stream

    def rest(self, stream: BeamStream) -> list[Said]:
        """What the likeliest hypothesis says beyond what is certain."""
        best = stream.hypotheses[0]
        return [Said(*pair) for pair in zip(best.labels, best.frames, strict=True)]

    def _after(self, stream: BeamStream, f: np.ndarray) -> BeamStream:
        """The stream one frame later, with nothing taken off."""
        step = _Frame(self, f, stream)
        passed: dict[Labels, Hypothesis] = {}
        speaking: Sequence[Hypothesis] = stream.hypotheses
        for count in range(self.most + 1):
            for one in speaking:
                _merge(passed, replace(one, score=one.score + step.ranked(one.labels)[BLANK]))
            speaking = step.extended(speaking, passed) if count < self.most else []
        kept = tuple(sorted(passed.values(), key=lambda one: -one.score)[: self.width])
        return BeamStream(kept, {one.labels: step.reads[one.labels] for one in kept}, stream.frame + 1)


class _Frame:
    """One frame of a search: every sequence is read once and ranked once, however often it is reached."""

    def __init__(self, beam: Beam, f: np.ndarray, stream: BeamStream) -> None:
        self.beam, self.f, self.number = beam, f, stream.frame
        self.reads = dict(stream.reads)
        self._ranks: dict[Labels, np.ndarray] = {}

    def ranked(self, labels: Labels) -> np.ndarray:
        """Log-probabilities of all units after `labels`, float64 [V]."""
        if labels not in self._ranks:
            codes = self.beam.parts.logits(self.f, self.reads[labels][0])
            (self._ranks[labels],) = log_softmax.real(np, {}, codes.astype(np.float64) * self.beam.scale)
        return self._ranks[labels]

    def extended(
        self, hypotheses: Sequence[Hypothesis], passed: Mapping[Labels, Hypothesis]
    ) -> list[Hypothesis]:
        """The likeliest of these with one unit more, without those that cannot end in the beam.

        passed: the hypotheses that are through with this frame; another alignment of one of them is of use
        """
        if not hypotheses:
            return []
        scores = self._scores_of_units(hypotheses)
        best = np.argsort(-scores, axis=None, kind="stable")[: self.beam.width]
        places = zip(*np.unravel_index(best, scores.shape), strict=True)
        longer = [
            hypotheses[row].saying(int(unit), self.number, float(scores[row, unit])) for row, unit in places
        ]
        least = self._least(passed)
        kept = [one for one in longer if one.score > least or one.labels in passed]
        for one in kept:
            self._read(one.labels)
        return kept

    def _scores_of_units(self, hypotheses: Sequence[Hypothesis]) -> np.ndarray:
        """Scores with one unit more, of every hypothesis and unit, [H, V]; -inf where it is not tried."""
        ranks = np.stack([self.ranked(one.labels) for one in hypotheses])
        tried = ranks >= ranks.max(axis=1, keepdims=True) - self.beam.expand_beam
        tried[:, BLANK] = False
        return np.where(tried, ranks + np.array([[one.score] for one in hypotheses]), -np.inf)

    def _least(self, passed: Mapping[Labels, Hypothesis]) -> float:
        """The score of the last place in the beam, -inf while it is free."""
        scores = sorted((one.score for one in passed.values()), reverse=True)
        return scores[self.beam.width - 1] if len(scores) >= self.beam.width else -math.inf

    def _read(self, labels: Labels) -> None:
        if labels not in self.reads:
            self.reads[labels] = self.beam.parts.read(self.reads[labels[:-1]][1], labels[-1])


def _merge(found: dict[Labels, Hypothesis], one: Hypothesis) -> None:
    """Add the alignments of a hypothesis to those of the same units; the likelier ones say the frames."""
    other = found.get(one.labels)
    if other is None:
        found[one.labels] = one
        return
    likelier = one if one.score > other.score else other
    found[one.labels] = replace(likelier, score=float(np.logaddexp(one.score, other.score)))


def _parted(stream: BeamStream) -> tuple[list[Said], BeamStream]:
    """What all hypotheses begin with, and the stream without it."""
    shared = _shared([one.labels for one in stream.hypotheses])
    if not shared:
        return [], stream
    count, frames = len(shared), stream.hypotheses[0].frames
    kept = tuple(
        replace(
            one,
            labels=one.labels[count:],
            frames=tuple(max(frame, frames[count - 1]) for frame in one.frames[count:]),
        )
        for one in stream.hypotheses
    )
    reads = {labels[count:]: read for labels, read in stream.reads.items()}
    said = [Said(*pair) for pair in zip(shared, frames, strict=False)]
    return said, BeamStream(kept, reads, stream.frame)


def _shared(sequences: Iterable[Labels]) -> Labels:
    """The beginning that all of them have."""
    columns = takewhile(lambda units: len(set(units)) == 1, zip(*sequences, strict=False))
    return tuple(units[0] for units in columns)
