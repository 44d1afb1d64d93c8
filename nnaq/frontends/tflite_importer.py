"""The walk over a TFLite file: values, variables, and nodes prepared in integers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.errors import GraphError, LoweringError, OpError
from nnaq.frontends.ports import Names, Problem, Unsupported
from nnaq.frontends.tflite_model import DAMAGE, File, Operator, Tensor
from nnaq.frontends.tflite_versions import NEWEST
from nnaq.ir.build import Builder
from nnaq.ir.numerics import Numerics, Rounding
from nnaq.ir.op import Attr, Constant, Signature, lookup
from nnaq.ir.types import TensorType

Handler = Callable[["Call"], None]


@dataclass
class Variable:
    """A state: its name and input, its value so far in this step, what it is when the step begins."""

    name: str
    input: str
    value: str
    initial: np.ndarray


@dataclass
class Walk:
    """State of one import.

    values     graph names by tensor
    variables  by shared name, or by the tensor that an operator keeps
    handles    shared names by the resource tensor that stands for them
    lost       tensors that a node which failed would have made
    """

    builder: Builder
    names: Names
    file: File
    values: dict[int, str] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    handles: dict[int, str] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def run(self, node: Operator, handler: Handler | None) -> None:
        """Import a node; what fails is in `problems` afterwards."""
        lost = any(tensor.index in self.lost for tensor in node.inputs if tensor is not None)
        try:
            if not lost:
                self._check(node)
                assert handler is not None
                handler(Call(self, node))
        except Unsupported as error:
            self._fail(node, str(error), error.hint)
        except (GraphError, LoweringError, OpError) as error:
            self._fail(node, str(error))
        except DAMAGE as error:
            self._fail(node, f"what the file says of it does not fit together: {error}", "is it damaged?")
        if lost:
            self.lost |= {tensor.index for tensor in node.outputs}

    def _check(self, node: Operator) -> None:
        """Raise Unsupported for an operator, a version of it, or an order of nodes that is not read."""
        if node.op not in NEWEST:
            raise Unsupported(
                "this operator is not read with the integers of tflite-micro",
                "leave it to the code around the model, or export the model to ONNX and lower it",
            )
        if not 1 <= node.version <= NEWEST[node.op]:
            raise Unsupported(
                f"version {node.version} of it is not known, the newest that is read is {NEWEST[node.op]}",
                "convert the model with an older converter",
            )
        for tensor in node.inputs:
            if tensor is not None and not self.is_known(tensor):
                raise Unsupported(f"its operand {tensor.name!r} is read before anything makes it")

    def _fail(self, node: Operator, reason: str, hint: str = "") -> None:
        where = node.outputs[0].name if node.outputs else f"operator {node.place}"
        self.problems.append(Problem(where, node.op, reason, hint))
        self.lost |= {tensor.index for tensor in node.outputs}

    def is_known(self, tensor: Tensor) -> bool:
        if tensor.data is not None or tensor.is_variable:
            return True
        return tensor.index in self.values or tensor.index in self.handles

    def name(self, tensor: Tensor) -> str:
        return self.names.fresh(tensor.name)

    def port(self, tensor: Tensor) -> TensorType:
        """The type of a port: codes, or reals that a QUANTIZE reads or a DEQUANTIZE makes."""
        if tensor.dtype == "FLOAT32" and tensor.kind is not None:
            return tensor.kind
        return self.kind(tensor)

    def kind(self, tensor: Tensor) -> TensorType:
        """The code type of a tensor. Raises Unsupported for reals and for codes without a scale."""
        if tensor.kind is None or tensor.kind.dtype not in ("i8", "i16", "i32"):
            raise Unsupported(f"{tensor.name!r} is {tensor.dtype}", "quantise the model to int8 or int16")
        if tensor.kind.quant is None:
            raise Unsupported(f"{tensor.name!r} has no scale", "quantise the model in full, its edges too")
        return tensor.kind

    def state(self, name: str, tensor: Tensor, initial: np.ndarray | None = None) -> Variable:
        """The state of that name, made when it is first asked for; it starts at its zero_point."""
        if name not in self.variables:
            kind = self.kind(tensor)
            sizes = tuple(int(n) for n in kind.shape)
            start = np.full(sizes, kind.zero_point) if initial is None else initial
            if start.shape != sizes:
                raise Unsupported(f"variable {name!r} is {sizes} but starts as {start.shape}")
            value = self.builder.value(self.names.fresh(name), kind)
            self.variables[name] = Variable(value, value, value, start)
        return self.variables[name]

    def output(self, tensor: Tensor) -> str:
        """The value of an output port, under the tensor's name; a port needs a value that a node makes."""
        builder, value = self.builder, self.values[tensor.index]
        taken = {p.name for p in builder.outputs} | {v.input for v in self.variables.values()}
        if value in taken | {p.name for p in builder.inputs} | set(builder.constants):
            kind = builder.types[value]
            attrs: dict[str, Attr] = {"shape": tuple(int(n) for n in kind.shape)}
            return builder.node("reshape", [value], attrs, [self.name(tensor)], [kind])[0]
        return self._rename(value, self.name(tensor))

    def _rename(self, old: str, new: str) -> str:
        """Give a value another name, everywhere."""
        builder = self.builder
        builder.types[new] = builder.types.pop(old)
        for place, node in enumerate(builder.nodes):
            inputs, outputs = (
                tuple(new if v == old else v for v in ends) for ends in (node.inputs, node.outputs)
            )
            name = new if node.name == old else node.name
            builder.nodes[place] = replace(node, inputs=inputs, outputs=outputs, name=name)
        self.values = {index: new if v == old else v for index, v in self.values.items()}
        for variable in self.variables.values():
            variable.value = new if variable.value == old else variable.value
        return new


class Call:
    """One node as its handler sees it."""

    def __init__(self, walk: Walk, node: Operator) -> None:
        self.walk, self.node, self.options = walk, node, node.options
        self.source = node.outputs[0].name if node.outputs else node.op

    def has(self, position: int) -> bool:
        return position < len(self.node.inputs) and self.node.inputs[position] is not None

    def tensor(self, position: int) -> Tensor:
        found = self.node.inputs[position] if position < len(self.node.inputs) else None
        if found is None:
            raise Unsupported(f"its operand {position} is missing")
        return found

    def value(self, position: int = 0) -> str:
        """The graph's name of an operand; a constant becomes one of the graph."""
        tensor = self.tensor(position)
        if tensor.index not in self.walk.values:
            if tensor.data is None:
                raise Unsupported(f"its operand {tensor.name!r} has no value")
            made = self.walk.builder.constant(self.walk.name(tensor), tensor.data, self.walk.kind(tensor))
            self.walk.values[tensor.index] = made
        return self.walk.values[tensor.index]

    def array(self, position: int) -> np.ndarray:
        """The value of an operand that has to be constant."""
        data = self.tensor(position).data
        if data is None:
            raise Unsupported(f"its operand {self.tensor(position).name!r} is computed, not constant")
        return data

    def numbers(self, position: int) -> tuple[int, ...]:
        """A constant operand as whole numbers."""
        return tuple(int(n) for n in self.array(position).ravel())

    def kind(self, position: int = 0) -> TensorType:
        return self.walk.kind(self.tensor(position))

    @property
    def result(self) -> TensorType:
        return self.walk.kind(self.node.outputs[0])

    def weight(self, position: int, array: np.ndarray, kind: TensorType) -> str:
        """A constant of the graph in another layout than the file's."""
        return self.walk.builder.constant(self.walk.name(self.tensor(position)), array, kind)

    def step(
        self,
        op: str,
        inputs: Sequence[str],
        attrs: Mapping[str, Attr],
        kind: TensorType,
        reals: Mapping[int, np.ndarray] | None = None,
        own: Mapping[str, np.ndarray] | None = None,
        rounding: Rounding = "double",
    ) -> str:
        """A node in its integer form. kind: the result's codes; its shape is inferred."""
        return self.steps(op, inputs, attrs, [kind], reals, own, rounding)[0]

    def steps(
        self,
        op: str,
        inputs: Sequence[str],
        attrs: Mapping[str, Attr],
        kinds: Sequence[TensorType],
        reals: Mapping[int, np.ndarray] | None = None,
        own: Mapping[str, np.ndarray] | None = None,
        rounding: Rounding = "double",
    ) -> tuple[str, ...]:
        """A node of several results.

        reals: real operands by position (a bias), behind the inputs. own: TFLite's own constants, by
        the name of the prepared ones they stand for; others come after those.
        """
        builder, reals, own = self.walk.builder, reals or {}, dict(own or {})
        types = [builder.types[v] for v in inputs]
        types += [TensorType("f32", array.shape) for array in reals.values()]
        shapes = lookup(op).infer(tuple(types), attrs)
        results = tuple(kind.with_shape(shape) for kind, shape in zip(kinds, shapes, strict=True))
        constants = (*(builder.constants.get(v) for v in inputs), *reals.values())
        signature = Signature(tuple(types), results, attrs)
        prepared = lookup(op).prepare(signature, constants, Numerics(rounding, "half_away"))
        name = self.walk.names.fresh(f"{self.source}.{op}")
        operands = []
        for operand in prepared.operands:
            if not isinstance(operand, Constant):
                operands.append(inputs[operand])
                continue
            array = own.pop(operand.name, operand.value)
            type_ = TensorType(operand.type.dtype, array.shape, operand.type.quant)
            operands.append(builder.constant(f"{name}.{operand.name}", array, type_))
        operands += [builder.constant(f"{name}.{word}", array) for word, array in own.items()]
        names = [name, *(f"{name}.{n}" for n in range(1, len(results)))]
        return builder.node(op, operands, prepared.attrs, names, results, source=self.source)

    def bind(self, value: str, position: int = 0) -> None:
        """Let a result stand for a value of the graph. Raises Unsupported where their types differ."""
        found, wanted = self.walk.builder.types[value], self.walk.port(self.node.outputs[position])
        if (found.dtype, found.shape, found.quant) != (wanted.dtype, wanted.shape, wanted.quant):
            raise Unsupported(f"it makes {found}, but the file says {wanted}")
        self.walk.values[self.node.outputs[position].index] = value

    def make(self, op: str, inputs: Sequence[str], attrs: Mapping[str, Attr] | None = None) -> None:
        """The node that makes the result."""
        self.bind(self.step(op, inputs, attrs or {}, self.result))

    def same_codes(self, *positions: int) -> None:
        """Raise Unsupported where an operand has other codes than the result: nothing would rescale it."""
        for position in positions or range(len(self.node.inputs)):
            kind, result = self.kind(position), self.result
            if (kind.dtype, kind.quant) != (result.dtype, result.quant):
                raise Unsupported(
                    f"operand {self.tensor(position).name!r} has the codes {kind}, its result {result}, and "
                    "TFLite does not rescale between them",
                    "put a QUANTIZE before it",
                )

    def only_int8(self) -> None:
        """Raise Unsupported where a node computes with anything but int8."""
        kinds = {self.kind(i).dtype for i in range(len(self.node.inputs)) if self.has(i)}
        if kinds | {self.result.dtype} != {"i8"}:
            raise Unsupported(f"it computes with {', '.join(sorted(kinds))}", "int8 is read")
