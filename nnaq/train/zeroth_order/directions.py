"""Random numbers that are a function of where they are used, so that nothing drawn need be kept.

A stream is Philox4x64-10 with

    key      (seed, step)
    counter  (0, parameter, query, purpose) to begin with; its first word counts blocks of four words

Streams of other seeds, steps, queries, parameters or purposes never meet. What is asked for again comes
again: the perturbation up, the one down and the update see one direction, and a run is replayed from its
log.

    rademacher  -1 or +1, the bits of the words, lowest first: 1 stands for +1. The same on every machine
    gaussian    NumPy's standard_normal over the same words. The same for one version of NumPy; from one to
                the next NumPy promises the words, not what it makes of them

Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (2011).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["rademacher", "gaussian"]

PURPOSES = ("directions", "batches", "masks", "noise")


@dataclass(frozen=True)
class Place:
    """Where random numbers are used; seed and step are 0 .. 2^64 - 1."""

    seed: int
    step: int = 0
    query: int = 0
    parameter: int = 0


def stream(place: Place, purpose: str = "directions") -> np.random.Philox:
    """The words for one use, from their beginning."""
    counter = [0, place.parameter, place.query, PURPOSES.index(purpose)]
    return np.random.Philox(
        key=np.array([place.seed, place.step], np.uint64), counter=np.array(counter, np.uint64)
    )


def words(place: Place, count: int, purpose: str) -> np.ndarray:
    """The first `count` words, uint64."""
    drawn: np.ndarray = stream(place, purpose).random_raw(count)
    return drawn


def direction(kind: Kind, place: Place, count: int) -> np.ndarray:
    """A direction over `count` parameters: int8 -1 and +1 (rademacher), or float64 (gaussian)."""
    if kind == "gaussian":
        return normal(place, count)
    drawn = words(place, -(-count // 64), "directions").astype("<u8", copy=False)
    bits = np.unpackbits(drawn.view(np.uint8), count=count, bitorder="little").view(np.int8)
    bits *= 2
    bits -= 1
    return bits


def normal(place: Place, count: int, purpose: str = "directions") -> np.ndarray:
    """Standard normal numbers, float64."""
    return np.random.Generator(stream(place, purpose)).standard_normal(count)


def chosen(place: Place, number: int, count: int, purpose: str = "batches") -> np.ndarray:
    """`number` of 0 .. count - 1 without repetition, every choice equally likely, in random order."""
    return np.argsort(words(place, count, purpose), kind="stable")[:number]
