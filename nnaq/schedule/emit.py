"""Commands as they are added: operands settled, waits found; moves of bytes, and nodes of the host."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import ceil
from types import MappingProxyType

from nnaq.cost.footprint import constant_bytes
from nnaq.cost.host import host_cycles
from nnaq.ir.graph import Graph, Node
from nnaq.schedule.actions import Action, Held, Move, Operand, Run, Stored, View
from nnaq.schedule.commands import Command, Engine
from nnaq.schedule.hazards import Hazards
from nnaq.schedule.image import Image
from nnaq.schedule.memory import MemoryPlan
from nnaq.schedule.places import Place, cut
from nnaq.schedule.tiling import Piece, whole
from nnaq.targets import Target, at_rest
from nnaq.targets.gemm import sizes

SRAM = "sram"

Pair = tuple[View | Stored | Held, View]


class Emitter:
    """Collects the commands of a step."""

    def __init__(
        self, graph: Graph, target: Target, plan: MemoryPlan, image: Image, on_host: frozenset[str]
    ) -> None:
        self.graph, self.target, self.plan, self.image, self.on_host = graph, target, plan, image, on_host
        self.offsets = {p.buffer.name: p.offset for p in plan.placements}
        self.commands: list[Command] = []
        self.codes: dict[str, Fraction] = {}
        self.hazards = Hazards(plan.sram_peak_bytes)

    def set_up(self) -> None:
        """Bring pinned constants and first states from DRAM."""
        for name in self.plan.pinned:
            self.fetch(name, [(whole(self.graph, name, self.target), self.plan.pinned_offsets[name])])
        for state in self.graph.states:
            if state.input in self.plan.places:
                source = self.image.stored(whole(self.graph, state.initial, self.target))
                self.move("dma", state.name, [(source, self.view(state.input))])

    # --- operands

    def view(self, value: str) -> View:
        """A value in SRAM."""
        place = self.plan.places[value]
        there = Place(SRAM, place.offset + self.offsets[place.buffer], place.strides)
        return View(self.graph.types[value], there)

    def pinned(self, constant: str) -> View:
        """A constant that rests in SRAM."""
        kind = at_rest(self.graph.types[constant], self.target)
        return View(kind, Place(SRAM, self.plan.pinned_offsets[constant]))

    def operand(self, node: Node, value: str) -> Operand:
        """A value where it is, for a node that takes it as a whole."""
        if not value:
            return None
        if value in self.plan.places:
            return self.view(value)
        if value not in self.graph.constants:
            return Held(value)
        if value in self.plan.pinned_offsets and node.name not in self.on_host:
            return self.pinned(value)
        return self.image.stored(whole(self.graph, value, self.target))

    def result(self, value: str) -> View | Held:
        return self.view(value) if value in self.plan.places else Held(value)

    def is_in_place(self, node: Node) -> bool:
        """Whether a view's result is where its operands are, so that there is nothing to do."""
        return all(source == result for source, result in self._view_pairs(node))

    def _view_pairs(self, node: Node) -> Iterator[tuple[Place, Place]]:
        """For a view, where its operands are, and where the result wants them."""
        result, kind = self.view(node.outputs[0]), self.graph.types[node.outputs[0]]
        if node.op != "concat":
            # A reshape or slice that shares has its operand's buffer; otherwise it has its own.
            one, other = (self.plan.places[v].buffer for v in (node.inputs[0], node.outputs[0]))
            yield Place(one), Place(other)
            return
        axis, start = int(node.attrs["axis"]) % kind.rank, 0  # type: ignore[arg-type]
        for value in node.inputs:
            source = self.view(value)
            stop = start + sizes(source.kind)[axis]
            yield source.place, cut(kind, result.place, axis, start, stop)[1]
            start = stop

    # --- commands

    def emit(
        self,
        engine: Engine,
        node: str,
        cycles: int,
        action: Action | None,
        part: str = "",
        reads: Iterable[Operand] = (),
        after: Iterable[int] = (),
        dram_bytes: int = 0,
        sram_bytes: int = 0,
    ) -> int:
        """Add a command; returns its number. reads: beside those of its action; after: more to wait for."""
        number = len(self.commands)
        taken = [*reads, *(action.reads() if action else ())]
        needs = self.hazards.needs(number, taken, action.writes() if action else ())
        waits = tuple(sorted(needs.union(after)))
        self.commands.append(Command(engine, node, cycles, waits, part, dram_bytes, sram_bytes, action))
        return number

    def move(self, engine: Engine, name: str, pairs: Sequence[Pair], part: str = "") -> None:
        """Copy sources to destinations, at the pace of the memory that the sources are in."""
        size = sum(view.span[1] - view.span[0] for _, view in pairs)
        is_inside = all(isinstance(source, View) for source, _ in pairs)
        cycles = self.target.sram.cycles(2 * size) if is_inside else self.transfer_cycles(size)
        self.emit(
            engine, name, cycles, Move(tuple(pairs)), part,
            dram_bytes=0 if is_inside else size, sram_bytes=2 * size if is_inside else 0,
        )  # fmt: skip

    def fetch(
        self,
        node: str,
        pieces: Sequence[tuple[Piece, int]],
        part: str = "",
        after: Iterable[int] = (),
        times: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Bring pieces from DRAM to offsets in SRAM. times: constants that come more than once."""
        sizes = [self.moved_bytes(piece) * times.get(piece.constant, 1) for piece, _ in pieces]
        pairs = tuple((self.image.stored(p), View(p.kind, Place(SRAM, at))) for p, at in pieces)
        cycles = self.transfer_cycles(*sizes)
        self.emit("dma", node, cycles, Move(pairs), part, after=after, dram_bytes=sum(sizes))

    def transfer_cycles(self, *moved: int) -> int:
        """Cycles of transfers from DRAM that are asked for at once."""
        return self.target.dma.cycles(self.target.dram, *moved)

    def moved_bytes(self, piece: Piece) -> int:
        """What a piece takes on its way: its share of what its constant does, which a code may make fewer."""
        name = piece.constant
        if name not in self.codes:
            plain = whole(self.graph, name, self.target).bytes
            self.codes[name] = Fraction(constant_bytes(self.graph, name, self.target), max(1, plain))
        return ceil(piece.bytes * self.codes[name])

    def carry_states(self) -> None:
        """Copy next states that were not made in their state's buffer, all at once."""
        pairs: list[Pair] = []
        makers: list[str] = []
        for state in self.graph.states:
            if state.input in self.plan.places:
                source, view = self._carried(state.output), self.view(state.input)
                if source != view:
                    pairs.append((source, view))
                    maker = self.graph.producer.get(state.output)
                    makers.append(state.name if maker is None else maker.name)
        if pairs:
            self.move("dma", makers[0], pairs, "states")

    def _carried(self, value: str) -> View | Stored | Held:
        if value in self.plan.places:
            return self.view(value)
        if value in self.graph.constants:
            return self.image.stored(whole(self.graph, value, self.target))
        return Held(value)

    def host(self, node: Node) -> None:
        """The whole node on the host; codes in SRAM cross."""
        signature = self.graph.signature(node)
        crossing = {v for v in (*node.inputs, *node.outputs) if v in self.plan.places}
        size = sum(span[1] - span[0] for span in (self.view(v).span for v in crossing))
        cycles = host_cycles(node.op, signature, self.target.host, size)
        operands = tuple(self.operand(node, v) for v in node.inputs)
        results = tuple(map(self.result, node.outputs))
        self.emit("host", node.name, cycles, Run(node.op, signature, operands, (), results))
