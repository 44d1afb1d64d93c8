"""Bytes: what values and constants take where they rest on a target.

    plain     ceil(values * bits of the dtype / 8)
    palette   ceil((values - zeros) * index bits / 8) + tables * entries of the longest,
              and ceil(values / 8) more for a zero map

A palette counts only where the target's decompression takes it; elsewhere its constant rests as
plain i8 codes, in DRAM, on its way and in SRAM. Where it counts, fewer bits and no longer tables are
never more bytes.
"""

from collections import Counter
from collections.abc import Callable
from math import prod

from nnaq.codebooks.storage import palette_bytes
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup
from nnaq.ir.types import TensorType, bits
from nnaq.kernels.codebook import packed_size
from nnaq.targets import Target, at_rest
from nnaq.targets.gemm import sizes

_TABLE_ENTRIES = (513, 65536)


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
        return palette_bytes(prod(sizes(kind)), palette).total
    return packed_size(prod(sizes(kind)), bits(kind.dtype))


def part_bytes(kind: TensorType, entries: int, target: Target) -> int:
    """Bytes read of a value of which only some entries are wanted; none for no entries.

    A zero map is read whole, with all indices: nobody knows where a row starts.
    """
    whole, palette = resting_bytes(kind, target), at_rest(kind, target).palette
    if palette is None or entries == 0:
        return min(whole, packed_size(entries, bits(kind.dtype)))
    return whole if palette.zeros is not None else min(whole, palette_bytes(entries, palette).total)


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
