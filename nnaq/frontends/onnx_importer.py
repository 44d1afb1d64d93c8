"""The walk over a simplified ONNX graph: one handler per node, every complaint collected.

A handler (onnx_handlers, onnx_layers) is a function of a `Call`: it reads the node's operands and
binds its results to values of the graph under construction. A handler that cannot raises
`Unsupported`; the walk records it and goes on with a stand-in of the shape that ONNX gives, so
that one run lists all that is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from nnaq.errors import FrontendError, GraphError
from nnaq.frontends.ports import Names, Problem, Unsupported, symbol
from nnaq.ir.build import Builder
from nnaq.ir.dims import Dim, Shape
from nnaq.ir.op import Attr
from nnaq.ir.types import TensorType

Handler = Callable[["Call"], None]
Refusal = Callable[[onnx.NodeProto], Problem]


@dataclass
class Walk:
    """State of one import. ONNX values are known by their ONNX names until they are bound.

    arrays  constants, as the file holds them
    dims    small integer vectors that hold sizes, possibly symbolic (results of Shape)
    values  ONNX name -> name in the graph
    """

    builder: Builder
    graph: onnx.GraphProto
    names: Names
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    dims: dict[str, tuple[Dim, ...]] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.arrays |= {held.name: numpy_helper.to_array(held) for held in self.graph.initializer}
        self.declared = {port.name: port for port in (*self.graph.value_info, *self.graph.output)}
        self.wanted = {port.name for port in self.graph.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        self._constants: dict[tuple[str, str], str] = {}
        self._reserved = {name: self.names.fresh(name) for name in self.wanted}
        for node in self.graph.node:
            for value in node.input:
                self.readers.setdefault(value, []).append(node)

    def run(self, handlers: Mapping[str, Handler], refuse: Refusal) -> None:
        """Import every node; what fails is in `problems` afterwards."""
        for node in self.graph.node:
            if id(node) in self.skipped:
                continue
            if not self._is_ready(node):
                self._complain(node, handlers, refuse)
                continue
            handler = handlers.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            try:
                if handler is None:
                    self._fail(node, refuse(node))
                else:
                    handler(Call(self, node))
                    self._compare(node)
            except Unsupported as error:
                self._fail(node, problem(node, str(error), error.hint))
            except GraphError as error:
                self._fail(node, problem(node, str(error)))

    def _is_ready(self, node: onnx.NodeProto) -> bool:
        return all(v in self.values or v in self.arrays or v in self.dims for v in node.input if v)

    def _complain(self, node: onnx.NodeProto, handlers: Mapping[str, Handler], refuse: Refusal) -> None:
        """A node behind one that failed: report it only if its operator is unknown as well."""
        if node.op_type not in handlers:
            self._fail(node, refuse(node))

    def _fail(self, node: onnx.NodeProto, found: Problem) -> None:
        self.problems.append(found)
        for value in filter(None, node.output):
            shape = self.declared_shape(value)
            if value not in self.values and shape is not None:
                self.values[value] = self.builder.value(self.name_of(value), TensorType("f32", shape))

    def _compare(self, node: onnx.NodeProto) -> None:
        """The shapes of the results must be those of the file where both are known."""
        for value in filter(None, node.output):
            declared = self.declared_shape(value)
            if value not in self.values or declared is None:
                continue
            shape = self.shape_of(value)
            whole = [
                (a, b)
                for a, b in zip(shape, declared, strict=False)
                if isinstance(a, int) and isinstance(b, int)
            ]
            if len(shape) != len(declared) or any(a != b for a, b in whole):
                raise FrontendError(
                    f"{node.op_type} {node.name!r} makes {value!r} of shape {list(shape)}, but the file says "
                    f"{list(declared)}; give the shapes of the inputs, or export the model again"
                )

    def declared_shape(self, value: str) -> Shape | None:
        """What the file says about the shape of a value."""
        port = self.declared.get(value)
        if port is None or not port.type.tensor_type.HasField("shape"):
            return None
        dims = port.type.tensor_type.shape.dim
        return tuple(d.dim_value if d.HasField("dim_value") else symbol(d.dim_param) for d in dims)

    def shape_of(self, value: str) -> Shape:
        """The shape of an ONNX value."""
        if value in self.arrays:
            return self.arrays[value].shape
        return self.builder.types[self.values[value]].shape

    def name_if_reserved(self, value: str) -> str:
        """The name an output still waits for, because its value has another one."""
        return self._reserved.pop(value, "")

    def name_of(self, value: str) -> str:
        """The graph's name for a result that ONNX calls `value`."""
        return self._reserved.pop(value, "") or self.names.fresh(value)

    def constant(self, value: str, form: str, array: np.ndarray) -> str:
        """A constant of the graph made from the ONNX constant `value`; one for each form of it."""
        key = (value, form)
        if key not in self._constants:
            name = self.names.fresh(value)
            self._constants[key] = self.builder.constant(name, np.asarray(array, np.float32))
        return self._constants[key]

    def operand(self, value: str) -> str:
        """The graph's name for an operand; constants become constants of the graph."""
        if value in self.values:
            return self.values[value]
        if value in self.arrays and self.arrays[value].dtype.kind == "f":
            return self.constant(value, "", self.arrays[value])
        raise Unsupported(f"its operand {value!r} holds no real numbers")


def problem(node: onnx.NodeProto, reason: str, hint: str = "") -> Problem:
    """A complaint about a node."""
    return Problem(node.name or node.output[0], node.op_type, reason, hint)


class Call:
    """One ONNX node as its handler sees it."""

    def __init__(self, walk: Walk, node: onnx.NodeProto) -> None:
        self.walk = walk
        self.node = node
        self.attrs = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

    def has(self, position: int) -> bool:
        """Whether an optional operand is there."""
        return position < len(self.node.input) and bool(self.node.input[position])

    def shape(self, position: int = 0) -> Shape:
        return self.walk.shape_of(self.node.input[position])

    def operand(self, position: int = 0) -> str:
        return self.walk.operand(self.node.input[position])

    def array(self, position: int) -> np.ndarray | None:
        """The value of a constant operand, None if it is absent or not constant."""
        return self.walk.arrays.get(self.node.input[position]) if self.has(position) else None

    def need(self, position: int, what: str) -> np.ndarray:
        """The value of an operand that has to be constant."""
        array = self.array(position)
        if array is None:
            raise Unsupported(
                f"its {what} is not a constant", "pin inputs or fix shapes so that it becomes one"
            )
        return array

    def integers(self, position: int, key: str) -> tuple[int, ...] | None:
        """Whole numbers from a constant operand or, in older opsets, from an attribute."""
        if self.has(position):
            return tuple(int(v) for v in np.atleast_1d(self.need(position, key)))
        return tuple(self.attrs[key]) if key in self.attrs else None

    def word(self, key: str, default: str) -> str:
        """A text attribute."""
        value = self.attrs.get(key)
        return default if value is None else str(value, "utf-8")

    def constant(self, position: int, form: str, array: np.ndarray) -> str:
        return self.walk.constant(self.node.input[position], form, array)

    def weight(self, name: str, array: np.ndarray) -> str:
        """A constant that stands for no single operand of the node."""
        value = f"{name}" if name else self.node.output[0]
        return self.walk.constant(value, "made", array)

    def step(
        self, op: str, inputs: Sequence[str], attrs: Mapping[str, Attr] | None = None, stem: str = ""
    ) -> str:
        """Add a node whose result ONNX does not know; return its name."""
        name = self.walk.names.fresh(f"{stem or self.node.output[0]}.{op}")
        return self.walk.builder.node(op, inputs, attrs, [name], source=self.source)[0]

    def result(
        self, op: str, inputs: Sequence[str], attrs: Mapping[str, Attr] | None = None, output: str = ""
    ) -> None:
        """Add the node that makes an output (the first one, unless named)."""
        value = output or self.node.output[0]
        name = self.walk.name_of(value)
        self.bind(self.walk.builder.node(op, inputs, attrs, [name], source=self.source)[0], value)

    def bind(self, value: str, output: str = "") -> None:
        """Let an output stand for a value that is there already."""
        self.walk.values[output or self.node.output[0]] = value

    def type_shape(self, value: str) -> Shape:
        """The shape of a value of the graph."""
        return self.walk.builder.types[value].shape

    @property
    def source(self) -> str:
        return str(self.node.name or self.node.output[0])

    def follower(self, op: str) -> "Call | None":
        """The one node that reads the first result, if it is an `op` and nothing else needs the result."""
        value = self.node.output[0]
        readers = self.walk.readers.get(value, [])
        if value in self.walk.wanted or len(readers) != 1 or readers[0].op_type != op:
            return None
        return Call(self.walk, readers[0]) if list(readers[0].input).count(value) == 1 else None

    def absorb(self, follower: "Call") -> None:
        """Let this node do the work of `follower` as well."""
        self.walk.skipped.add(id(follower.node))
        self.node = _with_output(self.node, follower.node.output[0])


def _with_output(node: onnx.NodeProto, output: str) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.output[0] = output
    return copy
