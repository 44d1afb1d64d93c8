"""Recurrent layers, cells in a loop and cells in a scan -> lstm and gru over [T,B,I].

A layer that gets no states starts from zeros. The backward direction reads the reversed time and is
reversed again. A cell called in a Python loop is one frame of its layer; a scan whose body is a
cell is the layer over all frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx

from nnaq.frontends.ports import Unsupported
from nnaq.frontends.torch_importer import GETITEM, Call, Handler, operator
from nnaq.frontends.torch_leaves import GRU, LSTM, RUNNING_MEAN
from nnaq.ir.op import Attr

TIME_FIRST: dict[str, Attr] = {"perm": (1, 0, 2)}
BACKWARD: dict[str, Attr] = {"axes": (0,)}
LSTM_CELL, GRU_CELL = "aten::lstm_cell", "aten::gru_cell"
_COPIES = ("aten::clone", "aten::alias", "aten::detach", "aten::contiguous")
_WAY_OUT = "scan over nn.LSTMCell or nn.GRUCell alone, with what is around it before or after the scan"


@dataclass(frozen=True)
class Kind:
    """What lstm and gru differ in: the operator, its attributes, its states."""

    op: str
    attrs: dict[str, Attr]
    states: tuple[str, ...]


KINDS = {
    LSTM: Kind("lstm", {}, ("h", "c")),
    GRU: Kind("gru", {"linear_before_reset": True}, ("h",)),
}
CELLS = {LSTM_CELL: KINDS[LSTM], GRU_CELL: KINDS[GRU]}


def weights_of(call: Call, kind: Kind, nodes: Sequence[Any], name: str) -> list[str]:
    """w_input, w_recurrent, biases, projection: as constants, in the operator's order.

    nodes: w_ih, w_hh, then b_ih and b_hh or neither, then w_hr of a projection or not.
    """
    held = call.walk.arrays
    given = [node for node in nodes if node is not None]
    if any(not isinstance(node, fx.Node) or node.name not in held for node in given):
        raise Unsupported("its weights are computed")
    made = [call.walk.constant(node.name, "", held[node.name][1]) for node in given[:2]]
    biases, rest = (given[2:4], given[4:]) if len(given) >= 4 else ([], given[2:])
    if kind.op == "gru":
        return made + [call.walk.constant(node.name, "", held[node.name][1]) for node in biases]
    if biases:
        made.append(call.walk.derived(f"{call.source}.{name}", "made", torch.add, *biases))
    elif rest:
        made.append("")
    return made + [call.walk.constant(node.name, "", held[node.name][1]) for node in rest]


# --- layers


def layer(kind: Kind) -> Handler:
    """nn.LSTM, nn.GRU -> one node per layer and direction; batch_first turns axes around them."""

    def handle(call: Call) -> None:
        args = call.args
        if len(call.shape("x")) != 3:
            raise Unsupported("x without a batch axis", "give it one: x[None]")
        x = call.operand("x")
        if args["batch_first"]:
            x = call.step("transpose", [x], TIME_FIRST)
        directions = 2 if args["bidirectional"] else 1
        each = len(args["weights"]) // (args["layers"] * directions)
        last: list[list[str]] = []
        for place in range(args["layers"]):
            is_last = place == args["layers"] - 1 and not args["batch_first"]
            ys = []
            for way in range(directions):
                at = place * directions + way
                names = _names(call, kind, at, way, is_last and directions == 1)
                made = _run(call, kind, x, at, way, args["weights"][at * each : (at + 1) * each], names)
                ys.append(made[0])
                last.append(made[1:])
            if directions == 2:
                join = call.result if is_last else call.step
                x = join("concat", ys, {"axis": 2}) or call.walk.values[call.node.name, 0]
            else:
                x = ys[0]
        if args["batch_first"]:
            call.result("transpose", [x], TIME_FIRST)
        elif directions == 1:
            call.bind(x)
        for position, parts in enumerate(zip(*last, strict=True), 1):
            _stacked(call, parts, position)

    return handle


def _run(
    call: Call, kind: Kind, x: str, at: int, way: int, weights: Sequence[Any], names: list[str]
) -> list[str]:
    """One direction of one layer: its y in the order of time, then its last states."""
    suffix = f"l{at}" if not call.args["bidirectional"] else f"l{at // 2}{'_reverse' if way else ''}"
    first = [_first_state(call, name, at, x) for name in kind.states]
    inputs = [call.step("reverse", [x], BACKWARD) if way else x, *first]
    inputs += weights_of(call, kind, weights, f"bias_{suffix}")
    y, *states = call.walk.builder.node(kind.op, inputs, kind.attrs, names, source=call.source)
    return [call.step("reverse", [y], BACKWARD) if way else y, *states]


def _names(call: Call, kind: Kind, at: int, way: int, is_result: bool) -> list[str]:
    """y and the states of a direction; y of the last takes the node's own name where nothing follows it."""
    only = len(call.args["weights"]) <= 5
    stem = call.source if only else f"{call.source}.l{at if not call.args['bidirectional'] else at // 2}"
    stem += ".reverse" * way
    fresh = call.walk.names.fresh
    y = call.walk.name_of(call.node) if is_result else fresh(f"{stem}.y")
    return [y, *(fresh(f"{stem}.{name}") for name in kind.states)]


def _first_state(call: Call, key: str, at: int, x: str) -> str:
    """One direction's first state [B,H], from [layers * directions, B, H] or from zeros."""
    given = call.args[key]
    if given is None:
        width = call.args["units"] if key == "c" else call.args.get("width", call.args["units"])
        return zeros(call, key if at == 0 else f"l{at}.{key}", call.type_shape(x)[1], width)
    value = call.value(given, key)
    shape = call.type_shape(value)
    if shape[0] != 1:
        cut: dict[str, Attr] = {"starts": (at,), "ends": (at + 1,), "axes": (0,), "steps": (1,)}
        value = call.step("slice", [value], cut)
    return call.reshaped(value, shape[1:])


def zeros(call: Call, key: str, batch: int | str, width: int) -> str:
    """A first state of zeros, each layer's its own: states that shared it would share their codes.

    For an open batch one row of zeros, repeated.
    """
    rows = batch if isinstance(batch, int) else 1
    row = call.weight(f"{call.source}.{key}0.{width}", np.zeros((rows, width)))
    return call.expanded(row, (batch, width))


def _stacked(call: Call, parts: Sequence[str], position: int) -> None:
    """The [B,H] states of layers and directions as one result [layers * directions, B, H]."""
    shape = (1, *call.type_shape(parts[0]))
    if len(parts) == 1:
        return call.reshape(parts[0], shape, position)
    rows = [call.reshaped(part, shape) for part in parts]
    return call.result("concat", rows, {"axis": 0}, position)


# --- cells


def cell(kind: Kind) -> Handler:
    """nn.LSTMCell, nn.GRUCell: one frame."""

    def handle(call: Call) -> None:
        shape = call.shape("input")
        if len(shape) != 2:
            raise Unsupported("x without a batch axis", "give it one: x[None]")
        given = call.args["hx"]
        states = [
            call.value(state, "hx") for state in (given if isinstance(given, list | tuple) else [given])
        ]
        weights = [call.args.get(key) for key in ("w_ih", "w_hh", "b_ih", "b_hh")]
        frame = call.reshaped(call.operand("input"), (1, *shape))
        inputs = [frame, *states, *weights_of(call, kind, weights, "bias")]
        stem = call.walk.names.fresh
        names = [stem(f"{call.source}.{name}") for name in ("y", *kind.states)]
        _, *after = call.walk.builder.node(kind.op, inputs, kind.attrs, names, source=call.source)
        for position, state in enumerate(after):
            call.bind(state, position)

    return handle


def scan(call: Call) -> None:
    """A scan over frames whose body is one cell -> its layer over all frames."""
    graph, first, frames, more = call.node.args[:4]
    assert isinstance(graph, fx.Node)
    assert isinstance(first, list | tuple)
    assert isinstance(frames, list | tuple)
    assert isinstance(more, list | tuple)
    body = getattr(call.node.graph.owning_module, str(graph.target))
    node, kind = _cell_of(body)
    outer = dict(
        zip((n for n in body.graph.nodes if n.op == "placeholder"), (*first, *frames, *more), strict=True)
    )
    x, states, weights = _operands(node)
    if len(frames) != 1 or any(n not in outer for n in (x, *states, *weights)):
        raise Unsupported("its body computes the operands of the cell", _WAY_OUT)
    inputs = [call.value(outer[n]) for n in (x, *states)]
    inputs += weights_of(call, kind, [outer[n] for n in weights], "bias")
    stem = call.walk.names.fresh
    names = [stem(f"{call.source}.{name}") for name in ("y", *kind.states)]
    y, *after = call.walk.builder.node(kind.op, inputs, kind.attrs, names, source=call.source)
    carried = [list(outer).index(state) for state in states]
    _bind_results(call, node, body, carried, len(first), y, after)


def _cell_of(body: fx.GraphModule) -> tuple[fx.Node, Kind]:
    """The one cell of a body that does nothing else."""
    calls = [n for n in body.graph.nodes if n.op == "call_function"]
    cells = [n for n in calls if operator(n) in CELLS]
    others = sorted({operator(n) for n in calls if operator(n) not in (*CELLS, *_COPIES, GETITEM)})
    if len(cells) != 1 or others:
        held = ", ".join([operator(n) for n in cells] + others)
        raise Unsupported(f"its body is {held or 'empty'}, not one cell", _WAY_OUT)
    return cells[0], CELLS[operator(cells[0])]


def _operands(node: fx.Node) -> tuple[Any, list[Any], list[Any]]:
    """x, the states and the weights of a cell."""
    x, given, *weights = node.args
    return x, list(given) if isinstance(given, list | tuple) else [given], weights


def _bind_results(
    call: Call, node: fx.Node, body: fx.GraphModule, carried: list[int], states: int, y: str, after: list[str]
) -> None:
    """What the body hands on: the states in their order, then y for every frame."""
    (made,) = body.graph.output_node().args
    assert isinstance(made, list | tuple)
    for place, given in enumerate(made):
        part = _part(given, node)
        is_state = place < states
        if part is None or (is_state and carried[part] != place) or (not is_state and part != 0):
            raise Unsupported("its body hands on something other than the cell's states", _WAY_OUT)
        call.bind(after[part] if is_state else y, place)


def _part(given: Any, node: fx.Node) -> int | None:
    """Which result of the cell a value of the body is."""
    while isinstance(given, fx.Node) and operator(given) in _COPIES:
        given = given.args[0]
    if given is node:
        return 0
    if isinstance(given, fx.Node) and operator(given) == GETITEM and given.args[0] is node:
        return int(given.args[1])  # type: ignore[arg-type]
    return None


def running_mean(call: Call) -> None:
    """nnaq.running_mean: the mean of all frames so far, and its states."""
    stem = call.walk.names.fresh
    names = [call.walk.name_of(call.node), stem(f"{call.source}.total"), stem(f"{call.source}.count")]
    inputs = [call.operand(key) for key in ("x", "total", "count")]
    made = call.walk.builder.node("running_mean", inputs, {}, names, source=call.source)
    for position, value in enumerate(made):
        call.bind(value, position)


HANDLERS: dict[str, Handler] = {
    RUNNING_MEAN: running_mean,
    GRU: layer(KINDS[GRU]),
    GRU_CELL: cell(KINDS[GRU]),
    LSTM: layer(KINDS[LSTM]),
    LSTM_CELL: cell(KINDS[LSTM]),
    "scan": scan,
}
HINTS = {
    "aten::rnn_tanh": "use an LSTM or a GRU",
    "aten::rnn_relu": "use an LSTM or a GRU",
    "aten::rnn_tanh_cell": "use an LSTM or a GRU cell",
    "aten::rnn_relu_cell": "use an LSTM or a GRU cell",
    "while_loop": "write it as nn.LSTM, nn.GRU, or a scan over one of their cells",
    "cond": "take one of its branches",
}
