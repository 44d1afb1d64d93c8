"""Layers run stripe by stripe where that lowers the peak of live bytes.

A chain of convolutions and elementwise operators over the time axis (the last of conv1d, the rows of
conv2d), each read by the next alone, need not have any of its inner values as a whole: one stripe of
the chain's result at a time is made from the stretch of its input that it depends on. Stretches of
neighbouring stripes overlap by what windows reach over; that is computed again, not kept.

The chain becomes nodes of its own per stripe, `NODE@i`, between slices of its input and a join of
its results, which the plan of memory turns into views. The integers are the same: what a stripe
does not see is what its windows do not reach.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import Attr, lookup
from nnaq.ir.types import TensorType
from nnaq.kernels.conv import Geometry, geometry
from nnaq.kernels.movement import MAX_CONCAT
from nnaq.schedule.memory import MemoryPlan
from nnaq.schedule.sharing import IN_PLACE
from nnaq.targets.gemm import sizes

STRIPES = (2, 4, MAX_CONCAT)
ROUNDS = 3
WINDOWS = frozenset({"conv1d", "conv2d"})

Span = tuple[int, int]


@dataclass(frozen=True)
class Chain:
    """Nodes that may run in stripes along an axis of the first one's operand and the last one's result."""

    nodes: tuple[Node, ...]
    axis: int

    @property
    def source(self) -> str:
        return self.nodes[0].inputs[0]

    @property
    def result(self) -> str:
        return self.nodes[-1].outputs[0]


def chains(graph: Graph, on_host: Collection[str]) -> Iterator[Chain]:
    """The longest chains of two nodes or more with a window among them, in order."""
    taken: set[str] = set()
    for node in graph.nodes:
        nodes = []
        after: Node | None = node
        while after is not None and after.name not in taken and _may_run(graph, after, on_host):
            nodes.append(after)
            taken.add(after.name)
            after = _next(graph, after)
        if len(nodes) > 1 and len({one.op for one in nodes} & WINDOWS) == 1:
            yield Chain(tuple(nodes), 2)


def _may_run(graph: Graph, node: Node, on_host: Collection[str]) -> bool:
    """Whether a node works on its first operand alone, by windows or entry by entry."""
    is_known = node.op in WINDOWS or (node.op in IN_PLACE and len(lookup(node.op).operands) == 1)
    if not is_known or node.name in on_host or node.inputs[0] in graph.constants:
        return False
    others = [v for v in node.inputs[1:] if v and v not in graph.constants]
    return not others and graph.types[node.inputs[0]].rank >= 3


def _next(graph: Graph, node: Node) -> Node | None:
    """The only reader of a node's only result, by its first operand; None for a result that must survive."""
    readers = graph.readers.get(node.outputs[0], ())
    if len(node.outputs) != 1 or len(readers) != 1 or node.outputs[0] in graph.results:
        return None
    return readers[0] if readers[0].inputs[0] == node.outputs[0] else None


@dataclass(frozen=True)
class Striped:
    """A graph with chains in stripes, and for each new node the node it works for and which stripe."""

    graph: Graph
    origin: Mapping[str, tuple[str, str]]


def in_stripes(given: Striped, chain: Chain, count: int) -> Striped | None:
    """A chain in `count` stripes, at the place of its last node; None where that leaves a stripe empty."""
    graph, last = given.graph, chain.nodes[-1]
    size = sizes(graph.types[chain.result])[chain.axis]
    stripes = [_stripe(graph, chain, n, (size * n // count, size * (n + 1) // count)) for n in range(count)]
    types = {value: kind for _, kinds in stripes for value, kind in kinds.items()}
    if any(0 in sizes(kind) for kind in types.values()):
        return None
    join = tuple(nodes[-1].outputs[0] for nodes, _ in stripes)
    joined = Node("concat", join, (chain.result,), {"axis": chain.axis}, f"{last.name}@join")
    made = [*(node for nodes, _ in stripes for node in nodes), joined]
    inside = {node.name for node in chain.nodes}
    nodes = [
        one
        for node in graph.nodes
        for one in (made if node is last else () if node.name in inside else (node,))
    ]
    origin = {joined.name: (last.name, "join")}
    for number, (own, _) in enumerate(stripes):
        works_for = (chain.nodes[0], *chain.nodes)
        origin |= {a.name: (b.name, f"stripe {number}") for a, b in zip(own, works_for, strict=True)}
    striped = replace(graph, types={**graph.types, **types}, nodes=tuple(nodes))
    return Striped(striped, {**given.origin, **origin})


def _stripe(graph: Graph, chain: Chain, number: int, span: Span) -> tuple[list[Node], dict[str, TensorType]]:
    """The nodes that make a stretch of the chain's result, and the types of what they make."""
    spans, attrs = [span], list[Mapping[str, Attr]]()
    for node in reversed(chain.nodes):
        needed, own = _needed(graph, node, spans[0])
        spans.insert(0, needed)
        attrs.insert(0, own)
    first, axis = chain.nodes[0].name, chain.axis
    value = f"{first}@{number}.slice"
    taken: dict[str, Attr] = {"starts": spans[0][:1], "ends": spans[0][1:], "axes": (axis,), "steps": (1,)}
    nodes = [Node("slice", (chain.source,), (value,), taken, value)]
    types = {value: _resized(graph, chain.source, axis, spans[0])}
    for node, own, made in zip(chain.nodes, attrs, spans[1:], strict=True):
        inputs, value = (value, *node.inputs[1:]), f"{node.outputs[0]}@{number}"
        nodes.append(Node(node.op, inputs, (value,), own, f"{node.name}@{number}", node.source))
        types[value] = _resized(graph, node.outputs[0], axis, made)
    return nodes, types


def _resized(graph: Graph, value: str, axis: int, span: Span) -> TensorType:
    kind = graph.types[value]
    shape = list(kind.shape)
    shape[axis] = span[1] - span[0]
    return kind.with_shape(tuple(shape))


def _needed(graph: Graph, node: Node, span: Span) -> tuple[Span, Mapping[str, Attr]]:
    """The stretch of its operand that a stretch of a node's result depends on, and the node's attributes."""
    if node.op not in WINDOWS:
        return span, node.attrs
    rank = 1 if node.op == "conv1d" else 2
    shape: Geometry = geometry(node.attrs, graph.types[node.inputs[1]].shape[2:])
    along = 2 - rank  # conv1d is a conv2d of one row
    before, stride = shape.padding[along], shape.stride[along]
    size = sizes(graph.types[node.inputs[0]])[2]
    start = span[0] * stride - before
    stop = (span[1] - 1) * stride - before + shape.extents[along]
    first, last = min(max(start, 0), size), max(min(stop, size), 0)
    left, right = max(-start, 0), max(stop - size, 0)
    padding = (left, right) if rank == 1 else (left, shape.padding[1], right, shape.padding[3])
    return (first, max(first, last)), {**node.attrs, "padding": padding}


def lower_peak(
    graph: Graph, on_host: Collection[str], plan: MemoryPlan, planned: Callable[[Graph], MemoryPlan]
) -> tuple[Striped, MemoryPlan]:
    """The graph with chains in stripes where the peak is, as long as that lowers it, and its plan.

    Each stripe streams anew what is not pinned: where the step fits as it is, no more may be streamed.

    planned: the plan of another graph. At most `ROUNDS` chains are cut.
    """
    found = Striped(graph, {})
    for _ in range(ROUNDS):
        profile = plan.profile()
        peak = profile.index(max(profile, default=0)) if profile else 0
        tried = [
            (other.arena_bytes, count, striped, other)
            for chain in _around(found.graph, {*on_host, *found.origin}, peak)
            for count in STRIPES
            if (striped := in_stripes(found, chain, count)) is not None
            for other in [planned(striped.graph)]
            if not plan.fits or other.streamed_bytes <= plan.streamed_bytes
        ]
        best = min(tried, key=lambda one: one[:2], default=None)
        if best is None or best[0] >= plan.arena_bytes:
            break
        found, plan = best[2:]
    return found, plan


def _around(graph: Graph, others: Collection[str], peak: int) -> Iterator[Chain]:
    """The chains at the peak or right before it, of nodes that are no `others`: the host's, or stripes."""
    near = {node.name for node in graph.nodes[max(peak - 1, 0) : peak + 1]}
    for chain in chains(graph, others):
        if not near.isdisjoint(node.name for node in chain.nodes):
            yield chain
