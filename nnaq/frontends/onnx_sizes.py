"""Arithmetic on sizes: what exporters compute with Shape, Gather and Concat to feed a Reshape.

Such values never reach the graph. They are followed here as tuples of dimensions, whole or
symbolic, in one row; a scalar is a row of one.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from onnx import numpy_helper

from nnaq.frontends.onnx_importer import Call, Handler
from nnaq.frontends.onnx_simplify import LARGEST
from nnaq.frontends.ports import Unsupported
from nnaq.ir.dims import Dim, add, floor_divide, multiply, quotient, subtract

Sizes = tuple[Dim, ...]
OPEN = "give the axis a size with the input shapes"


def or_reals(on_sizes: Callable[[Call], Sizes], on_reals: Handler) -> Handler:
    """A handler that follows sizes where the first operand holds some, else treats real values."""

    def handle(call: Call) -> None:
        if any(value in call.walk.dims for value in _data(call)):
            call.walk.dims[call.node.output[0]] = on_sizes(call)
        else:
            on_reals(call)

    return handle


def _data(call: Call) -> Sequence[str]:
    """The operands that hold data, not positions or a target."""
    several = call.node.op_type in ("Concat", "Mul", "Div", "Add", "Sub", "Equal", "Where")
    return list(call.node.input) if several else [call.node.input[0]]


def row(call: Call, position: int = 0) -> Sizes:
    """The sizes an operand holds."""
    value = call.node.input[position]
    if value in call.walk.dims:
        return call.walk.dims[value]
    return tuple(int(v) for v in call.need(position, "size").reshape(-1))


def shape(call: Call) -> None:
    """Shape, of some axes or all."""
    span = slice(call.attrs.get("start", 0), call.attrs.get("end"))
    call.walk.dims[call.node.output[0]] = call.shape(0)[span]


def same(call: Call) -> Sizes:
    """Cast, Identity, Squeeze, Unsqueeze, Reshape: the row stays the row."""
    return row(call)


def concat(call: Call) -> Sizes:
    return tuple(dim for position in range(len(call.node.input)) for dim in row(call, position))


def gather(call: Call) -> Sizes:
    sizes = row(call)
    return tuple(sizes[int(place)] for place in call.need(1, "indices").reshape(-1))


def cut(call: Call) -> Sizes:
    start, end = (int(call.need(i, "limit").reshape(-1)[0]) for i in (1, 2))
    step = int(call.need(4, "step").reshape(-1)[0]) if call.has(4) else 1
    return row(call)[start:end:step]


def product_of(call: Call) -> Sizes:
    return tuple(multiply(*pair) for pair in _pairs(call))


def quotient_of(call: Call) -> Sizes:
    """Div of sizes, rounded down."""
    return tuple(_divided(a, b) for a, b in _pairs(call))


def _divided(a: Dim, b: Dim) -> Dim:
    if isinstance(b, int) and b > 0:
        return floor_divide(a, b)
    found = quotient([a], [b])
    if found is None:
        raise Unsupported(f"it divides {a!r} by {b!r}", OPEN)
    return found


def _pairs(call: Call) -> list[tuple[Dim, Dim]]:
    left, right = row(call, 0), row(call, 1)
    count = max(len(left), len(right))
    return list(zip(left * (count // len(left)), right * (count // len(right)), strict=True))


def sum_of(call: Call) -> Sizes:
    """Add, Sub of sizes."""
    join = subtract if call.node.op_type == "Sub" else add
    return tuple(join(a, b) for a, b in _pairs(call))


def equal(call: Call) -> None:
    """Equal of sizes: an open size is equal to itself and to no number below 1."""
    flags = []
    for a, b in _pairs(call):
        if a != b and not (isinstance(a, int) and isinstance(b, int)):
            low = min(dim for dim in (a, b, 1) if isinstance(dim, int))
            if low > 0 or (isinstance(a, str) and isinstance(b, str)):
                raise Unsupported(f"whether {a!r} equals {b!r} is not known before a run", OPEN)
        flags.append(a == b)
    call.walk.arrays[call.node.output[0]] = np.array(flags)


def choice(call: Call) -> Sizes:
    """Where between rows of sizes, by a constant condition."""
    flags = [bool(flag) for flag in np.ravel(call.need(0, "condition"))]
    left, right = row(call, 1), row(call, 2)
    count = max(len(flags), len(left), len(right))
    rows = (flags * (count // len(flags)), left * (count // len(left)), right * (count // len(right)))
    return tuple(a if flag else b for flag, a, b in zip(*rows, strict=True))


def size(call: Call) -> None:
    """Size: the product of the shape."""
    call.walk.dims[call.node.output[0]] = (multiply(*call.shape(0)),)


def fill_of(call: Call) -> np.ndarray:
    """The one value of a ConstantOfShape."""
    held = call.attrs.get("value")
    array: np.ndarray = np.zeros(1, np.float32) if held is None else numpy_helper.to_array(held)
    return array.reshape(-1)


def whole(sizes: Sequence[Dim]) -> tuple[int, ...]:
    """Sizes that are all whole numbers."""
    return tuple(dim for dim in sizes if isinstance(dim, int))


def must_be_small(shape: Sequence[int]) -> None:
    """Raise Unsupported for a constant that would fill the memory."""
    if math.prod(shape) > LARGEST:
        raise Unsupported(f"it makes a constant of shape {list(shape)}", f"at most {LARGEST} values")
