"""Cycles of a node on the host, which runs its own work and meets the accelerator for the codes it needs.

    working  = node_cycles + elements * passes of the operator / operations_per_cycle
             + look-ups / lookups_per_cycle
             + product_cycles + max(MACs / macs_per_cycle, bytes of weights / memory_bytes_per_cycle)
               for every product
    crossing = sync_cycles + bytes / bytes_per_cycle, where bytes cross

A product reads its weights once, and once per repeat where each repeat waits for the last (the steps of
an LSTM): a cache that holds them is what `memory_bytes_per_cycle` stands for.
"""

from collections.abc import Iterator

from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import bits
from nnaq.kernels.codebook import packed_size
from nnaq.targets import Gemm, Host, gemms

VIEWS = frozenset({"reshape"})
"""Operators whose result is the operand's own bytes: they take no time on either side."""


def host_cycles(op: str, signature: Signature, host: Host, crossing: int) -> int:
    """Cycles of an operator on the host, and of the bytes that cross for it."""
    if op in VIEWS:
        return host.crossing_cycles(crossing)
    work, products = lookup(op).work(signature), gemms(op, signature)
    elements = work.elementwise + work.macs - sum(gemm.macs for gemm in products)
    return host.cycles(elements, crossing, work.lookups, products_read(products), op)


def products_read(products: tuple[Gemm, ...]) -> Iterator[tuple[int, int]]:
    """MACs of every product, and bytes of the weights it reads."""
    for gemm in products:
        yield gemm.macs, packed_size(gemm.outputs * gemm.depth * gemm.repeats, bits(gemm.right))
