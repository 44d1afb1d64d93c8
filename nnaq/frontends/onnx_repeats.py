"""ONNX operators that make or repeat entries: expansion to open sizes, counting, diagonals, one-hot.

An open size is taken from a value of the graph that has it.
"""

from collections.abc import Mapping

import numpy as np

from nnaq.frontends import onnx_sizes
from nnaq.frontends.onnx_importer import Call, Handler
from nnaq.frontends.ports import Unsupported
from nnaq.ir.dims import Shape
from nnaq.ir.op import Attr
from nnaq.kernels.movement import TO_THE_END


def part(call: Call, value: str, axis: int, start: int, end: int) -> str:
    attrs: dict[str, Attr] = {"starts": (start,), "ends": (end,), "axes": (axis,), "steps": (1,)}
    return call.step("slice", [value], attrs)


def expand(call: Call) -> None:
    """Expand: a value repeated along axes of one entry, to whole or computed sizes."""
    sizes = call.walk.dims.get(call.node.input[1])
    target: Shape = call.integers(1, "shape") or () if sizes is None else sizes
    array = call.array(0)
    if array is not None and all(isinstance(dim, int) for dim in target):
        shape = np.broadcast_shapes(array.shape, onnx_sizes.whole(target))
        onnx_sizes.must_be_small(shape)
        call.walk.arrays[call.node.output[0]] = np.broadcast_to(array, shape)
        return
    expanded(call, call.operand(0), target, call.node.output[0])


def expanded(call: Call, value: str, target: Shape, output: str = "") -> str:
    """`value` broadcast to `target` and named as the result `output`; open sizes are taken from values.

    A target of 1 keeps the size that `value` has, as broadcasting does.
    """
    shape = call.type_shape(value)
    rank = max(len(shape), len(target))
    shape = (1,) * (rank - len(shape)) + shape
    wanted = (1,) * (rank - len(target)) + tuple(target)
    wanted = tuple(have if want == 1 else want for have, want in zip(shape, wanted, strict=True))
    opened = {a: n for a, n in enumerate(wanted) if n != shape[a] and isinstance(n, str)}
    likes = _likes(call, opened)
    steps = [(like, axes) for like, axes in likes.items()] or [("", {})]
    for place, (like, axes) in enumerate(steps):
        sizes = tuple(n if isinstance(n, int) and place == 0 else -1 for n in wanted)
        attrs: dict[str, Attr] = {"sizes": sizes, "like_axes": tuple(axes.get(a, -1) for a in range(rank))}
        operands = [value, like] if like else [value]
        if output and place == len(steps) - 1:
            call.result("expand", operands, attrs, output)
        else:
            value = call.step("expand", operands, attrs)
    return call.walk.values[output] if output else value


def _likes(call: Call, open_axes: Mapping[int, str]) -> dict[str, dict[int, int]]:
    """Value -> {axis of the result: axis of that value with the same open size}."""
    likes: dict[str, dict[int, int]] = {}
    for axis, dim in open_axes.items():
        known = next((v for v in likes if dim in call.type_shape(v)), None)
        value, place = (known, call.type_shape(known).index(dim)) if known else call.walk.size(dim)
        likes.setdefault(value, {})[axis] = place
    return likes


def constant_of_shape(call: Call) -> None:
    """ConstantOfShape of open sizes -> expand; of whole sizes a constant."""
    sizes, fill = onnx_sizes.row(call), onnx_sizes.fill_of(call)
    if all(isinstance(dim, int) for dim in sizes):
        onnx_sizes.must_be_small(onnx_sizes.whole(sizes))
        call.walk.arrays[call.node.output[0]] = np.full(onnx_sizes.whole(sizes), fill[0], fill.dtype)
        return
    expanded(call, call.number(float(fill[0])), sizes, call.node.output[0])


def tile(call: Call) -> None:
    """Tile with constant repeats."""
    call.result("tile", [call.operand(0)], {"repeats": call.integers(1, "repeats") or ()})


def counting(call: Call) -> None:
    """Range up to an open size -> arange along the axis of that size; constants fold."""
    limits = [call.walk.dims.get(value) for value in call.node.input]
    start, _, step = (None if limit else call.array(i) for i, limit in enumerate(limits))
    end = limits[1][0] if limits[1] else None
    if start is None or step is None or int(step.reshape(-1)[0]) != 1 or end is None:
        raise Unsupported("its limits are not constant", "it reads constants, or a start to an open size")
    first = int(start.reshape(-1)[0])
    if isinstance(end, int):
        call.walk.arrays[call.node.output[0]] = np.arange(first, end)
        return None
    like, axis = call.walk.size(end)
    count: dict[str, Attr] = {"axis": axis, "start": 0, "step": 1}
    if not first:
        return call.result("arange", [like], count)
    return _result_part(call, call.step("arange", [like], count), 0, first, TO_THE_END)


def _result_part(call: Call, value: str, axis: int, start: int, end: int) -> None:
    attrs: dict[str, Attr] = {"starts": (start,), "ends": (end,), "axes": (axis,), "steps": (1,)}
    call.result("slice", [value], attrs)


def triangle(call: Call) -> None:
    """Trilu: zeros above or below a diagonal."""
    k = int(call.need(1, "diagonal").reshape(-1)[0]) if call.has(1) else 0
    upper = bool(call.attrs.get("upper", 1))
    mask = diagonal_flags(call, call.operand(0), k if upper else None, None if upper else k)
    call.result("where", [mask, call.operand(0), call.number(0)])


def diagonal_flags(call: Call, value: str, low: int | None, high: int | None) -> str:
    """Flags [Q,P] over the last two axes of `value`: 1 where low <= column - row <= high.

    A constant where both axes are whole, else places are compared.
    """
    rows, columns = call.type_shape(value)[-2:]
    if isinstance(rows, int) and isinstance(columns, int):
        distance = np.arange(columns) - np.arange(rows)[:, None]
        inside = np.ones(distance.shape, bool) if low is None else distance >= low
        inside &= True if high is None else distance <= high
        return call.walk.constant(f"diagonals_{low}_{high}_of_{rows}x{columns}", "flags", inside)
    rank = len(call.type_shape(value))
    places = [call.step("arange", [value], {"axis": rank - back, "start": 0, "step": 1}) for back in (2, 1)]
    row = call.step("reshape", [places[0]], {"shape": (-1, 1)})
    flags = []
    for op, limit in (("greater_or_equal", low), ("less_or_equal", high)):
        if limit is not None:
            flags.append(call.step(op, [places[1], call.step("add", [row, call.number(limit)])]))
    return flags[0] if len(flags) == 1 else call.step("logical_and", flags)


def one_hot(call: Call) -> None:
    """OneHot: flags, mapped to the off and on values where these are not 0 and 1."""
    depth = int(call.need(1, "depth").reshape(-1)[0])
    rank = len(call.shape(0)) + 1
    attrs: dict[str, Attr] = {"depth": depth, "axis": call.attrs.get("axis", -1) % rank}
    values = call.array(2)
    if values is not None and values.reshape(-1).tolist() == [0, 1]:
        return call.result("one_hot", [call.operand(0)], attrs)
    flags = call.step("one_hot", [call.operand(0)], attrs)
    if values is not None:
        off, on = (float(v) for v in values.reshape(-1))
        return call.result("where", [flags, call.number(on), call.number(off)])
    ends = [part(call, call.operand(2), 0, place, place + 1) for place in (0, 1)]
    return call.result("where", [flags, ends[1], ends[0]])


HANDLERS: dict[str, Handler] = {
    "ConstantOfShape": constant_of_shape,
    "Expand": expand,
    "OneHot": one_hot,
    "Range": counting,
    "Tile": tile,
    "Trilu": triangle,
}
