"""Batches of utterances of like length: little padding, another mixture in every epoch.

    order   a permutation drawn from (seed, epoch)
    pools   `pool` batches' worth of the order, sorted by length and cut into batches of nearly equal size
    epoch   the batches of all pools, mixed

Of every batch a shard takes each `shards`-th utterance. All shards so have the same number of batches, and
together they see the batches that one of them alone would see.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

import numpy as np

from nnaq.errors import DataError

Made = TypeVar("Made")


def mixed_by_length(
    lengths: Sequence[int], size: int, generator: np.random.Generator, pool: int = 8
) -> list[list[int]]:
    """The numbers of all utterances, once each, as batches of about `size`; see the module."""
    order = generator.permutation(len(lengths))
    batches = [
        batch.tolist()
        for pooled in _cut(order, size * pool)
        for batch in _cut(pooled[np.argsort(np.asarray(lengths)[pooled], kind="stable")], size)
    ]
    return [batches[number] for number in generator.permutation(len(batches))]


def shard_of(batches: Sequence[Sequence[int]], shard: int, shards: int) -> list[list[int]]:
    """What one of `shards` takes of every batch. Raises DataError where a batch has nothing for it."""
    if not 0 <= shard < shards:
        raise DataError(f"expected a shard from 0 to {shards - 1}, found {shard}")
    smallest = min((len(batch) for batch in batches), default=shards)
    if smallest < shards:
        raise DataError(
            f"a batch of {smallest} cannot be shared by {shards} processes; "
            "take larger batches or fewer processes"
        )
    return [list(batch[shard::shards]) for batch in batches]


class Lazy(Sequence[Made], Generic[Made]):
    """A sequence whose items are made when asked for: an epoch of batches takes the memory of one."""

    def __init__(self, count: int, make: Callable[[int], Made]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Made: ...

    @overload
    def __getitem__(self, place: slice) -> "Lazy[Made]": ...

    def __getitem__(self, place: int | slice) -> "Made | Lazy[Made]":
        places = range(self._count)[place]
        if isinstance(places, range):
            return Lazy(len(places), lambda number: self._make(places[number]))
        return self._make(places)

    def __iter__(self) -> Iterator[Made]:
        return map(self._make, range(self._count))


def padded(utterances: Sequence[np.ndarray]) -> np.ndarray:
    """Utterances [T_n, F] side by side, time first and zeros after their ends: float32 [T, N, F]."""
    longest = max(map(len, utterances))
    made = np.zeros((longest, len(utterances), utterances[0].shape[1]), np.float32)
    for number, utterance in enumerate(utterances):
        made[: len(utterance), number] = utterance
    return made


def _cut(numbers: np.ndarray, size: int) -> list[np.ndarray]:
    """Pieces of nearly equal size, as many as pieces of `size` would be."""
    return np.array_split(numbers, -(-len(numbers) // size)) if len(numbers) else []
