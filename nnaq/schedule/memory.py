"""Where every value of a step rests in SRAM.

Values live from the node that makes them to the last node that reads them; inputs from the start,
outputs to the end. A view shares its operand's buffer. A state has a buffer of its own for good; its
next value is written there at once where nobody reads the old one any more, else it has a second
buffer for good, and the two swap roles at every step. A next value that no node makes (an input, or
another state) is copied when the step ends. f32 values are the host's and take no SRAM.

Buffers are placed largest first, each at the lowest aligned offset that is free for its whole life;
pinned constants lie above them. Constants that are not pinned stream from DRAM through the array's
own weight buffers, which the arena does not hold.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nnaq.cost.footprint import constants_read, resting_bytes, tables
from nnaq.cost.operator import VIEWS
from nnaq.errors import PassError
from nnaq.ir.graph import Graph
from nnaq.targets import Target, refusal

Pinning = Literal["none", "all", "greedy"]
Role = Literal["activation", "state", "next_state"]

ALIGNMENT = 16


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


@dataclass(frozen=True)
class MemoryPlan:
    """The arena of one step and what rests beside it.

    placements      a buffer each, with its offset
    shared          values without a buffer of their own: the value whose buffer holds them
    pinned          constants that rest in SRAM; the others stream from DRAM
    weight_bytes    all constants but look-up tables, as they rest: palettes packed, if the target takes them
    table_bytes     look-up tables
    state_bytes     states, each once
    arena_bytes     activations and states; max_live_bytes is the bound below which none can go
    sram_peak_bytes arena and pinned constants
    fits            whether that is within the target's SRAM
    """

    placements: tuple[Placement, ...]
    shared: tuple[tuple[str, str], ...]
    pinned: tuple[str, ...]
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

    def occupancy(self, position: int) -> int:
        """Bytes of the arena in use at a node of the schedule."""
        return live_bytes([p.buffer for p in self.placements], position)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data."""
        plain = {key: value for key, value in asdict(self).items() if key not in ("placements", "shared")}
        buffers = [{**asdict(p.buffer), "offset": p.offset} for p in self.placements]
        totals = {"sram_peak_bytes": self.sram_peak_bytes, "fits": self.fits}
        return {
            **plain,
            **totals,
            "pinned": list(self.pinned),
            "shared": dict(self.shared),
            "buffers": buffers,
        }


def aligned(size: int) -> int:
    """`size` up to the next multiple of the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def live_bytes(buffers: Sequence[Lifetime], position: int) -> int:
    """Bytes alive at a node of the schedule."""
    return sum(b.room for b in buffers if b.first <= position <= b.last)


def max_live_bytes(buffers: Sequence[Lifetime]) -> int:
    """The most bytes alive at once: no arena can be smaller."""
    return max((live_bytes(buffers, position) for position in {b.first for b in buffers}), default=0)


def place(buffers: Sequence[Lifetime]) -> tuple[Placement, ...]:
    """Largest first, each at the lowest offset free for its whole life; buffers that stay come first."""
    placed: list[Placement] = []
    for buffer in sorted(buffers, key=lambda b: (b.role == "activation", -b.room, b.first, b.name)):
        offset = 0
        for other in sorted((p for p in placed if p.buffer.meets(buffer)), key=lambda p: p.offset):
            if offset + buffer.room <= other.offset:
                break
            offset = max(offset, other.end)
        placed.append(Placement(buffer, offset))
    return tuple(placed)


def plan_memory(graph: Graph, target: Target, pinning: Pinning = "greedy") -> MemoryPlan:
    """Plan one step of a graph with whole dimensions, in the order its nodes stand.

    pinning: `none` streams every constant; `all` pins all of them if all fit, else none; `greedy`
    pins the most read first, and among equals the smallest, as long as they fit. What does not fit
    the SRAM is told by `fits`, not raised.
    """
    shared = shared_buffers(graph)
    placements = place(lifetimes(graph, shared, target))
    arena = max((p.end for p in placements), default=0)
    pinned = _pinned(graph, target, target.sram_bytes - arena, pinning)
    constants = {name: resting_bytes(graph.types[name], target) for name in constants_read(graph)}
    table_bytes = sum(constants[name] for name in tables(graph))
    plan = MemoryPlan(
        placements,
        tuple(sorted(shared.items())),
        pinned,
        sum(aligned(constants[name]) for name in pinned),
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
    for index, one in enumerate(plan.placements):
        if one.offset < 0 or one.offset % ALIGNMENT or one.end > plan.arena_bytes:
            raise PassError(
                f"memory plan: {one.buffer.name!r} at {one.offset} leaves the arena or its alignment"
            )
        for other in plan.placements[:index]:
            if one.buffer.meets(other.buffer) and one.offset < other.end and other.offset < one.end:
                raise PassError(
                    f"memory plan: {one.buffer.name!r} and {other.buffer.name!r} overlap while both live"
                )
    bound = max_live_bytes([p.buffer for p in plan.placements])
    if plan.max_live_bytes != bound or plan.arena_bytes < bound:
        raise PassError(f"memory plan: an arena of {plan.arena_bytes} bytes cannot hold {bound} live ones")
    return plan


def shared_buffers(graph: Graph) -> dict[str, str]:
    """Values that rest in another's buffer: views in their operand's, next states in their state's."""
    shared: dict[str, str] = {}
    for node in graph.nodes:
        if node.op in VIEWS and _rests_in_sram(graph, node.outputs[0]):
            shared[node.outputs[0]] = root(shared, node.inputs[0])
    last = _last_uses(graph, shared)
    made = _made_at(graph)
    for state in graph.states:
        maker = root(shared, state.output)
        if maker in made and made[maker] > last.get(state.input, -1):
            shared[maker] = state.input
    return {value: root(shared, value) for value in shared}


def root(shared: dict[str, str], value: str) -> str:
    """The value whose buffer holds `value`."""
    while value in shared:
        value = shared[value]
    return value


def lifetimes(graph: Graph, shared: dict[str, str], target: Target) -> list[Lifetime]:
    """The buffers of one step: states for good, activations as long as they are needed."""
    end = len(graph.nodes)
    made, last = _made_at(graph), _last_uses(graph, shared)
    states = {state.input for state in graph.states}
    next_states = {root(shared, state.output) for state in graph.states} & made.keys()
    buffers = []
    for value in _activations(graph):
        size, first = resting_bytes(graph.types[value], target), made.get(value, 0)
        if value in states or value in next_states:
            buffers.append(Lifetime(value, size, 0, end, "state" if value in states else "next_state"))
        elif value not in shared:
            buffers.append(Lifetime(value, size, first, max(first, last.get(value, first))))
    return buffers


def _activations(graph: Graph) -> Iterator[str]:
    """Inputs, states and results of nodes that rest in SRAM, each once."""
    given = [port.name for port in graph.inputs] + [state.input for state in graph.states]
    made = (value for node in graph.nodes for value in node.outputs)
    return (name for name in dict.fromkeys([*given, *made]) if _rests_in_sram(graph, name))


def _rests_in_sram(graph: Graph, value: str) -> bool:
    return graph.types[value].dtype != "f32"


def _made_at(graph: Graph) -> dict[str, int]:
    return {value: position for position, node in enumerate(graph.nodes) for value in node.outputs}


def _last_uses(graph: Graph, shared: dict[str, str]) -> dict[str, int]:
    """The last node that reads each buffer; what must survive is read at the end."""
    last: dict[str, int] = {}
    for position, node in enumerate(graph.nodes):
        for value in filter(None, node.inputs):
            last[root(shared, value)] = position
    for value in graph.results:
        last[root(shared, value)] = len(graph.nodes)
    return last


def _pinned(graph: Graph, target: Target, room: int, pinning: Pinning) -> tuple[str, ...]:
    reads = constants_read(graph, lambda node: refusal(graph, node, target) is None)
    size = {name: resting_bytes(graph.types[name], target) for name in reads}
    wanted = sorted(reads, key=lambda name: (-reads[name], size[name], name))
    room_of = {name: aligned(size[name]) for name in wanted}
    if pinning == "none" or (pinning == "all" and sum(room_of.values()) > room):
        return ()
    pinned = []
    for name in wanted:
        if room_of[name] <= room:
            pinned.append(name)
            room -= room_of[name]
    return tuple(pinned)
