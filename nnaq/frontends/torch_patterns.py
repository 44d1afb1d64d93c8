"""Views that mean more than a reshape: found before the walk, each set as one handler.

relative shift  Transformer-XL's way to bring scores by distance [.., Q, P] to positions: a column
                of zeros in front, a view as [.., P + 1, Q], all rows but the first, a view as
                [.., Q, P], the first P - Q + 1 columns
frames          k frames side by side: time padded or cut to a multiple of k, then [.., T, D] seen
                as [.., T / k, k D]; where nothing makes it a multiple, the open axes it comes from
                are written as multiples (2*T), so that a run refuses every other size
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

from torch import fx

from nnaq.frontends.ports import Problem
from nnaq.frontends.torch_importer import Call, Walk, arguments, label, operator, tensors_of
from nnaq.frontends.torch_movement import joined
from nnaq.frontends.torch_sizes import always, in_groups, part
from nnaq.ir.dims import Dim, Shape, add, floor_divide, multiply, subtract, symbols

_VIEWS = ("aten::view", "aten::reshape", "aten::_unsafe_view")
_LIKE = ("aten::view_as", "aten::reshape_as")
_PADS = ("aten::pad", "aten::constant_pad_nd")
_ZEROS = ("aten::new_zeros", "aten::zeros", "aten::zeros_like")
_END = 2**63 - 1
_END_OF_TIME = 3  # place in torch's widths of a pad, which begin at the last axis
_LARGEST_STEP, _LARGEST_REST = 129, 8


def patterns(walk: Walk, nodes: Sequence[fx.Node]) -> None:
    """Find the patterns among the nodes of a program."""
    for node in nodes:
        if operator(node) in (*_VIEWS, *_LIKE):
            _find_shift(walk, node)
        if operator(node) in _VIEWS and isinstance(node.args[1], list | tuple):
            _find_frames(walk, node)


# --- relative shift


def _find_shift(walk: Walk, last: fx.Node) -> None:
    rows = _source(last)
    first = _source(rows) if rows is not None and operator(rows) == "aten::slice" else None
    padded = _source(first) if first is not None and operator(first) in _VIEWS else None
    scores = None if padded is None else _without_column(walk, padded)
    if rows is None or first is None or padded is None or scores is None or len(last.users) != 1:
        return
    *lead, queries, distances = walk.shapes(scores)[0]
    wanted = [(*lead, add(distances, 1), queries), (*lead, queries, distances)]
    cut = next(iter(last.users))
    if list(rows.args[1:]) != [len(lead), 1, _END] or [_asked(walk, v) for v in (first, last)] != wanted:
        return
    if operator(cut) == "aten::slice" and walk.shapes(cut)[0][-1] == add(subtract(distances, queries), 1):
        walk.skipped |= {node.name for node in (padded, first, rows, last)}
        walk.instead[cut.name] = (scores, lambda call: _shift(call, scores))


def _shift(call: Call, scores: fx.Node) -> None:
    call.result("relative_shift", [call.value(scores)], {})


def _asked(walk: Walk, node: fx.Node) -> Shape:
    """The shape a view asks for: torch's own words for the result may divide where there is no rest."""
    made, given = walk.shapes(node)[0], node.args[1]
    if isinstance(given, fx.Node):
        return walk.shapes(given)[0]
    assert isinstance(given, list | tuple)
    sizes: list[Any] = [d.meta["val"] if isinstance(d, fx.Node) else d for d in given]
    return tuple(own if size == -1 else walk.sizes.dim(size) for own, size in zip(made, sizes, strict=True))


def _source(node: fx.Node) -> fx.Node | None:
    """What a node's first operand is; copies and slices that take everything are passed over."""
    source = node.args[0] if node.args else None
    while isinstance(source, fx.Node) and _takes_all(source):
        source = source.args[0]
    return source if isinstance(source, fx.Node) else None


def _takes_all(node: fx.Node) -> bool:
    if operator(node) in ("aten::clone", "aten::contiguous"):
        return True
    return operator(node) == "aten::slice" and list(node.args[2:]) in ([], [0, _END], [None, _END])


def _without_column(walk: Walk, padded: fx.Node) -> fx.Node | None:
    """Scores in front of which a column of zeros was put."""
    given = padded.args[0] if padded.args else None
    if operator(padded) in _PADS and isinstance(given, fx.Node):
        return given if padded.args[1] == [1, 0] else None
    if operator(padded) != "aten::cat" or not isinstance(given, list | tuple) or len(given) != 2:
        return None
    zeros, scores = given
    if not isinstance(zeros, fx.Node) or not isinstance(scores, fx.Node) or operator(zeros) not in _ZEROS:
        return None
    return scores if walk.shapes(zeros)[0][-1] == 1 else None


# --- frames side by side


def _find_frames(walk: Walk, node: fx.Node) -> None:
    source, made = node.args[0], node.args[1]
    assert isinstance(source, fx.Node)
    assert isinstance(made, list | tuple)
    shape, width = walk.shapes(source)[0], made[-1] if made else 0
    if len(made) != len(shape) or len(shape) < 2 or not isinstance(width, int):
        return
    time, own = shape[-2:]
    if isinstance(time, int) or not isinstance(own, int) or own < 1 or width % own or width <= own:
        return
    factor, origin, padded = width // own, _brought(source), operator(source) in _PADS
    before = None if origin is None else walk.shapes(origin)[0][-2]
    if origin is not None and before is not None and always(_multiple(before, factor, padded), time):
        walk.skipped.add(source.name)
    elif always(_multiple(time, factor, False), time):
        return  # it is a multiple as it stands
    else:
        return _must_divide(walk, node, time, factor)
    walk.instead[node.name] = (origin, lambda call: _frames(call, call.value(origin), factor, padded))


def _must_divide(walk: Walk, node: fx.Node, time: str, factor: int) -> None:
    """Write the names in `time` as multiples, less a number or not, such that `factor` divides it."""
    for less, step in product(range(_LARGEST_REST), range(2, _LARGEST_STEP)):
        grouped = in_groups(time, symbols(time), step, less)
        if less < step and always(_multiple(grouped, factor, False), grouped):
            walk.sizes.count_in_groups(symbols(time), step, less)
            written = ((name, in_groups(name, symbols(time), step, less)) for name in sorted(symbols(time)))
            said = ", ".join(f"{name} is written {dim}" for name, dim in written)
            return walk.notes.append(f"{node.name}: {time} has to be a multiple of {factor}, so {said}")
    reason = f"{time} has to be a multiple of {factor}, and no step of its open axes makes it one"
    return walk.problems.append(Problem(label(node), operator(node), reason, "pad it before"))


def _brought(source: fx.Node) -> fx.Node | None:
    """What a pad or a slice at the end of time, which nothing else reads, was made of."""
    origin = source.args[0] if operator(source) in (*_PADS, "aten::slice") else None
    if not isinstance(origin, fx.Node) or len(source.users) > 1:
        return None
    given = arguments(source)
    if operator(source) in _PADS:
        front = [width for place, width in enumerate(given["pad"]) if place != _END_OF_TIME]
        zeros = given.get("mode", "constant") == "constant" and not given["value"]
        return origin if zeros and not any(front) else None
    rank = len(tensors_of(source)[0].shape)
    whole = given["start"] in (None, 0) and given["step"] == 1
    return origin if whole and given["dim"] % rank == rank - 2 else None


def _multiple(time: Dim, factor: int, padded: bool) -> Dim:
    """Time brought to a multiple of `factor`."""
    return multiply(factor, floor_divide(add(time, factor - 1) if padded else time, factor))


def _frames(call: Call, value: str, factor: int, padded: bool) -> None:
    """Every k-th frame from the first, the second, … on, joined along the last axis."""
    rank, rows = len(call.type_shape(value)), []
    for place in range(factor):
        row = value
        if padded and place:
            pads = tuple(place if i == 2 * rank - 2 else 0 for i in range(2 * rank))
            row = call.step("pad", [value], {"pads": pads, "mode": "constant"})
        behind = None if padded or place == factor - 1 else place + 1 - factor
        rows.append(call.step("slice", [row], part(rank - 2, place, behind, factor)))
    call.result("concat", joined(call, rows, rank - 1), {"axis": rank - 1})
