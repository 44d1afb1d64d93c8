"""ONNX recurrences: LSTM and GRU, in either direction or both, with reshapes around nnaq's cells.

ONNX keeps all directions in one node: X[T,B,I], W[D,G·H,I], R[D,G·H,H], B[D,2·G·H], initial states
[D,B,H] -> Y[T,D,B,H], Y_h[D,B,H] (and Y_c). Gates stand as i, o, f, c and z, r, h there, as
i, f, g, o and r, z, n here. The backward direction reads the reversed time and is reversed again.
"""

from dataclasses import dataclass

import numpy as np

from nnaq.frontends.onnx_constants import REGROUPED
from nnaq.frontends.onnx_importer import Call, Handler
from nnaq.frontends.onnx_repeats import expanded
from nnaq.frontends.ports import Unsupported, reshape_to
from nnaq.ir.dims import Shape
from nnaq.ir.op import Attr


@dataclass(frozen=True)
class Cell:
    """What LSTM and GRU differ in.

    order: ONNX's gate behind each of nnaq's; count: gates in the file; activations: the usual ones;
    states: operand and name of each; turned: whether the first gate's rows change their sign
    """

    op: str
    order: tuple[int, ...]
    count: int
    activations: tuple[bytes, ...]
    states: tuple[tuple[int, str], ...]
    turned: bool = False

    def gates(self, array: np.ndarray) -> np.ndarray:
        """Rows of ONNX's gates in nnaq's order.

        >>> LSTM.gates(np.array([1, 2, 3, 4])).tolist(), COUPLED.gates(np.array([1, 2, 3, 4])).tolist()
        ([1, 3, 4, 2], [-1, 4, 2])
        """
        parts = np.split(array, self.count)
        if self.turned:
            parts[self.order[0]] = -parts[self.order[0]]
        return np.concatenate([parts[gate] for gate in self.order])


_OF_LSTM = (b"Sigmoid", b"Tanh", b"Tanh")
LSTM = Cell("lstm", (0, 2, 3, 1), 4, _OF_LSTM, ((5, "h"), (6, "c")))
# ONNX couples f = 1 - i and nnaq i = 1 - f: with sigmoid(-x) = 1 - sigmoid(x) the gate f is i turned round.
COUPLED = Cell("lstm", (0, 3, 1), 4, _OF_LSTM, ((5, "h"), (6, "c")), turned=True)
GRU = Cell("gru", (1, 0, 2), 3, (b"Sigmoid", b"Tanh"), ((5, "h"),))


def lstm(call: Call) -> None:
    """LSTM; coupled gates (input_forget) as `cifg`."""
    if call.attrs.get("input_forget"):
        return _recurrence(call, COUPLED, {"cifg": True})
    return _recurrence(call, LSTM, {})


def gru(call: Call) -> None:
    """GRU, with the reset before or behind the recurrent product."""
    attrs: dict[str, Attr] = {"linear_before_reset": bool(call.attrs.get("linear_before_reset"))}
    _recurrence(call, GRU, attrs)


def _biases(call: Call, cell: Cell, both: np.ndarray, direction: int) -> list[str]:
    """The biases of both products: one for an LSTM, two for a GRU."""
    halves = np.split(both, 2)
    parts = halves if cell is GRU else [halves[0] + halves[1]]
    return [call.constant(3, f"biases{direction}.{n}", cell.gates(part)) for n, part in enumerate(parts)]


def _recurrence(call: Call, cell: Cell, attrs: dict[str, Attr]) -> None:
    directions = _directions(call)
    _refuse_variants(call, cell, directions)
    if len(call.shape(0)) != 3:
        raise Unsupported(f"its operand has the shape {list(call.shape(0))}, not [T,B,I]")
    x = call.operand(0)
    batch_first = bool(call.attrs.get("layout"))
    if batch_first:
        x = call.step("transpose", [x], {"perm": (1, 0, 2)})
    made = []
    for direction in range(len(directions)):
        inputs = [call.step("reverse", [x], {"axes": (0,)}) if directions[direction] else x]
        hidden = _weight(call, cell, 2, "weight R", direction, len(directions)).shape[1]
        inputs += [_state(call, cell, *state, direction, x, hidden) for state in cell.states]
        for position, what in ((1, "weight W"), (2, "weight R")):
            rows = cell.gates(_weight(call, cell, position, what, direction, len(directions)))
            form = f"turned{direction}" if cell.turned else f"{REGROUPED}{direction}"
            inputs.append(call.constant(position, form, rows))
        if call.has(3):
            both = _weight(call, cell, 3, "bias B", direction, len(directions)).astype(np.float64)
            inputs += _biases(call, cell, both, direction)
        made.append(_run(call, cell, inputs, attrs, directions[direction]))
    _bind(call, made, batch_first)


def _run(call: Call, cell: Cell, inputs: list[str], attrs: dict[str, Attr], backward: bool) -> list[str]:
    """One direction: its y in the order of time, then its last states."""
    walk, stem = call.walk, next(filter(None, call.node.output))
    names = [walk.names.fresh(f"{stem}.{part}") for part in ("y", *(name for _, name in cell.states))]
    y, *states = walk.builder.node(cell.op, inputs, attrs, names, source=call.source)
    return [call.step("reverse", [y], {"axes": (0,)}) if backward else y, *states]


def _directions(call: Call) -> list[bool]:
    """Whether each direction runs backwards."""
    word = call.word("direction", "forward")
    return {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[word]


def _bind(call: Call, made: list[list[str]], batch_first: bool) -> None:
    """Y[T,D,B,H] and the states [D,B,H]; batch first: Y[B,T,D,H] and [B,D,H]."""
    for place, output in enumerate(call.node.output):
        if not output:
            continue
        values = [results[place] for results in made]
        if batch_first and place == 0:
            values = [call.step("transpose", [value], {"perm": (1, 0, 2)}) for value in values]
        parts = [(value, _with_direction(call.type_shape(value), batch_first)) for value in values]
        if len(parts) == 1:
            value, shape = parts[0]
            call.result("reshape", [value], reshape_to(call.type_shape(value), shape), output)
            continue
        ready = [call.step("reshape", [value], reshape_to(call.type_shape(value), s)) for value, s in parts]
        axis = (2 if place == 0 else 1) if batch_first else (1 if place == 0 else 0)
        call.result("concat", ready, {"axis": axis}, output)


def _with_direction(shape: Shape, batch_first: bool) -> Shape:
    """[.., B, H] -> [.., 1, B, H]; batch first [B, .., H] -> [B, .., 1, H]."""
    place = len(shape) - (1 if batch_first else 2)
    return (*shape[:place], 1, *shape[place:])


def _weight(call: Call, cell: Cell, position: int, what: str, direction: int, count: int) -> np.ndarray:
    """A constant of one direction; its rows must be those of whole gates."""
    array = call.need(position, what)
    rank = 2 if position == 3 else 3
    if array.ndim != rank or array.shape[0] != count or array.shape[1] % cell.count:
        kind = "one direction" if count == 1 else f"{count} directions"
        raise Unsupported(f"its {what} has the shape {list(array.shape)}, which is not that of {kind}")
    return np.asarray(array[direction])


def _state(call: Call, cell: Cell, position: int, name: str, direction: int, x: str, hidden: int) -> str:
    """An initial state as [B,H]: the operand of one direction, or zeros."""
    _, batch, _ = call.type_shape(x)
    if not call.has(position):
        name = f"{call.source}.{name}0"
        if isinstance(batch, int):
            return call.weight(name, np.zeros((batch, hidden)))
        return expanded(call, call.weight(name, np.zeros((1, hidden))), (batch, hidden))
    batch_axis, axis = (0, 1) if call.attrs.get("layout") else (1, 0)
    array = call.array(position)
    if array is not None:
        return call.constant(position, f"state{direction}", np.take(array, direction, axis))
    value, shape = call.operand(position), call.shape(position)
    stem = f"{call.node.input[position]}.{name}0"
    if shape[axis] != 1:
        attrs: dict[str, Attr] = {"starts": (direction,), "ends": (direction + 1,), "axes": (axis,)}
        value = call.step("slice", [value], {**attrs, "steps": (1,)}, stem)
    target = (shape[batch_axis], shape[2])
    return call.step("reshape", [value], reshape_to(call.type_shape(value), target), stem)


def _refuse_variants(call: Call, cell: Cell, directions: list[bool]) -> None:
    """The usual gates over the whole of time: the rest is not there."""
    usual = list(cell.activations) * len(directions)
    names = ", ".join(word.decode() for word in cell.activations)
    found = [
        (bool(call.attrs.get("clip")), "clipped cells"),
        (list(call.attrs.get("activations", usual)) != usual, f"activations other than {names}"),
        (call.has(4) and not _are_full(call), "sequence lengths"),
        (cell.op == "lstm" and call.has(7), "peepholes"),
    ]
    bad = [text for is_bad, text in found if is_bad]
    if bad:
        word = cell.op.upper()
        raise Unsupported(f"{', '.join(bad)}", f"it reads {word}s over [T,B,I] without these")


def _are_full(call: Call) -> bool:
    """Whether the sequence lengths are all the size of time."""
    time = call.shape(0)[1 if call.attrs.get("layout") else 0]
    lengths = call.array(4)
    return lengths is not None and bool(np.all(lengths == time))


HANDLERS: dict[str, Handler] = {
    "GRU": gru,
    "LSTM": lstm,
}
