"""The real graph with its roundings as float ONNX; what a rounding becomes is the format's own.

Fully connected layers, sigmoids and plain LSTMs are standard operators of the file, their weights turned
beforehand; every other operator is the body that `bodies_real` has for it, written out in place. States are
inputs and outputs of the file, named with the first value of each in the metadata `nnaq.states`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper

from nnaq.errors import ArtifactError
from nnaq.export.body_builder import DOMAIN, OPSET
from nnaq.export.functions import Functions, body_of
from nnaq.export.onnx import IR_VERSION, value_infos
from nnaq.ir.graph import Graph, Node
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels import lstm_numbers
from nnaq.kernels.boundary import code_type, quantize_array

ROUNDED = ("i4", "i8", "i16")
GATES = (0, 3, 1, 2)  # ONNX's order i, o, f, c of nnaq's i, f, g, o
Order = Callable[[np.ndarray], np.ndarray]


class Weight(NamedTuple):
    """Codes of a constant and their type, under the constant's name."""

    name: str
    codes: np.ndarray
    kind: TensorType

    @property
    def scales(self) -> np.ndarray:
        """A float32 scale per code."""
        assert self.kind.quant is not None
        return np.broadcast_to(self.kind.quant.scales(self.codes.ndim).astype(np.float32), self.codes.shape)

    def turned(self, order: Order, axis: int) -> "Weight":
        """The codes in another order, their channels along `axis`."""
        codes, quant = order(self.codes), self.kind.quant
        assert quant is not None
        if quant.axis is not None:
            scales = np.moveaxis(order(self.scales), axis, 0).reshape(codes.shape[axis], -1)[:, 0]
            quant = Quant(tuple(scales.astype(np.float64).tolist()), quant.zero_point, axis)
        return Weight(self.name, codes, TensorType(self.kind.dtype, codes.shape, quant, self.kind.palette))


class FakeWriter(ABC):
    """Collects nodes and initializers. A format says what `round` and `weight` write."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.functions = graph, Functions(graph)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.weights: dict[str, Weight] = {}
        self.written: set[str] = set()

    @abstractmethod
    def round(self, source: str, result: str, kind: TensorType) -> None:
        """Write the rounding of a value to codes of a type."""

    @abstractmethod
    def weight(self, weight: Weight, result: str) -> None:
        """Write a weight whose reals are `result`."""

    def model(self, opset: int, domains: Mapping[str, int] | None = None) -> onnx.ModelProto:
        """The whole file. Raises ArtifactError that lists what cannot be written.

        opset: of the standard operators, 19 or later: bodies over reals use nothing newer.
        domains: versions of other ones.
        """
        _refuse_what_has_no_body(self.graph)
        for node in self.graph.nodes:
            self.copy(node)
        sources, results = value_infos(self.graph)
        for name in {v.name for v in results} - {v for node in self.nodes for v in node.output}:
            raise ArtifactError(f"output {name!r} of graph {self.graph.name!r} is an input as it stands")
        main = helper.make_graph(self.nodes, self.graph.name, sources, results, [*self.initializers.values()])
        imports = [helper.make_opsetid(*one) for one in (("", OPSET), (DOMAIN, 1))]
        made = helper.make_model(
            main, functions=self.functions.made, opset_imports=imports, ir_version=IR_VERSION,
            producer_name="nnaq",
        )  # fmt: skip
        made = inliner.inline_local_functions(made)
        del made.opset_import[:]
        made.opset_import.extend(helper.make_opsetid(*one) for one in (("", opset), *(domains or {}).items()))
        helper.set_model_props(made, {"nnaq.states": _states(self.graph)})
        return made

    def copy(self, node: Node) -> None:
        """Add a node of the graph."""
        direct = DIRECT.get(node.op)
        if node.op == "fake_quantize":
            self._rounding(node)
        elif direct is None or not direct(self, node):
            for value in node.inputs:
                self.whole(value)
            self.nodes.append(self.functions.call(node))

    def _rounding(self, node: Node) -> None:
        """A constant's codes wait until their reader says how they lie; a value is rounded here."""
        (source,), (result,) = node.inputs, node.outputs
        kind = code_type(node.attrs, self.graph.types[source].shape)
        if source in self.graph.constants and kind.dtype in ROUNDED:
            codes = quantize_array(self.graph.constants[source], kind)
            self.weights[result] = Weight(source, codes, kind)
        elif kind.dtype in ROUNDED:
            self.round(source, result, kind)
        else:
            self.add("Identity", [self.whole(source)], result)

    def whole(self, value: str) -> str:
        """A value that a node reads as it is."""
        if value in self.weights:
            return self._once(value, lambda: self.weight(self.weights[value], value))
        if value in self.graph.constants:
            self.constant(value, self.graph.constants[value])
        return value

    def turned(self, value: str, order: Order, axis: int = 0) -> str:
        """A constant, a weight or any other, in another order; the channels of a weight along `axis`."""
        result = f"{value}.turned"
        if value in self.weights:
            weight = self.weights[value].turned(order, axis)
            return self._once(result, lambda: self.weight(weight, result))
        self.constant(result, order(self.graph.constants[value]))
        return result

    def _once(self, result: str, write: Callable[[], None]) -> str:
        if result not in self.written:
            self.written.add(result)
            write()
        return result

    def constant(self, name: str, array: np.ndarray) -> str:
        self.initializers[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def add(self, op: str, inputs: Sequence[str], *outputs: str, **attrs: object) -> str:
        """A standard operator, named after its first result."""
        self.nodes.append(helper.make_node(op, list(inputs), list(outputs), f"{outputs[0]}:{op}", **attrs))
        return outputs[0]


def _refuse_what_has_no_body(graph: Graph) -> None:
    own = {"fake_quantize", *DIRECT}
    missing = [f"{n.op} {n.name!r}" for n in graph.nodes if n.op not in own and body_of(graph, n) is None]
    if missing:
        raise ArtifactError(
            f"graph {graph.name!r} cannot be written as float ONNX: no body for {', '.join(missing)}"
        )


def _states(graph: Graph) -> str:
    """JSON: {state: {input, output, initial}}, the first value as nested lists of reals."""
    return json.dumps(
        {
            s.name: {"input": s.input, "output": s.output, "initial": graph.constants[s.initial].tolist()}
            for s in graph.states
        }
    )


# --- operators that stand in the file as they are


def _fully_connected(writer: FakeWriter, node: Node) -> bool:
    """MatMul, Add, Relu."""
    x, weight, *bias = node.inputs
    if weight not in writer.weights:
        return False
    (y,) = node.outputs
    relu, biased = node.attrs.get("activation") == "relu", any(bias)
    product = f"{y}.product" if biased or relu else y
    writer.add("MatMul", [writer.whole(x), writer.turned(weight, np.transpose, 1)], product)
    if biased:
        product = writer.add("Add", [product, writer.whole(bias[0])], f"{y}.sum" if relu else y)
    if relu:
        writer.add("Relu", [product], y)
    return True


def _sigmoid(writer: FakeWriter, node: Node) -> bool:
    writer.add("Sigmoid", [writer.whole(node.inputs[0])], node.outputs[0])
    return True


def _lstm(writer: FakeWriter, node: Node) -> bool:
    """LSTM without projection, normalisation and coupled gates: gates in ONNX's order, two biases."""
    x, h, c, *weights = node.inputs
    bias, *variants = (*weights[2:], "", "", "", "")[:4]
    if any(variants) or lstm_numbers.is_coupled(node.attrs) or not {*weights[:2]} <= writer.weights.keys():
        return False
    operands = [writer.whole(x), *(writer.turned(w, _rows_of_gates, 1) for w in weights[:2])]
    operands.append(writer.turned(bias, _two_biases) if bias else "")
    y = node.outputs[0]
    front = writer.constant(f"{y}.front", np.array([0]))
    states = [writer.add("Unsqueeze", [v, front], f"{y}.{word}") for v, word in ((h, "h0"), (c, "c0"))]
    made = [f"{y}.all", f"{y}.last_h", f"{y}.last_c"]
    units = writer.graph.types[h].shape[-1]
    writer.add("LSTM", [*operands, "", *states], *made, hidden_size=units)
    second = writer.constant(f"{y}.second", np.array([1]))
    for value, result, axis in zip(made, node.outputs, (second, front, front), strict=True):
        writer.add("Squeeze", [value, axis], result)
    return True


def _reordered(array: np.ndarray) -> np.ndarray:
    gates = np.split(array, len(GATES))
    return np.concatenate([gates[gate] for gate in GATES])


def _rows_of_gates(array: np.ndarray) -> np.ndarray:
    return _reordered(array)[None]


def _two_biases(bias: np.ndarray) -> np.ndarray:
    return np.concatenate([_reordered(bias), np.zeros_like(bias)])[None]


DIRECT: dict[str, Callable[[FakeWriter, Node], bool]] = {
    "fully_connected": _fully_connected,
    "lstm": _lstm,
    "sigmoid": _sigmoid,
}
