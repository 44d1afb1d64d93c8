"""What a weight takes at rest, part by part, and what a coder could still take off it.

Of n codes with b-bit indices, the tables of a palette, and z zeros in a zero map if there is one:

    index bytes  ceil((n - z) * b / 8)            z = 0 without a map
    table bytes  tables * entries of the longest, a byte each: shorter ones are filled up
    map bytes    ceil(n / 8) with a zero map, else 0
    scale bytes  5 for every scale: the integer scale is an i32 multiplier and an i8 shift
    total        their sum, against n + scale bytes of the same weight as plain int8

Scales count for both sides alike, so the ratio never owes anything to them. A weight without a
palette has b = the bits of its dtype, no tables and no map.

The zeroth-order entropy of what is stored, in bits per weight, is the least that a coder can reach
which knows how often each symbol occurs and nothing about their order:

    H      = - sum over indices i of p_i log2 p_i
    mapped = H(map bits) + (1 - z/n) * H(indices of the others)

Indices of all tables count as one stream: a coder does not know which row it is in.
"""

from dataclasses import dataclass, field
from math import prod

import numpy as np

from nnaq.ir.graph import Graph
from nnaq.ir.op import lookup
from nnaq.ir.types import Palette, TensorType, bits
from nnaq.kernels.codebook import find_indices, packed_size

SCALE_BYTES = 5


@dataclass(frozen=True)
class PaletteBytes:
    """Bytes of a palette constant: its packed indices, its tables, its zero map."""

    index: int
    table: int
    map: int

    @property
    def total(self) -> int:
        return self.index + self.table + self.map


@dataclass(frozen=True)
class Storage:
    """What one weight takes at rest; the module says how each part is counted.

    bits: width of a stored index, or of a code where there is no palette. entropy_bits: zeroth-order
    entropy of what is stored, per weight. ratio_to_int8: total bytes over those of plain int8 with
    the same scales; above 1 a palette costs more than it saves.
    """

    name: str
    values: int
    bits: int
    index_bytes: int
    table_bytes: int
    map_bytes: int
    scale_bytes: int
    entropy_bits: float
    ratio_to_int8: float = field(init=False)

    def __post_init__(self) -> None:
        plain = self.values + self.scale_bytes
        object.__setattr__(self, "ratio_to_int8", self.total_bytes / plain if plain else 1.0)

    @property
    def total_bytes(self) -> int:
        return self.index_bytes + self.table_bytes + self.map_bytes + self.scale_bytes


def palette_bytes(values: int, palette: Palette) -> PaletteBytes:
    """Bytes of a constant of that many codes on a palette."""
    return PaletteBytes(
        packed_size(values - (palette.zeros or 0), palette.bits),
        len(palette.tables) * longest_table(palette),
        0 if palette.zeros is None else packed_size(values, 1),
    )


def storage_of(name: str, codes: np.ndarray, kind: TensorType) -> Storage:
    """What a constant of these codes takes at rest."""
    width, palette = bits(kind.dtype), kind.palette
    found = PaletteBytes(packed_size(codes.size, width), 0, 0)
    if palette is not None:
        width, found = palette.bits, palette_bytes(codes.size, palette)
    scales = 0 if kind.quant is None else SCALE_BYTES * len(kind.quant.scale)
    return Storage(
        name, codes.size, width, found.index, found.table, found.map, scales, entropy_bits(codes, palette)
    )


def storage_of_graph(graph: Graph) -> list[Storage]:
    """Every weight of a lowered graph, each once, in the order its nodes stand: the operands that are
    weights of integer nodes, and every other constant with a palette."""
    names = dict.fromkeys(
        node.inputs[position]
        for node in graph.nodes
        for position in sorted(lookup(node.op).weights)
        if position < len(node.inputs) and _is_weight(graph, node.inputs[position])
    )
    names.update(dict.fromkeys(name for name in graph.constants if graph.types[name].palette is not None))
    return [storage_of(name, graph.constants[name], graph.types[name]) for name in names]


def _is_weight(graph: Graph, name: str) -> bool:
    """Whether a constant holds the codes of a weight: where an optional one is absent, a multiplier may
    stand at its position, which has no scale of its own."""
    return name in graph.constants and graph.types[name].quant is not None


def entropy_bits(codes: np.ndarray, palette: Palette | None = None) -> float:
    """Zeroth-order entropy of what is stored of these codes, in bits per weight; 0 for no codes.

    Raises OpError for a code that its table does not hold.
    """
    if palette is None:
        return _entropy(codes)
    indices = find_indices(codes, palette)
    if palette.zeros is None:
        return _entropy(indices)
    kept = codes != 0
    return _entropy(kept) + _entropy(indices[kept]) * int(kept.sum()) / max(codes.size, 1)


def longest_table(palette: Palette) -> int:
    """Entries that every table of a palette takes room for."""
    return max(map(len, palette.tables))


def per_table(shape: tuple[int, ...], palette: Palette) -> int:
    """How many neighbouring codes of a constant of this shape share a table, at least 1."""
    if not palette.rows or not shape:
        return max(1, prod(shape))
    return max(1, palette.rows * prod(shape[1:]))


def _entropy(symbols: np.ndarray) -> float:
    counts = np.unique(symbols, return_counts=True)[1]
    share = counts / max(symbols.size, 1)
    return abs(float(-(share * np.log2(share)).sum()))
