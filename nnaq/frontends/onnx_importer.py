"""The walk over a simplified ONNX graph: one handler per node, every complaint collected.

A handler (onnx_handlers lists them all) is a function of a `Call`: it reads the node's operands
and binds its results to values of the graph under construction. A handler that cannot raises
`Unsupported`; the walk records it and goes on with a stand-in of the shape that ONNX gives, so
that one run lists all that is missing.

Whole numbers and truth values of ONNX ride as reals, 0, 1, 2 and 0, 1; `Call.kind` says what a
value was in the file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from nnaq.errors import FrontendError, GraphError
from nnaq.frontends.foreign import attributes, foreign
from nnaq.frontends.onnx_constants import (
    REGROUPED,
    TRANSPOSED,
    Coded,
    carried,
    kind_of_array,
    kind_of_dtype,
    numbers,
    worked_out,
)
from nnaq.frontends.ports import Names, Problem, Unsupported, reshapes, symbol
from nnaq.ir.build import Builder
from nnaq.ir.dims import Dim, Shape
from nnaq.ir.op import Attr
from nnaq.ir.types import TensorType

Handler = Callable[["Call"], None]
# What handlers raise about operands and attributes that break the rules of ONNX, which its checker does not
# hold to: numbers out of any range, NaN where a size stands, words that are no text.
DAMAGE = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)
Refusal = Callable[[onnx.NodeProto], Problem]


@dataclass(frozen=True)
class Masked:
    """Scores of which a mask takes some out: `flags` is 1 where a score counts, 0 where it is -infinity.

    scores: None where the value is nothing but the mask, 0 and -infinity, which is to be added.
    """

    scores: str | None
    flags: str


@dataclass
class Walk:
    """State of one import. ONNX values are known by their ONNX names until they are bound.

    arrays  constants, as the file holds them
    dims    small integer vectors that hold sizes, possibly symbolic (results of Shape)
    values  ONNX name -> name in the graph
    masked  values that hold -infinity in places: only a softmax can read them
    coded   constants that are dequantised codes of the file, by ONNX name
    codes   code types that the file gives to values and constants of the graph
    """

    builder: Builder
    graph: onnx.GraphProto
    names: Names
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    dims: dict[str, tuple[Dim, ...]] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    masked: dict[str, Masked] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)
    coded: dict[str, Coded] = field(default_factory=dict)
    codes: dict[str, TensorType] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    opset: int = 18

    def __post_init__(self) -> None:
        self.arrays |= {held.name: numpy_helper.to_array(held) for held in self.graph.initializer}
        ports = (*self.graph.input, *self.graph.value_info, *self.graph.output)
        self.declared = {port.name: port for port in ports}
        self.makers = {value: node for node in self.graph.node for value in node.output if value}
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
            if self._fold(node):
                continue
            handler = handlers.get(operator_of(node)) or _foreign(node)
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
            except DAMAGE as error:
                self._fail(node, problem(node, f"its operands or attributes are not as ONNX says: {error}"))

    def _is_ready(self, node: onnx.NodeProto) -> bool:
        known = (self.values, self.arrays, self.dims, self.masked)
        return all(any(value in held for held in known) for value in node.input if value)

    def _fold(self, node: onnx.NodeProto) -> bool:
        """Work out what a node makes of constants alone: the optimiser leaves dequantised codes to us."""
        held = {value: self.arrays[value] for value in node.input if value in self.arrays}
        made = worked_out(node, held, self.opset) if len(held) == len(set(filter(None, node.input))) else None
        if made is None:
            return False
        self.arrays[node.output[0]] = made
        coded = carried(node, self.coded.get(node.input[0]), made.ndim)
        if coded is not None:
            self.coded[node.output[0]] = coded
        return True

    def _complain(self, node: onnx.NodeProto, handlers: Mapping[str, Handler], refuse: Refusal) -> None:
        """A node behind one that failed: report it only if its operator is unknown as well."""
        if operator_of(node) not in handlers and _foreign(node) is None:
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
        if value in self.dims:
            return (len(self.dims[value]),)
        if value in self.masked:
            held = self.masked[value]
            return self.builder.types[held.scores or held.flags].shape
        return self.builder.types[self.values[value]].shape

    def name_if_reserved(self, value: str) -> str:
        """The name an output still waits for, because its value has another one."""
        return self._reserved.pop(value, "")

    def name_of(self, value: str) -> str:
        """The graph's name for a result that ONNX calls `value`."""
        return self._reserved.pop(value, "") or self.names.fresh(value)

    def constant(self, value: str, form: str, array: np.ndarray) -> str:
        """A constant of the graph made from the ONNX constant `value`; one for each form of it.

        Raises FrontendError for values that are not finite.
        """
        key = (value, form)
        if key not in self._constants:
            held = np.asarray(array, np.float32)
            if not np.isfinite(held).all():
                raise FrontendError(
                    f"tensor {value!r} holds NaN or infinity; a quantiser needs finite weights"
                )
            name = self.builder.constant(self.names.fresh(value), held)
            self._constants[key] = name
            self._keep_codes(value, form, name, held)
        return self._constants[key]

    def _keep_codes(self, value: str, form: str, name: str, array: np.ndarray) -> None:
        """Tell the codes of a constant, where its form only moves what the file holds."""
        coded = self.coded.get(value)
        if coded is None:
            return
        if form == TRANSPOSED:
            coded = coded.turned((1, 0))
        elif form and not (form.startswith(REGROUPED) and coded.quant.axis is None):
            return
        self.codes[name] = TensorType(coded.dtype, array.shape, coded.quant)

    def operand(self, value: str) -> str:
        """The graph's name for an operand; constants become constants of the graph."""
        if value in self.values:
            return self.values[value]
        if value in self.arrays:
            return self.constant(value, "", numbers(value, self.arrays[value]))
        if value in self.masked:
            raise Unsupported(f"its operand {value!r} is -infinity in places, which only Softmax reads")
        if value in self.dims and all(isinstance(dim, int) for dim in self.dims[value]):
            return self.constant(value, "", np.array(self.dims[value]))
        raise Unsupported(f"its operand {value!r} holds no real numbers")

    def kind_of(self, value: str) -> str:
        """What an ONNX value holds: `real`, `whole` numbers, `flag`s; `other` for texts and sequences."""
        if value in self.arrays:
            return kind_of_array(self.arrays[value])
        if value in self.dims:
            return "whole"
        port = self.declared.get(value)
        code = port.type.tensor_type.elem_type if port is not None else 0
        return kind_of_dtype(code) if code else "real"

    def size(self, dim: Dim) -> tuple[str, int]:
        """A value of the graph that has an open axis of size `dim`, and that axis."""
        for value, kind in self.builder.types.items():
            if dim in kind.shape:
                return value, kind.shape.index(dim)
        raise Unsupported(f"no value has an axis of {dim}", "give the axes sizes with the input shapes")


def operator_of(node: onnx.NodeProto) -> str:
    """The operator of a node: its name, behind its domain where that is not ONNX's own."""
    return str(node.op_type) if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def _foreign(node: onnx.NodeProto) -> Handler | None:
    """A handler for an operator from outside: all operands and attributes as they are."""
    op = foreign(operator_of(node))
    if op is None:
        return None

    def handle(call: "Call") -> None:
        inputs = [call.operand(i) if value else "" for i, value in enumerate(node.input)]
        names = [call.walk.name_of(value) for value in node.output]
        made = call.walk.builder.node(op.name, inputs, attributes(call.attrs), names, source=call.source)
        for value, name in zip(node.output, made, strict=True):
            call.bind(name, value)

    return handle


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

    def kind(self, position: int = 0) -> str:
        """What an operand holds: `real`, `whole`, `flag` or `other`."""
        return self.walk.kind_of(self.node.input[position])

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
            held = self.walk.dims.get(self.node.input[position])
            if held is not None and all(isinstance(dim, int) for dim in held):
                return tuple(int(dim) for dim in held)
            return tuple(int(v) for v in np.ravel(self.need(position, key)))
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

    def number(self, value: float) -> str:
        """A constant of one number, shared by all nodes."""
        return self.walk.constant(f"constant_{float(value)!r}", "number", np.array(value))

    def refuse_outputs(self, first: int, what: str) -> None:
        """Raise Unsupported where somebody reads a result from position `first` on."""
        for value in self.node.output[first:]:
            if value and (value in self.walk.readers or value in self.walk.wanted):
                raise Unsupported(f"its result {value!r} is read: {what}")

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

    def reshape(self, value: str, target: Shape) -> None:
        """The first output is `value` in another shape."""
        *steps, last = reshapes(self.type_shape(value), target)
        for op, attrs in steps:
            value = self.step(op, [value], attrs)
        self.result(last[0], [value], last[1])

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
