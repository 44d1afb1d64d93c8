"""Operators that repeat entries or turn an axis round; codes pass unchanged (i8, i16, i32).

    expand     y[i] = x[j], j[a] = 0 where x has one entry, else i[a]; x's axes stand right-aligned
               in the result, as in NumPy. Axis a of the result has the size
                   like.shape[like_axes[a]]  where like_axes[a] >= 0
                   sizes[a]                  else where sizes[a] >= 0
                   x's own (1 for a new axis) else
    tile       y[i] = x[i mod n] along each axis of n entries; size n * repeats[axis]
    reverse    y[i] = x[n - 1 - i] along each of `axes`

`like` lends its shape only: its codes may be of any type and are not read.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnaq.errors import GraphError
from nnaq.ir.dims import Dim, Shape, multiply, show
from nnaq.ir.op import Arrays, Bindable, Op, Signature, as_is, at_once, register
from nnaq.kernels.boundary import elementwise_work
from nnaq.kernels.movement import (
    CODE_DTYPES,
    UNARY,
    Attrs,
    Bound,
    Types,
    View,
    axis_of,
    by_real,
    in_one_piece,
    integers,
    listed,
    load_view,
    operand,
    picked,
)

LIKE = tuple(
    f"{dtype}{like} -> {dtype}"
    for dtype in CODE_DTYPES
    for like in ("", " _", *(f" {other}" for other in CODE_DTYPES))
)


# --- expand


def expanded(dims: Sequence[Dim], like: Sequence[Dim] | None, attrs: Attrs) -> Shape:
    """The shape that an operand of `dims` is expanded to. Raises GraphError where it does not fit."""
    sizes = listed(attrs, "sizes", "expand")
    rank = len(sizes)
    axes = integers(attrs, "like_axes", rank, "expand")
    if any(axis >= len(like or ()) for axis in axes):
        held = "no operand `like`" if like is None else f"`like` of shape {show(like)}"
        raise GraphError(f"expand takes the sizes of axes {list(axes)} from {held}")
    own = (1,) * (rank - len(dims)) + tuple(dims)
    made = tuple(
        like[axis] if like is not None and axis >= 0 else size if size >= 0 else dim
        for axis, size, dim in zip(axes, sizes, own[:rank], strict=True)
    )
    if len(own) != rank or any(dim not in (1, size) for dim, size in zip(own, made, strict=True)):
        raise GraphError(f"expand cannot broadcast {show(dims)} to {show(made)}")
    return made


def infer_expand(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    like = inputs[1] if len(inputs) > 1 else None
    return (expanded(operand(inputs).shape, None if like is None else like.shape, attrs),)


def real_expand(xp: Any, attrs: Attrs, x: Any, like: Any = None) -> tuple[Any, ...]:
    shape = expanded(tuple(x.shape), None if like is None else tuple(like.shape), attrs)
    return (xp.broadcast_to(x, shape),)


def load_expand(signature: Signature, operands: tuple[Any, ...]) -> Bindable:
    """Bound, it is x itself where x has all entries."""
    attrs = signature.attrs

    def bind(x: np.ndarray, like: np.ndarray | None = None) -> Bound:
        shape = tuple(map(int, expanded(x.shape, None if like is None else like.shape, attrs)))
        return in_one_piece(x.reshape(shape) if math.prod(shape) == x.size else np.broadcast_to(x, shape))

    return Bindable(bind)


def reference_expand(signature: Signature, x: np.ndarray, like: np.ndarray | None = None) -> Arrays:
    shape = [int(n) for n in expanded(x.shape, None if like is None else like.shape, signature.attrs)]
    new = len(shape) - x.ndim

    def source(index: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(0 if size == 1 else i for i, size in zip(index[new:], x.shape, strict=True))

    return (picked(x, shape, source),)


# --- tile


def repeats(attrs: Attrs, rank: int) -> tuple[int, ...]:
    """How often each axis is repeated."""
    found = integers(attrs, "repeats", rank, "tile")
    if min(found, default=0) < 0:
        raise GraphError(f"tile repeats an axis 0 times or more often, found {list(found)}")
    return found


def infer_tile(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    kind = operand(inputs)
    return (tuple(multiply(dim, n) for dim, n in zip(kind.shape, repeats(attrs, kind.rank), strict=True)),)


def real_tile(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    return (xp.tile(x, repeats(attrs, len(x.shape))),)


def reference_tile(signature: Signature, x: np.ndarray) -> Arrays:
    shape = [size * n for size, n in zip(x.shape, repeats(signature.attrs, x.ndim), strict=True)]
    return (picked(x, shape, lambda index: tuple(i % n for i, n in zip(index, x.shape, strict=True))),)


# --- reverse


def turned(attrs: Attrs, rank: int) -> tuple[int, ...]:
    """The axes that are turned round, from the front."""
    axes = listed(attrs, "axes", "reverse")
    found = tuple(axis_of(axis, rank, "reverse") for axis in axes)
    if len(set(found)) != len(found):
        raise GraphError(f"reverse names an axis twice, found {list(axes)}")
    return found


def infer_reverse(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    kind = operand(inputs)
    turned(attrs, kind.rank)
    return (kind.shape,)


def real_reverse(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    return (xp.flip(x, turned(attrs, len(x.shape))),)


def view_reverse(signature: Signature) -> View:
    axes = turned(signature.attrs, signature.input(0).rank)
    return lambda x: np.flip(x, axes)


def reference_reverse(signature: Signature, x: np.ndarray) -> Arrays:
    axes = turned(signature.attrs, x.ndim)

    def source(index: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(x.shape[a] - 1 - i if a in axes else i for a, i in enumerate(index))

    return (picked(x, x.shape, source),)


load_reverse = load_view(view_reverse)

register(
    Op(
        "expand",
        ("x", "like?"),
        LIKE,
        infer_expand,
        real_expand,
        as_is,
        reference_expand,
        at_once(load_expand),
        elementwise_work,
        "y[i] = x[j], j[a] = 0 where x has one entry, else i[a]",
        ties=((0, ~0),),
        reads=lambda signature: {1: 0},
        load=load_expand,
    )
)
register(
    Op(
        "tile",
        ("x",),
        UNARY,
        infer_tile,
        real_tile,
        as_is,
        reference_tile,
        by_real(real_tile),
        elementwise_work,
        "y[i] = x[i mod n] along each axis of n entries",
        moves=True,
    )
)
register(
    Op(
        "reverse",
        ("x",),
        UNARY,
        infer_reverse,
        real_reverse,
        as_is,
        reference_reverse,
        at_once(load_reverse),
        elementwise_work,
        "y[i] = x[n - 1 - i] along each of axes",
        moves=True,
        load=load_reverse,
    )
)
