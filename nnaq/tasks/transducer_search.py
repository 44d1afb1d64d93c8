"""What a transducer says: greedy search, and what every search over a transducer shares.

Between two frames a transducer says any number of units. At frame t, with u units said so far, its joint
ranks them,

    z = logits(f[t], g[u])        [V]; unit 0, the blank, passes on to frame t + 1; unit k >= 1 is said

so that a search asks the encoder once per frame (f), the predictor once per unit (g) and the joint once per
step. Parts may be those of a module or of an integer model: greedy search only compares the logits of one
step, so that codes do as well as reals, whatever their scale and zero point. Of equal logits the first
counts, which is the blank where it is among them.

A stream is a value: `feed` takes one and gives the next, so that it can be kept, forked and taken up again.
Frames may come in chunks of any sizes, with the same result.

Source: A. Graves, Sequence transduction with recurrent neural networks, 2012.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from nnaq.errors import DataError
from nnaq.tasks.units import BLANK

MOST = 10  # units per frame, see Greedy
State = Any  # what a predictor remembers; nobody but the parts looks into it


class Parts(Protocol):
    """A transducer after its encoder. No part may change an array or a state that it was given."""

    def start(self) -> tuple[np.ndarray, State]:
        """g and the state after the blank alone, which stands for the beginning."""

    def read(self, state: State, label: int) -> tuple[np.ndarray, State]:
        """g and the state after one more unit."""

    def logits(self, f: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Integer codes or reals [V] of one frame and what was read."""


@dataclass(frozen=True)
class Said:
    """A unit, and the number of the frame (of the encoder's, from 0) at which it was said."""

    label: int
    frame: int


Stream = TypeVar("Stream")


class Search(Protocol[Stream]):
    """A way to find what was said, over streams of its own kind."""

    def start(self) -> Stream: ...

    def feed(self, stream: Stream, frames: np.ndarray) -> tuple[list[Said], Stream]:
        """What is certain after frames [T, …] that was not before, and the stream after them."""

    def rest(self, stream: Stream) -> list[Said]:
        """The best guess at what follows the certain units; it may change until the last frame."""


def transcribe(search: Search[Stream], frames: np.ndarray) -> list[Said]:
    """All that is said in a whole recording, frames [T, …]."""
    said, stream = search.feed(search.start(), frames)
    return said + search.rest(stream)


def labels_of(said: Sequence[Said]) -> list[int]:
    """The units alone."""
    return [one.label for one in said]


@dataclass(frozen=True)
class GreedyStream:
    """What was read last, the predictor's state, and the number of frames so far."""

    g: np.ndarray
    state: State
    frame: int


@dataclass(frozen=True)
class Greedy:
    """The best unit of every step. Raises DataError for most < 1.

    most: units per frame. It bounds the work of a frame where a model never says blank, so it should hold
    back no other: frames last some 60 ms, in which people say one or two letters, and a model that waits
    until it is sure spells a whole word at once, rarely one of more than ten.

    >>> class Orders:  # f are the logits, except that no unit is said twice in a row
    ...     def start(self): return np.array([0, 0, 0]), None
    ...     def read(self, state, label): return -9 * (np.arange(3) == label), None
    ...     def logits(self, f, g): return f + g
    >>> frames = np.array([[1, 0, 0], [2, 9, 0], [5, 4, 6], [5, 5, 5]])
    >>> transcribe(Greedy(Orders()), frames)
    [Said(label=1, frame=1), Said(label=2, frame=2)]
    """

    parts: Parts
    most: int = MOST

    def __post_init__(self) -> None:
        at_least_one("most", self.most)

    def start(self) -> GreedyStream:
        return GreedyStream(*self.parts.start(), frame=0)

    def feed(self, stream: GreedyStream, frames: np.ndarray) -> tuple[list[Said], GreedyStream]:
        """The units said in frames [T, …], all of them certain, and the stream after them."""
        said, g, state = [], stream.g, stream.state
        for frame, f in enumerate(frames, stream.frame):
            for _ in range(self.most):
                label = int(self.parts.logits(f, g).argmax())
                if label == BLANK:
                    break
                g, state = self.parts.read(state, label)
                said.append(Said(label, frame))
        return said, GreedyStream(g, state, stream.frame + len(frames))

    def rest(self, stream: GreedyStream) -> list[Said]:
        """Nothing: every unit is certain once said."""
        return []


def at_least_one(name: str, value: int) -> None:
    """Raises DataError where a count is below 1."""
    if value < 1:
        raise DataError(f"a search needs {name} >= 1, found {value}")
