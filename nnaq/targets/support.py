"""Which nodes a target runs, and why it does not run the others."""

from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import Signature, lookup
from nnaq.ir.verify import is_real
from nnaq.targets.gemm import operand_dtypes
from nnaq.targets.target import ALL, Target

BOUNDARY = frozenset({"quantize", "dequantize"})
"""Operators between the reals and the codes: the host's part of every lowered graph."""


def refusal(graph: Graph, node: Node, target: Target) -> str | None:
    """Why `target` leaves a node to the host, or None if the accelerator runs it.

    Boundary nodes are the host's by their nature and are not asked about here.
    """
    if is_real(graph, node):
        return "it has no integer form in this graph: its operands and results are f32"
    return (
        exclusion(node, target)
        or _width_refusal(graph, node, target)
        or _array_refusal(node.op, graph.signature(node), target)
    )


def exclusion(node: Node, target: Target) -> str | None:
    """Why `target` leaves a node to the host whatever its codes are, or None."""
    if lookup(node.op).is_host_only:
        return f"{node.op!r} has no integer form: it always runs on the host"
    return f"target {target.name!r} does not run {node.op!r}" if {node.op, ALL} & {*target.exclude} else None


def _width_refusal(graph: Graph, node: Node, target: Target) -> str | None:
    activations = [v for v in (*node.inputs, *node.outputs) if v and v not in graph.constants]
    for value in activations:
        dtype = graph.types[value].dtype
        if dtype not in target.widths:
            held = ", ".join(target.widths)
            return f"{value!r} is {dtype}; target {target.name!r} holds activations of {held}"
    return None


def _array_refusal(op: str, signature: Signature, target: Target) -> str | None:
    for dtype in operand_dtypes(op, signature):
        if dtype not in target.array.dtypes:
            multiplied = ", ".join(target.array.dtypes)
            return f"the array of target {target.name!r} multiplies {multiplied}, not {dtype}"
    return None
