"""Bodies of the operators that repeat entries or turn an axis round; over codes and over reals alike."""

import numpy as np

from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels.movement import listed
from nnaq.kernels.spread import repeats, turned

BEFORE_THE_FIRST = -(2**62)  # an end that every axis limits to before its first entry


def expand(body: Body, signature: Signature, x: str, like: str = "") -> tuple[str, ...]:
    """ONNX's Expand; an axis that keeps its own size is asked for 1, which broadcasts."""
    sizes, axes = (listed(signature.attrs, key, "expand") for key in ("sizes", "like_axes"))
    parts = [
        _size(body, signature, like, axis) if axis >= 0 else body.constant([size if size >= 0 else 1])
        for size, axis in zip(sizes, axes, strict=True)
    ]
    shape = body.apply("Concat", *parts, axis=0) if parts else body.constant(np.zeros(0, np.int64))
    return (body.apply("Expand", x, shape),)


def _size(body: Body, signature: Signature, like: str, axis: int) -> str:
    """The size of an axis of `like`, as a list of one."""
    dim = signature.input(1).shape[axis]
    return body.reshape(body.size(like, axis, dim), (1,))


def tile(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """ONNX's Tile, in INT64: runtimes do not tile every narrow type."""
    kind = signature.input(0)
    counts = body.constant(np.array(repeats(signature.attrs, kind.rank), np.int64))
    if kind.dtype == "f32":
        return (body.apply("Tile", x, counts),)
    return (body.codes(body.apply("Tile", body.wide(x), counts), kind.dtype),)


def reverse(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """A Slice from the last entry back to the first."""
    axes = turned(signature.attrs, signature.input(0).rank)
    if not axes:
        return (body.apply("Identity", x),)
    starts, ends, steps = ([n] * len(axes) for n in (-1, BEFORE_THE_FIRST, -1))
    return (body.apply("Slice", x, *(body.constant(n) for n in (starts, ends, list(axes), steps))),)
