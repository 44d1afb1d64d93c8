"""What the edges of an imported model mean: which axis is time, which output is a next state.

Pure functions over names, shapes and types; both front-ends use them.
"""

import keyword
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from nnaq.errors import FrontendError
from nnaq.ir.dims import Dim, Shape, symbols
from nnaq.ir.graph import Graph
from nnaq.ir.op import Attr
from nnaq.ir.types import TensorType

TIME = "T"
_SHOWN = 3  # nodes named per operator in an error; `check` lists all of them


@dataclass(frozen=True)
class ImportOptions:
    """What the user says about a model.

    time, batch  the time or batch axis of a port, by port name
    states       input name -> the output that holds its next value; empty: paired by name
    pins         inputs that hold one value for good (a sample rate)
    shapes       shapes of inputs: whole numbers, or names of open axes
    """

    time: Mapping[str, int] = field(default_factory=dict)
    batch: Mapping[str, int] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    pins: Mapping[str, float | int] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """One node that cannot be imported: where, which operator, why, and what may help."""

    node: str
    op: str
    reason: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.op} {self.node!r}: {self.reason}" + (f" ({self.hint})" if self.hint else "")


class Unsupported(Exception):
    """Why a node cannot be imported, and what may help."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


@dataclass(frozen=True)
class Imported:
    """A graph, and one line for everything the import decided by itself.

    codes: the code types that a quantised file gives its values and weights, by name in the graph.
    origins: of a torch module, how a constant is made of what the module holds; held: what it holds, by
    qualified name (see `torch_origins`).
    """

    graph: Graph
    notes: tuple[str, ...]
    codes: Mapping[str, TensorType] = field(default_factory=dict)
    origins: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)
    held: Mapping[str, Any] = field(default_factory=dict)


def refusal(name: str, problems: Sequence[Problem]) -> FrontendError:
    """One sentence per kind of complaint about model `name`, each with the nodes it concerns."""
    kinds: dict[Problem, list[str]] = {}
    for found in problems:
        kinds.setdefault(replace(found, node=""), []).append(found.node)
    lines = []
    for kind, nodes in kinds.items():
        more = f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else ""
        hint = f" ({kind.hint})" if kind.hint else ""
        lines.append(f"{kind.op} at {', '.join(map(repr, nodes[:_SHOWN]))}{more}: {kind.reason}{hint}")
    said = "; ".join(lines)
    return FrontendError(
        f"model {name!r} has {counted(len(problems), 'node')} that cannot be imported: {said}"
    )


def counted(count: int, word: str) -> str:
    """A count with its noun.

    >>> counted(1, "node"), counted(2, "node")
    ('1 node', '2 nodes')
    """
    return f"{count} {word}" + "s" * (count != 1)


def reshape_to(shape: Shape, target: Shape) -> dict[str, Attr]:
    """Attributes of a reshape from `shape` to `target`, of which open axes may be copied or be the rest."""
    sizes = []
    for axis, dim in enumerate(target):
        if isinstance(dim, int):
            sizes.append(dim)
        else:
            sizes.append(0 if axis < len(shape) and shape[axis] == dim else -1)
    if sizes.count(-1) > 1:
        raise Unsupported("it moves two open axes at once", "give one of them a size with the input shapes")
    return {"shape": tuple(sizes)}


def reshapes(shape: Shape, target: Shape) -> list[tuple[str, dict[str, Attr]]]:
    """Nodes that bring `shape` to `target`.

    One reshape knows one open axis beside those that stay in place. Where axes of one entry move
    others along, they are put last, dropped, put first again and moved into their places.
    """
    try:
        return [("reshape", reshape_to(shape, target))]
    except Unsupported:
        pass
    full = [axis for axis, dim in enumerate(shape) if dim != 1]
    kept, wanted = (tuple(dim for dim in dims if dim != 1) for dims in (shape, target))
    steps: list[tuple[str, dict[str, Attr]]] = []
    if len(kept) != len(shape):
        ones = [axis for axis, dim in enumerate(shape) if dim == 1]
        steps += [
            ("transpose", {"perm": (*full, *ones)}),
            ("reshape", {"shape": tuple(d if isinstance(d, int) else 0 for d in kept)}),
        ]
    if kept != wanted:
        steps.append(("reshape", reshape_to(kept, wanted)))
    if len(wanted) != len(target):
        added = len(target) - len(wanted)
        places = iter(range(added, len(target)))
        ones_first = iter(range(added))
        perm = tuple(next(ones_first) if dim == 1 else next(places) for dim in target)
        steps.append(
            ("expand", {"sizes": (1,) * added + (-1,) * len(wanted), "like_axes": (-1,) * len(target)})
        )
        if perm != tuple(range(len(target))):
            steps.append(("transpose", {"perm": perm}))
    return steps


def clean(name: str) -> str:
    """`name` in the letters that a graph's text allows.

    >>> clean("onnx::LSTM_209"), clean("a, b (c)")
    ('onnx_LSTM_209', 'a_b_c')
    """
    return re.sub(r"[^A-Za-z0-9_./-]+", "_", name).strip("_") or "value"


def symbol(name: str) -> str:
    """`name` as a symbol that dimension arithmetic can hold.

    >>> symbol("batch size"), symbol("2*seq"), symbol("LSTMhn_dim_1")
    ('batch_size', 'd2_seq', 'LSTMhn_dim_1')
    """
    text = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
    return text if text.isidentifier() and not keyword.iskeyword(text) else f"d{text}"


class Names:
    """Clean names, each given once."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def fresh(self, name: str) -> str:
        """The clean form of `name`, with a running number where it is taken."""
        base = unique = clean(name)
        number = 1
        while unique in self.taken:
            unique = f"{base}.{number}"
            number += 1
        self.taken.add(unique)
        return unique


def must_know(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise FrontendError for the first of `names` that the model does not have."""
    known = sorted(known) if isinstance(known, Set) else list(known)  # a set has no order to show
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known) or 'none'}"
            raise FrontendError(f"the model has no {what} {name!r}; {hint}")


def must_have_axes(axes: Mapping[str, int], shapes: Mapping[str, Shape]) -> None:
    """Raise FrontendError for an axis that its port does not have."""
    for name, axis in axes.items():
        if name in shapes and not 0 <= axis < len(shapes[name]):
            raise FrontendError(f"port {name!r} has axes 0 to {len(shapes[name]) - 1}, not {axis}")


def resolve_shapes(
    raw: Mapping[str, Shape], options: ImportOptions
) -> tuple[dict[str, Shape], dict[str, Dim]]:
    """Shapes of the inputs with every symbol clean, and what became of each symbol of the file.

    raw: shapes as the file has them; an axis without a name is the empty text. The first symbol
    that stands on a time axis becomes `T`; a symbol that the given shapes fix is fixed everywhere.
    """
    fate: dict[str, Dim] = {}
    for name, shape in raw.items():
        for dim, given in zip(shape, _given(name, shape, options), strict=True):
            if isinstance(dim, int) or not dim or given is None:
                continue
            if fate.setdefault(dim, given) != given:
                raise FrontendError(f"axis {dim!r} is given two sizes, {fate[dim]} and {given}")
    _name_time(raw, options, fate)
    for shape in raw.values():
        for dim in shape:
            if isinstance(dim, str) and dim:
                fate.setdefault(dim, _free(symbol(dim), fate))
    return {name: _resolve(name, shape, options, fate) for name, shape in raw.items()}, fate


def _given(name: str, shape: Shape, options: ImportOptions) -> Iterable[Dim | None]:
    given = options.shapes.get(name)
    if given is None:
        return [None] * len(shape)
    if len(given) != len(shape):
        raise FrontendError(f"input {name!r} has {len(shape)} axes, but its given shape is {list(given)}")
    return [symbol(dim) if isinstance(dim, str) else dim for dim in given]


def _name_time(raw: Mapping[str, Shape], options: ImportOptions, fate: dict[str, Dim]) -> None:
    """Call the first open axis of time `T`."""
    for name, axis in options.time.items():
        dim = raw[name][axis] if name in raw else ""
        if isinstance(dim, str) and dim and isinstance(fate.get(dim, ""), str):
            fate[dim] = TIME
            return


def _free(name: str, fate: Mapping[str, Dim]) -> str:
    return f"{name}_" if name in fate.values() else name


def _resolve(name: str, shape: Shape, options: ImportOptions, fate: Mapping[str, Dim]) -> Shape:
    dims: list[Dim] = []
    for axis, (dim, given) in enumerate(zip(shape, _given(name, shape, options), strict=True)):
        if isinstance(dim, str) and dim:
            dims.append(fate[dim])
        elif isinstance(given, int) or (isinstance(dim, int) and given is None):
            dims.append(dim if given is None else given)
        elif options.time.get(name) == axis:
            dims.append(TIME)
        else:
            dims.append(given if given is not None else symbol(f"{name}_{axis}"))
    return tuple(dims)


def axis_of(name: str, shape: Shape, given: Mapping[str, int]) -> int | None:
    """The axis a port is given, else the one axis of it that depends on `T`, else None."""
    if name in given:
        return given[name]
    found = [axis for axis, dim in enumerate(shape) if TIME in symbols(dim)]
    return found[0] if len(found) == 1 and given else None


def next_names(name: str) -> tuple[str, ...]:
    """What exporters call the next value of a state `name`."""
    stem = re.sub(r"_in$", "", name)
    return (f"{name}n", f"{name}N", f"{stem}_out", f"new_{name}", f"next_{name}")


def pair_states(
    options: ImportOptions, inputs: Mapping[str, TensorType], outputs: Mapping[str, TensorType]
) -> tuple[dict[str, str], list[str]]:
    """Input -> output of every state, and a note for each pair that was made by name.

    Raises FrontendError for a pair whose ends do not exist or differ in type.
    """
    if options.states:
        must_know("input", options.states, inputs)
        must_know("output", options.states.values(), outputs)
        for name, after in options.states.items():
            if inputs[name] != outputs[after]:
                raise FrontendError(
                    f"state {name!r} is {inputs[name]} but its next value {after!r} is {outputs[after]}"
                )
        return dict(options.states), []
    pairs: dict[str, str] = {}
    for name, kind in inputs.items():
        fitting = (after for after in next_names(name) if outputs.get(after) == kind)
        free = [after for after in fitting if after not in pairs.values()]
        if free:
            pairs[name] = free[0]
    return pairs, [f"state {name}: next value {after} (paired by name)" for name, after in pairs.items()]
