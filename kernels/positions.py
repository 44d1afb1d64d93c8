"""Positions as numbers, positions as flags, and scores by distance brought to positions.

    arange          y[k] = start + step * k for k < n, n the size of an axis of `like`, of which
                    nothing else is read; i32 with scale 1, OpError where a number leaves 32 bits
    one_hot         y[i, c] = 1 where c = indices[i], else 0; flags, i8 with scale 1. The new axis of
                    `depth` entries stands at `axis` of the result; indices as in `gather`
    relative_shift  y[.., i, j] = x[.., i, Q - 1 - i + j] for x [.., Q, P] and y [.., Q, P - Q + 1]:
                    row i of x holds scores by distance, Q - 1 - i places along begins the row of y.
                    Codes pass unchanged (i8, i16, i32)

All are exact. Over the reals numbers and flags are f32, whole up to 2^24.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from nnaq.errors import GraphError, OpError
from nnaq.ir.dims import Dim, Shape, add, show, subtract
from nnaq.ir.op import Arrays, Bindable, Op, Signature, as_is, at_once, register
from nnaq.ir.types import bounds
from nnaq.kernels.boundary import elementwise_work
from nnaq.kernels.gather import place_reference, places
from nnaq.kernels.movement import (
    CODE_DTYPES,
    UNARY,
    Attrs,
    Bound,
    Types,
    View,
    axis_of,
    integers,
    load_view,
    operand,
    picked,
)

# --- arange


def progression(attrs: Attrs) -> tuple[int, int]:
    """start and step. Raises GraphError where they are not whole."""
    pair = {"start and step": (attrs["start"], attrs["step"])}
    start, step = integers(pair, "start and step", 2, "arange")  # type: ignore[arg-type]
    return start, step


def infer_arange(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    like = operand(inputs)
    progression(attrs)
    return ((like.shape[axis_of(attrs["axis"], like.rank, "arange")],),)


def real_arange(xp: Any, attrs: Attrs, like: Any) -> tuple[Any, ...]:
    start, step = progression(attrs)
    size = like.shape[axis_of(attrs["axis"], len(like.shape), "arange")]
    return (start + step * xp.arange(size, dtype=xp.float32, device=like.device),)


def _size(signature: Signature, like: np.ndarray) -> int:
    """How many numbers, after a look at the last of them."""
    start, step = progression(signature.attrs)
    size = int(like.shape[axis_of(signature.attrs["axis"], like.ndim, "arange")])
    low, high = bounds("i32")
    last = start + step * max(size - 1, 0)
    if not low <= min(start, last) <= max(start, last) <= high:
        raise OpError(f"arange counts from {start} to {last}, which 32 bits do not hold")
    return size


def load_arange(signature: Signature, operands: tuple[Any, ...]) -> Bindable:
    """Bound, the shape of `like` says all."""
    start, step = progression(signature.attrs)

    def bind(like: np.ndarray) -> Bound:
        numbers = start + step * np.arange(_size(signature, like), dtype=np.int64)
        return (numbers.astype(np.int32),), None

    return Bindable(bind)


def reference_arange(signature: Signature, like: np.ndarray) -> Arrays:
    start, step = progression(signature.attrs)
    return (np.array([start + step * k for k in range(_size(signature, like))], np.int32),)


# --- one_hot


def new_axis(attrs: Attrs, rank: int) -> tuple[int, int]:
    """Where the new axis stands in the result, from the front, and its size."""
    (depth,) = integers({"depth": (attrs["depth"],)}, "depth", 1, "one_hot")  # type: ignore[dict-item]
    if depth < 1:
        raise GraphError(f"one_hot needs a depth of at least 1, found {depth}")
    return axis_of(attrs["axis"], rank + 1, "one_hot"), depth


def infer_one_hot(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    shape = operand(inputs).shape
    axis, depth = new_axis(attrs, len(shape))
    return ((*shape[:axis], depth, *shape[axis:]),)


def flags(xp: Any, attrs: Attrs, indices: Any) -> Any:
    """Where the flag of each entry is."""
    axis, depth = new_axis(attrs, len(indices.shape))
    classes = xp.arange(depth, device=indices.device)
    return xp.moveaxis(places(xp, indices, depth, "one_hot")[..., None] == classes, -1, axis)


def real_one_hot(xp: Any, attrs: Attrs, indices: Any) -> tuple[Any, ...]:
    return (xp.asarray(flags(xp, attrs, indices), dtype=xp.float32),)


def fast_one_hot(signature: Signature, indices: np.ndarray) -> Arrays:
    return (flags(np, signature.attrs, indices).astype(np.int8, order="C"),)


def reference_one_hot(signature: Signature, indices: np.ndarray) -> Arrays:
    axis, depth = new_axis(signature.attrs, indices.ndim)
    y = np.zeros((*indices.shape[:axis], depth, *indices.shape[axis:]), np.int8)
    for i in np.ndindex(*indices.shape):
        y[(*i[:axis], place_reference(int(indices[i]), depth, "one_hot"), *i[axis:])] = 1
    return (y,)


# --- relative_shift


def shifted(dims: tuple[Dim, ...]) -> Dim:
    """P - Q + 1. Raises GraphError where an operand of `dims` has too few distances."""
    if len(dims) < 2:
        raise GraphError(f"relative_shift needs [.., queries, distances], found {show(dims)}")
    left = add(subtract(dims[-1], dims[-2]), 1)
    if isinstance(left, int) and left < 0:
        raise GraphError(
            f"relative_shift of {show(dims)} needs at least {add(dims[-2], -1)} distances for "
            f"{dims[-2]} queries, found {dims[-1]}"
        )
    return left


def infer_relative_shift(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    dims = operand(inputs).shape
    left = shifted(dims)
    return ((*dims[:-1], left),)


def real_relative_shift(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    queries, left = x.shape[-2], shifted(tuple(x.shape))
    rows = xp.arange(queries, device=x.device)[:, None]
    return (x[..., rows, queries - 1 - rows + xp.arange(left, device=x.device)],)


def view_relative_shift(signature: Signature) -> View:
    def view(x: np.ndarray) -> np.ndarray:
        queries, left = x.shape[-2], int(shifted(x.shape))
        if x.size == 0:
            return np.empty((*x.shape[:-1], left), x.dtype)
        row, entry = x.strides[-2:]
        begin, strides = x[..., queries - 1 :], (*x.strides[:-2], row - entry, entry)
        return as_strided(begin, (*x.shape[:-1], left), strides)

    return view


def reference_relative_shift(signature: Signature, x: np.ndarray) -> Arrays:
    queries, left = x.shape[-2], shifted(x.shape)
    shape = [*x.shape[:-1], int(left)]
    return (picked(x, shape, lambda i: (*i[:-1], queries - 1 - i[-2] + i[-1])),)


load_relative_shift = load_view(view_relative_shift)

register(
    Op(
        "arange",
        ("like",),
        tuple(f"{dtype} -> i32" for dtype in CODE_DTYPES),
        infer_arange,
        real_arange,
        as_is,
        reference_arange,
        at_once(load_arange),
        elementwise_work,
        "y[k] = start + step * k for k < the size of an axis of like",
        load=load_arange,
        demands={~0: "whole"},
        reads=lambda signature: {0: 0},
    )
)
register(
    Op(
        "one_hot",
        ("indices",),
        ("i32 -> i8",),
        infer_one_hot,
        real_one_hot,
        as_is,
        reference_one_hot,
        fast_one_hot,
        elementwise_work,
        "y[i, c] = 1 where c = indices[i], else 0",
        demands={0: "whole", ~0: "flag"},
    )
)
register(
    Op(
        "relative_shift",
        ("x",),
        UNARY,
        infer_relative_shift,
        real_relative_shift,
        as_is,
        reference_relative_shift,
        at_once(load_relative_shift),
        elementwise_work,
        "y[.., i, j] = x[.., i, Q - 1 - i + j]",
        moves=True,
        load=load_relative_shift,
    )
)
