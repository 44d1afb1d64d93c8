"""Attention and its masks: scores that something set to -infinity become scores with flags beside them.

A mask may come as flags, as zeros and -infinity that are added, as a masked_fill, as a triangle. It
is kept apart (`Walk.masked`) until the softmax reads scores and flags. -10000 and less counts as
-infinity there. A row without any score gets zeros, where torch makes NaN of it.
"""

import math
from typing import Any

import numpy as np
from torch import fx

from nnaq.frontends.ports import Unsupported
from nnaq.frontends.torch_importer import Call, Handler, Masked, dtype_of, operator
from nnaq.ir.op import Attr

LOWEST = -1e4  # from here on a score counts as masked
_CARRIERS = {"add", "masked_fill", "where", "mul", "div", "expand", "view", "unsqueeze", "squeeze", "slice"}
_CARRIERS |= {"reshape", "permute", "transpose", "clone", "contiguous", "to", "_to_copy", "sub"}
_SINKS = {"aten::softmax", "aten::_softmax", "aten::scaled_dot_product_attention", "aten::log_softmax"}


def attention(call: Call) -> None:
    """softmax(q kᵀ · scale, mask) v; causal: row i sees columns up to i."""
    if call.args.get("enable_gqa"):
        raise Unsupported("enable_gqa", "repeat the keys and values instead")
    q, k, v = (call.operand(key) for key in ("query", "key", "value"))
    rank = len(call.type_shape(k))
    width = call.type_shape(q)[-1]
    if not isinstance(width, int):
        raise Unsupported(f"its heads have the open width {width!r}")
    scale = call.args.get("scale")
    gain = 1 / math.sqrt(width) if scale is None else float(scale)
    turned = call.step("transpose", [k], {"perm": (*range(rank - 2), rank - 1, rank - 2)})
    scores, flags = call.step("matmul", [q, turned], {"gain": gain}), list[str]()
    if call.args.get("attn_mask") is not None:
        scores, flags = with_mask(call, scores, call.args["attn_mask"])
    if call.args.get("is_causal"):
        flags = both(call, flags, triangle(call, scores, highest=0))
    call.result("matmul", [call.step("softmax", [scores, *flags], {}), v], {})


def with_mask(call: Call, scores: str, given: Any) -> tuple[str, list[str]]:
    """Scores and flags under a mask of flags, or of numbers to add."""
    if str(dtype_of(given)) == "torch.bool":
        return scores, [call.value(given, "mask")]
    held = mask_of(call, given)
    if held is None:
        return call.step("add", [scores, call.value(given, "mask")]), []
    return call.step("add", [scores, held.scores]) if held.scores else scores, [held.flags]


def both(call: Call, flags: list[str], more: str) -> list[str]:
    return [call.step("logical_and", [*flags, more]) if flags else more]


def triangle(call: Call, scores: str, lowest: int | None = None, highest: int | None = None) -> str:
    """Flags [Q,P] over the last two axes of scores: lowest <= column - row <= highest."""
    *_, rows, columns = call.type_shape(scores)
    return band(call, rows, columns, lowest, highest)


def band(call: Call, rows: Any, columns: Any, lowest: int | None, highest: int | None) -> str:
    """Flags [rows, columns] where lowest <= column - row <= highest."""
    if isinstance(rows, int) and isinstance(columns, int):
        distance = np.arange(columns) - np.arange(rows)[:, None]
        kept = (distance >= (-rows if lowest is None else lowest)) & (
            distance <= (columns if highest is None else highest)
        )
        return call.weight(f"{call.source}.mask", kept)
    column, flags = call.walk.sizes.count(columns), list[str]()
    for limit, op in ((lowest, "greater_or_equal"), (highest, "less_or_equal")):
        if limit is not None:
            row = call.step("reshape", [call.walk.sizes.count(rows, start=limit)], {"shape": (-1, 1)})
            flags = both(call, flags, call.step(op, [column, row]))
    return flags[0]


def softmax(call: Call) -> None:
    """softmax over one axis, of scores with or without a mask."""
    if call.args["dim"] is None:
        raise Unsupported("it names no axis", "give dim=-1")
    held = mask_of(call, call.args["self"])
    scores = held.scores if held and held.scores else call.operand("self")
    flags = [held.flags] if held and held.scores else []
    rank = len(call.type_shape(scores))
    axis = call.axis("dim", rank)
    if axis == rank - 1:
        return call.result("softmax", [scores, *flags], {})
    if flags:
        raise Unsupported("a masked softmax over another axis than the last", "turn the scores first")
    perm = tuple(rank - 1 if a == axis else axis if a == rank - 1 else a for a in range(rank))
    turned: dict[str, Attr] = {"perm": perm}
    shares = call.step("softmax", [call.step("transpose", [scores], turned)], {})
    return call.result("transpose", [shares], turned)


def log_softmax(call: Call) -> None:
    call.result("log_softmax", [call.operand("self")], {"axis": call.axis() - len(call.shape())})


# --- where masks come from


def mask_of(call: Call, given: Any) -> Masked | None:
    """Scores and flags of an operand, or the flags of one that holds 0 and -infinity."""
    if isinstance(given, fx.Node) and given.name in call.walk.masked:
        return call.walk.masked[given.name]
    array = call.array_of(given)
    if array is None or array.dtype.kind != "f" or not np.any(array <= LOWEST):
        return None
    rest = np.where(array <= LOWEST, 0, array)
    name = given.name if isinstance(given, fx.Node) else call.source
    scores = call.walk.constant(name, "scores", rest) if np.any(rest) else None
    return Masked(scores, call.walk.constant(name, "flags", array > LOWEST))


def is_lowest(call: Call, given: Any) -> bool:
    """Whether an operand is -infinity, or as good as that to the softmax behind it."""
    array = call.array_of(given)
    fill = call.walk.fills.get(given.name) if isinstance(given, fx.Node) else None
    if fill is None and (array is None or array.size != 1 or array.dtype.kind != "f"):
        return False
    number = float(array.reshape(-1)[0]) if fill is None and array is not None else float(fill or 0)
    return (math.isinf(number) and number < 0) or (number <= LOWEST and meets_softmax(call.node))


def meets_softmax(node: fx.Node) -> bool:
    """Whether all that is made of a node's result becomes the operand of a softmax."""
    users = [user for user in node.users if user.op != "output"]
    if len(users) != len(node.users) or not users:
        return False
    names = [operator(user) for user in users]
    return all(
        name in _SINKS or (name.removeprefix("aten::") in _CARRIERS and meets_softmax(user))
        for name, user in zip(names, users, strict=True)
    )


def keep(call: Call, given: Any, flags: str) -> None:
    """The result is an operand where flags are set, -infinity elsewhere."""
    held = mask_of(call, given)
    if held is not None:
        flags = call.step("logical_and", [held.flags, flags])
    array = call.array_of(given)
    fill = call.walk.fills.get(given.name) if isinstance(given, fx.Node) else None
    nothing = fill == 0 or (array is not None and not np.any(array))
    scores = held.scores if held else None if nothing else call.value(given)
    call.walk.masked[call.node.name] = Masked(scores, flags)


def opposite(call: Call, flags: str) -> str:
    """The opposite of flags; that of an opposite is what it was made of."""
    maker = call.walk.maker(flags)
    if maker is not None and maker.op == "logical_not":
        return maker.inputs[0]
    return call.step("logical_not", [flags])


def masked_fill(call: Call) -> None:
    """masked_fill: with -infinity a mask, else a choice between the operand and the number."""
    flags, given = call.operand("mask"), call.args["self"]
    held = mask_of(call, given)
    if is_lowest(call, call.args["value"]):
        return keep(call, given, opposite(call, flags))
    if held is not None:
        raise Unsupported("it fills what is masked with -infinity already", "mask once")
    return call.result("where", [flags, call.operand("value"), call.operand("self")])


def where(call: Call) -> None:
    """where: with -infinity on one side a mask of the other."""
    flags = call.operand("condition")
    if is_lowest(call, call.args["other"]):
        return keep(call, call.args["self"], flags)
    if is_lowest(call, call.args["self"]):
        return keep(call, call.args["other"], opposite(call, flags))
    return call.result("where", [flags, call.operand("self"), call.operand("other")])


def masked_sum(plain: Handler) -> Handler:
    """add: with a mask on either side its flags stay beside the sum."""

    def handle(call: Call) -> None:
        pair = [call.args["self"], call.args["other"]]
        held = [
            mask_of(call, given) if meets_softmax(call.node) or _is_masked(call, given) else None
            for given in pair
        ]
        if not any(held):
            return plain(call)
        scores = [h.scores if h else call.value(given) for h, given in zip(held, pair, strict=True)]
        terms = [score for score in scores if score]
        flags = list[str]()
        for mask in filter(None, held):
            flags = both(call, flags, mask.flags)
        total = call.step("add", terms) if len(terms) == 2 else terms[0] if terms else None
        call.walk.masked[call.node.name] = Masked(total, flags[0])
        return None

    return handle


def _is_masked(call: Call, given: Any) -> bool:
    return isinstance(given, fx.Node) and given.name in call.walk.masked


def triangular(upper: bool) -> Handler:
    """triu, tril: of ones flags, of -infinity a mask, else a choice between the operand and zeros."""

    def handle(call: Call) -> None:
        given, diagonal = call.args["self"], int(call.args.get("diagonal", 0))
        *_, rows, columns = call.shape()
        lowest, highest = (diagonal, None) if upper else (None, diagonal)
        if is_lowest(call, given):
            lowest, highest = (None, diagonal - 1) if upper else (diagonal + 1, None)
            flags = band(call, rows, columns, lowest, highest)
            call.walk.masked[call.node.name] = Masked(None, flags)
            return None
        flags = band(call, rows, columns, lowest, highest)
        if call.walk.fills.get(given.name) == 1 and len(call.shape()) == 2:
            return call.bind(flags)
        return call.result("where", [flags, call.operand("self"), call.number(0.0)])

    return handle


def carrying(handler: Handler) -> Handler:
    """A handler that only moves values, applied to scores and to flags where these are apart."""

    def handle(call: Call) -> None:
        given, walk = call.node.args[0], call.walk
        held = walk.masked.get(given.name) if isinstance(given, fx.Node) else None
        if held is None or not isinstance(given, fx.Node):
            return handler(call)
        parts = [
            held.scores and _moved(call, given, held.scores, handler),
            _moved(call, given, held.flags, handler),
        ]
        walk.masked[call.node.name] = Masked(parts[0], str(parts[1]))
        return None

    return handle


def _moved(call: Call, source: fx.Node, value: str, handler: Handler) -> str:
    walk = call.walk
    held = walk.masked.pop(source.name)
    walk.values[source.name, 0] = call.expanded(value, walk.shapes(source)[0])
    try:
        handler(call)
        return walk.values.pop((call.node.name, 0))
    finally:
        del walk.values[source.name, 0]
        walk.masked[source.name] = held
