"""Which nodes the accelerator runs and which the host, and the regions they form.

The host runs the boundary and what the target refuses. Any other node may run on either side, and
the cut is chosen that costs least in cycles:

    sum of accelerator cycles of the one side + sum of host cycles of the other
    + for every value with makers and readers on both sides: sync_cycles + bytes / host bandwidth

a minimum cut of a flow network: node n hangs from the accelerator by its host cycles and from the
host by its accelerator cycles. A value that one side makes and several nodes of the other read
crosses once: two points per value stand between its maker and its readers, one per direction.

States rest on the accelerator, whoever reads and makes them.

Moving a set of nodes that hang together to the host saves at most the values between the set and
nodes that are the host's for sure, and what its nodes take less there. A node that is farther from
those than that, in cycles lost on every way there, stays on the accelerator, so that only the
neighbourhoods of host nodes are cut.

Regions are convex: no path leaves one and comes back. A node's depth is the largest number of side
changes on a path that ends in it; a region is what hangs together of one side and one depth.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import networkx as nx

from nnaq.cost.footprint import resting_bytes
from nnaq.cost.host import host_cycles
from nnaq.cost.operator import op_cost
from nnaq.ir.graph import Graph
from nnaq.schedule.memory import refused
from nnaq.targets import Target

ACCELERATOR, HOST = " accelerator", " host"


@dataclass(frozen=True)
class Region:
    """Nodes of one side that hang together, in order."""

    is_host: bool
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Partition:
    """The nodes that the host runs, the regions of both sides in the order of their first nodes, and
    what each node takes on its side."""

    on_host: frozenset[str]
    regions: tuple[Region, ...]
    cycles: Mapping[str, int]


def partition(graph: Graph, target: Target) -> Partition:
    """The cheapest partition of a graph with whole dimensions."""
    costs = Costs(graph, target)
    on_host = costs.sure | costs.moved()
    return Partition(on_host, tuple(regions(graph, on_host)), costs.cycles(on_host))


class Costs:
    """Cycles of each node on either side, and of each value that crosses."""

    def __init__(self, graph: Graph, target: Target) -> None:
        self.graph, self.target = graph, target
        self.sure = frozenset(refused(graph, target))
        self.states = dict.fromkeys(state.input for state in graph.states)
        self.carried = {state.output for state in graph.states}
        self.values = {
            n.name: [v for v in (*n.inputs, *n.outputs) if v in graph.producer or v in self.states]
            for n in graph.nodes
        }
        self.free = [node for node in graph.nodes if node.name not in self.sure]
        self.accelerator = {node.name: op_cost(graph, node, target).cycles for node in self.free}
        self.host = {n.name: host_cycles(n.op, graph.signature(n), target.host, 0) for n in graph.nodes}

    def ends(self, value: str) -> tuple[str, list[str]]:
        """Who makes a value, and who reads it."""
        readers = [node.name for node in self.graph.readers.get(value, ())]
        readers += [ACCELERATOR] * (value in self.carried)
        return ACCELERATOR if value in self.states else self.graph.producer[value].name, readers

    def crossing(self, value: str) -> int:
        """Cycles of a value that crosses; reals never do."""
        kind = self.graph.types[value]
        if kind.dtype == "f32" or not self.target.has_accelerator:
            return 0
        return self.target.host.crossing_cycles(resting_bytes(kind, self.target))

    def cycles(self, on_host: Collection[str]) -> dict[str, int]:
        """Cycles of each node on its side, crossings not counted."""
        side = {True: self.host, False: self.accelerator}
        return {node.name: side[node.name in on_host][node.name] for node in self.graph.nodes}

    def total(self, on_host: Collection[str]) -> int:
        """What a partition costs."""
        crossing = 0
        for value in (*self.graph.producer, *self.states):
            maker, readers = self.ends(value)
            sides = {name in on_host for name in readers}
            crossing += self.crossing(value) * len(sides - {maker in on_host})
        return sum(self.cycles(on_host).values()) + crossing

    def moved(self) -> frozenset[str]:
        """The free nodes that are cheaper on the host, by cuts around the host's own."""
        undecided, left = {node.name for node in self.free}, -1
        while len(undecided) != left:
            left = len(undecided)
            undecided = {name for part in self._parts(undecided) for name in self._near(part)}
        return frozenset(name for part in self._parts(undecided) for name in self._cut(part))

    def _beside(self, name: str) -> Iterator[str]:
        """Makers and readers of the values that a node reads or makes."""
        for value in self._touched([name]):
            maker, readers = self.ends(value)
            yield maker
            yield from readers

    def _parts(self, names: set[str]) -> Iterator[set[str]]:
        """What hangs together of some nodes."""
        seen: set[str] = set()
        for first in sorted(names):
            part, waiting = set[str](), [first]
            while waiting:
                name = waiting.pop()
                if name in names and name not in seen:
                    seen.add(name)
                    part.add(name)
                    waiting += self._beside(name)
            if part:
                yield part

    def _near(self, part: set[str]) -> set[str]:
        """The nodes of a part that may pay on the host, by the shortest way there from where moving saves."""
        more = {name: self.host[name] - self.accelerator[name] for name in part}
        limit = sum(map(self.crossing, self._border(part))) - sum(min(0, extra) for extra in more.values())
        begins = [n for n in sorted(part) if more[n] < 0 or not self.sure.isdisjoint(self._beside(n))]
        waiting = [(max(0, more[name]), name) for name in begins]
        heapify(waiting)
        found: set[str] = set()
        while waiting:
            way, name = heappop(waiting)
            if way > limit:
                break
            if name not in found:
                found.add(name)
                for other in self._beside(name):
                    if other in part and other not in found:
                        heappush(waiting, (way + max(0, more[other]), other))
        return found

    def _touched(self, names: Collection[str]) -> dict[str, None]:
        """Values that nodes read or make and that some node or a state holds; in order."""
        return {v: None for name in sorted(names) for v in self.values[name]}

    def _border(self, part: set[str]) -> Iterator[str]:
        """Values between a set of nodes and those that are the host's for sure."""
        for value in self._touched(part):
            maker, readers = self.ends(value)
            if self.sure.intersection([maker, *readers]):
                yield value

    def _cut(self, part: set[str]) -> set[str]:
        """Those of a set that a minimum cut leaves on the host's side; all others stay where they are."""
        flow = nx.DiGraph()
        for name in sorted(part):
            flow.add_edge(ACCELERATOR, name, capacity=self.host[name])
            flow.add_edge(name, HOST, capacity=self.accelerator[name])

        def side(name: str) -> str:
            return name if name in part else HOST if name in self.sure else ACCELERATOR

        for value in self._touched(part):
            maker, readers = self.ends(value)
            out, into, cycles = f" out {value}", f" into {value}", self.crossing(value)
            flow.add_edge(side(maker), out, capacity=cycles)
            flow.add_edge(into, side(maker), capacity=cycles)
            for reader in map(side, readers):
                flow.add_edge(out, reader)
                flow.add_edge(reader, into)
        if HOST not in flow or ACCELERATOR not in flow:
            return set()
        _, (_, behind) = nx.minimum_cut(flow, ACCELERATOR, HOST)
        return part & set(behind)


def regions(graph: Graph, on_host: Collection[str]) -> Iterator[Region]:
    """The convex regions of a partition, in the order of their first nodes."""
    depth: dict[str, int] = {}
    for node in graph.nodes:
        is_host = node.name in on_host
        before = graph.dag.predecessors(node.name)
        depth[node.name] = max((depth[p] + ((p in on_host) != is_host) for p in before), default=0)
    alike = nx.Graph()
    alike.add_nodes_from(depth)
    alike.add_edges_from(
        (a, b) for a, b in graph.dag.edges if depth[a] == depth[b] and (a in on_host) == (b in on_host)
    )
    position = {node.name: at for at, node in enumerate(graph.nodes)}
    parts = [sorted(part, key=position.__getitem__) for part in nx.connected_components(alike)]
    for part in sorted(parts, key=lambda names: position[names[0]]):
        yield Region(part[0] in on_host, tuple(part))
