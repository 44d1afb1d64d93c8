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
from nnaq.ir.dims import Dim, product, quotient

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
    several = call.node.op_type in ("Concat", "Mul", "Div")
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
    return tuple(total(pair) for pair in _pairs(call))


def quotient_of(call: Call) -> Sizes:
    found = [quotient([a], [b]) for a, b in _pairs(call)]
    sizes = tuple(dim for dim in found if dim is not None)
    if len(sizes) != len(found):
        raise Unsupported("it divides an open size", OPEN)
    return sizes


def _pairs(call: Call) -> list[tuple[Dim, Dim]]:
    left, right = row(call, 0), row(call, 1)
    count = max(len(left), len(right))
    return list(zip(left * (count // len(left)), right * (count // len(right)), strict=True))


def constant_of_shape(call: Call) -> None:
    """ConstantOfShape, where its sizes turned out to be whole."""
    held = call.attrs.get("value")
    fill = np.zeros(1, np.float32) if held is None else numpy_helper.to_array(held)
    call.walk.arrays[call.node.output[0]] = np.full(_whole(call, row(call)), fill[0], fill.dtype)


def expand(call: Call) -> None:
    """Expand of a constant, where its sizes turned out to be whole."""
    array = call.need(0, "operand")
    shape = np.broadcast_shapes(array.shape, _whole(call, row(call, 1)))
    call.walk.arrays[call.node.output[0]] = np.broadcast_to(array, shape)


def _whole(call: Call, sizes: Sizes) -> tuple[int, ...]:
    whole = tuple(dim for dim in sizes if isinstance(dim, int))
    if len(whole) != len(sizes):
        raise Unsupported(f"it makes a constant of the open shape {list(sizes)}", OPEN)
    if math.prod(whole) > LARGEST:
        raise Unsupported(f"it makes a constant of shape {list(whole)}", f"at most {LARGEST} values")
    return whole


def total(dims: Sequence[Dim]) -> Dim:
    """The product of dimensions as one dimension.

    >>> total((2, 3)), total(("T", 1)), total(("T", 4))
    (6, 'T', '4*(T)')
    """
    factor, names = product(dims)
    parts = [f"({name})" for name in names.elements()]
    if not parts:
        return factor
    if factor == 1 and len(parts) == 1:
        return parts[0][1:-1]
    return "*".join([str(factor)] * (factor != 1) + parts)
