"""insert-fake-quant: explicit rounding to the codes every value will have.

    y = conv1d(x, w, b)
becomes
    w.fq  = fake_quantize(w) {dtype="i8", axis=0, …}
    y.raw = conv1d(x, w.fq, b)
    y     = fake_quantize(y.raw) {dtype="i8", …}

The result is still a graph over the reals: runnable, comparable, trainable. Values that only move
(reshape, slice, relu) and exact results (a square, a sum of squares in i32) need no rounding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from nnaq.errors import PassError
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import Op, Signature, lookup
from nnaq.ir.types import TensorType
from nnaq.kernels.boundary import quantize_attrs
from nnaq.passes.manager import Keeps, Pass
from nnaq.quantize.calibrate import Ranges
from nnaq.quantize.code_classes import code_classes, demands
from nnaq.quantize.scales import activation_quant, weight_type


@dataclass(frozen=True)
class InsertFakeQuant(Pass):
    """Give every value codes and mark with fake_quantize where they are rounded.

    ranges: what calibration saw. activations: dtype of activations (`i8` or `i16`). dtypes: other
    dtypes by value. exact: values whose range was chosen, not observed. weight_bits: 8 or 4.
    rounding: tie rule of the graph's input quantisers. islands: names of nodes that will stay real.
    """

    name: ClassVar[str] = "insert-fake-quant"
    keeps: ClassVar[Keeps] = "types"

    ranges: Ranges
    activations: str = "i8"
    dtypes: Mapping[str, str] = field(default_factory=dict)
    exact: frozenset[str] = frozenset()
    weight_bits: int = 8
    rounding: str = "half_even"
    islands: frozenset[str] = frozenset()

    def run(self, graph: Graph) -> Graph:
        kinds = choose_types(graph, self)
        return _Inserter(graph, kinds, self.rounding).graph()


def choose_types(graph: Graph, choice: InsertFakeQuant) -> dict[str, TensorType]:
    """The code type of every value of a real graph; biases and other real operands have none."""
    unknown = sorted((choice.dtypes.keys() | choice.exact) - graph.types.keys())
    if unknown:
        raise PassError(f"dtypes name {', '.join(unknown)}, which graph {graph.name!r} does not have")
    return _Chooser(graph, choice).types()


class _Chooser:
    """Walks the graph in order and gives each class of values its code type."""

    def __init__(self, graph: Graph, choice: InsertFakeQuant) -> None:
        self.graph, self.choice = graph, choice
        self.classes, self.demands = code_classes(graph), demands(graph)
        self.members: dict[str, list[str]] = {}
        for value, group in self.classes.items():
            self.members.setdefault(group, []).append(value)
        self.dtypes = {self.classes[v]: dtype for v, dtype in choice.dtypes.items()}
        self.by_class: dict[str, TensorType] = {}
        left = (node for node in graph.nodes if node.name in choice.islands)
        self.rounded = {self.classes[v] for node in left for v in node.outputs}

    def types(self) -> dict[str, TensorType]:
        found = {v: self.of(v) for v in sorted(self.graph.sources - self.graph.constants.keys())}
        for node in self.graph.nodes:
            found |= self.constants(node, found)
            exact = self.exact(node, found)
            if exact is not None:
                self.by_class[self.classes[node.outputs[0]]] = exact[0]
            found |= {v: self.of(v) for v in node.outputs}
        return found | {state.initial: self.of(state.initial) for state in self.graph.states}

    def of(self, value: str) -> TensorType:
        """The code type of an activation: its class's, in the value's own shape."""
        group = self.classes[value]
        if group not in self.by_class:
            demand = self.demands.get(group, "")
            self.must_suit(value, demand)
            dtype = demand.split(" ")[0] or self.dtypes.get(group, self.choice.activations)
            exact = self.choice.exact.intersection(self.members[group])
            low, high = self.choice.ranges.union(exact or self.members[group])
            quant = activation_quant(low, high, dtype, "power_of_two" in demand, bool(exact))
            self.by_class[group] = TensorType(dtype, (), quant)
        return self.by_class[group].with_shape(self.graph.types[value].shape)

    def must_suit(self, value: str, demand: str) -> None:
        """Raise PassError where a dtype was chosen that the operators around the value cannot take."""
        chosen = self.dtypes.get(self.classes[value], "i16")
        if demand and chosen != demand.split(" ")[0]:
            raise PassError(f"value {value!r} must be {demand}, as its operator insists, not {chosen}")

    def constants(self, node: Node, found: Mapping[str, TensorType]) -> dict[str, TensorType]:
        """Types of a node's constant operands: weights per channel, others like activations."""
        op, made = lookup(node.op), {}
        for position, value in enumerate(node.inputs):
            if value not in self.graph.constants or position in op.reals:
                continue
            if position in op.weights:
                floor = bias_floor(self.graph, node, op, found)
                made[value] = weight_type(
                    self.graph.constants[value],
                    op.weights[position],
                    floor,
                    2 ** (self.choice.weight_bits - 1) - 1,
                )
            else:
                made[value] = self.of(value)
        return made

    def exact(self, node: Node, found: Mapping[str, TensorType]) -> tuple[TensorType, ...] | None:
        """Types that follow from the operands, if every reader can take them."""
        op = lookup(node.op)
        operands = tuple(found.get(v) if v else None for v in node.inputs)
        results = tuple(self.graph.types[v] for v in node.outputs)
        types = op.follow(Signature(operands, results, node.attrs))
        if types is None or any(self.classes[v] in self.rounded for v in node.outputs):
            return None  # an island hands out reals, which are rounded to i8 or i16
        fits = all(self.readable(v, t.dtype) for v, t in zip(node.outputs, types, strict=True))
        return types if fits else None

    def readable(self, value: str, dtype: str) -> bool:
        """Whether every node that reads a member of the value's class has a form for `dtype`."""
        group = self.classes[value]
        if any(self.classes[v] == group for v in self.graph.results):
            return False
        return all(
            reads(lookup(node.op), node.inputs.index(member), dtype)
            for member in self.members[group]
            for node in self.graph.readers.get(member, ())
        )


def reads(op: Op, position: int, dtype: str) -> bool:
    """Whether some integer form of `op` takes `dtype` at an operand position."""
    operands = (form.split(" -> ")[0].split(" ") for form in op.forms)
    return any(position < len(names) and names[position] == dtype for names in operands)


def bias_floor(graph: Graph, node: Node, op: Op, found: Mapping[str, TensorType]) -> np.ndarray | None:
    """Least weight scales that keep round(bias / (scale_x * scale_w)) below 2^29."""
    biases = [node.inputs[p] for p in op.reals if p < len(node.inputs) and node.inputs[p]]
    if not biases:
        return None
    bias = np.abs(graph.constants[biases[0]].astype(np.float64))
    return np.asarray(bias / (found[node.inputs[0]].scale * 2.0**29))


class _Inserter:
    """Copies the graph with fake_quantize nodes; `.raw` is a result before it is rounded."""

    def __init__(self, graph: Graph, kinds: Mapping[str, TensorType], rounding: str) -> None:
        self.before, self.kinds, self.rounding = graph, kinds, rounding
        self.types = dict(graph.types)
        self.nodes: list[Node] = []
        self.renamed: dict[str, str] = {}

    def graph(self) -> Graph:
        for port in self.before.inputs:
            self.quantized(port.name, self.rounding)
        for node in self.before.nodes:
            self.copy(node)
        return self.before.rebuilt(tuple(self.nodes), types=self.types)

    def copy(self, node: Node) -> None:
        op = lookup(node.op)
        for position, value in enumerate(node.inputs):
            if value in self.before.constants and position not in op.reals and value not in self.renamed:
                self.quantized(value, "half_even")
        inputs = tuple(self.renamed.get(v, v) for v in node.inputs)
        rounded = [v for v in node.outputs if not op.moves and self.kinds[v].dtype != "i32"]
        raw = tuple(f"{v}.raw" if v in rounded else v for v in node.outputs)
        self.nodes.append(replace(node, inputs=inputs, outputs=raw))
        for value in rounded:
            self.types[f"{value}.raw"] = self.types[value]
            self.round(f"{value}.raw", value, self.kinds[value], "half_even")

    def quantized(self, value: str, rounding: str) -> None:
        """Round an input or a constant; its readers will read the rounded copy."""
        self.renamed[value] = f"{value}.fq"
        self.types[f"{value}.fq"] = self.types[value]
        self.round(value, f"{value}.fq", self.kinds[value], rounding)

    def round(self, source: str, result: str, kind: TensorType, rounding: str) -> None:
        name = f"{result}.fake_quantize"
        self.nodes.append(Node("fake_quantize", (source,), (result,), quantize_attrs(kind, rounding), name))
