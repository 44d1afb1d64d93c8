"""Operators that move codes as they are: another shape, another order of axes.

No arithmetic, no rounding, one code type for operands and results:

    reshape    y.flat[n] = x.flat[n]; `shape` holds sizes, 0 copies that dimension of the operand,
               -1 (once) takes what is left
    transpose  y[i] = x[j] with j[perm[k]] = i[k]

Admitted are i8, i16 and i32. Axes may be open (symbolic): reshape divides the product of the
operand's sizes by those it is told, so that [T,B,16] with (0, -1, 8) is [T,2*B,8].

Beside them stands what every family that moves codes needs: reading axes and attributes,
padding with a number, the fast kernel that treats codes as reals, and copies between arrays that
keep their places.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np

from nnaq.errors import GraphError
from nnaq.ir.dims import Dim, Shape, evaluate, quotient, show
from nnaq.ir.op import Arrays, Attr, Bindable, Op, Signature, Work, as_is, at_once, register
from nnaq.ir.types import TensorType
from nnaq.kernels.bound import Copy, Run
from nnaq.kernels.boundary import elementwise_work

CODE_DTYPES = ("i8", "i16", "i32")
MAX_CONCAT = 8
# An end at or beyond this stands for "to the end", whatever the axis is (ONNX exports 2^31-1 or 2^63-1).
TO_THE_END = 2**31 - 1

Types = tuple[TensorType | None, ...]
Attrs = Mapping[str, Attr]


def integers(attrs: Attrs, key: str, length: int, who: str) -> tuple[int, ...]:
    """The attribute `key`: `length` whole numbers. Raises GraphError otherwise."""
    value = attrs.get(key)
    if isinstance(value, tuple) and len(value) == length and all(isinstance(v, int) for v in value):
        return tuple(int(v) for v in value)
    raise GraphError(f"{who} needs {length} whole numbers as {key!r}, found {value!r}")


def listed(attrs: Attrs, key: str, who: str) -> tuple[int, ...]:
    """The attribute `key`: whole numbers, however many. Raises GraphError otherwise."""
    value = attrs.get(key)
    return integers(attrs, key, len(value) if isinstance(value, tuple) else 0, who)


def axis_of(axis: Attr, rank: int, who: str) -> int:
    """`axis` counted from the front. Raises GraphError where a tensor of `rank` has no such axis."""
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise GraphError(f"{who} names axis {axis!r} of a tensor of rank {rank}")
    return axis % rank


def operand(inputs: Types, position: int = 0) -> TensorType:
    """The type of an operand that must be there."""
    found = inputs[position] if position < len(inputs) else None
    if found is None:
        raise GraphError(f"operand {position} is missing")
    return found


def pad_constant(xp: Any, x: Any, axis: int, begin: int, end: int, fill: float) -> Any:
    """x with `begin` and `end` entries of `fill` before and after it along `axis`."""
    shape = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in (begin, end)]
    sides = [xp.full(s, fill, dtype=x.dtype, device=x.device) for s in shape]
    return xp.concatenate((sides[0], x, sides[1]), axis)


# --- arrays that keep their places

Bound = tuple[Arrays, Run | None]
View = Callable[[np.ndarray], np.ndarray]


def in_one_piece(view: np.ndarray) -> Bound:
    """What an operand shows, as a result: the view where it lies in one piece, else a copy of it."""
    if view.flags.c_contiguous:
        return (view,), None
    place = np.empty(view.shape, view.dtype)
    return (place,), Copy(place, view)


def load_view(view_of: Callable[[Signature], View]) -> Callable[[Signature, tuple[Any, ...]], Bindable]:
    """The `load` of an operator of one operand whose result is a view of it."""

    def load(signature: Signature, constants: tuple[Any, ...]) -> Bindable:
        view = view_of(signature)
        return Bindable(lambda x: in_one_piece(view(x)))

    return load


# --- reshape


def reshaped(dims: Sequence[Dim], shape: Attr) -> Shape:
    """The shape that the attribute `shape` makes of an operand of `dims`."""
    sizes = listed({"shape": shape}, "shape", "reshape")
    if sizes.count(-1) > 1 or min(sizes, default=0) < -1:
        raise GraphError(f"reshape takes sizes, 0 to copy and at most one -1, found {list(sizes)}")
    if any(size == 0 and axis >= len(dims) for axis, size in enumerate(sizes)):
        raise GraphError(f"reshape to {list(sizes)} copies a dimension that {show(dims)} does not have")
    known = {axis: size or dims[axis] for axis, size in enumerate(sizes) if size != -1}
    left = quotient(dims, tuple(known.values()))
    if left is None or (-1 not in sizes and left != 1):
        raise GraphError(f"{show(dims)} cannot be reshaped to {list(sizes)}: the sizes do not divide")
    return tuple(known.get(axis, left) for axis in range(len(sizes)))


@cache  # a stream asks the same at every step
def whole_reshape(sizes: tuple[int, ...], shape: Attr) -> tuple[int, ...]:
    """`reshaped` for whole sizes. An empty axis stands as a symbol, so that -1 is known there too.

    Nothing parts into any number of pieces: the symbol stands for as many as `shape` asks for.
    """
    parts = prod(size for size in listed({"shape": shape}, "shape", "reshape") if size > 0)
    symbolic = [size or f"{parts}*empty" for size in sizes]
    return tuple(evaluate(dim, {"empty": 0}) for dim in reshaped(symbolic, shape))


def infer_reshape(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    dims = operand(inputs).shape
    whole = tuple(dim for dim in dims if isinstance(dim, int))
    if len(whole) == len(dims):
        return (whole_reshape(whole, attrs["shape"]),)
    return (reshaped(dims, attrs["shape"]),)


def real_reshape(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    return (xp.reshape(x, whole_reshape(x.shape, attrs["shape"])),)


def view_reshape(signature: Signature) -> View:
    shape = signature.attrs["shape"]
    return lambda x: x.reshape(whole_reshape(x.shape, shape))


def reference_reshape(signature: Signature, x: np.ndarray) -> Arrays:
    codes = [int(code) for code in x.flat]
    return (np.array(codes, x.dtype).reshape(whole_reshape(x.shape, signature.attrs["shape"])),)


# --- transpose


def permutation(attrs: Attrs, rank: int) -> tuple[int, ...]:
    perm = integers(attrs, "perm", rank, "transpose")
    if sorted(perm) != list(range(rank)):
        raise GraphError(f"transpose needs each of {rank} axes once, found {list(perm)}")
    return perm


def infer_transpose(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    kind = operand(inputs)
    return (tuple(kind.shape[axis] for axis in permutation(attrs, kind.rank)),)


def real_transpose(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    perm = permutation(attrs, len(x.shape))
    return (xp.moveaxis(x, perm, tuple(range(len(perm)))),)


def view_transpose(signature: Signature) -> View:
    perm = permutation(signature.attrs, signature.input(0).rank)
    return lambda x: x.transpose(perm)


def reference_transpose(signature: Signature, x: np.ndarray) -> Arrays:
    perm = permutation(signature.attrs, x.ndim)
    shape = tuple(x.shape[axis] for axis in perm)
    return (picked(x, shape, lambda i: tuple(i[perm.index(axis)] for axis in range(x.ndim))),)


def picked(
    x: np.ndarray, shape: Sequence[int], source: Callable[[tuple[int, ...]], tuple[int, ...]]
) -> np.ndarray:
    """Result code by result code: y[i] = x[source(i)]."""
    codes = [int(x[source(index)]) for index in np.ndindex(*shape)]
    return np.array(codes, x.dtype).reshape(shape)


# --- registration


def by_real(real: Callable[..., tuple[Any, ...]]) -> Callable[..., Arrays]:
    """The fast kernel of an operator that treats codes as it treats reals."""

    def fast(signature: Signature, *arrays: np.ndarray) -> Arrays:
        (moved,) = real(np, signature.attrs, *arrays)
        return (np.asarray(moved, order="C"),)

    return fast


def no_work(signature: Signature) -> Work:
    """Another shape for the same memory costs nothing."""
    return Work()


load_reshape, load_transpose = load_view(view_reshape), load_view(view_transpose)

UNARY = tuple(f"{dtype} -> {dtype}" for dtype in CODE_DTYPES)
register(
    Op(
        "reshape",
        ("x",),
        UNARY,
        infer_reshape,
        real_reshape,
        as_is,
        reference_reshape,
        at_once(load_reshape),
        no_work,
        "y.flat[n] = x.flat[n]",
        moves=True,
        load=load_reshape,
    )
)
register(
    Op(
        "transpose",
        ("x",),
        UNARY,
        infer_transpose,
        real_transpose,
        as_is,
        reference_transpose,
        at_once(load_transpose),
        elementwise_work,
        "y[i] = x[j] with j[perm[k]] = i[k]",
        moves=True,
        load=load_transpose,
    )
)
