"""Softmax, its relatives, and masks: what adds -infinity to scores becomes flags beside them.

Exporters write a mask in many ways: Where(keep, scores, -inf), Add(scores, Where(keep, 0, -1e9)),
Add(scores, constant of 0 and -inf), (1 - keep) * -10000. A number of at most -10000 that only ever
reaches a softmax means the same as -infinity. Here the flags are kept apart (`Walk.masked`) until
the softmax reads both. A row without any score gets zeros, where ONNX makes NaN of it.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nnaq.frontends.onnx_functions import HANDLERS as FUNCTIONS
from nnaq.frontends.onnx_functions import binary
from nnaq.frontends.onnx_importer import Call, Handler, Masked
from nnaq.frontends.onnx_movement import HANDLERS as MOVEMENT
from nnaq.frontends.onnx_repeats import HANDLERS as REPEATS
from nnaq.frontends.ports import reshape_to
from nnaq.ir.dims import multiply
from nnaq.ir.op import Attr

LOWEST = -1e4  # from here on a score counts as masked
_DEPTH = 12  # nodes between a mask and its softmax


def softmax(call: Call) -> None:
    """Softmax; before opset 13 over all axes from `axis` on, taken as one."""
    rank = len(call.shape(0))
    old = call.walk.opset < 13
    axis = call.attrs.get("axis", 1 if old else -1) % rank
    held = call.walk.masked.get(call.node.input[0])
    x, flags = (held.scores, [held.flags]) if held and held.scores else (call.operand(0), [])
    assert x is not None
    if old and axis != rank - 1:
        return _flattened(call, x, axis)
    return along_last(call, "softmax", [x, *flags], axis)


def along_last(
    call: Call, op: str, operands: list[str], axis: int, attrs: Mapping[str, Attr] | None = None
) -> None:
    """An operator over the last axis, applied along `axis`."""
    rank = len(call.type_shape(operands[0]))
    if axis == rank - 1:
        return call.result(op, operands, attrs)
    perm = tuple(rank - 1 if a == axis else axis if a == rank - 1 else a for a in range(rank))
    turned = [call.step("transpose", [v], {"perm": perm}) for v in _of_rank(call, operands, rank)]
    return call.result("transpose", [call.step(op, turned, attrs)], {"perm": perm})


def _of_rank(call: Call, values: list[str], rank: int) -> list[str]:
    """Values with as many axes as the first."""
    found = []
    for value in values:
        shape = call.type_shape(value)
        target = (1,) * (rank - len(shape)) + shape
        found.append(value if shape == target else call.step("reshape", [value], reshape_to(shape, target)))
    return found


def _flattened(call: Call, x: str, axis: int) -> None:
    shape = call.shape(0)
    flat = call.step("reshape", [x], reshape_to(shape, (*shape[:axis], multiply(*shape[axis:]))))
    shares = call.step("softmax", [flat])
    call.result("reshape", [shares], reshape_to(call.type_shape(shares), shape))


def log_softmax(call: Call) -> None:
    """LogSoftmax along its axis."""
    axis = call.attrs.get("axis", 1 if call.walk.opset < 13 else -1)
    call.result("log_softmax", [call.operand(0)], {"axis": axis % len(call.shape(0))})


# --- where masks come from


def where(call: Call) -> None:
    """Where: a choice between values; with -infinity on one side a mask of the other."""
    condition = call.array(0)
    if condition is not None and condition.size == 1:
        taken, other = (1, 2) if condition.flat[0] else (2, 1)
        ranks = (condition.ndim, len(call.shape(other)))
        if set(call.shape(other)) <= {1} and len(call.shape(taken)) >= max(ranks):
            return call.bind(call.operand(taken))
    for place, other in ((2, 1), (1, 2)):
        if _is_lowest(call, place):
            return _masked(call, other, _kept(call, place == 2))
    return call.result("where", [call.operand(i) for i in range(3)])


def _kept(call: Call, when: bool) -> str:
    """The condition of a Where as flags of what is kept: where it holds, or where it does not."""
    condition = call.array(0)
    if condition is not None:
        return call.constant(0, f"kept {when}", condition.astype(bool) == when)
    flags = call.operand(0)
    return flags if when else call.step("logical_not", [flags])


def _is_lowest(call: Call, position: int) -> bool:
    """Whether an operand is the constant -infinity, or as good as that to the softmax behind it."""
    array = call.array(position)
    if array is None or array.dtype.kind != "f" or not array.size or not np.all(array <= LOWEST):
        return False
    return bool(np.all(np.isneginf(array))) or meets_softmax(call, call.node.output[0])


def meets_softmax(call: Call, value: str, depth: int = _DEPTH) -> bool:
    """Whether all that is made of a value is the operand of softmaxes."""
    readers = call.walk.readers.get(value, [])
    if not readers or not depth or value in call.walk.wanted:
        return False
    return all(
        node.op_type == "Softmax"
        or (node.op_type in CARRIERS and meets_softmax(call, node.output[0], depth - 1))
        for node in readers
    )


def _masked(call: Call, position: int, flags: str) -> None:
    """The result is an operand where `flags` keep it, -infinity elsewhere."""
    value, output = call.node.input[position], call.node.output[0]
    array, held = call.array(position), call.walk.masked.get(call.node.input[position])
    if array is not None and not np.any(array):
        call.walk.masked[output] = Masked(None, flags)
    elif held is not None:
        call.walk.masked[output] = replace(held, flags=call.step("logical_and", [held.flags, flags]))
    else:
        call.walk.masked[output] = Masked(call.walk.operand(value), flags)


def add(call: Call) -> None:
    """Add: of a mask and scores -> scores with flags."""
    for place, other in ((1, 0), (0, 1)):
        mask = _mask(call, place)
        if mask is None:
            continue
        held = call.walk.masked.get(call.node.input[other])
        scores = held.scores if held else call.operand(other)
        if scores is not None:
            scores = _with_finite(call, place, scores)
        flags = call.step("logical_and", [held.flags, mask]) if held else mask
        call.walk.masked[call.node.output[0]] = Masked(scores, flags)
        return None
    held_pair = [call.walk.masked.get(value) for value in call.node.input]
    for place, held in enumerate(held_pair):
        if held is not None and held.scores:
            total = call.step("add", [held.scores, call.operand(1 - place)])
            call.walk.masked[call.node.output[0]] = replace(held, scores=total)
            return None
    return binary("add")(call)


def _mask(call: Call, position: int) -> str | None:
    """The flags of an operand that is a mask alone: known as one, or a constant of 0 and -infinity."""
    value = call.node.input[position]
    held = call.walk.masked.get(value)
    if held is not None:
        return held.flags if held.scores is None else None
    array = call.array(position)
    if array is None or array.dtype.kind != "f" or not np.any(array <= LOWEST):
        return None
    if not np.isneginf(array).any() and not meets_softmax(call, call.node.output[0]):
        return None
    return call.walk.constant(value, "flags", array > LOWEST)


def _with_finite(call: Call, position: int, scores: str) -> str:
    """The scores with what a constant mask adds to those it keeps."""
    array = call.array(position)
    if array is None or not np.any(array[array > LOWEST]):
        return scores
    return call.step("add", [scores, call.constant(position, "finite", np.where(array > LOWEST, array, 0))])


def multiply_mask(call: Call) -> None:
    """Mul: (1 - keep) times a very low number -> a mask; else a product."""
    for place, other in ((1, 0), (0, 1)):
        maker = call.walk.makers.get(call.node.input[other])
        if maker is None or not _is_lowest(call, place):
            continue
        keep = _complement(call, maker.input[0], maker.input[1]) if maker.op_type == "Sub" else None
        if keep is not None:
            call.walk.masked[call.node.output[0]] = Masked(None, keep)
            return None
    return binary("mul")(call)


def _complement(call: Call, one: str, flags: str) -> str | None:
    """`flags` where a Sub takes flags from 1."""
    array = call.walk.arrays.get(one)
    if array is None or not np.all(array == 1) or not is_flag(call, flags):
        return None
    return call.walk.operand(flags)


def is_flag(call: Call, value: str) -> bool:
    """Whether a value holds 0 and 1 only, as casts and moves of truth values do."""
    maker = call.walk.makers.get(value)
    if call.walk.kind_of(value) == "flag":
        return True
    moves = {"Cast", "Unsqueeze", "Reshape", "Squeeze", "Transpose", "Expand", "Identity", "Slice", "Gather"}
    if maker is None:  # a mask of whole numbers comes as an input
        return call.walk.kind_of(value) == "whole"
    return maker.op_type in moves and is_flag(call, maker.input[0])


# --- moving masks


def carrying(handler: Handler) -> Handler:
    """A handler that only moves values, applied to scores and flags alike where these are apart."""

    def handle(call: Call) -> None:
        masked, values = call.walk.masked, call.walk.values
        source, output = call.node.input[0], call.node.output[0]
        held = masked.pop(source, None)
        if held is None:
            return handler(call)
        moved = []
        for part in (held.scores, held.flags):
            if part is not None:
                values[source] = part
                handler(call)
                moved.append(values.pop(output))
        values.pop(source)
        masked[source] = held
        masked[output] = Masked(moved[0] if len(moved) == 2 else None, moved[-1])
        return None

    return handle


_MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Slice", "Gather")
CARRIERS = frozenset({*_MOVES, "Identity", "Cast", "Add", "Where", "Mul", "Max"})

HANDLERS: dict[str, Handler] = {
    **{name: carrying((MOVEMENT | REPEATS)[name]) for name in _MOVES},
    **{name: carrying(FUNCTIONS[name]) for name in ("Identity", "Cast")},
    "Add": add,
    "LogSoftmax": log_softmax,
    "Mul": multiply_mask,
    "Softmax": softmax,
    "Where": where,
}
