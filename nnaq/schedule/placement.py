"""Buffers placed in an arena: no two share a byte while both are alive.

Largest first, each at the lowest aligned offset that is free for its whole life (greedy by size,
arXiv 2001.03288). Where that leaves an arena above the bound of live bytes, a bounded number of
moves tries other orders: the buffer that ends highest is placed earlier, and an order is kept where
its arena is smaller. The search is deterministic.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from nnaq.errors import PassError

Role = Literal["activation", "state", "weights"]

ALIGNMENT = 16
MOVES, WORK = 64, 60_000
"""Orders tried at most, and buffers placed at most while trying."""


@dataclass(frozen=True)
class Lifetime:
    """A buffer to place: alive at the nodes first..last of the schedule, both counted."""

    name: str
    bytes: int
    first: int
    last: int
    role: Role = "activation"

    @property
    def room(self) -> int:
        """Its bytes up to the next aligned one."""
        return aligned(self.bytes)

    def meets(self, other: "Lifetime") -> bool:
        """Whether both are alive at some node."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Placement:
    """A buffer and its offset in the arena."""

    buffer: Lifetime
    offset: int

    @property
    def end(self) -> int:
        return self.offset + self.buffer.room


def aligned(size: int) -> int:
    """`size` up to the next multiple of the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def live_profile(buffers: Sequence[Lifetime]) -> list[int]:
    """Bytes alive at each node of the schedule, up to the last at which anything is."""
    change = [0] * (max((b.last for b in buffers), default=-1) + 2)
    for buffer in buffers:
        change[buffer.first] += buffer.room
        change[buffer.last + 1] -= buffer.room
    return list(accumulate(change))[:-1]


def max_live_bytes(buffers: Sequence[Lifetime]) -> int:
    """The most bytes alive at once: no arena can be smaller."""
    return max(live_profile(buffers), default=0)


def arena_of(placed: Sequence[Placement]) -> int:
    """Bytes that the placements take."""
    return max((p.end for p in placed), default=0)


def greedy_order(buffers: Sequence[Lifetime]) -> list[Lifetime]:
    """Those that stay come first, then the largest."""
    return sorted(buffers, key=lambda b: (b.role != "state", -b.room, b.first, b.name))


def place(buffers: Sequence[Lifetime]) -> tuple[Placement, ...]:
    """The best placement found: greedy by size, then the moves that the module tells of."""
    order, bound = greedy_order(buffers), max_live_bytes(buffers)
    best = place_in_order(order)
    for _ in range(min(MOVES, WORK // max(len(order), 1))):
        highest = max(best, key=lambda p: (p.end, p.buffer.name)).buffer if best else None
        if highest is None or arena_of(best) == bound:
            break
        for moved in _earlier(order, highest):
            tried = place_in_order(moved)
            if arena_of(tried) < arena_of(best):
                order, best = moved, tried
                break
        else:
            break
    return best


def _earlier(order: list[Lifetime], buffer: Lifetime) -> Iterator[list[Lifetime]]:
    """The order with a buffer moved to the front, and to half and a quarter of the way there."""
    at = order.index(buffer)
    rest = [*order[:at], *order[at + 1 :]]
    for to in dict.fromkeys((0, at // 2, 3 * at // 4)):
        if to < at:
            yield [*rest[:to], buffer, *rest[to:]]


def place_in_order(order: Sequence[Lifetime]) -> tuple[Placement, ...]:
    """Each buffer at the lowest offset that is free for its whole life."""
    alive, placed = _Alive(max((b.last for b in order), default=0) + 1), []
    for buffer in order:
        offset = 0
        for other in sorted(alive.meeting(buffer), key=lambda p: p.offset):
            if offset + buffer.room <= other.offset:
                break
            offset = max(offset, other.end)
        placed.append(Placement(buffer, offset))
        alive.add(placed[-1])
    return tuple(placed)


class _Alive:
    """Placements by their lives: those that begin in a stretch, and those alive at its first node.

    A life is cut into the ranges of a binary tree over the nodes, so that whoever is alive at a node
    stands on the way from its leaf to the root.
    """

    def __init__(self, nodes: int) -> None:
        self.leaves = 1 << max(nodes - 1, 0).bit_length()
        self.ranges: list[list[Placement]] = [[] for _ in range(2 * self.leaves)]
        self.starts: list[tuple[int, int]] = []
        self.placed: list[Placement] = []

    def add(self, placement: Placement) -> None:
        first, end = placement.buffer.first + self.leaves, placement.buffer.last + self.leaves + 1
        while first < end:
            if first & 1:
                self.ranges[first].append(placement)
                first += 1
            if end & 1:
                end -= 1
                self.ranges[end].append(placement)
            first, end = first // 2, end // 2
        insort(self.starts, (placement.buffer.first, len(self.placed)))
        self.placed.append(placement)

    def meeting(self, buffer: Lifetime) -> Iterator[Placement]:
        """The placements alive at some node at which `buffer` is."""
        leaf = buffer.first + self.leaves
        while leaf:
            yield from self.ranges[leaf]
            leaf //= 2
        begin = bisect_right(self.starts, (buffer.first, len(self.placed)))
        end = bisect_right(self.starts, (buffer.last, len(self.placed)))
        yield from (self.placed[number] for _, number in self.starts[begin:end])


def verify_placements(placed: Sequence[Placement], arena_bytes: int) -> None:
    """Raise PassError where a placement leaves the arena or overlaps another while both live.

    The nodes are walked with the live placements sorted by offset: whoever overlaps any of them
    overlaps a neighbour.
    """
    for one in placed:
        if one.offset < 0 or one.offset % ALIGNMENT or one.end > arena_bytes:
            raise PassError(
                f"memory plan: {one.buffer.name!r} at {one.offset} leaves the arena or its alignment"
            )
    real = [p for p in placed if p.buffer.room]
    events = [(p.buffer.first, 1, number) for number, p in enumerate(real)]
    events += [(p.buffer.last + 1, 0, number) for number, p in enumerate(real)]
    live: list[tuple[int, int]] = []
    for _, begins, number in sorted(events):
        entry = real[number].offset, number
        if not begins:
            live.pop(bisect_left(live, entry))
            continue
        insort(live, entry)
        at = bisect_left(live, entry)
        for left, right in ((at - 1, at), (at, at + 1)):
            if left >= 0 and right < len(live):
                one, other = real[live[left][1]], real[live[right][1]]
                if one.end > other.offset:
                    raise PassError(
                        f"memory plan: {other.buffer.name!r} and {one.buffer.name!r} overlap while both live"
                    )
