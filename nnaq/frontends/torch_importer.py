"""The walk over an exported torch program: one handler per node, every complaint collected.

A handler (torch_handlers) is a function of a `Call`; it binds the node's results to values of the
graph under construction. A node behind one that failed is only asked whether its operator is
known. Nodes that compute sizes are passed over: torch states the shape of every tensor, open axes
as expressions, and handlers read those.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx

from nnaq.errors import FrontendError, GraphError
from nnaq.frontends.ports import Names, Problem, Unsupported, reshape_to
from nnaq.ir.build import Builder
from nnaq.ir.dims import Shape
from nnaq.ir.op import Attr
from nnaq.ir.types import TensorType

Handler = Callable[["Call"], None]
GETITEM = "getitem"


@dataclass
class Walk:
    """State of one import, by names of the exported nodes.

    arrays   parameters, buffers and constants: (fully qualified name, value)
    values   the value of each result in the graph
    wanted   names that outputs wait for
    absorbed nodes whose work the node before them does as well
    """

    builder: Builder
    names: Names
    arrays: dict[str, tuple[str, np.ndarray]]
    wanted: dict[str, str]
    values: dict[tuple[str, int], str] = field(default_factory=dict)
    absorbed: dict[str, fx.Node] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _constants: dict[tuple[str, str], str] = field(default_factory=dict)

    def run(
        self, nodes: Sequence[fx.Node], handlers: Mapping[str, Handler], hints: Mapping[str, str]
    ) -> None:
        """Import every node that makes a tensor; what fails is in `problems` afterwards."""
        for node in nodes:
            if node.op != "call_function" or not makes_tensor(node) or (node.name, 0) in self.values:
                continue
            kind = operator(node)
            if kind == GETITEM:
                self._pick(node)
            elif kind not in handlers:
                reason = "this operator is not supported"
                self.problems.append(Problem(label(node), kind, reason, hints.get(kind, "")))
            elif all(self.is_known(operand) for operand in node.all_input_nodes):
                self._handle(node, handlers[kind])

    def _handle(self, node: fx.Node, handler: Handler) -> None:
        try:
            handler(Call(self, node))
            self._compare(node)
        except Unsupported as error:
            self.problems.append(Problem(label(node), operator(node), str(error), error.hint))
        except GraphError as error:
            self.problems.append(Problem(label(node), operator(node), str(error)))

    def _pick(self, node: fx.Node) -> None:
        source, position = node.args
        assert isinstance(source, fx.Node)
        key = (source.name, position)
        if key in self.values:
            self.values[node.name, 0] = self.values[key]

    def _compare(self, node: fx.Node) -> None:
        """The shapes of the results must be torch's where both are known."""
        for position, shape in enumerate(shapes_of(node)):
            value = self.values.get((node.name, position))
            found = shape if value is None else self.builder.types[value].shape
            pairs = zip(found, shape, strict=False)
            wrong = any(a != b for a, b in pairs if isinstance(a, int) and isinstance(b, int))
            if len(found) != len(shape) or wrong:
                raise FrontendError(
                    f"{operator(node)} {label(node)!r} makes {list(found)}, but torch says {list(shape)}"
                )

    def is_known(self, node: fx.Node) -> bool:
        """Whether an operand has a value here; sizes always have."""
        return node.name in self.arrays or (node.name, 0) in self.values or not makes_tensor(node)

    def name_of(self, node: fx.Node, position: int = 0) -> str:
        """The name of a result: that of the output it becomes, else the node's place in the module."""
        last = self.absorbed.get(node.name, node)
        users = [u for u in last.users if operator(u) == GETITEM and u.args[1] == position]
        for maker in (last, *users):
            if maker.name in self.wanted and (position == 0 or maker is not last):
                return self.wanted.pop(maker.name)
        return self.names.fresh(label(node) if position == 0 else f"{label(node)}.{position}")

    def constant(self, node: str, form: str, array: np.ndarray) -> str:
        """A constant under the qualified name of the parameter `node`; one for each form of it."""
        name = self.arrays[node][0] if node in self.arrays else node
        if (name, form) not in self._constants:
            made = self.builder.constant(self.names.fresh(name), np.asarray(array, np.float32))
            self._constants[name, form] = made
        return self._constants[name, form]


class Call:
    """One exported node as its handler sees it; arguments by the names of torch's own schema."""

    def __init__(self, walk: Walk, node: fx.Node) -> None:
        self.walk, self.node, self.args = walk, node, arguments(node)
        self.source = label(node)

    def array(self, key: str) -> np.ndarray | None:
        """The value of an operand that is a parameter, a constant or a plain number."""
        given = self.args.get(key)
        if isinstance(given, fx.Node):
            return self.walk.arrays[given.name][1] if given.name in self.walk.arrays else None
        return np.asarray(given, np.float32) if isinstance(given, int | float) else None

    def need(self, key: str) -> np.ndarray:
        """The value of an operand that has to be constant."""
        array = self.array(key)
        if array is None:
            raise Unsupported(f"its {key} is not a constant")
        return array

    def operand(self, key: str) -> str:
        """The value of an operand; parameters and numbers become constants."""
        return self.value(self.args[key], key)

    def value(self, given: Any, key: str = "operand") -> str:
        if isinstance(given, fx.Node):
            if (given.name, 0) in self.walk.values:
                return self.walk.values[given.name, 0]
            array = self.walk.arrays.get(given.name, ("", np.zeros(0, np.int64)))[1]
            if array.dtype.kind != "f":
                raise Unsupported(f"its {key} holds no real numbers")
            return self.walk.constant(given.name, "", array)
        if isinstance(given, int | float):
            return self.weight(f"{self.source}.{key}", np.asarray(given, np.float32))
        raise Unsupported(f"its {key} is {given!r}")

    def shape(self, key: str = "self") -> Shape:
        """Torch's shape of an operand; open axes are expressions."""
        return self.shape_of(self.args[key])

    def shape_of(self, given: Any) -> Shape:
        return shapes_of(given)[0] if isinstance(given, fx.Node) else ()

    def target(self) -> Shape:
        """Torch's shape of the first result."""
        return shapes_of(self.node)[0]

    def constant(self, key: str, form: str, array: np.ndarray) -> str:
        """A constant made from the parameter at `key`."""
        given = self.args[key]
        return self.walk.constant(given.name if isinstance(given, fx.Node) else self.source, form, array)

    def weight(self, name: str, array: np.ndarray) -> str:
        """A constant that stands for no single parameter."""
        return self.walk.constant(name, "made", array)

    def step(self, op: str, inputs: Sequence[str], attrs: Mapping[str, Attr] | None = None) -> str:
        """Add a node in between; return its value."""
        name = self.walk.names.fresh(f"{self.source}.{op}")
        return self.walk.builder.node(op, inputs, attrs, [name], source=self.source)[0]

    def result(
        self, op: str, inputs: Sequence[str], attrs: Mapping[str, Attr] | None = None, position: int = 0
    ) -> None:
        """Add the node that makes a result (the first, unless told)."""
        name = self.walk.name_of(self.node, position)
        self.bind(self.walk.builder.node(op, inputs, attrs, [name], source=self.source)[0], position)

    def reshape(self, value: str, shape: Shape, target: Shape, position: int = 0) -> None:
        """The result is `value` in another shape; both shapes are torch's."""
        self.result("reshape", [value], reshape_to(shape, target), position)

    def bind(self, value: str, position: int = 0) -> None:
        """Let a result stand for a value that is there already."""
        self.walk.values[self.node.name, position] = value
        if self.node.name in self.walk.absorbed:
            self.walk.values[self.walk.absorbed[self.node.name].name, position] = value

    def follower(self, kind: str) -> "Call | None":
        """The node that alone reads the result of this one, if it is a `kind`."""
        users = list(self.node.users)
        if len(users) != 1 or operator(users[0]) != kind or self.node.name in self.walk.wanted:
            return None
        return Call(self.walk, users[0])

    def absorb(self, follower: "Call") -> None:
        """Let the result of this node be the first result of `follower`."""
        self.walk.absorbed[self.node.name] = follower.node


def operator(node: fx.Node) -> str:
    """`aten::linear`; `getitem` for a part of a tuple."""
    if node.op != "call_function":
        return node.op
    schema = getattr(node.target, "_schema", None)
    return str(schema.name) if schema is not None else getattr(node.target, "__name__", str(node.target))


def arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of a call by name, defaults filled in."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    given = {a.name: a.default_value for a in schema if a.has_default_value()}
    return given | dict(zip((a.name for a in schema), node.args, strict=False)) | dict(node.kwargs)


def makes_tensor(node: fx.Node) -> bool:
    return bool(shapes_of(node))


def shapes_of(node: fx.Node) -> list[Shape]:
    """Torch's shapes of the results of a node; empty for a node that computes sizes."""
    made = node.meta.get("val")
    results = made if isinstance(made, tuple | list) else [made]
    return [tuple(map(_dim, r.shape)) for r in results if isinstance(r, torch.Tensor)]


def _dim(size: int | torch.SymInt) -> int | str:
    return size if isinstance(size, int) else str(size.node.expr)


def label(node: fx.Node) -> str:
    """Where a node comes from: the path of its layer, or of the module around it and its own name."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = kind if isinstance(kind, str) else f"{kind.__module__}."
    if path and kind.startswith("torch.nn.modules."):
        return str(path)
    return f"{path}.{node.name}" if path and not path.startswith("_empty") else str(node.name)


def declare(walk: Walk, node: fx.Node, name: str, shape: Shape) -> None:
    """An input or a state of the graph."""
    walk.values[node.name, 0] = walk.builder.value(walk.names.fresh(name), TensorType("f32", shape))
