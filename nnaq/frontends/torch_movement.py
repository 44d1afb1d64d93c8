"""torch operators that reshape, cut, join, repeat or look up; shapes come from torch."""

from collections.abc import Sequence

from torch import fx

from nnaq.frontends.ports import Unsupported
from nnaq.frontends.torch_importer import Call, Handler, dtype_of, operator
from nnaq.frontends.torch_sizes import part
from nnaq.ir.dims import Dim, Shape, add, multiply, quotient, subtract
from nnaq.ir.op import Attr
from nnaq.kernels.movement import MAX_CONCAT, TO_THE_END


def dropout(call: Call) -> None:
    """Dropout in evaluation does nothing."""
    if call.args.get("train"):
        raise Unsupported("it is active in evaluation", "give training=self.training")
    skip(call)


def skip(call: Call) -> None:
    """clone, a cast that loses nothing."""
    given = call.node.args[0]
    if isinstance(given, fx.Node) and given.name in call.walk.fills:
        call.walk.fills[call.node.name] = call.walk.fills[given.name]
    else:
        call.bind(call.value(given))


def cast(call: Call) -> None:
    """A cast: reals to whole numbers cut their fractions off, anything to flags asks for not 0."""
    source, target = (dtype_of(given) for given in (call.node.args[0], call.node))
    if source is None or target is None or source == target:
        return skip(call)
    if str(target) == "torch.bool":
        zero = call.step("equal", [call.value(call.node.args[0]), call.number(0.0)])
        return call.result("logical_not", [zero])
    if source.is_floating_point and not target.is_floating_point and not _has_no_fractions(call.node):
        raise Unsupported(f"it cuts the fractions of {source} off", "use floor or round")
    return skip(call)


def _has_no_fractions(node: fx.Node) -> bool:
    """Whether a cast reads what floor, ceil or round made, limited or not."""
    source = node.args[0]
    if not isinstance(source, fx.Node):
        return False
    limits = ("aten::clamp", "aten::clamp_min", "aten::clamp_max", "aten::clone")
    if operator(source) in limits:
        return _has_no_fractions(source)
    return operator(source) in ("aten::floor", "aten::ceil", "aten::round")


def shaped(call: Call) -> None:
    """view, reshape, squeeze, unsqueeze, flatten: torch has worked out the shape, or it is given."""
    value = call.operand("self")
    given = call.args.get("size", call.args.get("shape"))
    target = call.target()
    if given is not None and -1 not in given:
        target = tuple(call.size(dim) for dim in given)
    elif given is not None:
        target = _with_rest(call.type_shape(value), [call.size(dim) for dim in given]) or target
    if target == call.type_shape(value) and call.node.name not in call.walk.wanted:
        return call.bind(value)
    return call.reshape(value, target)


def _with_rest(shape: Shape, sizes: Sequence[Dim]) -> Shape | None:
    """Sizes with -1 worked out where the others divide `shape`: torch's own words may hide whole sizes."""
    rest = quotient(shape, [dim for dim in sizes if dim != -1])
    return None if rest is None else tuple(rest if dim == -1 else dim for dim in sizes)


def like_other(call: Call) -> None:
    """view_as, reshape_as: the shape of another tensor."""
    call.reshape(call.operand("self"), call.shape("other"))


def permute(call: Call) -> None:
    rank = len(call.shape())
    call.result("transpose", [call.operand("self")], {"perm": tuple(d % rank for d in call.args["dims"])})


def swap_axes(call: Call) -> None:
    """transpose(dim0, dim1), and t() of a matrix."""
    perm = list(range(len(call.shape())))
    a, b = (call.args.get(key, place) % max(len(perm), 1) for place, key in enumerate(("dim0", "dim1")))
    perm[a], perm[b] = perm[b], perm[a]
    call.result("transpose", [call.operand("self")], {"perm": tuple(perm)})


def move_axes(call: Call) -> None:
    """movedim: torch's own shape of the order of axes."""
    rank = len(call.shape())
    source, target = ([d % rank for d in call.args[key]] for key in ("source", "destination"))
    order = [axis for axis in range(rank) if axis not in source]
    for place, axis in sorted(zip(target, source, strict=True)):
        order.insert(place, axis)
    call.result("transpose", [call.operand("self")], {"perm": tuple(order)})


def flip(call: Call) -> None:
    rank = len(call.shape())
    call.result(
        "reverse", [call.operand("self")], {"axes": tuple(sorted(d % rank for d in call.args["dims"]))}
    )


# --- cutting


def cut(
    call: Call, axis: int, start: Dim, end: Dim, step: int = 1
) -> tuple[str, list[str], dict[str, Attr]] | None:
    """The node of a slice; None where it takes everything. Limits count from the front, or are whole."""
    size = call.shape()[axis]
    limits = [_limit(size, limit, place) for limit, place in ((start, 0), (end, TO_THE_END))]
    if limits == [0, TO_THE_END] and step == 1:
        return None
    if all(isinstance(limit, int) for limit in limits):
        low, high = (int(limit) for limit in limits)
        return "slice", [call.operand("self")], part(axis, low, high, step)
    return "gather", [call.operand("self"), _places(call, axis, start, step)], {"axis": axis}


def _limit(size: Dim, limit: Dim, default: int) -> Dim:
    """A limit as a whole number from either end where it is one."""
    if isinstance(size, int) and isinstance(limit, int):
        place = slice(limit, None).indices(size)[0]
        return default if place == (size if default else 0) else place
    if isinstance(limit, int):
        return min(limit, TO_THE_END)
    if limit == size:
        return default
    back = subtract(limit, size)
    return back if isinstance(back, int) and back < 0 else limit


def _places(call: Call, axis: int, start: Dim, step: int) -> str:
    """Indices of the entries that a slice with open limits takes."""
    table = call.shape()[axis]
    first = start if not isinstance(start, int) or start >= 0 else add(table, start)
    return call.walk.sizes.run(first, call.target()[axis], step, table if isinstance(table, int) else 0)


def slice_(call: Call) -> None:
    axis, start, end = call.axis(), call.args["start"], call.args["end"]
    first = 0 if start is None else call.size(start)
    made = cut(call, axis, first, TO_THE_END if end is None else call.size(end), call.args["step"])
    if made is None:
        return skip(call)
    return call.result(*made)


def select(call: Call) -> None:
    """x[..., i] -> slice, reshape."""
    axis, index = call.axis(), call.args["index"]
    if not isinstance(index, int):
        raise Unsupported("its index is computed", "use a slice, or index_select")
    made = cut(call, axis, index, index + 1 if index != -1 else TO_THE_END)
    value = call.operand("self") if made is None else call.step(*made)
    shape = call.type_shape(value)
    call.reshape(value, (*shape[:axis], *shape[axis + 1 :]))


def unbind(call: Call) -> None:
    """One slice and reshape per entry of an axis."""
    axis = call.axis()
    for place in range(len(call.walk.shapes(call.node))):
        made = cut(call, axis, place, place + 1)
        value = call.operand("self") if made is None else call.step(*made)
        shape = call.type_shape(value)
        call.reshape(value, (*shape[:axis], *shape[axis + 1 :]), place)


def split(call: Call) -> None:
    """split, chunk, split_with_sizes -> one slice per part."""
    axis, start = call.axis(), 0
    for place, shape in enumerate(call.walk.shapes(call.node)):
        size = shape[axis]
        if not isinstance(size, int):
            raise Unsupported(f"it makes parts of the open size {size!r}", "cut with slices from either end")
        made = cut(call, axis, start, start + size)
        if made is None:
            call.bind(call.operand("self"), place)
        else:
            call.result(*made, place)
        start += size


def narrow(call: Call) -> None:
    start = call.size(call.args["start"])
    made = cut(call, call.axis(), start, add(start, call.size(call.args["length"])))
    return skip(call) if made is None else call.result(*made)


# --- joining and repeating


def concat(call: Call) -> None:
    """cat; more operands than one node may have are joined in groups."""
    values = [call.value(given) for given in call.args["tensors"]]
    axis = call.axis(rank=len(call.target()))
    call.result("concat", joined(call, values, axis), {"axis": axis})


def joined(call: Call, values: Sequence[str], axis: int) -> list[str]:
    """Operands for a concat, few enough for one node."""
    values = list(values)
    while len(values) > MAX_CONCAT:
        groups = [values[i : i + MAX_CONCAT] for i in range(0, len(values), MAX_CONCAT)]
        values = [
            call.step("concat", group, {"axis": axis}) if len(group) > 1 else group[0] for group in groups
        ]
    return values


def stack(call: Call) -> None:
    """stack -> every operand with an axis of one entry more, concat."""
    axis = call.axis(rank=len(call.target()))
    rows = []
    for given in call.args["tensors"]:
        value = call.value(given)
        shape = call.type_shape(value)
        rows.append(call.reshaped(value, (*shape[:axis], 1, *shape[axis:])))
    call.result("concat", joined(call, rows, axis), {"axis": axis})


def pad(call: Call) -> None:
    """Padding with zeros, mirrored or with the edge; negative widths cut; torch counts from the last axis."""
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    given, mode = [call.size(width) for width in call.args["pad"]], call.args.get("mode", "constant")
    widths = [width for width in given if isinstance(width, int)]
    if mode not in modes or call.args.get("value") or len(widths) < len(given):
        raise Unsupported(f"mode {mode!r}, an open width or a value other than 0", "pad with zeros")
    rank, value = len(call.shape()), call.operand("self")
    pads = [0] * 2 * rank
    for place in range(len(widths) // 2):
        axis = rank - 1 - place
        begin, end = widths[2 * place : 2 * place + 2]
        if min(begin, end) < 0:
            value = call.step("slice", [value], part(axis, max(-begin, 0), min(end, 0) or None))
        pads[axis], pads[rank + axis] = max(begin, 0), max(end, 0)
    call.result("pad", [value], {"pads": tuple(pads), "mode": modes[mode]})


def expand(call: Call) -> None:
    """expand, expand_as, broadcast_to."""
    given = call.node.args[0]
    if isinstance(given, fx.Node) and given.name in call.walk.fills:
        return skip(call)
    value = call.expanded(call.operand("self"), call.target())
    return call.bind(value)


def repeat(call: Call) -> None:
    """repeat -> leading axes of one entry, tile; an open number of times -> expand."""
    asked = [call.size(count) for count in call.args["repeats"]]
    value, shape, times = call.operand("self"), call.shape(), tuple(t for t in asked if isinstance(t, int))
    if len(times) < len(asked):
        whole = (1,) * (len(asked) - len(shape)) + shape
        if any(count != 1 != dim for count, dim in zip(asked, whole, strict=True)):
            raise Unsupported("it repeats an axis an open number of times", "expand an axis of one entry")
        return call.bind(call.expanded(value, call.target()))
    if len(times) > len(shape):
        value = call.expanded(value, (1,) * (len(times) - len(shape)) + shape)
    return call.result("tile", [value], {"repeats": times})


def repeat_interleave(call: Call) -> None:
    """Every entry several times in a row -> expand along a new axis, reshape."""
    times, axis = call.args["repeats"], call.args["dim"]
    if not isinstance(times, int) or axis is None:
        raise Unsupported("its repeats are computed or it names no axis")
    shape = call.shape()
    axis %= len(shape)
    value = call.reshaped(call.operand("self"), (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    value = call.expanded(value, (*shape[: axis + 1], times, *shape[axis + 1 :]))
    call.reshape(value, (*shape[:axis], multiply(shape[axis], times), *shape[axis + 1 :]))


# --- looking up, counting


def embedding(call: Call) -> None:
    """nn.Embedding: rows of the table."""
    call.result("gather", [call.operand("weight"), call.operand("indices")], {"axis": 0})


def index_select(call: Call) -> None:
    call.result("gather", [call.operand("self"), call.operand("index")], {"axis": call.axis()})


def index(call: Call) -> None:
    """x[indices]: one tensor of whole numbers along one axis."""
    places = [(axis, given) for axis, given in enumerate(call.args["indices"]) if given is not None]
    if len(places) != 1 or str(dtype_of(places[0][1])) == "torch.bool":
        raise Unsupported("it picks by flags or along several axes", "use where, or one axis at a time")
    axis, given = places[0]
    call.result("gather", [call.operand("self"), call.value(given, "indices")], {"axis": axis})


def one_hot(call: Call) -> None:
    depth = call.args["num_classes"]
    if depth < 1:
        raise Unsupported("its number of classes comes from the data", "give num_classes")
    call.result("one_hot", [call.operand("self")], {"depth": depth, "axis": len(call.shape())})


def arange(call: Call) -> None:
    """arange up to an open size; of whole limits torch makes a constant of it."""
    start, step = (call.args.get(key) for key in ("start", "step"))
    if not isinstance(step if step is not None else 1, int):
        raise Unsupported(f"it counts in steps of {step}", "multiply whole numbers instead")
    first = call.size(start) if start is not None else 0
    call.bind(call.walk.sizes.run(first, call.target()[0], 1 if step is None else int(step)))


def filled(number: float | None = None) -> Handler:
    """zeros, ones, full and the like of open sizes: made where they are read."""

    def handle(call: Call) -> None:
        fill = call.args.get("fill_value", 0.0) if number is None else number
        if not isinstance(fill, int | float):
            raise Unsupported("it fills with a computed number", "use expand")
        call.walk.fills[call.node.name] = float(fill)

    return handle


def unfold(call: Call) -> None:
    """Windows of an axis -> one slice per place in the window, joined along a new last axis."""
    size, step, shape = call.args["size"], call.args["step"], call.shape()
    axis, rows = call.axis("dimension"), []
    for place in range(size):
        end = place + 1 - size
        row = call.step("slice", [call.operand("self")], part(axis, place, end or None, step))
        rows.append(call.reshaped(row, (*call.type_shape(row), 1)))
    call.result("concat", joined(call, rows, len(shape)), {"axis": len(shape)})


def roll(call: Call) -> None:
    """roll -> the last entries, then the others."""
    shifts, axes = call.args["shifts"], call.args["dims"]
    if len(axes) != 1 or len(shifts) != 1 or not isinstance(shifts[0], int):
        raise Unsupported("it rolls several axes or an open number of places", "roll one axis")
    axis, value = axes[0] % len(call.shape()), call.operand("self")
    places = ((-shifts[0], None), (0, -shifts[0]))
    parts = [call.step("slice", [value], part(axis, start, end)) for start, end in places]
    call.result("concat", parts, {"axis": axis})


def pixels(call: Call) -> None:
    """pixel_shuffle: channels into space."""
    factor, (n, channels, *space) = call.args["upscale_factor"], call.shape()
    if not isinstance(channels, int) or len(space) != 2:
        raise Unsupported(f"it shuffles {channels} channels over {len(space)} axes")
    inner = channels // factor**2
    apart: Shape = (n, inner, factor, factor, *space)
    value = call.reshaped(call.operand("self"), apart)
    value = call.step("transpose", [value], {"perm": (0, 1, 4, 2, 5, 3)})
    call.reshape(value, (n, inner, *(multiply(dim, factor) for dim in space)))
