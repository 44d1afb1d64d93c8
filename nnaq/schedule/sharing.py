"""Values that rest in another's buffer, and how long each buffer lives.

    reshape   the result is the operand
    slice     with positive steps: every step-th entry of the operand, in its place
    concat    the operands are made where the result has them
    state     a next value is made in the state's buffer, where nobody reads the old one any more
    in place  an elementwise result is written over an operand of its size that nobody reads any more

Writing in place is safe where each result depends on the operand's entry at its own position alone:
an engine reads an entry before it writes that entry, and what executes a command reads all operands
before it writes. `IN_PLACE` names these operators; another operand in the same buffer must lie at
the very same place.

A slice and a join make one buffer live longer than two would. They are views only where the bytes
alive at once do not rise over the most that is alive anywhere.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from nnaq.cost.footprint import resting_bytes
from nnaq.ir.graph import Graph, Node
from nnaq.kernels.cut_and_join import cuts
from nnaq.schedule.placement import Lifetime, aligned
from nnaq.schedule.places import Place, cut, is_whole_bytes
from nnaq.targets import Target
from nnaq.targets.gemm import sizes

VIEWS = frozenset({"reshape", "slice", "concat"})
"""Operators that cost nothing where their results share the operands' bytes."""

IN_PLACE = frozenset(
    "abs neg sign floor ceil round rescale relu clip square sqrt sigmoid tanh exp log silu gelu mish "
    "softplus hard_swish hard_sigmoid leaky_relu elu selu celu softsign log_sigmoid erf sin cos "
    "thresholded_relu reciprocal rsqrt power add sub mul div minimum maximum prelu where equal less "
    "less_or_equal greater greater_or_equal logical_not logical_and logical_or logical_xor "
    "floor_divide".split()
)

Cut = tuple[int, int, int, int]
Life = tuple[int, int]


class Sharing:
    """Who rests where. `values`: all that rest in SRAM; places are relative to buffers of a root each."""

    def __init__(self, graph: Graph, target: Target, values: Mapping[str, None]) -> None:
        self.graph, self.values = graph, values
        self.size = {v: resting_bytes(graph.types[v], target) for v in values}
        self.made = {v: at for at, node in enumerate(graph.nodes) for v in node.outputs}
        self.states = {state.input for state in graph.states}
        self.link: dict[str, tuple[str, tuple[Cut, ...]]] = {}
        self.reshaped: set[str] = set()
        self.life = dict(self._lives())
        self.profile = np.zeros(len(graph.nodes) + 1, np.int64)
        for value, (first, last) in self.life.items():
            self.profile[first : last + 1] += aligned(self.size[value])
        self.most = int(self.profile.max(initial=0))
        for share in (self._reshape, self._slice, self._concat):
            for node in graph.nodes:
                share(node)
        self._states()
        for at, node in enumerate(graph.nodes):
            self._in_place(at, node)

    def root(self, value: str) -> str:
        """The value whose buffer holds `value`."""
        while value in self.link:
            value = self.link[value][0]
        return value

    def places(self) -> dict[str, Place]:
        """Where each value lies in the buffer of its root."""
        found: dict[str, Place] = {}
        for value in self.values:
            self._resolve(value, found)
        return found

    def buffers(self) -> list[Lifetime]:
        """The buffer of each root: states for good, others as long as any value in it is needed."""
        end = len(self.graph.nodes)
        return [
            Lifetime(v, self.size[v], 0, end, "state")
            if v in self.states
            else Lifetime(v, self.size[v], *self.life[v])
            for v in self.values
            if v not in self.link
        ]

    def _resolve(self, value: str, found: dict[str, Place]) -> Place:
        way = [value]
        while way[-1] in self.link and way[-1] not in found:
            way.append(self.link[way[-1]][0])
        place = found.setdefault(way[-1], Place(way[-1]))
        for one in reversed(way[:-1]):
            parent, taken = self.link[one]
            kind = self.graph.types[parent]
            for axis, start, stop, step in taken:
                kind, place = cut(kind, place, axis, start, stop, step)
            found[one] = place
        return place

    def _lives(self) -> Iterator[tuple[str, Life]]:
        """From the node that makes a value to the last that reads it; what must survive, to the end."""
        last: dict[str, int] = {}
        for at, node in enumerate(self.graph.nodes):
            last.update((v, at) for v in node.inputs if v)
        last.update((v, len(self.graph.nodes)) for v in self.graph.results)
        for value in self.values:
            first = self.made.get(value, 0)
            yield value, (first, max(first, last.get(value, first)))

    def _join(self, child: str, parent: str, taken: tuple[Cut, ...] = ()) -> None:
        """Let a root rest in another value's buffer."""
        root, one = self.root(parent), self.life[child]
        other = self.life[root]
        merged = min(one[0], other[0]), max(one[1], other[1])
        self._count(child, one, -1)
        self._count(root, other, -1)
        self._count(root, merged, 1)
        self.life[root] = merged
        self.link[child] = parent, taken

    def _count(self, value: str, life: Life, sign: int) -> None:
        self.profile[life[0] : life[1] + 1] += sign * aligned(self.size[value])

    def _is_free(self, children: Sequence[str], parent: str) -> bool:
        """Whether joining buffers keeps what is alive at once below the most there is anywhere."""
        root = self.root(parent)
        lives = [self.life[root], *(self.life[child] for child in children)]
        low, high = min(first for first, _ in lives), max(last for _, last in lives) + 1
        before = self.profile[low:high]
        after = before + aligned(self.size[root])
        for value, (first, last) in zip([root, *children], lives, strict=True):
            after[first - low : last + 1 - low] -= aligned(self.size[value])
        return int(after.max()) <= max(self.most, int(before.max()))

    def _reshape(self, node: Node) -> None:
        if node.op == "reshape" and self._rest(node.inputs[0], node.outputs[0]):
            self._join(node.outputs[0], node.inputs[0])
            self.reshaped |= {node.inputs[0], node.outputs[0]}

    def _slice(self, node: Node) -> None:
        if node.op != "slice" or not self._rest(node.inputs[0], node.outputs[0]):
            return
        kind = self.graph.types[node.inputs[0]]
        found = {a: c.indices(sizes(kind)[a]) for a, c in cuts(node.attrs, kind.rank).items()}
        result = node.outputs[0]
        if not is_whole_bytes(kind) or result in self.reshaped or min(c[2] for c in found.values()) < 1:
            return
        if self._is_free([result], node.inputs[0]):
            self._join(result, node.inputs[0], tuple((a, *c) for a, c in sorted(found.items())))

    def _concat(self, node: Node) -> None:
        if node.op != "concat" or not self._rest(*node.inputs, node.outputs[0]):
            return
        result = node.outputs[0]
        kind = self.graph.types[result]
        axis, start = int(node.attrs["axis"]) % kind.rank, 0  # type: ignore[arg-type]
        is_packed = all(size == 1 for size in sizes(kind)[:axis])
        loose: dict[str, tuple[Cut, ...]] = {}
        for value in node.inputs if is_whole_bytes(kind) else ():
            stop = start + sizes(self.graph.types[value])[axis]
            if self._can_move(value, node) and (is_packed or value not in self.reshaped):
                loose[value] = ((axis, start, stop, 1),)
            start = stop
        # All at once, or one by one: together they need the result's room only once.
        is_free = self._is_free(list(loose), result)
        for value, place in loose.items():
            if is_free or self._is_free([value], result):
                self._join(value, result, place)

    def _can_move(self, value: str, node: Node) -> bool:
        """Whether an operand of a join has a buffer that is its alone to give up."""
        return value in self.made and value not in self.link and node.inputs.count(value) == 1

    def _states(self) -> None:
        for state in self.graph.states:
            made = self.root(state.output) if state.output in self.values else state.output
            is_whole = made in self.made and made in self.values and not self._is_part(state.output)
            is_like = is_whole and self.size[made] == self.size[state.input]
            if is_like and self._follows(made, state.input):
                self._join(made, state.input)

    def _follows(self, made: str, state: str) -> bool:
        """Whether a value is made once nobody reads the state's old one, or entry by entry from it."""
        first, last = self.life[made][0], self._last_read(state)
        node = self.graph.nodes[self.made[made]]
        if first > last or node.op not in IN_PLACE or len(node.outputs) != 1:
            return first > last
        is_like = self.graph.types[made].shape == self.graph.types[state].shape
        return (
            first == self.made[made] == last and state in node.inputs and is_like and self._alone(state, node)
        )

    def _last_read(self, state: str) -> int:
        """The last node that reads a state's old value, or what rests in it; -1 for none."""
        readers = self.graph.readers.get(state, ())
        return self.life[state][1] if readers or state in self.graph.results else -1

    def _is_part(self, value: str) -> bool:
        while value in self.link:
            value, taken = self.link[value]
            if taken:
                return True
        return False

    def _in_place(self, at: int, node: Node) -> None:
        if node.op not in IN_PLACE or len(node.outputs) != 1:
            return
        result = node.outputs[0]
        if not self._rest(result) or result in self.link:
            return
        for value in dict.fromkeys(v for v in node.inputs if v in self.values):
            if self._dies(value, at) and self._is_like(value, result) and self._alone(value, node):
                self._join(result, value)
                return

    def _dies(self, value: str, at: int) -> bool:
        root = self.root(value)
        return root not in self.states and self.life[root][1] == at and not self._is_part(value)

    def _is_like(self, value: str, result: str) -> bool:
        one, other = self.graph.types[value], self.graph.types[result]
        return (
            one.shape == other.shape and self.size[value] == self.size[result] == self.size[self.root(value)]
        )

    def _alone(self, value: str, node: Node) -> bool:
        """Whether no other operand lies in the same buffer, but elsewhere."""
        others = {v for v in node.inputs if v in self.values and v != value}
        return all(self.root(v) != self.root(value) or not self._is_part(v) for v in others)

    def _rest(self, *values: str) -> bool:
        return all(value in self.values for value in values)
