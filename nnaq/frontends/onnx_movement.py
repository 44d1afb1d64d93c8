"""ONNX operators that move values: other shapes, parts, places, padding."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from nnaq.frontends import onnx_sizes
from nnaq.frontends.onnx_importer import Call, Handler
from nnaq.frontends.onnx_repeats import expanded, part
from nnaq.frontends.ports import Unsupported, reshape_to
from nnaq.ir.dims import Dim, Shape, add, evaluate, multiply, quotient, subtract, symbols
from nnaq.ir.op import Attr
from nnaq.kernels.movement import MAX_CONCAT, TO_THE_END

# --- shapes


def into(target: Callable[[Call, Shape], Shape]) -> Handler:
    """An operator that only reshapes its operand, to a shape that follows from the operand's."""

    def handle(call: Call) -> None:
        call.reshape(call.operand(0), target(call, call.shape(0)))

    return handle


def squeezed(call: Call, shape: Shape) -> Shape:
    axes = call.integers(1, "axes")
    if axes is None:
        axes = tuple(a for a, dim in enumerate(shape) if dim == 1)
    dropped = {a % len(shape) for a in axes}
    wrong = [shape[a] for a in dropped if shape[a] != 1]
    if wrong:
        raise Unsupported(
            f"it drops an axis of size {wrong[0]}, not 1", "give the axis a size with the input shapes"
        )
    return tuple(dim for a, dim in enumerate(shape) if a not in dropped)


def unsqueezed(call: Call, shape: Shape) -> Shape:
    axes = call.integers(1, "axes") or ()
    rank = len(shape) + len(axes)
    added, rest = {a % rank for a in axes}, iter(shape)
    return tuple(1 if a in added else next(rest) for a in range(rank))


def flattened(call: Call, shape: Shape) -> Shape:
    axis = call.attrs.get("axis", 1)
    axis += len(shape) if axis < 0 else 0
    return multiply(*shape[:axis]), multiply(*shape[axis:])


def reshape(call: Call) -> None:
    """Reshape to constant sizes (0 copies, -1 takes the rest) or to sizes computed from Shape."""
    sizes = call.walk.dims.get(call.node.input[1])
    if sizes is None:
        target = call.integers(1, "shape") or ()
        if call.attrs.get("allowzero") and 0 in target:
            raise Unsupported("allowzero=1 with an axis of size 0")
        return call.result("reshape", [call.operand(0)], {"shape": target})
    return call.reshape(call.operand(0), _resolved(call.shape(0), sizes))


def _resolved(shape: Shape, sizes: Shape) -> Shape:
    """Sizes with 0 copied and -1 worked out, as far as it is known."""
    sizes = tuple(shape[a] if dim == 0 and a < len(shape) else dim for a, dim in enumerate(sizes))
    rest = quotient(shape, [dim for dim in sizes if dim != -1]) if sizes.count(-1) == 1 else None
    return tuple(rest if dim == -1 and rest is not None else dim for dim in sizes)


def transpose(call: Call) -> None:
    """Transpose; without perm the axes turn around."""
    perm = tuple(call.attrs.get("perm", reversed(range(len(call.shape(0))))))
    call.result("transpose", [call.operand(0)], {"perm": perm})


# --- parts


def cut(
    call: Call, starts: Mapping[int, int], ends: Mapping[int, int], steps: Mapping[int, int], output: str = ""
) -> None:
    """A slice with plain limits on axes of known size; a slice that takes everything is left out."""
    shape = call.shape(0)
    limits = {axis: _limits(shape[axis], starts[axis], ends[axis], steps[axis]) for axis in starts}
    kept = {axis: cut for axis, cut in limits.items() if cut not in ((0, shape[axis], 1), (0, TO_THE_END, 1))}
    if not kept:
        return call.bind(call.operand(0), output)
    low, high, step = zip(*kept.values(), strict=True)
    attrs = {"starts": low, "ends": high, "axes": tuple(kept), "steps": step}
    return call.result("slice", [call.operand(0)], attrs, output)


def _limits(dim: Dim, start: int, end: int, step: int) -> tuple[int, int, int]:
    if isinstance(dim, int) and step > 0:
        low, high, _ = slice(start, end, step).indices(dim)
        return low, max(high, low), step
    return max(start, -TO_THE_END), max(min(end, TO_THE_END), -TO_THE_END), step


def slice_(call: Call) -> None:
    """Slice with constant limits, or with one end that is an open size."""
    limits = (call.walk.dims.get(value, ()) for value in call.node.input[1:3])
    if any(isinstance(dim, str) for row in limits for dim in row):
        return _open_slice(call)
    starts, ends = (call.integers(i, what) or () for i, what in ((1, "starts"), (2, "ends")))
    rank = len(call.shape(0))
    axes = [a % rank for a in (call.integers(3, "axes") or range(len(starts)))]
    steps = call.integers(4, "steps") or [1] * len(starts)
    low, high, step = (dict(zip(axes, values, strict=True)) for values in (starts, ends, steps))
    return cut(call, low, high, step)


def _open_slice(call: Call) -> None:
    """x[start:end] of one axis: whole numbers count off the entries, as many as the open sizes say."""
    (start, *more), (end, *_) = onnx_sizes.row(call, 1), onnx_sizes.row(call, 2)
    axis = (call.integers(3, "axes") or (0,))[0] % len(call.shape(0))
    dim = call.shape(0)[axis]
    if more or (call.integers(4, "steps") or (1,))[0] != 1:
        raise Unsupported("it has a step, or cuts several axes at open sizes", onnx_sizes.OPEN)
    if isinstance(start, str) and isinstance(dim, int):
        return call.result("gather", [call.operand(0), _open_places(call, start, end, dim)], {"axis": axis})
    if not isinstance(start, int) or start < 0:
        raise Unsupported("its start is an open size or counts from the end", onnx_sizes.OPEN)
    back = subtract(end, dim)
    if isinstance(back, int):
        return cut(call, {axis: start}, {axis: min(back, 0) or TO_THE_END}, {axis: 1})
    row = _count(call, subtract(end, start), start, 1)
    return call.result("gather", [call.operand(0), row], {"axis": axis})


def _open_places(call: Call, start: str, end: Dim, table: int) -> str:
    """Places start, …, end - 1 in a table; below zero for every size, a start counts from the end.

    A row from an open start is counted down from its known end, or from where it meets an open size
    of the graph, in places from the end of the table: a gather then refuses those before the first.
    """
    if evaluate(start, dict.fromkeys(symbols(start), 1)) < 0:
        start = str(add(start, table))
    end = min(end, table) if isinstance(end, int) else end
    kinds = (
        kind for value, kind in call.walk.builder.types.items() if value not in call.walk.builder.constants
    )
    sizes = dict.fromkeys(dim for kind in kinds for dim in kind.shape if isinstance(dim, str))
    for size in (subtract(end, start), *sizes):
        middle = add(start, size)
        if isinstance(middle, int) and 0 < middle <= table:
            head = call.step("reverse", [_count(call, size, middle - 1 - table, -1)], {"axes": (0,)})
            if middle == end:
                return head
            return call.step("concat", [head, _count(call, subtract(end, middle), middle, 1)], {"axis": 0})
    raise Unsupported(f"it takes the places from {start!r} to {end!r}", onnx_sizes.OPEN)


def _count(call: Call, size: Dim, start: int, step: int) -> str:
    """A row of `size` whole numbers, counted along an axis of that size or cut from a longer row."""
    for value, kind in call.walk.builder.types.items():
        for axis, dim in enumerate(kind.shape):
            less = subtract(size, dim)
            if isinstance(dim, str) and isinstance(less, int) and less <= 0:
                row = call.step("arange", [value], {"axis": axis, "start": start, "step": step})
                return part(call, row, 0, 0, less) if less else row
    raise Unsupported(f"no value has an axis of {size}", onnx_sizes.OPEN)


def gather(call: Call) -> None:
    """Gather: at one constant place or at places with one stride -> slice, else gather."""
    indices, shape = call.array(1), call.shape(0)
    axis = call.attrs.get("axis", 0) % len(shape)
    span = None if indices is None else _span(indices, shape[axis])
    if span is None:
        return _gather_places(call, indices, shape, axis)
    attrs = {"starts": (span.start,), "ends": (span.stop,), "axes": (axis,), "steps": (span.step,)}
    if indices is not None and indices.ndim:
        return call.result("slice", [call.operand(0)], attrs)
    part = call.step("slice", [call.operand(0)], attrs)
    return call.result("reshape", [part], reshape_to(call.type_shape(part), shape[:axis] + shape[axis + 1 :]))


def _span(indices: np.ndarray, size: Dim) -> range | None:
    """The places of one stride that constant indices stand for, else None."""
    if indices.ndim > 1 or not indices.size or not isinstance(size, int):
        return None
    places = [int(i) % size for i in indices.reshape(-1)]
    step = places[1] - places[0] if len(places) > 1 else 1
    if step < 1 or any(b - a != step for a, b in pairwise(places)):
        return None
    return range(places[0], places[-1] + 1, step)


def _gather_places(call: Call, indices: np.ndarray | None, shape: Shape, axis: int) -> None:
    """The operator gather; constant indices count from the front."""
    attrs: dict[str, Attr] = {"axis": axis}
    if indices is None:
        return call.result("gather", [call.operand(0), call.operand(1)], attrs)
    size = shape[axis]
    if not isinstance(size, int):
        if np.any(indices < 0):
            raise Unsupported(f"negative indices along the open axis {size!r}", onnx_sizes.OPEN)
        size = TO_THE_END
    places = call.constant(1, f"places{size}", np.asarray(indices) % size)
    return call.result("gather", [call.operand(0), places], attrs)


def split(call: Call) -> None:
    """Split -> one slice per part."""
    axis = call.attrs.get("axis", 0) % len(call.shape(0))
    size, count = call.shape(0)[axis], len(call.node.output)
    if not isinstance(size, int):
        raise Unsupported(f"it splits the open axis {size!r}", "give the axis a size with the input shapes")
    part = -(-size // count)
    sizes = call.integers(1, "split") or [min(part, size - i * part) for i in range(count)]
    start = 0
    for output, length in zip(call.node.output, sizes, strict=True):
        if output:
            cut(call, {axis: start}, {axis: start + length}, {axis: 1}, output)
        start += length


def pad(call: Call) -> None:
    """Pad with zeros, another value, mirrored, with the edge or around; negative widths cut."""
    given, mode = call.integers(1, "pads") or (), call.word("mode", "constant")
    rank = len(call.shape(0))
    axes = [a % rank for a in (call.integers(3, "axes") or range(rank))]
    pads = [0] * 2 * rank
    for place, axis in enumerate(axes):
        pads[axis], pads[rank + axis] = given[place], given[len(axes) + place]
    value = call.operand(0)
    if min(pads, default=0) < 0:
        value = _without(call, value, pads)
        pads = [max(width, 0) for width in pads]
    fill = call.array(2) if call.has(2) else np.array(call.attrs.get("value", 0.0))
    if fill is None:
        raise Unsupported("it pads with a computed value")
    if mode == "wrap":
        return _around(call, value, pads)
    if mode == "constant" and np.any(fill):
        return _filled(call, value, pads, float(fill.reshape(-1)[0]))
    return call.result("pad", [value], {"pads": tuple(pads), "mode": mode})


def _without(call: Call, value: str, pads: Sequence[int]) -> str:
    """`value` without the entries that negative widths cut away."""
    rank = len(pads) // 2
    cuts = {a: (max(-pads[a], 0), max(-pads[rank + a], 0)) for a in range(rank)}
    cuts = {axis: cut for axis, cut in cuts.items() if any(cut)}
    ends = tuple(-end if end else TO_THE_END for _, end in cuts.values())
    attrs: dict[str, Attr] = {"starts": tuple(start for start, _ in cuts.values()), "ends": ends}
    return call.step("slice", [value], {**attrs, "axes": tuple(cuts), "steps": (1,) * len(cuts)})


def _around(call: Call, value: str, pads: Sequence[int]) -> None:
    """Pad with what stands at the other end."""
    rank = len(pads) // 2
    for axis in range(rank):
        before, after = pads[axis], pads[rank + axis]
        parts = [part(call, value, axis, -before, TO_THE_END)] if before else []
        parts += [value] + ([part(call, value, axis, 0, after)] if after else [])
        value = call.step("concat", parts, {"axis": axis}) if len(parts) > 1 else value
    call.result("reshape", [value], {"shape": (0,) * rank})


def _filled(call: Call, value: str, pads: Sequence[int], fill: float) -> None:
    """Pad with a number other than 0: blocks of it are joined on."""
    rank = len(pads) // 2
    for axis in range(rank):
        parts = []
        for width in (pads[axis], pads[rank + axis]):
            shape = list(call.type_shape(value))
            shape[axis] = width
            parts.append(_block(call, fill, tuple(shape)) if width else "")
        joined = [part for part in (parts[0], value, parts[1]) if part]
        value = call.step("concat", joined, {"axis": axis}) if len(joined) > 1 else value
    call.result("reshape", [value], {"shape": (0,) * rank})


def _block(call: Call, fill: float, shape: Shape) -> str:
    """An array of one number, a constant where its shape is whole."""
    sizes = tuple(dim for dim in shape if isinstance(dim, int))
    if len(sizes) == len(shape):
        name = f"constant_{fill!r}_of_{'x'.join(map(str, sizes))}"
        return call.walk.constant(name, "block", np.full(sizes, fill))
    return expanded(call, call.number(fill), shape)


def concat(call: Call) -> None:
    """Concat along one axis; more operands than one node may have are joined in groups."""
    inputs = [call.walk.operand(value) for value in call.node.input]
    attrs: dict[str, Attr] = {"axis": call.attrs["axis"] % len(call.type_shape(inputs[0]))}
    while len(inputs) > MAX_CONCAT:
        groups = [inputs[i : i + MAX_CONCAT] for i in range(0, len(inputs), MAX_CONCAT)]
        inputs = [call.step("concat", group, attrs) if len(group) > 1 else group[0] for group in groups]
    call.result("concat", inputs, attrs)


# --- space and depth


def depth_to_space(call: Call) -> None:
    """DepthToSpace -> reshape, transpose, reshape."""
    n, c, h, w = call.shape(0)
    b = call.attrs["blocksize"]
    channels = _whole_channels(c, b * b)
    if call.word("mode", "DCR") == "DCR":
        split, perm = (n, b, b, channels, h, w), (0, 3, 4, 1, 5, 2)
    else:
        split, perm = (n, channels, b, b, h, w), (0, 1, 4, 2, 5, 3)
    _rearranged(call, split, perm, (n, channels, _times(h, b), _times(w, b)))


def space_to_depth(call: Call) -> None:
    """SpaceToDepth -> reshape, transpose, reshape."""
    n, c, h, w = call.shape(0)
    b = call.attrs["blocksize"]
    high, wide = _whole_channels(h, b), _whole_channels(w, b)
    perm = (0, 3, 5, 1, 2, 4) if call.word("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    _rearranged(call, (n, c, high, b, wide, b), perm, (n, _times(c, b * b), high, wide))


def _whole_channels(dim: Dim, part: int) -> int:
    if not isinstance(dim, int) or dim % part:
        raise Unsupported(f"it splits an axis of {dim} by {part}", onnx_sizes.OPEN)
    return dim // part


def _times(dim: Dim, factor: int) -> Dim:
    return multiply(dim, factor)


def _rearranged(call: Call, split: Shape, perm: tuple[int, ...], target: Shape) -> None:
    parts = call.step("reshape", [call.operand(0)], reshape_to(call.shape(0), split))
    moved = call.step("transpose", [parts], {"perm": perm})
    call.result("reshape", [moved], reshape_to(call.type_shape(moved), target))


HANDLERS: dict[str, Handler] = {
    "Concat": onnx_sizes.or_reals(onnx_sizes.concat, concat),
    "DepthToSpace": depth_to_space,
    "Flatten": into(flattened),
    "Gather": onnx_sizes.or_reals(onnx_sizes.gather, gather),
    "Pad": pad,
    "Reshape": onnx_sizes.or_reals(onnx_sizes.same, reshape),
    "Shape": onnx_sizes.shape,
    "Size": onnx_sizes.size,
    "Slice": onnx_sizes.or_reals(onnx_sizes.cut, slice_),
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": onnx_sizes.or_reals(onnx_sizes.same, into(squeezed)),
    "Transpose": transpose,
    "Unsqueeze": onnx_sizes.or_reals(onnx_sizes.same, into(unsqueezed)),
}
