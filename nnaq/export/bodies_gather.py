"""Bodies of gather, and of the operators of positions; over codes and over reals alike.

Over the reals indices are rounded half to even on their way to INT64, as the kernels do.
"""

import numpy as np

from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels.movement import axis_of
from nnaq.kernels.positions import new_axis, progression


def _whole(body: Body, signature: Signature, position: int, indices: str) -> str:
    """Indices as INT64."""
    real = signature.input(position).dtype == "f32"
    return body.wide(body.apply("Round", indices) if real else indices)


def gather(body: Body, signature: Signature, x: str, indices: str) -> tuple[str, ...]:
    """ONNX's Gather, which counts negative indices from the end too."""
    axis = axis_of(signature.attrs["axis"], signature.input(0).rank, "gather")
    return (body.take(x, _whole(body, signature, 1, indices), axis),)


def one_hot(body: Body, signature: Signature, indices: str) -> tuple[str, ...]:
    """Equal against all classes along the new axis."""
    rank = signature.input(0).rank
    axis, depth = new_axis(signature.attrs, rank)
    whole, zero = _whole(body, signature, 0, indices), body.constant(0)
    counted = body.add(whole, body.mul(body.flag("Less", whole, zero), body.constant(depth)))
    classes = body.constant(np.arange(depth, dtype=np.int64).reshape(-1, *[1] * (rank - axis)))
    raised = body.apply("Unsqueeze", counted, body.constant([axis]))
    return (body.codes(body.apply("Equal", raised, classes), signature.outputs[0].dtype),)


def arange(body: Body, signature: Signature, like: str) -> tuple[str, ...]:
    """start + step * Range(size of the axis)."""
    kind = signature.input(0)
    axis, (start, step) = axis_of(signature.attrs["axis"], kind.rank, "arange"), progression(signature.attrs)
    counted = _counted(body, body.size(like, axis, kind.shape[axis]))
    numbers = body.add(body.mul(counted, body.constant(step)), body.constant(start))
    return (body.codes(numbers, signature.outputs[0].dtype),)


def relative_shift(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """A Gather of entry i * P + Q - 1 - i + j from rows that stand in one line."""
    kind = signature.input(0)
    one = body.constant(1)
    queries = body.size(x, kind.rank - 2, kind.shape[-2])
    distances = body.size(x, kind.rank - 1, kind.shape[-1])
    left = body.add(body.sub(distances, queries), one)
    rows = body.reshape(_counted(body, queries), (-1, 1))
    first = body.add(body.mul(rows, body.sub(distances, one)), body.sub(queries, one))
    line = body.reshape(x, (*(0,) * (kind.rank - 2), -1))
    return (body.take(line, body.add(first, _counted(body, left)), kind.rank - 2),)


def _counted(body: Body, size: str) -> str:
    """0, 1, … up to `size`."""
    return body.apply("Range", body.constant(0), size, body.constant(1))
