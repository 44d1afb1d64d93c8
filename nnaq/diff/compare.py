"""Two sides of one model, value by value, in the order of the graph.

For a value y = op(x…) of sides A (what should be) and B (what is), in reals:

    total       B.y - A.y
    added       B.y - op(B.x…)          what this layer itself did wrong, on the operands it was given
    inherited   op(B.x…) - A.y          what its operands had wrong already

`op` is A's: its integer kernel where A is an integer model and B holds the codes of the operands, else
the operator's meaning over the reals with A's weights. SQNR is 10 log10(Σ A.y² / Σ error²).
"""

import csv
import io
from dataclasses import asdict, dataclass, fields

import numpy as np

from nnaq.diff.sides import Side
from nnaq.errors import DataError
from nnaq.interpret import kernel
from nnaq.ir.graph import Node
from nnaq.kernels.boundary import dequantize_array
from nnaq.quantize.error import decibel


@dataclass(frozen=True)
class LayerDifference:
    """One value. sqnr_db, added_db, inherited_db: None where there is no such error, or (the last two)
    where an operand is missing. max_lsb: the greatest distance in steps of the value's codes; cosine:
    of the angle between both. mismatches: entries that differ."""

    name: str
    op: str
    values: int
    mismatches: int
    max_abs: float
    max_lsb: float | None
    cosine: float | None
    sqnr_db: float | None
    added_db: float | None
    inherited_db: float | None


@dataclass(frozen=True)
class Parting:
    """The first value, in the order of the graph, and its first entry in which the sides part."""

    name: str
    op: str
    index: tuple[int, ...]
    left: float
    right: float


@dataclass(frozen=True)
class Difference:
    """What a comparison found: layers in the order of the graph; first is None where nothing parts."""

    left: str
    right: str
    first: Parting | None
    layers: tuple[LayerDifference, ...]

    def worst_first(self) -> tuple[LayerDifference, ...]:
        """Layers by the error they added, or by their whole error where the added one is unknown.

        Layers that only pass an error on follow, and equal ones come last.
        """

        def key(layer: LayerDifference) -> tuple[bool, float]:
            passes_on = layer.added_db is None and layer.inherited_db is not None
            found = layer.sqnr_db if layer.added_db is None else layer.added_db
            return passes_on, np.inf if layer.mismatches == 0 or found is None else found

        return tuple(sorted(self.layers, key=key))

    def to_csv(self) -> str:
        """One row per layer, worst first."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [f.name for f in fields(LayerDifference)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(layer) for layer in self.worst_first())
        return text.getvalue()


def compare(left: Side, right: Side) -> Difference:
    """Compare all values that both sides have. Raises DataError: none, or shapes that do not agree."""
    graph = left.graph or right.graph
    if graph is None:
        raise DataError("both sides are dumps; one side must be a model, which says what feeds what")
    shared = [name for name in _ordered(left, right) if name in left.values and name in right.values]
    if not shared:
        ours, theirs = (", ".join(sorted(side.values)[:4]) for side in (left, right))
        raise DataError(
            f"{left.label} and {right.label} share no value: the one has {ours}, the other {theirs}"
        )
    pairs = {name: _pair(left, right, name) for name in shared}
    layers = tuple(_layer(left, right, name, *pairs[name]) for name in shared)
    return Difference(left.label, right.label, _first(left, right, pairs), layers)


def _ordered(left: Side, right: Side) -> list[str]:
    """Names in the order of the graph, inputs first."""
    side = left if left.graph is not None else right
    assert side.graph is not None
    place = {v: i for i, node in enumerate(side.graph.nodes) for v in node.outputs}
    return sorted(side.names, key=lambda name: place.get(side.names[name], -1))


def _pair(left: Side, right: Side, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays in reals; integers of a dump are codes of the other side's type."""
    sides = [side.reals(name) for side in (left, right)]
    for i, (side, other) in enumerate(((left, right), (right, left))):
        kind = other.types.get(name)
        if side.kind == "dump" and side.values[name].dtype.kind in "iu" and kind is not None:
            sides[i] = np.asarray(dequantize_array(side.values[name], kind), np.float64)
        if side.kind == "dump":
            sides[i] = _as_the_model(sides[i], sides[1 - i].shape, other, name)
    if sides[0].shape != sides[1].shape:
        shapes = f"{list(sides[0].shape)} in {left.label}, {list(sides[1].shape)} in {right.label}"
        raise DataError(f"value {name!r} has the shape {shapes}; give both the same inputs")
    return sides[0], sides[1]


def _as_the_model(array: np.ndarray, shape: tuple[int, ...], model: Side, name: str) -> np.ndarray:
    """A port of a dump, which may have time first as in golden.npz, in the layout of the model."""
    if model.graph is None or array.ndim != len(shape):
        return array
    axes = {port.name: port.time_axis for port in (*model.graph.inputs, *model.graph.outputs)}
    moved = np.moveaxis(array, 0, axes.get(name) or 0)
    return moved if array.shape != shape == moved.shape else array


def _node(side: Side, name: str) -> Node | None:
    return None if side.graph is None else side.graph.producer.get(side.names.get(name, ""))


def _operator(left: Side, right: Side, name: str) -> str:
    """The operator that makes a value; the one before its rounding."""
    for side in (left, right):
        node = _node(side, name)
        if node is not None and side.graph is not None:
            before = side.graph.producer.get(node.inputs[0]) if node.op == "fake_quantize" else node
            return "input" if before is None else before.op
    return "input"


def _first(left: Side, right: Side, pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> Parting | None:
    for name, (a, b) in pairs.items():
        wrong = np.argwhere(a != b)
        if len(wrong):
            index = tuple(map(int, wrong[0]))
            return Parting(name, _operator(left, right, name), index, float(a[index]), float(b[index]))
    return None


def _layer(left: Side, right: Side, name: str, a: np.ndarray, b: np.ndarray) -> LayerDifference:
    local = _local(left, right, name, b)
    signal = float(np.square(a).sum())
    added, inherited = (None, None) if local is None else (b - local, local - a)
    distance = float(np.abs(b - a).max(initial=0))
    kind = left.types.get(name) or right.types.get(name)
    step = None if kind is None or kind.quant is None or kind.quant.axis is not None else kind.scale
    return LayerDifference(
        name=name,
        op=_operator(left, right, name),
        values=a.size,
        mismatches=int((a != b).sum()),
        max_abs=distance,
        max_lsb=None if step is None else round(distance / step, 3),
        cosine=_cosine(a, b),
        sqnr_db=_decibel(signal, b - a),
        added_db=_decibel(signal, added),
        inherited_db=_decibel(signal, inherited),
    )


def _decibel(signal: float, error: np.ndarray | None) -> float | None:
    return None if error is None else decibel(signal, float(np.square(error).sum()))


def _cosine(a: np.ndarray, b: np.ndarray) -> float | None:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum() / size) if size else None


def _local(left: Side, right: Side, name: str, b: np.ndarray) -> np.ndarray | None:
    """op(B.x…) in reals: A's operator on B's operands; None where B lacks one of them."""
    if _node(left, name) is None:
        return None
    try:
        made = _made(left, right, left.names[name])
    except (_Missing, ValueError, IndexError):  # operands of another stretch of time than the result
        return None
    kind = left.types.get(name)
    found = made if kind is None else dequantize_array(made, kind)
    return np.asarray(found, np.float64) if found.shape == b.shape else None


class _Missing(Exception):
    """B does not hold an operand in the form that A's operator takes."""


def _made(left: Side, right: Side, value: str) -> np.ndarray:
    """What A's node makes of B's operands; a value that has no name in the real graph is made first."""
    assert left.graph is not None
    node = left.graph.producer[value]
    arrays = [_operand(left, right, v) if v else None for v in node.inputs]
    return kernel(left.graph, node, "fast")(*arrays)[node.outputs.index(value)]


def _operand(left: Side, right: Side, value: str) -> np.ndarray:
    """B's operand as A's operator takes it: reals, or codes where A computes in integers."""
    assert left.graph is not None
    if value in left.graph.constants:
        return left.graph.constants[value]
    name = next((real for real, own in left.names.items() if own == value), None)
    if name is None:
        if value not in left.graph.producer:
            raise _Missing(value)
        return _made(left, right, value)
    if name not in right.values:
        raise _Missing(value)
    if name not in left.types:
        return right.reals(name).astype(np.float32)
    array, kind = right.values[name], right.types.get(name, left.types[name])
    if array.dtype.kind not in "iu" or kind.quant != left.types[name].quant:
        raise _Missing(value)
    return array
