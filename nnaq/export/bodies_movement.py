"""Bodies of the operators that move codes; the codes pass in the width they come in."""

import numpy as np

from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels.cut_and_join import cuts, widths
from nnaq.kernels.movement import TO_THE_END, axis_of, permutation


def reshape(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """The attribute `shape` means what it means in ONNX."""
    return (body.reshape(x, signature.attrs["shape"]),)  # type: ignore[arg-type]


def transpose(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (body.transpose(x, permutation(signature.attrs, signature.input(0).rank)),)


def slice_(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """Whole axes with their cuts resolved, because ONNX limits the start of a backward cut otherwise.

    Open axes are cut forward, which ONNX reads as Python does.
    """
    kind = signature.input(0)
    parts = []
    for axis, cut in cuts(signature.attrs, kind.rank).items():
        size = kind.shape[axis]
        if isinstance(size, int):
            parts.append((axis, *_resolved(cut, size)))
        elif (cut.start, cut.step) != (0, 1) or cut.stop < TO_THE_END:
            parts.append((axis, cut.start, cut.stop, cut.step))
    if not parts:
        return (body.apply("Identity", x),)
    axes, starts, ends, steps = (body.constant(np.array(part, np.int64)) for part in zip(*parts, strict=True))
    return (body.apply("Slice", x, starts, ends, axes, steps),)


def _resolved(cut: slice, size: int) -> tuple[int, int, int]:
    """start, end and step as ONNX reads them; a stop before the first entry is -(size + 1)."""
    start, stop, step = cut.indices(size)
    if not range(start, stop, step):
        return 0, 0, 1
    return start, stop if stop >= 0 else -(size + 1), step


def pad(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """Constant padding by Pad in INT64; reflected and repeated entries by their position."""
    kind = signature.input(0)
    sides = widths(signature.attrs, kind.rank)
    if signature.attrs["mode"] == "constant":
        pads = body.constant([begin for begin, _ in sides] + [end for _, end in sides])
        padded = body.apply("Pad", body.wide(x), pads, body.constant(kind.zero_point))
        return (body.codes(padded, kind.dtype),)
    place = _mirrored if signature.attrs["mode"] == "reflect" else _nearest
    result = body.apply("Identity", x)
    for axis, (begin, end) in enumerate(sides):
        if begin or end:
            size = body.size(x, axis, kind.shape[axis])
            first, last = body.constant(-begin), body.add(size, body.constant(end))
            positions = body.apply("Range", first, last, body.constant(1))
            result = body.take(result, place(body, positions, size), axis)
    return (result,)


def _mirrored(body: Body, positions: str, size: str) -> str:
    """min(t, p - t) with p = 2 * (size - 1), t = position mod p; 0 for size 1."""
    period = body.mul(body.sub(size, body.constant(1)), body.constant(2))
    t = body.apply("Mod", positions, body.apply("Max", period, body.constant(1)))
    return body.apply("Min", t, body.sub(period, t))


def _nearest(body: Body, positions: str, size: str) -> str:
    limited = body.apply("Max", positions, body.constant(0))
    return body.apply("Min", limited, body.sub(size, body.constant(1)))


def concat(body: Body, signature: Signature, *xs: str) -> tuple[str, ...]:
    axis = axis_of(signature.attrs["axis"], signature.input(0).rank, "concat")
    return (body.apply("Concat", *xs, axis=axis),)
