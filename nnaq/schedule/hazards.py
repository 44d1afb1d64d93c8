"""Which earlier commands a command must wait for, by the bytes and names that both touch.

A command that reads waits for who wrote there last; one that writes waits for that one too, and for
all who have read since. Any order of the commands that keeps these waits gives the same bytes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from nnaq.schedule.actions import Held, Operand, View


class Hazards:
    """The commands so far, by what they touched: stretches of SRAM, and names."""

    def __init__(self, sram_bytes: int) -> None:
        self.starts = [0, sram_bytes]
        self.writer: list[int | None] = [None, None]
        self.readers: list[list[int]] = [[], []]
        self.held: dict[str, int] = {}

    def needs(self, number: int, reads: Iterable[Operand], writes: Iterable[Operand]) -> set[int]:
        """What command `number` must wait for; from now on others wait for it."""
        found: set[int] = set()
        for operand in reads:
            if isinstance(operand, Held) and operand.name in self.held:
                found.add(self.held[operand.name])
            if isinstance(operand, View):
                for at in self._stretches(*operand.span):
                    found.add(-1 if self.writer[at] is None else self.writer[at])  # type: ignore[arg-type]
                    self.readers[at].append(number)
        for operand in writes:
            if isinstance(operand, Held):
                self.held[operand.name] = number
            if isinstance(operand, View):
                found |= self._write(number, *operand.span)
        return found - {-1, number}

    def _write(self, number: int, start: int, stop: int) -> set[int]:
        touched = self._stretches(start, stop)
        found = {reader for at in touched for reader in self.readers[at]}
        found |= {writer for at in touched if (writer := self.writer[at]) is not None}
        if touched:
            first, last = touched[0], touched[-1] + 1
            self.starts[first:last] = [start]
            self.writer[first:last] = [number]
            self.readers[first:last] = [[]]
        return found

    def _stretches(self, start: int, stop: int) -> range:
        """The stretches from byte start to stop, cut at both."""
        if start >= stop:
            return range(0)
        return range(self._cut(start), self._cut(stop))

    def _cut(self, at: int) -> int:
        """The stretch that begins at a byte; the one around it is parted where none does."""
        place = bisect_left(self.starts, at)
        if place < len(self.starts) and self.starts[place] == at:
            return place
        around = bisect_right(self.starts, at) - 1
        self.starts.insert(place, at)
        self.writer.insert(place, self.writer[around])
        self.readers.insert(place, list(self.readers[around]))
        return place
