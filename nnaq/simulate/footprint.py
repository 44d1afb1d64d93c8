"""Bytes: what values and constants take where they rest."""

from collections import Counter
from collections.abc import Callable
from math import prod

from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup
from nnaq.ir.types import TensorType, bits
from nnaq.targets.gemm import sizes

_TABLE_ENTRIES = (513, 65536)


def resting_bytes(kind: TensorType) -> int:
    """Bytes a value of type `kind` takes in memory; a palette's indices are packed, its table is added.

    >>> from nnaq.ir.types import parse_type
    >>> resting_bytes(parse_type("i4[3]")), resting_bytes(parse_type("i8[10] palette2(-8, 0, 8)"))
    (2, 6)
    """
    values = prod(sizes(kind))
    if kind.palette is not None:
        return _packed(values, kind.palette.bits) + len(kind.palette.table)
    return _packed(values, bits(kind.dtype))


def _packed(values: int, width: int) -> int:
    return -(-values * width // 8)


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
