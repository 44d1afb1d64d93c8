"""Functions of a file: one per operator and body; nodes whose bodies are equal share it."""

import onnx
from onnx import AttributeProto, helper

from nnaq.export.bodies import BODIES, MakeBody
from nnaq.export.bodies_real import REAL_BODIES
from nnaq.export.body_builder import DOMAIN, Body
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import Attr, Op, lookup
from nnaq.ir.verify import is_real
from nnaq.kernels.lstm_numbers import operand_names as lstm_names


class Functions:
    """Collects the functions that the nodes of a graph call.

    The first body of an operator has the operator's name, the others are `NAME__2`, `NAME__3`, …:
    onnx.reference tells functions apart by name only, so overloads would not do.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.made: list[onnx.FunctionProto] = []
        self._names: dict[bytes, str] = {}
        self._counts: dict[str, int] = {}

    def call(self, node: Node) -> onnx.NodeProto:
        """The ONNX node that calls the function of `node`."""
        call = helper.make_node(self._name(node), node.inputs, node.outputs, node.name, domain=DOMAIN)
        call.attribute.extend(_attribute(key, value) for key, value in node.attrs.items())
        if node.source:
            call.metadata_props.add(key="source", value=node.source)
        return call

    def _name(self, node: Node) -> str:
        function = _function(self.graph, node)
        key = function.SerializeToString(deterministic=True)
        if key not in self._names:
            number = self._counts[node.op] = self._counts.get(node.op, 0) + 1
            self._names[key] = function.name = node.op if number == 1 else f"{node.op}__{number}"
            self.made.append(function)
        return self._names[key]


def body_of(graph: Graph, node: Node) -> MakeBody | None:
    """What makes the body of a node, over codes or, for a host island, over reals; None if nothing does."""
    return lookup(node.op).body or (REAL_BODIES if is_real(graph, node) else BODIES).get(node.op)


def _function(graph: Graph, node: Node) -> onnx.FunctionProto:
    op, signature = lookup(node.op), graph.signature(node)
    operands = _operand_names(op, len(node.inputs))
    if node.op == "lstm" and not is_real(graph, node):  # what its optional operands are, attributes say
        operands = list(lstm_names(node.attrs)[: len(node.inputs)])
    body, make = Body(), body_of(graph, node)
    assert make is not None
    results = make(body, signature, *operands)
    return body.function(node.op, operands, results, list(node.attrs), op.doc)


def _operand_names(op: Op, count: int) -> list[str]:
    """The operator's own names, then `prepared_3`, … for what the crossing added."""
    names = [name.rstrip("?") for name in op.operands]
    if any(name.startswith("*") for name in names):
        return [f"x_{position}" for position in range(count)]
    return names[:count] + [f"prepared_{position}" for position in range(len(names), count)]


def _attribute(key: str, value: Attr) -> AttributeProto:
    """An attribute for people and viewers: the body holds its meaning already."""
    if isinstance(value, tuple) and not value:
        return helper.make_attribute(key, [], attr_type=AttributeProto.INTS)
    return helper.make_attribute(key, list(value) if isinstance(value, tuple) else value)
