"""A stream in real time: chunks arrive, the engine works on them in turn, results come out.

    start(i) = max(arrival(i), what the accelerator did before has ended)
    end(i)   = start(i) + encoder cycles of chunk i
    done(i)  = end of the decoder's work on the symbols of chunk i: symbols(i) * cycles per symbol,
               begun when chunk i is encoded and the symbols of the chunk before are decoded

A decoder on the host works beside the encoder; on the accelerator it takes its turn there, and the next
chunk waits for it. The queue is endless and in order: where the work of a chunk takes longer than its
sound lasts, chunks wait longer and longer.

Latency of a chunk is `done - arrival`: from its last sample to its result. It leaves out the time in
which the chunk's own sound is still to be heard. What a user perceives is the latency of the last chunk,
from the last sound to the final result.

How many symbols a chunk has is known from a real decode, or modelled as a rate r per chunk: chunk i has
floor((i + 1) r) - floor(i r), so that n chunks have floor(n r).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Literal

from nnaq.errors import DataError

Place = Literal["host", "accelerator"]


@dataclass(frozen=True)
class Chunk:
    """A chunk on its way, in cycles: its last sample, its encoding from start to end, its result."""

    arrival: int
    start: int
    end: int
    done: int
    symbols: int = 0

    @property
    def latency(self) -> int:
        return self.done - self.arrival

    @property
    def wait(self) -> int:
        """From its arrival until the accelerator has time for it."""
        return self.start - self.arrival


@dataclass(frozen=True)
class Streamed:
    """A stream from its first chunk to its last result. busy cycles: those of encoder and decoder."""

    chunks: tuple[Chunk, ...]
    encoder_busy: int
    decoder_busy: int
    decoder: Place = "host"

    @property
    def cycles(self) -> int:
        """When the final result is there."""
        return max((c.done for c in self.chunks), default=0)

    @property
    def perceived(self) -> int:
        """From the last sound to the final result."""
        return self.chunks[-1].latency if self.chunks else 0

    def latency(self, part: float) -> int:
        """The latency that this part of the chunks do not exceed, by nearest rank: 0.5 is the median."""
        ranked = sorted(c.latency for c in self.chunks)
        return ranked[max(ceil(part * len(ranked)), 1) - 1] if ranked else 0

    @property
    def longest_wait(self) -> int:
        return max((c.wait for c in self.chunks), default=0)

    @property
    def backlog(self) -> int:
        """The most chunks that waited at once."""
        starts = [c.start for c in self.chunks]
        most = first = 0
        for count, chunk in enumerate(self.chunks, start=1):
            while first < len(starts) and starts[first] <= chunk.arrival:
                first += 1
            most = max(most, count - first)
        return most

    @property
    def accelerator_share(self) -> float:
        """The part of the time until the final result in which the accelerator works."""
        busy = self.encoder_busy + (self.decoder_busy if self.decoder == "accelerator" else 0)
        return busy / self.cycles if self.cycles else 0.0


def simulate_stream(
    encoder_cycles_per_chunk: int | Sequence[int],
    decoder_cycles_per_symbol: int,
    arrivals: Sequence[int],
    symbols: Sequence[int] | float = 0.0,
    decoder: Place = "host",
    ready: int = 0,
) -> Streamed:
    """A stream whose chunks arrive at these cycles; see the module.

    encoder_cycles_per_chunk: one for all, or one each. symbols: of every chunk as a real decode emitted
    them, or a rate per chunk. ready: when the accelerator can take the first. Raises DataError for
    arrivals that go back in time, negative numbers, or lists of other lengths.

    >>> stream = simulate_stream(30, 5, arrivals=[100, 200, 300], symbols=[0, 1, 2])
    >>> [chunk.latency for chunk in stream.chunks], stream.perceived
    ([30, 35, 40], 40)
    """
    count = len(arrivals)
    encoding = _each(encoder_cycles_per_chunk, count, "encoder cycles")
    emitted = emissions(symbols, count) if isinstance(symbols, int | float) else symbols
    emitted = _each(emitted, count, "symbols")
    _must_be_forward((*arrivals[:1], *arrivals), "arrivals")
    _must_be_forward((0, decoder_cycles_per_symbol), "decoder cycles")
    chunks: list[Chunk] = []
    free, decoded = ready, 0
    for arrival, cycles, number in zip(arrivals, encoding, emitted, strict=True):
        start = max(arrival, free)
        end = start + cycles
        decoded = max(end, decoded) + number * decoder_cycles_per_symbol
        free = decoded if decoder == "accelerator" else end
        chunks.append(Chunk(arrival, start, end, decoded, number))
    return Streamed(tuple(chunks), sum(encoding), sum(emitted) * decoder_cycles_per_symbol, decoder)


def emissions(rate: float, chunks: int) -> list[int]:
    """Symbols of every chunk at a rate per chunk.

    >>> emissions(0.4, 6)
    [0, 0, 1, 0, 1, 0]
    """
    _must_be_forward((0, rate), "symbols")
    exact = Fraction(rate).limit_denominator(10**6)
    return [floor((i + 1) * exact) - floor(i * exact) for i in range(chunks)]


def frame_arrivals(samples: int, hop: int, sample_rate: int, clock_hz: int, chunk: int = 1) -> list[int]:
    """The cycle at which the last sample of every chunk of `chunk` frames is there.

    A frame is complete after its hop of new samples; the last one, filled up with zeros, when the sound
    ends.

    >>> frame_arrivals(samples=250, hop=100, sample_rate=1000, clock_hz=10_000)
    [1000, 2000, 2500]
    >>> frame_arrivals(samples=250, hop=100, sample_rate=1000, clock_hz=10_000, chunk=2)
    [2000, 2500]
    """
    frames = ceil(samples / hop)
    heard = (min(min(first + chunk, frames) * hop, samples) for first in range(0, frames, chunk))
    return [ceil(Fraction(n * clock_hz, sample_rate)) for n in heard]


def _each(value: int | Sequence[int], count: int, what: str) -> list[int]:
    found = [value] * count if isinstance(value, int) else list(value)
    if len(found) != count:
        raise DataError(f"a stream of {count} chunks takes {what} for each of them, found {len(found)}")
    if any(number < 0 for number in found):
        raise DataError(f"{what} of a stream cannot be negative, found {min(found)}")
    return found


def _must_be_forward(numbers: Sequence[float], what: str) -> None:
    for before, after in itertools.pairwise(numbers):
        if after < before:
            raise DataError(f"{what} of a stream cannot go below {before}, found {after}")
