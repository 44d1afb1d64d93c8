"""Where every value of a step rests in SRAM.

Values live from the node that makes them to the last node that reads them; inputs from the start,
outputs to the end. Views, joins and elementwise results share a buffer where that is safe (see
`sharing`). A state has a buffer of its own for good; its next value is written there at once where
nobody reads the old one any more, else it is copied there when the step ends: the addresses of
commands are the same at every step. Reals, and codes that only the host touches, take no SRAM.

Pinned constants lie above the arena. The others are streamed, tile by tile: each node that streams
has one tile's room in the arena, or two where the target is double-buffered, so that a tile is
fetched while another is used. Their life begins one node early, for the first tiles to be there in
time, unless only a later beginning fits the SRAM.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nnaq.cost.footprint import constant_bytes, constants_read, resting_bytes, tables
from nnaq.errors import PassError
from nnaq.ir.graph import Graph, Node
from nnaq.schedule.placement import (
    Lifetime,
    Placement,
    aligned,
    arena_of,
    live_profile,
    max_live_bytes,
    place,
    verify_placements,
)
from nnaq.schedule.places import Place
from nnaq.schedule.sharing import Sharing
from nnaq.schedule.tiling import Tile, streamed, tiles, whole
from nnaq.targets import BOUNDARY, Target, refusal

Pinning = Literal["none", "all", "greedy"]

SHARE = 6
"""The part of the free SRAM that one tile may take: two nodes may hold two tiles each."""


@dataclass(frozen=True)
class MemoryPlan:
    """The arena of one step and what rests beside it.

    placements      a buffer each, with its offset
    places          where each value that rests in SRAM lies in its buffer
    pinned          constants that rest in SRAM, above the arena, at pinned_offsets
    tiles           for each node of the accelerator the tiles it runs in
    weight_bytes    all constants but look-up tables, as they rest: palettes packed and entropy coded, where
                    the target takes that; their room in SRAM is that of indices or plain codes
    table_bytes     look-up tables
    state_bytes     states, each once
    arena_bytes     activations, states and streamed tiles; max_live_bytes is the bound below which
                    none can go
    sram_peak_bytes arena and pinned constants
    fits            whether that is within the target's SRAM
    """

    placements: tuple[Placement, ...]
    places: Mapping[str, Place]
    pinned: tuple[str, ...]
    pinned_offsets: Mapping[str, int]
    tiles: Mapping[str, tuple[Tile, ...]]
    pinned_bytes: int
    weight_bytes: int
    table_bytes: int
    state_bytes: int
    arena_bytes: int
    max_live_bytes: int
    budget_bytes: int

    @property
    def sram_peak_bytes(self) -> int:
        return self.arena_bytes + self.pinned_bytes

    @property
    def fits(self) -> bool:
        return self.sram_peak_bytes <= self.budget_bytes

    @property
    def holds_everything(self) -> bool:
        """Whether nothing is streamed, and all fits."""
        return self.fits and not self.streamed_bytes

    @property
    def streamed_bytes(self) -> int:
        """Bytes of all tiles that a step brings, before any entropy code."""
        return sum(piece.bytes for cut in self.tiles.values() for tile in cut for piece in tile.pieces)

    @property
    def values(self) -> list[Lifetime]:
        """The buffers of values alone, without those that tiles stream through."""
        return [p.buffer for p in self.placements if p.buffer.role != "weights"]

    @property
    def values_bytes(self) -> int:
        """The arena that values alone would take."""
        return arena_of(place(self.values))

    @property
    def shared(self) -> dict[str, str]:
        """Values without a buffer of their own: the value whose buffer holds them."""
        return {value: place.buffer for value, place in self.places.items() if place.buffer != value}

    def profile(self) -> list[int]:
        """Bytes of the arena in use at each node of the schedule, and at its end if anything stays."""
        return live_profile([p.buffer for p in self.placements])

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data."""
        figures = ("pinned", "weight", "table", "state", "arena", "max_live", "budget", "sram_peak")
        return {
            **{f"{name}_bytes": getattr(self, f"{name}_bytes") for name in figures},
            "fits": self.fits,
            "pinned": list(self.pinned),
            "shared": self.shared,
            "buffers": [{**asdict(p.buffer), "offset": p.offset} for p in self.placements],
        }


def plan_memory(
    graph: Graph, target: Target, pinning: Pinning = "greedy", on_host: Collection[str] | None = None
) -> MemoryPlan:
    """Plan one step of a graph with whole dimensions, in the order its nodes stand.

    pinning: `none` streams every constant; `all` pins all of them if all fit, else none; `greedy`
    pins the most read first, and among equals the smallest, as long as they fit. on_host: names of
    the nodes that the host runs; None: the boundary and what the target refuses. What does not fit
    the SRAM is told by `fits`, not raised.
    """
    host = frozenset(on_host if on_host is not None else refused(graph, target))
    sharing = Sharing(graph, target, dict.fromkeys(values_in_sram(graph, host)))
    layout = _Layout(graph, target, host, sharing.buffers())
    placements, pinned, cut = layout.streaming(pinning)
    constants = {name: constant_bytes(graph, name, target) for name in constants_read(graph)}
    table_bytes = sum(constants[name] for name in tables(graph))
    arena = arena_of(placements)
    offsets, end = {}, arena
    for name in pinned:
        offsets[name] = end
        end += aligned(whole(graph, name, target).bytes)
    plan = MemoryPlan(
        placements,
        sharing.places(),
        pinned,
        offsets,
        cut,
        end - arena,
        sum(constants.values()) - table_bytes,
        table_bytes,
        sum(resting_bytes(graph.types[state.input], target) for state in graph.states),
        arena,
        max_live_bytes([p.buffer for p in placements]),
        target.sram_bytes,
    )
    return verify_plan(plan)


def verify_plan(plan: MemoryPlan) -> MemoryPlan:
    """Return `plan` if no two live buffers overlap and its figures hold, else raise PassError."""
    verify_placements(plan.placements, plan.arena_bytes)
    bound = max_live_bytes([p.buffer for p in plan.placements])
    if plan.max_live_bytes != bound or plan.arena_bytes < bound:
        raise PassError(f"memory plan: an arena of {plan.arena_bytes} bytes cannot hold {bound} live ones")
    return plan


def refused(graph: Graph, target: Target) -> list[str]:
    """The nodes that are the host's for sure: the boundary, and what the target refuses."""
    return [n.name for n in graph.nodes if n.op in BOUNDARY or refusal(graph, n, target) is not None]


def values_in_sram(graph: Graph, on_host: Collection[str]) -> list[str]:
    """States, and codes that a node of the accelerator makes or reads, in order."""
    made = [value for node in graph.nodes for value in node.outputs]
    states = {state.input for state in graph.states}
    every = dict.fromkeys([*(port.name for port in graph.inputs), *states_in_order(graph), *made])

    def is_touched(value: str) -> bool:
        users = (*graph.readers.get(value, ()), *filter(None, [graph.producer.get(value)]))
        return value in states or any(node.name not in on_host for node in users)

    return [value for value in every if graph.types[value].dtype != "f32" and is_touched(value)]


def states_in_order(graph: Graph) -> list[str]:
    return [state.input for state in graph.states]


def tile_buffer(node: str, number: int) -> str:
    """The buffer of every second tile of a node, the even ones or the odd ones."""
    return f"{node}.tile{number}"


class _Layout:
    """Buffers of values, and what is left for constants."""

    def __init__(self, graph: Graph, target: Target, host: frozenset[str], base: list[Lifetime]) -> None:
        self.graph, self.target, self.base = graph, target, base
        self.nodes = [(at, node) for at, node in enumerate(graph.nodes) if node.name not in host]
        reads = constants_read(graph, lambda node: node.name not in host)
        self.sizes = {name: whole(graph, name, target).bytes for name in reads}
        self.wanted = sorted(reads, key=lambda name: (-reads[name], self.sizes[name], name))
        self.profile = [*live_profile(base), 0]
        self.found: dict[tuple[str, tuple[str, ...]], tuple[Tile, ...]] = {}

    def streaming(
        self, pinning: Pinning
    ) -> tuple[tuple[Placement, ...], tuple[str, ...], dict[str, tuple[Tile, ...]]]:
        """Placements, pinned constants, and the tiles of each node."""
        plain, every = place(self.base), tuple(self.wanted)
        left = self.target.sram_bytes - arena_of(plain) - sum(aligned(self.sizes[n]) for n in every)
        if pinning != "none" and left >= 0:
            return plain, every, self._tiles(frozenset(every), {})
        first = self._tiles(frozenset(), self._rooms())
        placed = self._placed(first)
        room = self.target.sram_bytes - arena_of(placed) if pinning == "greedy" else 0
        largest = {name: max((tile.bytes for tile in cut), default=0) for name, cut in first.items()}
        while pinned := self._greedy(room):
            second = self._tiles(frozenset(pinned), largest)
            fewer = self._placed(second)
            taken = arena_of(fewer) + sum(aligned(self.sizes[name]) for name in pinned)
            if taken <= self.target.sram_bytes:
                return fewer, pinned, second
            room -= taken - self.target.sram_bytes
        return placed, (), first

    def _rooms(self) -> dict[str, int]:
        """What one tile of each node may take; twice what fills the array where no room is left anyway."""
        array = 2 * self.target.array.rows * self.target.array.columns
        free = (
            (node.name, self.target.sram_bytes - max(self.profile[max(at - 1, 0) : at + 1]))
            for at, node in self.nodes
        )
        return {name: room // SHARE if room > 0 else array for name, room in free}

    def _tiles(self, held: frozenset[str], room: Mapping[str, int]) -> dict[str, tuple[Tile, ...]]:
        return {node.name: self._tiles_of(node, held, room.get(node.name, 0)) for _, node in self.nodes}

    def _tiles_of(self, node: Node, held: frozenset[str], room: int) -> tuple[Tile, ...]:
        """The tiles of a node; those of before where it streams the same again."""
        brought = streamed(self.graph, node, held)
        before = self.found.get((node.name, brought))
        if before is None or max(tile.bytes for tile in before) > room:
            before = self.found[node.name, brought] = tiles(self.graph, node, self.target, brought, room)
        return before

    def _placed(self, cut: Mapping[str, tuple[Tile, ...]]) -> tuple[Placement, ...]:
        """Values and tiles; tiles begin a node early where that fits, or where nothing does."""
        early = place([*self.base, *self._buffers(cut, 1)])
        if not self.target.array.double_buffered or arena_of(early) <= self.target.sram_bytes:
            return early
        late = place([*self.base, *self._buffers(cut, 0)])
        return late if arena_of(late) < arena_of(early) else early

    def _buffers(self, cut: Mapping[str, tuple[Tile, ...]], ahead: int) -> list[Lifetime]:
        found = []
        ahead = ahead if self.target.array.double_buffered else 0
        for at, node in self.nodes:
            for number, size in enumerate(buffer_sizes(cut[node.name], self.target)):
                name = tile_buffer(node.name, number)
                found.append(Lifetime(name, size, max(at - ahead, 0), at, "weights"))
        return found

    def _greedy(self, room: int) -> tuple[str, ...]:
        pinned = []
        for name in self.wanted:
            if aligned(self.sizes[name]) <= room:
                pinned.append(name)
                room -= aligned(self.sizes[name])
        return tuple(pinned)


def buffer_sizes(cut: Sequence[Tile], target: Target) -> list[int]:
    """The sizes of the buffers that the tiles of a node alternate between; none where nothing streams."""
    count = 2 if target.array.double_buffered else 1
    sizes = [max((tile.bytes for tile in cut[number::count]), default=0) for number in range(count)]
    return [size for size in sizes if size]
