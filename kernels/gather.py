"""Looking entries up by their place: an embedding is a gather in its table.

    gather     y[a, i, b] = x[a, indices[i], b], a and b all axes before and after `axis`; the axes of
               `indices` stand where `axis` stood, as in numpy.take

Codes of x pass unchanged (i8, i16, i32; a constant table is quantised like an activation).
`indices` are whole numbers: i32 with scale 1 over codes, f32 over the reals, where they are rounded
half to even. An index counts from the end where it is negative; one that is not in [-n, n) for an
axis of n entries raises OpError before anything is read.
"""

import math
from typing import Any

import numpy as np

from nnaq.errors import OpError
from nnaq.ir.dims import Shape
from nnaq.ir.op import Arrays, Bindable, Op, Signature, as_is, at_once, register
from nnaq.kernels.boundary import elementwise_work
from nnaq.kernels.movement import CODE_DTYPES, Attrs, Bound, Types, axis_of, operand, picked


def places(xp: Any, indices: Any, size: int, who: str) -> Any:
    """Indices (codes, or reals to round) as int64 counted from the front of an axis of `size`."""
    whole = xp.round(indices)
    outside = ~((whole >= -size) & (whole < size))  # true for a NaN too
    if bool(outside.any()):
        raise out_of_range(float(whole[outside][0]), size, who)
    counted = xp.asarray(whole, dtype=xp.int64)
    return counted + size * (counted < 0)


def out_of_range(index: float, size: int, who: str) -> OpError:
    """The error that names an index which an axis of `size` does not have."""
    return OpError(f"{who} has the index {index:g}, but there are {size} entries: give {-size} to {size - 1}")


def place_reference(index: int, size: int, who: str) -> int:
    """One index counted from the front."""
    if not -size <= index < size:
        raise out_of_range(index, size, who)
    return index if index >= 0 else index + size


def infer_gather(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    x, indices = operand(inputs), operand(inputs, 1)
    axis = axis_of(attrs["axis"], x.rank, "gather")
    return ((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]),)


def real_gather(xp: Any, attrs: Attrs, x: Any, indices: Any) -> tuple[Any, ...]:
    axis = axis_of(attrs["axis"], len(x.shape), "gather")
    return (x[(slice(None),) * axis + (places(xp, indices, x.shape[axis], "gather"),)],)


def load_gather(signature: Signature, constants: tuple[Any, ...]) -> Bindable:
    """The same codes; NumPy's own check of every index is the quick one."""
    axis = axis_of(signature.attrs["axis"], signature.input(0).rank, "gather")

    def bind(x: np.ndarray, indices: np.ndarray) -> Bound:
        place = np.empty((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)

        def run() -> None:
            try:
                x.take(indices, axis, place)
            except IndexError:
                places(np, indices, x.shape[axis], "gather")
                raise

        return (place,), run

    return Bindable(bind)


def reference_gather(signature: Signature, x: np.ndarray, indices: np.ndarray) -> Arrays:
    axis = axis_of(signature.attrs["axis"], x.ndim, "gather")
    found = [place_reference(int(index), x.shape[axis], "gather") for index in indices.flat]
    table = np.array(found, object).reshape(indices.shape)
    after = axis + indices.ndim
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return (picked(x, shape, lambda i: (*i[:axis], table[i[axis:after]], *i[after:])),)


register(
    Op(
        "gather",
        ("x", "indices"),
        tuple(f"{dtype} i32 -> {dtype}" for dtype in CODE_DTYPES),
        infer_gather,
        real_gather,
        as_is,
        reference_gather,
        at_once(load_gather),
        elementwise_work,
        "y[a, i, b] = x[a, indices[i], b] along axis",
        ties=((0, ~0),),
        demands={1: "whole"},
        reads=lambda signature: {0: math.prod(signature.outputs[0].shape)},  # type: ignore[arg-type]
        load=load_gather,
    )
)
