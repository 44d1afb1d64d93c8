"""The walk over an exported torch program: one handler per node, every complaint collected.

A handler (torch_handlers) is a function of a `Call`; it binds the node's results to values of the
graph under construction. A node behind one that failed is only asked whether its operator is
known. Nodes that compute sizes are passed over: torch states the shape of every tensor, open axes
as expressions, and handlers read those. Nodes of constants alone are computed by torch itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx

from nnaq.errors import FrontendError, GraphError, OpError
from nnaq.frontends import torch_origins
from nnaq.frontends.ports import Names, Problem, Unsupported, reshapes
from nnaq.frontends.torch_origins import Held, Origin
from nnaq.frontends.torch_sizes import Sizes
from nnaq.ir.build import Builder
from nnaq.ir.dims import Dim, Shape
from nnaq.ir.graph import Node
from nnaq.ir.op import Attr
from nnaq.ir.types import TensorType

Handler = Callable[["Call"], None]
GETITEM = "getitem"


@dataclass(frozen=True)
class Masked:
    """Scores of which those without a flag count as -infinity; no scores: a mask alone, 0 and -infinity."""

    scores: str | None
    flags: str


@dataclass
class Walk:
    """State of one import, by names of the exported nodes.

    arrays   parameters, buffers, constants and what is made of these: (fully qualified name, value)
    held     parameters, buffers and constants by qualified name
    origins  how each of `arrays` is made of these
    made     the same of constants of the graph, by their names
    wanted   names that outputs wait for
    sizes    what torch's open sizes are in the graph
    values   the value of each result in the graph
    masked   results that are scores with a mask, or a mask alone
    fills    results of open sizes that hold one number
    absorbed nodes whose work the node before them does as well
    instead  nodes that end a pattern: where it begins, and what makes the result of that
    skipped  nodes inside such patterns
    """

    builder: Builder
    names: Names
    arrays: dict[str, tuple[str, np.ndarray]]
    wanted: dict[str, str]
    sizes: Sizes
    values: dict[tuple[str, int], str] = field(default_factory=dict)
    masked: dict[str, Masked] = field(default_factory=dict)
    fills: dict[str, float] = field(default_factory=dict)
    absorbed: dict[str, fx.Node] = field(default_factory=dict)
    instead: dict[str, tuple[fx.Node, Handler]] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    held: dict[str, torch.Tensor] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    made: dict[str, Origin] = field(default_factory=dict)
    _constants: dict[tuple[str, str], str] = field(default_factory=dict)
    _tuples: dict[str, tuple[Any, Callable[[Held], Any]]] = field(default_factory=dict)

    def run(
        self, nodes: Sequence[fx.Node], handlers: Mapping[str, Handler], hints: Mapping[str, str]
    ) -> None:
        """Import every node that makes a tensor; what fails is in `problems` afterwards."""
        for node in nodes:
            if not self._is_open(node) or self._fold(node):
                continue
            kind = operator(node)
            if kind == GETITEM:
                self._pick(node)
            elif node.name in self.instead:
                begin, handler = self.instead[node.name]
                if self.is_known(begin):
                    self._handle(node, handler)
            elif kind not in handlers:
                reason = "this operator is not supported"
                self.problems.append(Problem(label(node), kind, reason, hints.get(kind, "")))
            elif all(self.is_known(operand) for operand in node.all_input_nodes):
                self._handle(node, handlers[kind])

    def _is_open(self, node: fx.Node) -> bool:
        """Whether a node is still to be imported."""
        return (
            node.op == "call_function"
            and makes_tensor(node)
            and node.name not in self.skipped
            and (node.name, 0) not in self.values
        )

    def _fold(self, node: fx.Node) -> bool:
        """Let torch compute what depends on constants alone; open sizes are none."""
        tensors = node.all_input_nodes
        if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "aten":
            return False
        if any(operand.name not in self.arrays for operand in tensors) or not _is_whole(node):
            return False
        if torch.Tag.nondeterministic_seeded in node.target.tags:
            return False
        args, kwargs = fx.map_arg(
            (node.args, node.kwargs), lambda n: torch.from_numpy(self.arrays[n.name][1].copy())
        )
        self._keep(node, node.target(*args, **kwargs), torch_origins.computed(node, self.origins))
        return True

    def _keep(self, node: fx.Node, made: Any, origin: Callable[[Held], Any]) -> None:
        if isinstance(made, torch.Tensor):
            self.arrays[node.name] = (label(node), made.detach().contiguous().numpy())
            self.origins[node.name] = origin
        else:
            self._tuples[node.name] = made, origin

    def store(self, node: str, name: str, array: np.ndarray) -> None:
        """Hold a parameter, a buffer or a constant tensor."""
        self.arrays[node], self.origins[node] = (name, array), torch_origins.stored(name)
        self.held[name] = torch.from_numpy(array)

    def _handle(self, node: fx.Node, handler: Handler) -> None:
        try:
            handler(Call(self, node))
            self._compare(node)
        except Unsupported as error:
            self.problems.append(Problem(label(node), operator(node), str(error), error.hint))
        except (GraphError, OpError) as error:
            self.problems.append(Problem(label(node), operator(node), str(error)))

    def _pick(self, node: fx.Node) -> None:
        source, position = node.args
        assert isinstance(source, fx.Node)
        assert isinstance(position, int)
        if source.name in self._tuples:
            whole, origin = self._tuples[source.name]
            self._keep(node, whole[position], torch_origins.part(origin, position))
        elif (source.name, position) in self.values:
            self.values[node.name, 0] = self.values[source.name, position]

    def _compare(self, node: fx.Node) -> None:
        """The shapes of the results must be torch's where both are known."""
        for position, shape in enumerate(self.shapes(node)):
            value = self.values.get((node.name, position))
            found = shape if value is None else self.builder.types[value].shape
            pairs = zip(found, shape, strict=False)
            wrong = any(a != b for a, b in pairs if isinstance(a, int) and isinstance(b, int))
            if len(found) != len(shape) or wrong:
                raise FrontendError(
                    f"{operator(node)} {label(node)!r} makes {list(found)}, but torch says {list(shape)}"
                )

    def maker(self, value: str) -> Node | None:
        """The node that makes a value of the graph under construction."""
        return next((node for node in reversed(self.builder.nodes) if value in node.outputs), None)

    def is_known(self, node: fx.Node) -> bool:
        """Whether an operand has a value here; sizes and graphs always have."""
        held = (self.arrays, self.masked, self.fills)
        known = (node.name, 0) in self.values or any(node.name in names for names in held)
        return known or not makes_tensor(node)

    def shapes(self, node: fx.Node) -> list[Shape]:
        """Torch's shapes of the results of a node, in the names of the graph."""
        return [self.sizes.shape(tensor) for tensor in tensors_of(node)]

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
        key = (node if node in self.arrays else name, form)
        if key not in self._constants:
            held = np.asarray(array, np.float32)
            if not np.isfinite(held).all():
                raise Unsupported(f"{name!r} holds NaN or infinity", "only a mask before a softmax may")
            self._constants[key] = self.builder.constant(self.names.fresh(name), held)
            if node in self.origins and not form:
                self.made[self._constants[key]] = self.origins[node]
        return self._constants[key]

    def derived(
        self,
        name: str,
        form: str,
        function: Callable[..., torch.Tensor],
        *parts: fx.Node | None,
    ) -> str:
        """A constant that is a function of constants, in float64; named after the parameter `name`."""
        origin = torch_origins.made(function, *(None if p is None else self.origins[p.name] for p in parts))
        constant = self.constant(name, form, origin(self.held).numpy())
        self.made[constant] = origin
        return constant


class Call:
    """One exported node as its handler sees it; arguments by the names of torch's own schema."""

    def __init__(self, walk: Walk, node: fx.Node) -> None:
        self.walk, self.node, self.args = walk, node, arguments(node)
        self.source = label(node)

    def array(self, key: str) -> np.ndarray | None:
        """The value of an operand that is a parameter, a constant or a plain number."""
        return self.array_of(self.args.get(key))

    def array_of(self, given: Any) -> np.ndarray | None:
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
        """The value of an operand; parameters, numbers and open sizes become values."""
        return self.value(self.args[key], key)

    def value(self, given: Any, key: str = "operand") -> str:
        if isinstance(given, fx.Node):
            if given.name in self.walk.masked:
                raise Unsupported(f"its {key} is masked with -infinity", "only a softmax may follow a mask")
            if (given.name, 0) in self.walk.values:
                return self.walk.values[given.name, 0]
            if given.name in self.walk.arrays:
                return self.walk.constant(given.name, "", self.walk.arrays[given.name][1])
            if given.name in self.walk.fills:
                return self.filled(given, key)
            if isinstance(given.meta.get("val"), torch.SymInt):
                return self.walk.sizes.number(self.size(given))
        if isinstance(given, int | float):
            return self.number(float(given))
        raise Unsupported(f"its {key} is {given!r}")

    def filled(self, given: fx.Node, key: str) -> str:
        """A fill, made for this operand alone: states that all begin as zeros have codes of their own."""
        number = np.asarray(self.walk.fills[given.name], np.float32)
        return self.expanded(self.weight(f"{self.source}.{key}", number), self.shape_of(given))

    def number(self, number: float) -> str:
        """A constant of one number."""
        return self.weight(f"constant_{number!r}", np.asarray(number, np.float32))

    def size(self, given: Any) -> Dim:
        """A size: a whole number, or a node that computes one."""
        return self.walk.sizes.dim(given.meta["val"]) if isinstance(given, fx.Node) else int(given)

    def shape(self, key: str = "self") -> Shape:
        """The shape of an operand."""
        return self.shape_of(self.args[key])

    def shape_of(self, given: Any) -> Shape:
        if not isinstance(given, fx.Node):
            return ()
        value = self.walk.values.get((given.name, 0))
        return self.type_shape(value) if value else self.walk.shapes(given)[0]

    def type_shape(self, value: str) -> Shape:
        """The shape of a value of the graph."""
        return self.walk.builder.types[value].shape

    def target(self) -> Shape:
        """Torch's shape of the first result."""
        return self.walk.shapes(self.node)[0]

    def axis(self, key: str = "dim", rank: int | None = None) -> int:
        """An axis, counted from the front."""
        return int(self.args[key]) % max(len(self.shape()) if rank is None else rank, 1)

    def constant(self, key: str, form: str, array: np.ndarray) -> str:
        """A constant made from the parameter at `key`."""
        given = self.args[key]
        return self.walk.constant(given.name if isinstance(given, fx.Node) else self.source, form, array)

    def derived(self, key: str, form: str, function: Callable[..., torch.Tensor], *keys: str) -> str:
        """A constant made from the operands at `keys`, named after that at `key`, or `key` itself."""
        given = self.args.get(key, key)
        name = given.name if isinstance(given, fx.Node) else key
        return self.walk.derived(name, form, function, *(self.args.get(one) for one in keys))

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

    def reshape(self, value: str, target: Shape, position: int = 0) -> None:
        """The result is `value` in another shape."""
        *steps, last = reshapes(self.type_shape(value), target)
        for op, attrs in steps:
            value = self.step(op, [value], attrs)
        self.result(last[0], [value], last[1], position)

    def reshaped(self, value: str, target: Shape) -> str:
        """A value in another shape, in between."""
        for op, attrs in reshapes(self.type_shape(value), target):
            value = self.step(op, [value], attrs)
        return value

    def expanded(self, value: str, target: Shape) -> str:
        """A value broadcast to a shape, of which open sizes are taken from other values."""
        own = self.type_shape(value)
        own = (1,) * (len(target) - len(own)) + own
        if own == target and len(self.type_shape(value)) == len(target):
            return value
        sizes = tuple(dim if isinstance(dim, int) else -1 for dim in target)
        likes: dict[str, dict[int, int]] = {}
        for place, dim in enumerate(target):
            if isinstance(dim, str) and dim != own[place]:
                like = (
                    next((v for v in likes if dim in self.type_shape(v)), None)
                    or self.walk.sizes.axis(dim)[0]
                )
                likes.setdefault(like, {})[place] = self.type_shape(like).index(dim)
        for like, axes in likes.items() or [("", {})]:
            attrs: dict[str, Attr] = {"like_axes": tuple(axes.get(place, -1) for place in range(len(target)))}
            value = self.step("expand", [value, like] if like else [value], {**attrs, "sizes": sizes})
        return value

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
    """The arguments of a call by name, defaults filled in; none of an operator without a schema."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {}
    given = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    return given | dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | dict(node.kwargs)


def makes_tensor(node: fx.Node) -> bool:
    return bool(tensors_of(node))


def tensors_of(node: fx.Node) -> list[torch.Tensor]:
    """The results of a node as torch describes them; none of a node that computes sizes."""
    made = node.meta.get("val")
    results = made if isinstance(made, tuple | list) else [made]
    return [result for result in results if isinstance(result, torch.Tensor)]


def dtype_of(given: Any) -> torch.dtype | None:
    """The dtype of an operand that is a tensor."""
    made = tensors_of(given) if isinstance(given, fx.Node) else []
    return made[0].dtype if made else None


def _is_whole(node: fx.Node) -> bool:
    """Whether all sizes of all results are known."""
    return all(isinstance(size, int) for tensor in tensors_of(node) for size in tensor.shape)


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
