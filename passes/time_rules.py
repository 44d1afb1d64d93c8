"""Which operators may stand in a graph that runs chunk by chunk, and under which conditions.

Every rule takes a node whose operands are stretches of the whole (see time_facts.py) and says what is known
of its results, which are such stretches too; or it refuses the node: it reads the future or the whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nnaq.errors import StreamError
from nnaq.ir.dims import bind, linear, multiply, show
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup
from nnaq.ir.time import time_axes
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels.cut_and_join import cuts, widths
from nnaq.kernels.movement import TO_THE_END
from nnaq.passes.known import Known
from nnaq.passes.time_facts import COMPARISONS, POSITIONS, Extent, Fact, Place, numbers

BOUNDARY = frozenset(("dequantize", "fake_quantize", "quantize", "rescale"))
# Operators that treat every frame alike, entry by entry; batch_norm's statistics are constants.
POINTWISE = COMPARISONS | frozenset(
    """
    abs add batch_norm ceil celu clip cos div elu erf exp floor floor_divide gelu hard_sigmoid hard_swish
    leaky_relu log log_sigmoid logical_and logical_not logical_or logical_xor maximum minimum mish mul neg
    one_hot power prelu reciprocal relu round rsqrt selu sigmoid sign silu sin softplus softsign sqrt square
    sub tanh thresholded_relu where
    """.split()
)
REDUCTIONS = frozenset(("reduce_max", "reduce_mean", "reduce_min", "reduce_sum"))
SPREADING = frozenset(("conv_transpose1d", "conv_transpose2d", "resize"))
RECURRENT = frozenset(("gru", "lstm", "running_mean"))
CONVOLUTIONS = frozenset(("conv1d", "conv2d"))

Rule = Callable[[Place], Fact]


def judge(graph: Graph, names: frozenset[str]) -> dict[str, Fact]:
    """The facts of every value of a graph of one stream; names: those that stand for time.

    Raises StreamError for the first node that reads the future or the whole, and for an output that does not
    have the frames of its chunk.
    """
    facts = dict[str, Fact]()
    for node in graph.nodes:
        place = Place(graph, node, facts, names)
        fact = _fact(place)
        last = _ends(place)
        facts.update((v, replace(fact, last=last[i])) for i, v in enumerate(node.outputs))
    for port in (*graph.inputs, *graph.outputs):
        _port_streams(graph, port.name, facts.get(port.name, Fact()), names)
    return facts


def _fact(place: Place) -> Fact:
    kinds = (*place.operands, *place.results)
    if not any(place.time(kind) for kind in kinds) and not any(fact.counts for fact in place.facts):
        return Fact()
    if place.node.op not in RULES:
        raise place.refuse("nnaq does not know how this operator reads time")
    return RULES[place.node.op](place)


def _ends(place: Place) -> tuple[bool, ...]:
    """Which results tell of the end of a chunk. Raises StreamError where such a thing meets frames."""
    frames = [bool(place.time(kind)) for kind in place.results]
    given = any(fact.last for fact in place.facts)
    if given and (any(frames) or any(place.time(kind) for kind in place.operands)):
        raise place.refuse(
            "it reads what stands at the end of a chunk, which is not the end of the recording"
        )
    ended = place.node.op in (*RECURRENT, "slice") and bool(place.time(place.operands[0]))
    return tuple(given or (ended and not has) for has in frames)


def _port_streams(graph: Graph, name: str, fact: Fact, names: frozenset[str]) -> None:
    axes = time_axes(graph.types[name], names)
    parts = [linear(str(dim)) for dim in axes.values()]
    offsets = [part is None or part[2] != 0 for part in parts]
    if any(offsets) or len({part[0] for part in parts if part}) != len(parts) or fact.counts:
        raise StreamError(
            f"graph {graph.name!r} cannot stream: {name!r} is {show(graph.types[name].shape)}, of which a "
            "chunk is no stretch of the whole; a port has one axis of a time, of no frames but those of the "
            "chunk, and no positions"
        )


# --- entry by entry


def _same(place: Place) -> Fact:
    """Every frame alike."""
    return Fact(place.counts())


def _boundary(place: Place) -> Fact:
    """Other codes for the same numbers: 0 stays 0; positions stay where their scale is 1."""
    (fact,) = place.facts[:1]
    if fact.counts and not all(_is_whole(place, kind) for kind in (place.kind(), place.results[0])):
        raise place.refuse(f"it rounds positions; {POSITIONS}")
    return fact


def _is_whole(place: Place, kind: TensorType) -> bool:
    if kind.dtype == "f32":
        return place.node.op != "fake_quantize" or place.node.attrs["scale"] == (1.0,)
    return kind.quant == Quant((1.0,))


# --- along an axis


def _not_along(axes: Callable[[Place], Sequence[int]], does: str) -> Rule:
    """The rule of an operator that takes entries along some axes together."""

    def rule(place: Place) -> Fact:
        place.must_not_be_time(axes(place), does)
        return Fact(place.counts())

    return rule


def _named(key: str) -> Callable[[Place], Sequence[int]]:
    return lambda place: place.axes(key)


def _from_named(place: Place) -> Sequence[int]:
    return range(place.axes("axis")[0], place.kind().rank)


def _last(number: int) -> Callable[[Place], Sequence[int]]:
    return lambda place: range(place.kind().rank - number, place.kind().rank)


def _behind_batch(place: Place) -> Sequence[int]:
    return range(1, place.kind().rank)


def _repeated(place: Place) -> Sequence[int]:
    return [axis for axis, times in enumerate(place.numbers("repeats")) if times != 1]


def _windows(place: Place) -> Fact:
    """Convolutions and pools: windows over frames that are there, padding on the side of the past alone."""
    place.must_not_be_time((1,), "sums over")
    for axis in place.time(place.kind()):
        begin, end = window_padding(place.node, axis)
        if end or (begin and place.node.op not in CONVOLUTIONS):
            raise place.refuse(
                f"it pads time, by {begin} before and {end} behind; pad the past alone, by zeros"
            )
        if begin:
            place.must_be_alone(axis, place.kind())
    return Fact(place.counts())


def window_padding(node: Node, axis: int) -> tuple[int, int]:
    """Padding of an axis of x [N,C,*spatial] before and after."""
    padding = numbers(node, "padding")
    return (padding[axis - 2], padding[axis - 2 + len(padding) // 2]) if axis > 1 else (0, 0)


def _matmul(place: Place) -> Fact:
    """a [..,M,K] b [..,K,N]: a sum over time only with weights that are 0 outside of the chunk."""
    for position, axis in ((0, place.kind(0).rank - 1), (1, max(place.kind(1).rank - 2, 0))):
        if axis in place.time(place.kind(position)) and not _is_banded(place):
            place.must_not_be_time((axis,), "sums over", position)
    return Fact(place.counts())


def _is_banded(place: Place) -> bool:
    a, b = place.facts[:2]
    return a.banded == place.kind(0).rank - 1 or (b.banded is not None and b.banded == place.kind(1).rank - 2)


def _softmax(place: Place) -> Fact:
    """Along time only behind a mask, made of positions, that keeps what the chunk has."""
    scores = place.kind()
    last = scores.rank - 1
    if last not in place.time(scores):
        return Fact(place.counts())
    if not place.node.inputs[1:] or not place.node.inputs[1] or not _mask_keeps_to_chunks(place):
        raise place.refuse(
            "it shares out over time, and no mask made of positions keeps it to the frames that a chunk has; "
            "let query i see the keys i .. i + L, with L frames padded in front of the keys"
        )
    return replace(Fact(place.counts()), banded=last)


def _mask_keeps_to_chunks(place: Place) -> bool:
    """Whether the queries of a chunk of one unit of time see nothing outside of the keys of that chunk."""
    scores, mask = place.kind(), place.node.inputs[1]
    times = place.time(scores)
    keys = times.pop(scores.rank - 1)
    query = next((axis for axis, extent in times.items() if extent.symbol == keys.symbol), None)
    if query is None:
        return False
    queries, units = times[query], 3 + 2 * max(keys.offset, times[query].offset, 0)
    binding = {**dict.fromkeys(place.names, 2), keys.symbol: units}
    flags = Known(place.graph, binding).at_most(mask)
    if flags is None:
        return False
    seen = np.broadcast_to(flags, bind(scores.shape, binding))
    seen = np.moveaxis(seen, query, -2).reshape(-1, seen.shape[query], seen.shape[-1])
    seen = np.logical_or.reduce(seen, 0)
    return not any(_sees_beyond(seen, queries, keys, unit) for unit in range(units))


def _sees_beyond(seen: np.ndarray, queries: Extent, keys: Extent, unit: int) -> bool:
    rows, columns = (
        slice(extent.rate * unit, extent.rate * (unit + 1) + extent.offset) for extent in (queries, keys)
    )
    inside = np.zeros(seen.shape[1], bool)
    inside[columns] = True
    return bool(seen[rows, ~inside].any())


# --- movement


def _transpose(place: Place) -> Fact:
    (fact,), perm = place.facts, place.numbers("perm")
    return replace(fact, banded=None if fact.banded is None else perm.index(fact.banded))


def _reshape(place: Place) -> Fact:
    """Axes of time stay in order, each behind as many entries as before; frames may be stacked."""
    (fact,), before, after = place.facts, place.kind().shape, place.results[0].shape
    axes = [tuple(place.time(kind)) for kind in (place.kind(), place.results[0])]
    stacked = any(before[a] != after[b] for a, b in zip(*axes, strict=True))
    if stacked and (len(axes[0]) > 1 or fact.counts or fact.banded is not None):
        raise place.refuse("it stacks frames of what is no plain stretch of time")
    for a, b in zip(*axes, strict=True):
        if multiply(1, *before[:a]) != multiply(1, *after[:b]):
            raise place.refuse("it takes frames apart: other entries stand before time than after")
    moved = dict(zip(*axes, strict=True))
    return replace(fact, banded=None if fact.banded is None else moved[fact.banded])


def _slice(place: Place) -> Fact:
    """From a frame to the end, or to one counted from there; or the last frames."""
    found = cuts(place.node.attrs, place.kind().rank)
    for axis in place.time(place.kind()).keys() & found.keys():
        cut = found[axis]
        to_the_end = cut.stop < 0 or cut.stop >= TO_THE_END
        if cut.step < 1 or not to_the_end:
            raise place.refuse("it takes frames by their number from the beginning of the recording")
    kept = place.time(place.results[0])
    if len(kept) != len(place.time(place.kind())) and (kept or place.facts[0].counts):
        raise place.refuse("it takes the last frames along one of two axes of time, or of positions")
    return Fact(place.facts[0].counts)


def _pad(place: Place) -> Fact:
    mode = place.node.attrs["mode"]
    for axis in place.time(place.kind()):
        begin, end = widths(place.node.attrs, place.kind().rank)[axis]
        if end:
            raise place.refuse(
                f"it pads time by {end} behind, where the next chunk stands; pad the past alone"
            )
        if begin and mode != "constant":
            raise place.refuse(f"it pads time in mode {mode!r}; pad the past by zeros")
        if begin:
            place.must_be_alone(axis, place.kind())
    return Fact(place.counts())


def _concat(place: Place) -> Fact:
    """Side by side; along time only a beginning in front of frames."""
    (axis,) = place.axes("axis")
    frames = [axis in place.time(kind) for kind in place.operands]
    if any(frames):
        front = place.node.inputs[:-1]
        if sum(frames) != 1 or not frames[-1] or not all(_is_beginning(place, v) for v in front):
            raise place.refuse("along time it joins more than a constant or a state in front of frames")
    return Fact(place.counts())


def _is_beginning(place: Place, value: str) -> bool:
    """A state of the graph, or the one constant that becomes a state."""
    return place.is_state(value) or (len(place.node.inputs) == 2 and place.beginning(value) is not None)


def _expand(place: Place) -> Fact:
    return Fact(place.facts[0].counts)


def _arange(place: Place) -> Fact:
    (axis,) = place.axes("axis")
    extent = place.time(place.kind()).get(axis)
    step = int(place.node.attrs["step"])  # type: ignore[arg-type]
    return Fact({extent.symbol: step * extent.rate} if extent and step else {})


# --- layers with a state


def _recurrent(place: Place) -> Fact:
    """Frame after frame along axis 0, from a beginning that is a constant or a state already."""
    extent = place.time(place.kind()).get(0)
    if extent is None:
        return Fact(place.counts())
    if extent.offset:
        raise place.refuse(
            "it runs over frames that are joined in front, again in every chunk; pad behind it"
        )
    for position, result in state_positions(place.node).items():
        value, after = place.node.inputs[position], place.node.outputs[result]
        if place.is_state(value):
            continue
        if place.beginning(value) is None:
            raise place.refuse(f"it starts from {value!r}, which is neither constant nor a state")
        if place.kind(position) != place.results[result] and is_read(place.graph, after):
            raise place.refuse(
                f"it starts from {place.kind(position)} and goes on as {place.results[result]}, which others "
                f"read; give {value!r} zeros of its own"
            )
    return Fact(place.counts())


def is_read(graph: Graph, value: str) -> bool:
    """Whether anything needs a value: a node, an output or a state."""
    return bool(graph.readers.get(value)) or value in graph.results


def state_positions(node: Node) -> dict[int, int]:
    """Operands from which a recurrent node starts, with the result that takes up there."""
    ties = [(a, ~b) for a, *_, b in lookup(node.op).ties]
    return dict(ties)


RULES: dict[str, Rule] = {
    **dict.fromkeys(POINTWISE, _same),
    **dict.fromkeys(BOUNDARY, _boundary),
    **dict.fromkeys(("layer_norm", "rms_norm"), _not_along(_from_named, "normalises over")),
    **dict.fromkeys(("cumulative_sum", "log_softmax"), _not_along(_named("axis"), "sums along")),
    **dict.fromkeys(REDUCTIONS, _not_along(_named("axes"), "takes one number of all")),
    **dict.fromkeys(SPREADING, _not_along(_behind_batch, "mixes neighbours along")),
    **dict.fromkeys((*CONVOLUTIONS, "average_pool", "max_pool"), _windows),
    **dict.fromkeys(RECURRENT, _recurrent),
    "fully_connected": _not_along(_last(1), "sums over"),
    "l2_normalize": _not_along(_named("axis"), "normalises over"),
    "group_norm": _not_along(_behind_batch, "normalises over"),
    "reverse": _not_along(_named("axes"), "begins with the end of"),
    "tile": _not_along(_repeated, "repeats"),
    "gather": _not_along(_named("axis"), "picks frames out of"),
    "relative_shift": _not_along(_last(2), "shifts rows along"),
    "matmul": _matmul,
    "softmax": _softmax,
    "transpose": _transpose,
    "reshape": _reshape,
    "slice": _slice,
    "pad": _pad,
    "concat": _concat,
    "expand": _expand,
    "arange": _arange,
}
