"""Nodes of the accelerator as commands: tiles of products, and operators that run as a whole."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from math import ceil

from nnaq.cost.footprint import is_entropy_coded
from nnaq.cost.operator import OpCost, bytes_read, op_cost
from nnaq.ir.graph import Node
from nnaq.ir.op import Signature, lookup
from nnaq.schedule.actions import Held, Multiply, Operand, Requantize, Run, Take, View
from nnaq.schedule.commands import Engine
from nnaq.schedule.emit import SRAM, Emitter
from nnaq.schedule.memory import tile_buffer
from nnaq.schedule.placement import aligned
from nnaq.schedule.places import Place, cut
from nnaq.schedule.tiling import Piece, Tile, at_every_frame, is_layer, streamed
from nnaq.targets import Target, at_rest
from nnaq.targets.gemm import sizes


def emit_node(emitter: Emitter, node: Node) -> None:
    """The commands of a node of the accelerator."""
    (Layer if is_layer(emitter.graph, node) else Whole)(emitter, node).emit()


def split(total: int, weights: Sequence[int]) -> list[int]:
    """A whole number in parts that go with the weights and sum to it; even parts where all weigh nothing."""
    if not sum(weights):
        weights = [1] * len(weights)
    ends = [total * end // sum(weights) for end in accumulate(weights)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


class Accelerated:
    """A node, what it costs, and the tiles it runs in."""

    def __init__(self, emitter: Emitter, node: Node) -> None:
        self.emitter, self.node = emitter, node
        self.graph, self.target, self.plan = emitter.graph, emitter.target, emitter.plan
        self.cost = op_cost(self.graph, node, self.target, self.plan.pinned_offsets)
        self.tiles, self.signature = self.plan.tiles[node.name], self.graph.signature(node)

    def bring(self, number: int) -> dict[str, list[View]]:
        """Fetch the pieces of a tile into the buffer whose turn it is; where they are, by constant."""
        pieces = self._placed(number, self.tiles[number])
        if pieces:
            hides = self.target.array.double_buffered or not self.emitter.commands
            after = () if hides else (len(self.emitter.commands) - 1,)
            self.emitter.fetch(self.node.name, pieces, f"tile {number}", after, self._times())
        found: dict[str, list[View]] = {}
        for piece, at in pieces:
            found.setdefault(piece.constant, []).append(View(piece.kind, Place(SRAM, at)))
        return found

    def _placed(self, number: int, tile: Tile) -> list[tuple[Piece, int]]:
        if not tile.pieces:
            return []
        count = 2 if self.target.array.double_buffered else 1
        start = self.emitter.offsets[tile_buffer(self.node.name, number % count)]
        ends = accumulate((aligned(piece.bytes) for piece in tile.pieces), initial=start)
        return list(zip(tile.pieces, ends, strict=False))

    def _times(self) -> dict[str, int]:
        """How often constants come that are needed at every frame, where they are not there as a whole."""
        if len(self.tiles) == 1:
            return {}
        frames, weights = at_every_frame(self.graph, self.node)
        return dict.fromkeys(weights, frames)

    def is_coded(self, constant: str) -> bool:
        """Whether a constant has to be expanded: it rests as indices or in an entropy code."""
        kind = at_rest(self.graph.types[constant], self.target)
        return kind.palette is not None or is_entropy_coded(kind, self.target)

    def expand(self, pairs: Iterable[tuple[View, Held]], cycles: int, part: str) -> None:
        """Turn indices into codes, if there are any."""
        if taken := tuple(pairs):
            self.emitter.emit("decompression", self.node.name, cycles, Take(taken), part)


class Layer(Accelerated):
    """A product with constant weights, tile by tile."""

    def emit(self) -> None:
        """Each tile: fetch, expand, multiply; and requantise when its last inputs are added."""
        shares, vectors, sums = _Shares(self), list[int](), Held("")
        behind = 2 if self.target.array.double_buffered else 1
        for number, tile in enumerate(self.tiles):
            part = f"tile {number}"
            operands = _Operands(self, tile, self.bring(number))
            weight = self._expanded(number, operands.constant(1), shares.expanding[number])
            adds, sums = sums if operands.continues else None, Held(f"{self.node.name}.sums{number}")
            multiply = Multiply(
                self.node.op, operands.signature, operands.x(), weight,
                None if adds else operands.constant(2), adds, sums,
            )  # fmt: skip
            waits = () if adds or len(vectors) < behind else vectors[-behind:][:1]
            self.emitter.emit(
                "array", self.node.name, shares.array[number], multiply, part, after=waits,
                sram_bytes=shares.sram_bytes[number],
            )  # fmt: skip
            if operands.ends:
                action = Requantize(
                    self.signature,
                    sums,
                    operands.constant(3),
                    operands.constant(4),
                    operands.axis,
                    operands.y(),
                )
                cycles = shares.vector[number]
                vectors.append(self.emitter.emit("vector", self.node.name, cycles, action, part))

    def _expanded(self, number: int, weight: Operand, cycles: int) -> Operand:
        if not isinstance(weight, View) or not self.is_coded(self.node.inputs[1]):
            return weight
        codes = Held(f"{self.node.name}.codes{number}")
        self.expand([(weight, codes)], cycles, f"tile {number}")
        return codes


class _Operands:
    """What a tile of a layer reads and writes."""

    def __init__(self, layer: Layer, tile: Tile, brought: dict[str, list[View]]) -> None:
        assert tile.outputs is not None and tile.inputs is not None
        self.layer, self.node, self.brought = layer, layer.node, brought
        self.outputs, self.inputs = tile.outputs, tile.inputs
        outputs, depth = sizes(layer.signature.input(1))[:2]
        self.continues, self.ends = self.inputs[0] > 0, self.inputs[1] == depth
        groups = int(self.node.attrs.get("groups", 1))  # type: ignore[arg-type]
        each = outputs // groups
        first, last = self.outputs[0] // each, -(-self.outputs[1] // each)
        self.channels = slice(first * depth, last * depth) if groups > 1 else slice(*self.inputs)
        attrs = {k: v for k, v in self.node.attrs.items() if k != "activation"}
        attrs |= {"groups": last - first} if groups > 1 else {}
        self.signature = Signature(layer.signature.inputs, layer.signature.outputs, attrs)
        rank = layer.signature.outputs[0].rank
        self.axis = rank - 1 if self.node.op == "fully_connected" else 1

    def x(self) -> View:
        """The channels that the tile multiplies."""
        whole = self.layer.emitter.view(self.node.inputs[0])
        return replace(whole, index=(slice(None),) * self.axis + (self.channels,))

    def y(self) -> View:
        """The outputs that the tile makes."""
        whole = self.layer.emitter.view(self.node.outputs[0])
        kind, place = cut(whole.kind, whole.place, self.axis, *self.outputs)
        return View(kind, place)

    def constant(self, position: int) -> View | None:
        """The part of a constant that the tile needs, where it is; None if it is absent."""
        if position >= len(self.node.inputs):
            return None
        name = self.node.inputs[position]
        if name in self.brought:
            return self.brought[name][0]
        index = (slice(*self.outputs), slice(*self.inputs)) if position == 1 else (slice(*self.outputs),)
        return replace(self.layer.emitter.pinned(name), index=index)


class _Shares:
    """Cycles and bytes of the tiles of a layer; they sum to those of the whole, but for narrower tiles.

    A tile that leaves columns or rows of the array idle takes as long as one that fills them.
    """

    def __init__(self, layer: Layer) -> None:
        cost, target = layer.cost, layer.target
        depth = sizes(layer.signature.input(1))[1]
        spans = [(t.outputs or (0, 0), t.inputs or (0, 0)) for t in layer.tiles]
        work = [_folds(layer, n1 - n0, k1 - k0, target) for (n0, n1), (k0, k1) in spans]
        whole = _folds(layer, sizes(layer.signature.input(1))[0], depth, target)
        cycles = max(cost.array_cycles * sum(work) // max(whole, 1), cost.array_cycles, cost.sram_cycles)
        self.array = split(cycles, work)
        self.sram_bytes = split(cost.sram_bytes, work)
        self.vector = split(cost.vector_cycles, [(n1 - n0) * (k1 == depth) for (n0, n1), (_, k1) in spans])
        codes = [(n1 - n0) * (k1 - k0) for (n0, n1), (k0, k1) in spans]
        self.expanding = split(cost.decompression_cycles, codes)


def _folds(layer: Layer, outputs: int, depth: int, target: Target) -> int:
    """What a tile takes of the array, in folds times their length, up to a factor all tiles share."""
    array, taps = target.array, sizes(layer.signature.input(1))[2:]
    for tap in taps:
        depth *= tap
    if int(layer.node.attrs.get("groups", 1)) > 1:  # type: ignore[arg-type]
        return outputs
    rows = ceil(depth / array.rows) if array.dataflow == "weight_stationary" else depth
    return ceil(outputs / array.columns) * rows


class Whole(Accelerated):
    """A node that runs when it has seen all its constants."""

    def emit(self) -> None:
        """Each tile: fetch, expand, take in; then the stages, the last of which runs the operator."""
        stages, composite = _stages(self.cost), lookup(self.node.op).is_composite
        picked, parts = self._pick(), dict[str, list[Operand]]()
        main = stages[0] if composite else max(stages, key=lambda stage: stage[1])
        weights = [tile.bytes for tile in self.tiles]
        taking = split(main[1] if composite else 0, weights)
        expanding = split(self.cost.decompression_cycles, weights)
        for number in range(len(self.tiles)):
            self._take(number, parts, main[0], taking[number], expanding[number])
        if len(self.tiles) > 1 and composite:
            stages = stages[1:] or [(main[0], 0)]
        self._run(stages, composite, parts, picked)

    def _take(
        self, number: int, parts: dict[str, list[Operand]], engine: Engine, cycles: int, expanding: int
    ) -> None:
        """Bring a tile; what is not there any more when the operator runs is held in registers."""
        part, keeps = f"tile {number}", len(self.tiles) > 1
        views = [(name, view) for name, found in self.bring(number).items() for view in found]
        views += [(name, self.emitter.pinned(name)) for name in self._pinned_codes() if number == 0]
        held: list[tuple[View, Held]] = []
        indices: list[tuple[View, Held]] = []
        for name, view in views:
            register = Held(f"{self.node.name}.{name}.{len(parts.get(name, ()))}")
            packed = self.is_coded(name)
            if packed or keeps:
                (indices if packed else held).append((view, register))
            parts.setdefault(name, []).append(register if packed or keeps else view)
        self.expand(indices, expanding, part)
        if keeps:
            reads = [register for _, register in indices]
            self.emitter.emit(engine, self.node.name, cycles, Take(tuple(held)), part, reads)

    def _pinned_codes(self) -> list[str]:
        names = (v for v in dict.fromkeys(self.node.inputs) if v in self.plan.pinned_offsets)
        return [name for name in names if self.is_coded(name)]

    def _pick(self) -> list[int]:
        """Fetch the entries that are picked of constants in DRAM, if any, once it is known which."""
        taken = streamed(self.graph, self.node, self.plan.pinned_offsets)
        read = bytes_read(self.graph, self.node, self.target)
        size = sum(
            read[v] for v in dict.fromkeys(self.node.inputs)
            if v in self.graph.constants and v not in taken and v not in self.plan.pinned_offsets
        )  # fmt: skip
        if not size:
            return []
        cycles = self.emitter.transfer_cycles(size)
        which = [self.emitter.view(v) for v in self.node.inputs if v in self.plan.places]
        return [self.emitter.emit("dma", self.node.name, cycles, None, "picked", which, dram_bytes=size)]

    def _run(
        self,
        stages: list[tuple[Engine, int]],
        chained: bool,
        parts: dict[str, list[Operand]],
        picked: list[int],
    ) -> None:
        """All stages, the one that ends last running the operator; it lasts as long as its bytes take."""
        run = self._action(parts)
        if not chained:
            stages = sorted(stages, key=lambda stage: stage[1])
        after = picked
        for engine, cycles in stages[:-1]:
            number = self.emitter.emit(engine, self.node.name, cycles, None, reads=run.reads(), after=after)
            after = [number] if chained else picked
        engine, cycles = stages[-1]
        others = sum(taken for _, taken in stages[:-1]) if chained else 0
        cycles = max(cycles, self.cost.sram_cycles - others)
        self.emitter.emit(engine, self.node.name, cycles, run, after=after, sram_bytes=self.cost.sram_bytes)

    def _action(self, parts: dict[str, list[Operand]]) -> Run:
        operands: list[Operand] = []
        joined: list[tuple[int, tuple[Operand, ...]]] = []
        for position, value in enumerate(self.node.inputs):
            found = parts.get(value, ())
            operands.append(
                found[0] if len(found) == 1 else None if found else self.emitter.operand(self.node, value)
            )
            if len(found) > 1:
                joined.append((position, tuple(found)))
        results = tuple(map(self.emitter.result, self.node.outputs))
        return Run(self.node.op, self.signature, tuple(operands), tuple(joined), results)


def _stages(cost: OpCost) -> list[tuple[Engine, int]]:
    """The engines that a node holds; the lanes for no time where it does nothing that counts."""
    stages: list[tuple[Engine, int]] = [
        ("array", cost.array_cycles),
        ("vector", cost.vector_cycles),
        ("table", cost.table_cycles),
    ]
    return [stage for stage in stages if stage[1]] or [("vector", 0)]
