"""lower-to-integer: the crossing. Reals become codes; multipliers, shifts and tables become constants.

    x.fq  = fake_quantize(x)                  x.fq = quantize(x)
    y.raw = conv1d(x.fq, w.fq, b)     becomes y    = conv1d(x.fq, w, b.i32, y.multiplier, y.shift)
    y     = fake_quantize(y.raw)

After it nothing is float but the boundary (quantize at inputs, dequantize at outputs) and the
islands: nodes the target cannot run, which stay real between a dequantize and a quantize.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from nnaq.errors import LoweringError
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph, Node, State
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Attr, Constant, Prepared, Signature, lookup
from nnaq.ir.types import TensorType
from nnaq.kernels.boundary import code_type, quantize_array
from nnaq.passes.manager import Keeps, Pass
from nnaq.quantize.code_classes import code_classes
from nnaq.quantize.code_types import host_values


@dataclass(frozen=True)
class LowerToInteger(Pass):
    """Turn a fake-quant graph into its integer graph under a numerics contract.

    islands: names of nodes that stay real, on the host.
    """

    name: ClassVar[str] = "lower-to-integer"
    keeps: ClassVar[Keeps] = "types"

    numerics: Numerics = field(default_factory=Numerics)
    islands: frozenset[str] = frozenset()

    def run(self, graph: Graph) -> Graph:
        return _Crossing(graph, self.numerics, self.islands).graph()


class _Crossing:
    """Builds the integer graph. `codes`: integer value by fake-quant value; `by_class`: code types."""

    def __init__(self, graph: Graph, numerics: Numerics, islands: frozenset[str]) -> None:
        self.before, self.numerics, self.islands = graph, numerics, islands
        self.builder = Builder(graph.name)
        self.codes: dict[str, str] = {}
        self.weights: dict[str, np.ndarray] = {}
        self.classes = code_classes(graph)
        self.host = host_values(graph, islands)
        roundings = (n for n in graph.nodes if n.op == "fake_quantize")
        # A rounding of a result is `y.raw -> y`; any other makes a copy of codes that are there already.
        self.rounded = {n.inputs[0]: n for n in roundings if n.inputs[0] == f"{n.outputs[0]}.raw"}
        self.by_class = {
            self.classes[n.outputs[0]]: code_type(n.attrs, ())
            for n in graph.nodes
            if n.op == "fake_quantize" and n.inputs[0] not in graph.constants
        }

    def graph(self) -> Graph:
        graph = self.before
        for port in graph.inputs:
            self.builder.input(port.name, graph.types[port.name], port.time_axis, port.batch_axis)
        for state in graph.states:
            self.codes[state.input] = self.builder.value(state.input, self.kind(state.input))
        for node in graph.nodes:
            self.convert(node)
        for port in graph.outputs:
            name = self.real(port.name, port.name)
            self.builder.output(name, port.time_axis, port.batch_axis)
        for state in graph.states:
            self.carry(state)
        return self.builder.build()

    def kind(self, value: str) -> TensorType:
        """The code type of a value of the fake-quant graph."""
        group = self.classes[value]
        if group not in self.by_class:
            raise LoweringError(f"value {value!r} has no code type; run insert-fake-quant first")
        return self.by_class[group].with_shape(self.before.types[value].shape)

    def convert(self, node: Node) -> None:
        if node.op == "fake_quantize":
            self.round(node)
        elif node.name in self.islands:
            self.island(node)
        else:
            self.lower(node)

    def round(self, node: Node) -> None:
        """A rounding of an input, of a constant, or of codes that have another type already."""
        source, result = node.inputs[0], node.outputs[0]
        if result in self.codes:  # the producer was lowered straight to these codes
            return
        kind = code_type(node.attrs, self.before.types[result].shape)
        if source in self.before.constants:
            array = quantize_array(self.before.constants[source], kind, str(node.attrs["rounding"]))
            self.codes[result] = self.builder.constant(source, array, kind)
            self.weights[result] = array
        elif source in self.codes:
            self.codes[result] = self.rescaled(self.codes[source], kind, self.code_name(result))
        else:
            attrs = {"rounding": node.attrs["rounding"]}
            self.codes[result] = self.quantized(source, attrs, result, kind)

    def rescaled(self, codes: str, kind: TensorType, name: str) -> str:
        signature = Signature((self.builder.types[codes],), (kind,), {})
        prepared = lookup("rescale").prepare(signature, (None,), self.numerics)
        return self.emit(
            Node("rescale", (codes,), (name,), name=f"{name}.rescale"), [codes], prepared, [name], (kind,)
        )[0]

    def lower(self, node: Node) -> None:
        """One node in its integer form, straight to the codes its results are rounded to."""
        op = lookup(node.op)
        targets = [self.target_of(value) for value in node.outputs]
        operands = tuple(self.operand_type(v) for v in node.inputs)
        real_results = tuple(self.before.types[v] for v in node.outputs)
        signature = Signature(operands, real_results, node.attrs)
        exact = op.follow(signature)
        if exact is None and not any(v in self.rounded or v in self.codes for v in node.outputs):
            exact = op.accumulator(signature)
        types = tuple(
            self.result_type(v, t, exact, i)
            for i, (v, t) in enumerate(zip(node.outputs, targets, strict=True))
        )
        constants = tuple(self.constant_of(v) for v in node.inputs)
        try:
            prepared = op.prepare(Signature(operands, types, node.attrs), constants, self.numerics)
        except LoweringError as error:
            where = f" (from {node.source})" if node.source else ""
            raise LoweringError(f"{node.op} {node.name!r}{where}: {error}") from error
        names = [
            self.code_name(t) if kind == self.rounded_type(t) or t == v else v
            for v, t, kind in zip(node.outputs, targets, types, strict=True)
        ]
        made = self.emit(node, [self.codes.get(v, v) for v in node.inputs], prepared, names, types)
        self.codes.update(zip(node.outputs, made, strict=True))
        self.codes.update(
            (target, name)
            for target, name in zip(targets, made, strict=True)
            if self.builder.types[name] == self.rounded_type(target)
        )

    def target_of(self, value: str) -> str:
        """The value that stands for the rounded result: that of its fake_quantize, else itself."""
        return self.rounded[value].outputs[0] if value in self.rounded else value

    def code_name(self, target: str) -> str:
        """Codes take the value's own name, but an output port's name belongs to its reals."""
        return f"{target}.codes" if target in {p.name for p in self.before.outputs} else target

    def rounded_type(self, target: str) -> TensorType | None:
        node = self.before.producer.get(target)
        if node is None or node.op != "fake_quantize":
            return None
        return code_type(node.attrs, self.before.types[target].shape)

    def result_type(
        self, value: str, target: str, exact: tuple[TensorType, ...] | None, position: int
    ) -> TensorType:
        if exact is not None:
            group = self.classes[value]
            self.by_class.setdefault(group, exact[position])
            return exact[position]
        if target != value:
            found = self.rounded_type(target)
            assert found is not None
            return found
        return self.kind(value)

    def operand_type(self, value: str) -> TensorType | None:
        if not value:
            return None
        return self.builder.types[self.codes[value]] if value in self.codes else self.before.types[value]

    def constant_of(self, value: str) -> np.ndarray | None:
        """Codes of a constant operand, or the reals (float64) of a bias."""
        if value in self.weights:
            return self.weights[value]
        found = self.before.constants.get(value)
        return None if found is None else found.astype(np.float64)

    def emit(
        self,
        node: Node,
        inputs: list[str],
        prepared: Prepared,
        names: list[str],
        types: tuple[TensorType, ...],
    ) -> tuple[str, ...]:
        """Add the integer node; the crossing's constants are called `RESULT.NAME`."""
        operands = [
            self.builder.constant(f"{names[0]}.{o.name}", o.value, o.type)
            if isinstance(o, Constant)
            else inputs[o]
            for o in prepared.operands
        ]
        return self.builder.node(node.op, operands, prepared.attrs, names, types, node.name, node.source)

    def island(self, node: Node) -> None:
        """The node as it was, between a dequantize per operand and a quantize per result.

        A result that only the host reads stays as it is.
        """
        inputs = [self.island_operand(v, node) for v in node.inputs]
        raw = [v if v in self.host else f"{self.target_of(v)}.real" for v in node.outputs]
        types = tuple(self.before.types[v] for v in node.outputs)
        made = self.builder.node(node.op, inputs, node.attrs, raw, types, node.name, node.source)
        for value, real in zip(node.outputs, made, strict=True):
            if value in self.host:
                continue
            target = self.target_of(value)
            kind = self.rounded_type(target) or self.kind(value)
            codes = self.quantized(real, {"rounding": "half_even"}, self.code_name(target), kind)
            self.codes[value] = self.codes[target] = codes

    def island_operand(self, value: str, node: Node) -> str:
        """The reals of an activation, or a constant as it was before it was rounded."""
        maker = self.before.producer.get(value)
        source = maker.inputs[0] if maker is not None and maker.op == "fake_quantize" else value
        if source in self.before.constants:
            return self.builder.constant(f"{source}.real", self.before.constants[source])
        return self.real(value, f"{value}.{node.name}.real") if value else value

    def quantized(self, real: str, attrs: Mapping[str, Attr], result: str, kind: TensorType) -> str:
        return self.builder.node("quantize", [real], attrs, [result], [kind], f"{result}.quantize")[0]

    def real(self, value: str, name: str) -> str:
        """The reals of a value: a dequantize of its codes, or the input or constant itself."""
        if value in self.before.constants and value not in self.builder.types:
            return self.builder.constant(value, self.before.constants[value])
        if value not in self.codes:
            return value
        codes = self.codes[value]
        kind = TensorType("f32", self.builder.types[codes].shape)
        return self.builder.node("dequantize", [codes], {}, [name], [kind], f"{name}.dequantize")[0]

    def carry(self, state: State) -> None:
        """The state over codes; its initial reals become codes. What it reads and writes is one class."""
        kind = self.kind(state.input)
        initial = quantize_array(self.before.constants[state.initial], kind)
        codes = self.builder.constant(state.initial, initial, kind)
        self.builder.states.append(replace(state, output=self.codes[state.output], initial=codes))
