"""Bytes: what values and constants take where they rest on a target.

    plain     ceil(values * bits of the dtype / 8)
    palette   ceil((values - zeros) * index bits / 8) + tables * entries of the longest,
              and ceil(values / 8) more for a zero map

A palette counts only where the target's decompression takes it; elsewhere its constant rests as
plain i8 codes, in DRAM, on its way and in SRAM. Where it counts, fewer bits and no longer tables are
never more bytes.

Where zeros may rest as runs, the shorter counts of the map and of 4 bits per code left:

    runs      ceil((values - zeros + floor(zeros / 15)) * 4 / 8), never less than any order of zeros takes

On a target with an entropy code a weight (an i8 or i4 constant of two axes or more) takes what no code
of its symbols one by one goes below:

    entropy   ceil(values * entropy of the codes in bits / 8), no more than plain
"""

from collections import Counter
from collections.abc import Callable
from math import ceil, prod

from nnaq.codebooks.storage import entropy_bits, palette_bytes
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup
from nnaq.ir.types import Palette, TensorType, bits
from nnaq.kernels.codebook import packed_size
from nnaq.targets import Target, at_rest
from nnaq.targets.gemm import sizes

_TABLE_ENTRIES = (513, 65536)
_RUN_BITS, _LONGEST_RUN = 4, 15


def resting_bytes(kind: TensorType, target: Target) -> int:
    """Bytes a value of type `kind` takes in the memories of `target`.

    >>> from nnaq.ir.types import parse_type
    >>> from nnaq.targets import load_target
    >>> kind = parse_type("i8[10] palette2(-8, 0, 8)")
    >>> [resting_bytes(kind, load_target(name)) for name in ("edge8", "edge8-sub8")]
    [10, 6]
    """
    palette = at_rest(kind, target).palette
    if palette is not None:
        return _palette_bytes(prod(sizes(kind)), palette, target)
    return packed_size(prod(sizes(kind)), bits(kind.dtype))


def _palette_bytes(values: int, palette: Palette, target: Target) -> int:
    """Bytes of a constant on a palette that the target expands."""
    found, unit = palette_bytes(values, palette), target.decompression
    if palette.zeros is None or unit is None or not unit.zero_run:
        return found.total
    runs = packed_size(values - palette.zeros + palette.zeros // _LONGEST_RUN, _RUN_BITS)
    return found.total - found.map + (min(found.map, runs) if unit.zero_map else runs)


def is_entropy_coded(kind: TensorType, target: Target) -> bool:
    """Whether a constant of this type rests in an entropy code."""
    unit = target.decompression
    return unit is not None and unit.entropy and kind.dtype in ("i4", "i8") and kind.rank > 1


def constant_bytes(graph: Graph, name: str, target: Target) -> int:
    """Bytes a constant of a graph takes in the memories of `target`: the only figure that looks at codes."""
    kind = graph.types[name]
    plain = resting_bytes(kind, target)
    if not is_entropy_coded(kind, target):
        return plain
    return min(plain, ceil(prod(sizes(kind)) * entropy_bits(graph.constants[name]) / 8))


def part_bytes(kind: TensorType, entries: int, target: Target) -> int:
    """Bytes read of a value of which only some entries are wanted; none for no entries.

    A zero map is read whole, with all indices: nobody knows where a row starts.
    """
    whole, palette = resting_bytes(kind, target), at_rest(kind, target).palette
    if palette is None or entries == 0:
        return min(whole, packed_size(entries, bits(kind.dtype)))
    return whole if palette.zeros is not None else min(whole, palette_bytes(entries, palette).total)


def part_of_constant(graph: Graph, name: str, entries: int, target: Target) -> int:
    """Bytes read of a constant of which only some entries are wanted."""
    kind = graph.types[name]
    if not is_entropy_coded(kind, target):
        return part_bytes(kind, entries, target)
    return ceil(constant_bytes(graph, name, target) * entries / max(1, prod(sizes(kind))))


def constants_read(graph: Graph, counts: Callable[[Node], bool] = lambda node: True) -> dict[str, int]:
    """How many of the nodes that count read each constant; what none of them reads is left out."""
    reads = Counter(
        value
        for node in graph.nodes
        if counts(node)
        for value in dict.fromkeys(node.inputs)
        if value in graph.constants
    )
    return dict(sorted(reads.items()))


def is_table(graph: Graph, node: Node, position: int) -> bool:
    """Whether an operand is a look-up table of the integer form: 256 entries by code, 513 or 65,536.

    Only an operator without products has 256-entry tables; elsewhere 256 is a count of channels.
    """
    name = node.inputs[position]
    op = lookup(node.op)
    if name not in graph.constants or position < len(op.operands):
        return False
    kind, work = graph.types[name], op.work(graph.signature(node))
    entries = (*_TABLE_ENTRIES, 256) if work.macs == 0 else _TABLE_ENTRIES
    return work.lookups > 0 and kind.rank == 1 and kind.shape[0] in entries


def tables(graph: Graph) -> frozenset[str]:
    """The constants that are look-up tables."""
    return frozenset(
        node.inputs[position]
        for node in graph.nodes
        for position in range(len(node.inputs))
        if is_table(graph, node, position)
    )
