"""How large the integers in a body can be: the proof that a product of matrices is exact.

Each value has a range [low, high] that follows from the dtypes of the operands and from the constants,
operator by operator; where an operator says nothing it is that of INT64. A value that may leave INT64 wraps,
and has the range of INT64 too. The states of a Scan: first they may be anything; what the frame makes of
that, joined with what they start from, holds for every frame.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nnaq.export.plain_functions import Function, Step

Range = tuple[int, int]
Ranges = dict[str, Range]
Rule = Callable[[Mapping[str, Any], list[Range]], Range]
ANYTHING: Range = (-(2**63), 2**63 - 1)


def ranges_of(function: Function, operands: Sequence[Range]) -> Ranges:
    """The range of every value of a function, those of the functions inside it among them."""
    found = dict(zip(function.inputs, operands, strict=True))
    _follow(function.steps, found)
    return found


def _follow(steps: Iterable[Step], found: Ranges) -> None:
    for step in steps:
        if step.op == "Scan":
            _scan(step, found)
        else:
            limits = [found.get(value, ANYTHING) for value in step.inputs]
            made = _fitting(_RULES.get(step.op, _anything)(step.attrs, limits))
            found.update(dict.fromkeys(step.outputs, made))


def _scan(step: Step, found: Ranges) -> None:
    frame: Function = step.attrs["body"]
    count = len(step.inputs) - int(step.attrs["num_scan_inputs"])
    starts = [found[value] for value in step.inputs[:count]]
    rows = [found[value] for value in step.inputs[count:]]
    found.update(zip(frame.inputs, [ANYTHING] * count + rows, strict=True))
    _follow(frame.steps, found)
    states = [_joined(start, found[after]) for start, after in zip(starts, frame.outputs, strict=False)]
    found.update(zip(frame.inputs, states, strict=False))
    _follow(frame.steps, found)
    found.update(zip(step.outputs, states + [found[value] for value in frame.outputs[count:]], strict=True))


def _joined(*ranges: Range) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _fitting(limits: Range) -> Range:
    """What does not fit in INT64 wraps: anything."""
    return limits if ANYTHING[0] <= limits[0] and limits[1] <= ANYTHING[1] else ANYTHING


def _of_dtype(dtype: np.dtype) -> Range:
    """All values of a dtype; floats have no range of their own."""
    if dtype.kind != "i":
        return (0, 1) if dtype.kind == "b" else ANYTHING
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def _anything(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    return ANYTHING


def _flag(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    return 0, 1


def _first(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    """Entries of the first operand, moved."""
    return x[0]


def _all(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    """Entries of any operand."""
    return _joined(*x)


def _constant(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    array: np.ndarray = attrs["value"]
    if array.dtype.kind not in "bi":
        return ANYTHING
    return (int(array.min()), int(array.max())) if array.size else (0, 0)


def _cast(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    """x itself where the dtype holds all of it."""
    low, high = _of_dtype(attrs["to"])
    return x[0] if low <= x[0][0] and x[0][1] <= high else (low, high)


def _add(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    return x[0][0] + x[1][0], x[0][1] + x[1][1]


def _sub(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    return x[0][0] - x[1][1], x[0][1] - x[1][0]


def _mul(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    corners = [a * b for a in x[0] for b in x[1]]
    return min(corners), max(corners)


def _min(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    return min(low for low, _ in x), min(high for _, high in x)


def _max(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    return max(low for low, _ in x), max(high for _, high in x)


def _clip(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    """min(max(x, low), high)"""
    return _min(attrs, [_max(attrs, x[:2]), x[2]])


def _div(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    """Division towards zero by what is 1 or more."""
    if x[1][0] < 1:
        return ANYTHING
    ends = [abs(a) // d * (-1 if a < 0 else 1) for a in x[0] for d in x[1]]
    return min(ends), max(ends)


def _neg(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    return -x[0][1], -x[0][0]


def _pad(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    return _joined(x[0], x[2] if len(x) > 2 else (0, 0))


def _bitwise_and(attrs: Mapping[str, Any], x: list[Range]) -> Range:
    """0 … the smaller of the operands that have no sign."""
    highest = [high for low, high in x if low >= 0]
    return (0, min(highest)) if highest else ANYTHING


_MOVES = (
    *(
        "Identity",
        "Reshape",
        "Transpose",
        "Slice",
        "Gather",
        "Squeeze",
        "Unsqueeze",
        "Expand",
        "Tile",
        "Split",
    ),
    *("ReduceMax", "ReduceMin"),
)
_FLAGS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not")
_RULES: dict[str, Rule] = {
    **dict.fromkeys(_MOVES, _first),
    **dict.fromkeys(_FLAGS, _flag),
    "Constant": _constant,
    "Cast": _cast,
    "Concat": _all,
    "Where": lambda attrs, x: _joined(*x[1:]),
    "Pad": _pad,
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Min": _min,
    "Max": _max,
    "Clip": _clip,
    "Div": _div,
    "Neg": _neg,
    "BitwiseAnd": _bitwise_and,
}
