"""Tiles: how much of a node's constants is in SRAM at a time.

A product with constant weights (fully_connected, conv1d, conv2d) is cut into stretches of its
outputs and, where a stretch of all inputs is too much, of its inputs too: the array keeps the sums
until the last stretch of inputs has been added. Eight stretches of outputs, each as wide as whole
columns of the array, let fetching, multiplying and requantising overlap; more only where the room
asks for them. Any other node takes its constants in stretches of rows, one tile after the other,
and runs when it has seen all of them.

A recurrent operator multiplies some weights again at every frame. It brings all constants at once,
before its first frame, where they go into the room of two tiles; else those weights come again for
each frame.

A tile brings the pieces it needs of the constants that are streamed. Pieces are packed one by one,
so that each is a stretch of bytes in DRAM.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, lcm, prod

import numpy as np

from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup
from nnaq.ir.types import Palette, TensorType
from nnaq.kernels.narrow import narrow_of
from nnaq.schedule.placement import aligned
from nnaq.schedule.rest import rest_bytes
from nnaq.targets import Target, at_rest
from nnaq.targets.gemm import sizes

STRETCHES = 8
LAYERS = frozenset({"fully_connected", "conv1d", "conv2d"})

AT_EVERY_FRAME: dict[str, tuple[int, ...]] = {"lstm": (4,), "gru": (3,)}
PROJECTION = 6
"""Operands of recurrent operators that are weights for every frame."""

Span = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """A stretch of the first axes of a constant; kind: its type at rest, the scales of codes left out."""

    constant: str
    part: tuple[Span, ...]
    kind: TensorType
    bytes: int


@dataclass(frozen=True)
class Tile:
    """A part of a node: stretches of outputs and inputs of a product, and the pieces it brings.

    outputs, inputs: None for a node that is no product of this kind; channels per group count.
    """

    pieces: tuple[Piece, ...]
    outputs: Span | None = None
    inputs: Span | None = None

    @cached_property
    def bytes(self) -> int:
        """Room for the pieces, each at an aligned offset."""
        return sum(aligned(piece.bytes) for piece in self.pieces)


def is_layer(graph: Graph, node: Node) -> bool:
    """Whether a node is a product of activations with constant weights whose sums are exact."""
    constant = [v in graph.constants for v in node.inputs if v]
    if node.op not in LAYERS or constant[0] or not all(constant[1:]):
        return False
    return narrow_of(node.attrs, graph.signature(node).input(0)) is None


def streamed(graph: Graph, node: Node, held: Collection[str]) -> tuple[str, ...]:
    """The constants that a node streams: what is not held in SRAM, and not picked entry by entry."""
    picked = lookup(node.op).reads(graph.signature(node))
    return tuple(
        dict.fromkeys(
            value
            for position, value in enumerate(node.inputs)
            if value in graph.constants and value not in held and position not in picked
        )
    )


def tiles(graph: Graph, node: Node, target: Target, brought: tuple[str, ...], room: int) -> tuple[Tile, ...]:
    """The tiles of a node that streams `brought`, none larger than `room` where that can be helped."""
    if not is_layer(graph, node):
        total = sum(aligned(whole(graph, value, target).bytes) for value in brought)
        is_held = at_every_frame(graph, node)[0] > 1 and total <= 2 * room
        return _stretches(graph, brought, target, total if is_held else min(room, ceil(total / STRETCHES)))
    width, depth = _size(graph, node, target, brought, room)
    outputs, inputs = sizes(graph.types[node.inputs[1]])[:2]
    return tuple(
        _tile(graph, node, target, brought, (n, min(n + width, outputs)), (k, min(k + depth, inputs)))
        for n in range(0, outputs, width)
        for k in range(0, inputs, depth)
    )


def _size(graph: Graph, node: Node, target: Target, brought: tuple[str, ...], room: int) -> Span:
    """Outputs and inputs of a tile: first narrower, then shallower, in what fills the array; then less."""
    weight = graph.types[node.inputs[1]]
    outputs, inputs, *taps = sizes(weight)
    groups = int(node.attrs.get("groups", 1))  # type: ignore[arg-type]
    palette = at_rest(weight, target).palette
    unit = lcm(outputs // groups if groups > 1 else 1, (palette.rows if palette else 0) or 1)
    columns, rows = target.array.columns, max(1, target.array.rows // prod(taps))
    if groups > 1:
        columns, rows = unit, inputs
    width, depth = min(outputs, _up(_up(ceil(outputs / STRETCHES), columns), unit)), inputs

    def is_too_much() -> bool:
        return bool(brought) and _tile(graph, node, target, brought, (0, width), (0, depth)).bytes > room

    while is_too_much() and width > _up(columns, unit):
        width = _half(width, _up(columns, unit))
    while is_too_much() and depth > rows:
        depth = _half(depth, rows)
    while is_too_much() and width > unit:
        width = _half(width, unit)
    while is_too_much() and depth > 1 and groups == 1:
        depth = _half(depth, 1)
    return width, depth


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _half(size: int, unit: int) -> int:
    """About half of a size above one unit, in whole units."""
    return max(unit, size // 2 // unit * unit)


def _tile(
    graph: Graph, node: Node, target: Target, brought: tuple[str, ...], outputs: Span, inputs: Span
) -> Tile:
    """Weights of a stretch; the bias with its first inputs, what requantises with its last."""
    is_first, is_last = inputs[0] == 0, inputs[1] == sizes(graph.types[node.inputs[1]])[1]
    wanted: dict[str, tuple[Span, ...]] = {node.inputs[1]: (outputs, inputs)}
    wanted |= {v: (outputs,) for v in node.inputs[2:3] if is_first}
    wanted |= {v: (outputs,) for v in node.inputs[3:] if is_last}
    pieces = (_piece(graph, v, part, target) for v, part in wanted.items() if v in brought)
    return Tile(tuple(pieces), outputs, inputs)


def whole(graph: Graph, constant: str, target: Target) -> Piece:
    """All of a constant."""
    return _piece(graph, constant, (), target)


def _piece(graph: Graph, constant: str, part: tuple[Span, ...], target: Target) -> Piece:
    kind = at_rest(graph.types[constant], target)
    if not part:
        return Piece(constant, part, kind, rest_bytes(kind))
    shape = sizes(kind)
    taken = (*(stop - start for start, stop in part), *shape[len(part) :])
    palette = kind.palette
    if palette is not None:
        palette = _part_of_palette(palette, part[0])
        if palette.zeros is not None:
            codes = graph.constants[constant][tuple(slice(*span) for span in part)]
            palette = replace(palette, zeros=int(codes.size - np.count_nonzero(codes)))
    kind = TensorType(kind.dtype, taken, None, palette)
    return Piece(constant, part, kind, rest_bytes(kind))


def _part_of_palette(palette: Palette, rows: Span) -> Palette:
    """The tables of a stretch of rows that begins with a table of its own."""
    if not palette.rows:
        return palette
    return replace(palette, tables=palette.tables[rows[0] // palette.rows : -(-rows[1] // palette.rows)])


def at_every_frame(graph: Graph, node: Node) -> tuple[int, tuple[str, ...]]:
    """Frames of a recurrent operator, and the weights that it multiplies at each; 1 and none for others."""
    places = AT_EVERY_FRAME.get(node.op, ())
    if not places:
        return 1, ()
    places += (PROJECTION,) if node.attrs.get("projected", False) else ()
    return sizes(graph.types[node.inputs[0]])[0], tuple(node.inputs[at] for at in places)


def _stretches(graph: Graph, brought: tuple[str, ...], target: Target, size: int) -> tuple[Tile, ...]:
    """The constants one after the other, in stretches of rows, as many in a tile as `size` bytes take."""
    limit = max(size, 1)
    found: list[list[Piece]] = [[]]
    filled = 0
    for piece in (piece for value in brought for piece in _rows(graph, value, target, limit)):
        if found[-1] and filled + aligned(piece.bytes) > limit:
            found.append([])
            filled = 0
        found[-1].append(piece)
        filled += aligned(piece.bytes)
    return tuple(Tile(tuple(pieces)) for pieces in found)


def _rows(graph: Graph, constant: str, target: Target, limit: int) -> tuple[Piece, ...]:
    """A constant in stretches of rows of at most `limit` bytes, or of as few rows as share a table."""
    kind = at_rest(graph.types[constant], target)
    if not kind.shape or rest_bytes(kind) <= limit:
        return (whole(graph, constant, target),)
    rows, unit = sizes(kind)[0], (kind.palette.rows if kind.palette else 0) or 1
    step = max(unit, limit * rows // rest_bytes(kind) // unit * unit)
    return tuple(
        _piece(graph, constant, ((start, min(start + step, rows)),), target) for start in range(0, rows, step)
    )
