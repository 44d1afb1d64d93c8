"""The bodies of integer operators as plain data: what a machine without ONNX needs to run them.

A body is said once, in `nnaq.export.bodies`; here it is the same list of standard operators, with
attributes as Python numbers and NumPy arrays. Values are names; an absent optional operand is the
empty name. Constants stand as operators `Constant` at the head of a function, and graphs inside of
a node (the frame of a `Scan`) are functions that also read names of the function around them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from nnaq.errors import ArtifactError
from nnaq.export.body_builder import ELEMENTS
from nnaq.export.functions import Functions, body_of
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import Quant, TensorType, storage
from nnaq.ir.verify import is_real

STORAGE = {element: storage(dtype) for dtype, element in ELEMENTS.items()}
REMEMBERED = 1024


@dataclass(frozen=True, eq=False)
class Step:
    """One standard operator. Attributes are numbers, words, tuples, arrays, dtypes (`to`) and functions."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Function:
    """Steps in the order of their execution, from inputs to outputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]


def function_of(graph: Graph, node: Node) -> Function:
    """The body of an integer node; nodes whose bodies are equal by their types share one object.

    The body is made from types in which weights have no scale and no palette: multipliers are operands, so
    it says the same while weights are trained. Raises ArtifactError for a node over reals and for an
    operator without a body.
    """
    if is_real(graph, node) or body_of(graph, node) is None:
        raise ArtifactError(f"operator {node.op!r} has no body over codes that another machine could run")
    signature = without_scales_of_weights(node.op, graph.signature(node))
    return _made(node.op, signature.inputs, signature.outputs, tuple(node.attrs.items()))


def without_scales_of_weights(op: str, signature: Signature) -> Signature:
    """The signature with scale 1 for weights, and zero_point as it was."""
    weights = lookup(op).weights
    kinds = (_unscaled(kind) if i in weights else kind for i, kind in enumerate(signature.inputs))
    return replace(signature, inputs=tuple(kinds))


def _unscaled(kind: TensorType | None) -> TensorType | None:
    if kind is None or kind.quant is None:
        return kind
    return replace(kind, quant=Quant((1.0,), kind.quant.zero_point), palette=None)


@lru_cache(REMEMBERED)
def _made(
    op: str,
    inputs: tuple[TensorType | None, ...],
    outputs: tuple[TensorType, ...],
    attrs: tuple[tuple[str, Any], ...],
) -> Function:
    """The function of the only node of a graph over these types."""
    operands = tuple("" if kind is None else f"x{i}" for i, kind in enumerate(inputs))
    results = tuple(f"y{i}" for i in range(len(outputs)))
    node = Node(op, operands, results, dict(attrs))
    types = {name: kind for name, kind in zip(operands, inputs, strict=True) if kind is not None}
    types |= dict(zip(results, outputs, strict=True))
    functions = Functions(Graph(op, (), (), (node,), types))
    functions.call(node)
    (made,) = functions.made
    return Function(tuple(made.input), tuple(made.output), _steps(made.node))


def _steps(nodes: Iterable[onnx.NodeProto]) -> tuple[Step, ...]:
    return tuple(Step(n.op_type, tuple(n.input), tuple(n.output), _attributes(n)) for n in nodes)


def _attributes(node: onnx.NodeProto) -> Mapping[str, Any]:
    found = {attribute.name: _plain(attribute) for attribute in node.attribute}
    if node.op_type == "Cast":
        found["to"] = STORAGE[found["to"]]
    return MappingProxyType(found)


def _plain(attribute: AttributeProto) -> Any:
    """The value of an attribute without ONNX in it."""
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        array: np.ndarray = numpy_helper.to_array(value)
        return array
    if isinstance(value, onnx.GraphProto):
        inputs, outputs = (tuple(port.name for port in ports) for ports in (value.input, value.output))
        return Function(inputs, outputs, _steps(value.node))
    if isinstance(value, bytes):
        return value.decode()
    return tuple(value) if attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS) else value
