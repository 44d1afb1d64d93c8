"""Movement of codes in TFLite files: shapes, slices, joins. Nothing is rounded, so codes must agree."""

from dataclasses import replace

from nnaq.frontends.ports import Unsupported
from nnaq.frontends.tflite_importer import Call
from nnaq.ir.op import Attr

Cuts = dict[int, tuple[int, int, int]]


def into_shape(call: Call) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the file says the result's shape."""
    call.same_codes(0)
    call.make("reshape", [call.value(0)], {"shape": tuple(int(n) for n in call.result.shape)})


def transpose(call: Call) -> None:
    call.same_codes(0)
    call.make("transpose", [call.value(0)], {"perm": call.numbers(1)})


def pad(call: Call) -> None:
    """PAD with the zero_point."""
    call.same_codes(0)
    widths = call.array(1)
    if widths.shape != (call.kind(0).rank, 2) or widths.min(initial=0) < 0:
        raise Unsupported(f"the widths {widths.tolist()}")
    pads = (*map(int, widths[:, 0]), *map(int, widths[:, 1]))
    call.make("pad", [call.value(0)], {"pads": pads, "mode": "constant"})


def concatenation(call: Call) -> None:
    """CONCATENATION, at most as many operands at once as one node takes."""
    call.same_codes()
    axis, rank = call.options.Axis(), call.result.rank
    if not -rank <= axis < rank or call.options.FusedActivationFunction():
        raise Unsupported(f"axis {axis}, activation {call.options.FusedActivationFunction()}")
    join(call, [call.value(i) for i in range(len(call.node.inputs))], axis % rank)


def join(call: Call, parts: list[str], axis: int, most: int = 8) -> None:
    """Values end to end, in groups of at most `most`."""
    while len(parts) > 1:
        groups = [parts[i : i + most] for i in range(0, len(parts), most)]
        parts = [
            call.step("concat", group, {"axis": axis}, call.result) if len(group) > 1 else group[0]
            for group in groups
        ]
    call.bind(parts[0])


def pack(call: Call) -> None:
    """PACK: each operand gets a new axis of size 1."""
    call.same_codes()
    rank = call.result.rank
    axis = call.options.Axis()
    if not -rank <= axis < rank:
        raise Unsupported(f"axis {axis}")
    sizes = [int(n) for n in call.result.shape]
    sizes[axis] = 1
    parts = [
        call.step("reshape", [call.value(i)], {"shape": tuple(sizes)}, call.result)
        for i in range(len(call.node.inputs))
    ]
    join(call, parts, axis % rank)


def unpack(call: Call) -> None:
    """UNPACK: a slice of size 1 for each result."""
    rank, axis = call.kind(0).rank, call.options.Axis()
    if not -rank <= axis < rank:
        raise Unsupported(f"axis {axis}")
    for position in range(len(call.node.outputs)):
        part(call, {axis % rank: (position, position + 1, 1)}, position)


def strided_slice(call: Call) -> None:
    """STRIDED_SLICE with constant limits and masks; shrunk axes are dropped after it."""
    options, shape = call.options, [int(n) for n in call.kind(0).shape]
    if options.EllipsisMask() or options.NewAxisMask() or options.Offset():
        raise Unsupported("an ellipsis, a new axis or offsets among its limits", "slice and reshape apart")
    cuts: Cuts = {}
    limits = zip(*(call.numbers(i) for i in (1, 2, 3)), strict=True)
    for axis, (start, end, step) in enumerate(limits):
        if step <= 0:
            raise Unsupported(f"the step {step}", "only forward slices are read")
        first = None if options.BeginMask() >> axis & 1 else start
        last = None if options.EndMask() >> axis & 1 else end
        begin, stop, _ = slice(first, last, step).indices(shape[axis])
        if options.ShrinkAxisMask() >> axis & 1:
            begin = min(begin, shape[axis] - 1)
            stop = begin + 1
        cuts[axis] = begin, max(stop, begin), step
    part(call, cuts)


def part(call: Call, cuts: Cuts, position: int = 0) -> None:
    """A slice by plain limits per axis, in the shape that the file gives the result."""
    x, tensor = call.kind(0), call.node.outputs[position]
    value, shape = call.value(0), tuple(int(n) for n in call.walk.kind(tensor).shape)
    kept = {axis: cut for axis, cut in cuts.items() if cut != (0, x.shape[axis], 1)}
    if kept:
        starts, ends, steps = zip(*kept.values(), strict=True)
        attrs: dict[str, Attr] = {"starts": starts, "ends": ends, "axes": tuple(kept), "steps": steps}
        value = call.step("slice", [value], attrs, x)
    if call.walk.builder.types[value].shape != shape:
        value = call.step("reshape", [value], {"shape": shape}, x)
    call.bind(value, position)


def split(call: Call) -> None:
    """SPLIT (axis, value) and SPLIT_V (value, sizes, axis)."""
    value, axis = (1, 0) if call.node.op == "SPLIT" else (0, 2)
    where = call.numbers(axis)[0] % call.kind(value).rank
    alone = Call(call.walk, replace(call.node, inputs=(call.tensor(value),)))
    sizes = [int(call.walk.kind(tensor).shape[where]) for tensor in call.node.outputs]
    if sum(sizes) != call.kind(value).shape[where]:
        raise Unsupported(f"its results have {sizes} of {call.kind(value).shape[where]} entries")
    start = 0
    for position, size in enumerate(sizes):
        part(alone, {where: (start, start + size, 1)}, position)
        start += size
