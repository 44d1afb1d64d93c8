"""make-streaming: a model over whole utterances becomes one over a stream, chunk by chunk.

Every zero beginning along time becomes a state:

    h0 = expand(zeros, x)
    y, y.h, y.c = lstm(x, h0, c0, …)
    p = pad(y) {r frames before}
    z = conv1d(p, …)
becomes
    state y.h.past -> y.h = zeros;  state y.c.past -> y.c = zeros
    state p.past -> p.past.next = zeros, r frames of y
    y, y.h, y.c = lstm(x, y.h.past, y.c.past, …)
    p = concat(p.past, y)
    p.past.next = slice(p) {the last r frames}
    z = conv1d(p, …)

The same holds for gru and running_mean, for a constant joined in front of frames, and for the padding that
a convolution has of its own. Time is every axis whose size follows that of a time axis of an input; other
open axes are the batch, and a stream is a batch of one. Where frames are taken s at a time, chunks are
multiples of s: T becomes s T. What reads the future or the whole is refused; passes/time_facts.py says why
chunks give the bits of the whole, passes/time_rules.py which operators may stand in such a graph.
"""

from collections.abc import Container, Generator, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import ClassVar

import numpy as np

from nnaq.errors import StreamError
from nnaq.ir.dims import add, bind, linear, substitute, symbols
from nnaq.ir.graph import Graph, Node, State
from nnaq.ir.order import without_dead_code
from nnaq.ir.time import open_sizes, time_axes, time_symbols, with_sizes
from nnaq.ir.types import TensorType, storage
from nnaq.kernels.cut_and_join import widths
from nnaq.kernels.movement import TO_THE_END
from nnaq.passes.manager import Keeps, Pass
from nnaq.passes.time_facts import beginning, is_state, numbers
from nnaq.passes.time_rules import CONVOLUTIONS, RECURRENT, judge, state_positions, window_padding

LARGEST_STEP = 64  # frames that a model may take at a time


@dataclass(frozen=True)
class MakeStreaming(Pass):
    """Turn zero beginnings along time into states, for one stream."""

    name: ClassVar[str] = "make-streaming"
    keeps: ClassVar[Keeps] = "bits"

    def run(self, graph: Graph) -> Graph:
        names = time_symbols(graph)
        if not names:
            raise StreamError(
                f"graph {graph.name!r} cannot stream: no input has an open time axis; import it with one"
            )
        one = for_one_stream(graph, names)
        judge(one, names)
        return without_dead_code(_Streaming(one, names).graph())


def for_one_stream(graph: Graph, names: frozenset[str]) -> Graph:
    """The graph with every open axis but time bound to 1, and time in steps that leave no frame over."""
    others = frozenset[str]().union(*map(symbols, open_sizes(graph))) - names
    single = with_sizes(graph, dict.fromkeys(others, 1))
    return with_sizes(single, {name: f"{_step(single, name)}*{name}" for name in names})


def _step(graph: Graph, name: str) -> int:
    """The least step under which all sizes that follow a time alone grow evenly; 1 where there is none."""
    sizes = [dim for dim in open_sizes(graph) if symbols(dim) == {name}]
    for step in range(1, LARGEST_STEP + 1):
        if all(linear(str(substitute(dim, {name: f"{step}*{name}"}))) for dim in sizes):
            return step
    return 1


class _Streaming:
    """Builds the streaming graph, node by node."""

    def __init__(self, graph: Graph, names: frozenset[str]) -> None:
        self.before, self.names = graph, names
        self.types, self.constants = dict(graph.types), dict(graph.constants)
        self.states = list(graph.states)

    def graph(self) -> Graph:
        nodes = tuple(made for node in self.before.nodes for made in self.converted(node))
        made = replace(self.before, types=self.types, constants=self.constants, states=tuple(self.states))
        return made.rebuilt(nodes)

    def converted(self, node: Node) -> Iterator[Node]:
        """The nodes that take the place of one."""
        axes = time_axes(self.types[node.inputs[0]], self.names) if node.inputs else {}
        if node.op in RECURRENT and 0 in axes:
            yield self.recurrent(node)
        elif node.op == "pad":
            yield from self.padded(node, axes)
        elif node.op in CONVOLUTIONS:
            yield from self.convolved(node, axes)
        elif node.op == "concat":
            yield from self.concatenated(node)
        else:
            yield node

    # --- recurrent layers

    def recurrent(self, node: Node) -> Node:
        """The node, its beginnings read from states and its ends written to them."""
        inputs = list(node.inputs)
        for position, result in state_positions(node).items():
            if not is_state(self.before, inputs[position]):
                inputs[position] = self.remembered(node.outputs[result], inputs[position])
        return replace(node, inputs=tuple(inputs))

    def remembered(self, after: str, before: str) -> str:
        """A state that begins as `before` does and goes on as `after`; the name under which it is read."""
        initial = beginning(self.before, before, self.names)
        assert initial is not None
        # A count that began as a part of the sum's zeros has the sum's scale behind it.
        self.types[after] = self.types[before]
        return self.state(f"{after}.past", after, initial, self.types[before])

    def state(self, name: str, after: str, initial: np.ndarray, kind: TensorType) -> str:
        """Add a state that goes on as `after`; its name, which is that of the value it is read as."""
        name = self.value(name, kind)
        first = self.value(f"{name}.initial", kind)
        self.constants[first] = np.ascontiguousarray(initial)
        self.states.append(State(name, name, after, first))
        return name

    def value(self, name: str, kind: TensorType) -> str:
        """Declare a value; its name is new."""
        taken = self.types.keys() | {state.name for state in self.states}
        numbered = (f"{name}.{number}" for number in count(1))
        new = next(n for n in chain((name,), numbered) if n not in taken)
        self.types[new] = kind
        return new

    # --- frames in front of frames

    def padded(self, node: Node, times: Container[int]) -> Iterator[Node]:
        """pad: the frames before time from a state, other axes as they were."""
        sides = widths(node.attrs, self.types[node.inputs[0]].rank)
        front = {axis: begin for axis, (begin, _) in enumerate(sides) if begin and axis in times}
        rest = tuple(0 if i in front else n for i, n in enumerate(numbers(node, "pads")))
        x = node.inputs[0]
        for axis, frames in front.items():
            result = self.widened(node, x, axis, frames) if any(rest) else node.outputs[0]
            x = yield from self.joined(node, x, axis, frames, result)
        if any(rest) or not front:
            yield replace(node, inputs=(x,), attrs={**node.attrs, "pads": rest})

    def convolved(self, node: Node, times: Container[int]) -> Iterator[Node]:
        """A convolution: the frames before time from a state, padding of other axes as it was."""
        padding, x = list(numbers(node, "padding")), node.inputs[0]
        for axis in range(2, self.types[x].rank):
            frames, _ = window_padding(node, axis)
            if frames and axis in times:
                padding[axis - 2] = 0
                x = yield from self.joined(node, x, axis, frames, self.widened(node, x, axis, frames))
        yield replace(node, inputs=(x, *node.inputs[1:]), attrs={**node.attrs, "padding": tuple(padding)})

    def concatenated(self, node: Node) -> Iterator[Node]:
        """concat: a constant in front of frames from a state."""
        front, x = node.inputs[0], node.inputs[-1]
        axis = numbers(node, "axis")[0] % self.types[x].rank
        along_time = axis in time_axes(self.types[x], self.names)
        if along_time and front != x and not is_state(self.before, front):
            frames, initial = self.types[front].shape[axis], beginning(self.before, front, self.names)
            assert isinstance(frames, int)
            yield from self.joined(node, x, axis, frames, node.outputs[0], initial)
        else:
            yield node

    def widened(self, node: Node, x: str, axis: int, frames: int) -> str:
        """A new value: x with more frames along an axis, on its way into a node."""
        shape = self.types[x].shape
        wider = (*shape[:axis], add(shape[axis], frames), *shape[axis + 1 :])
        return self.value(f"{node.outputs[0]}.joined", self.types[x].with_shape(wider))

    def joined(
        self, node: Node, x: str, axis: int, frames: int, result: str, initial: np.ndarray | None = None
    ) -> Generator[Node, None, str]:
        """`result` = the `frames` before x and x itself, along time; before the first there are zeros.

        Of frames that stand in front of x already the next chunk brings its own.
        """
        kind = self.types[x]
        before = kind.with_shape((*kind.shape[:axis], frames, *kind.shape[axis + 1 :]))
        if initial is None:
            initial = np.full(bind(before.shape, {}), kind.zero_point, storage(kind.dtype))
        name = f"{node.outputs[0]}.past"
        kept = self.value(f"{name}.next", before)
        past = self.state(name, kept, initial, before)
        yield Node("concat", (past, x), (result,), {"axis": axis}, source=node.source)
        extent = linear(str(kind.shape[axis]))
        assert extent is not None
        start, end = -frames - extent[2], -extent[2] or TO_THE_END
        cut = {"axes": (axis,), "starts": (start,), "ends": (end,), "steps": (1,)}
        yield Node("slice", (result,), (kept,), cut, source=node.source)
        return result
