"""Nodes that hold graphs: functions are put in line, loops of a constant length are unrolled.

`Loop` needs a constant trip count and a condition that stays true; `Scan` takes its length from
the shape of what it scans. Both become as many copies of their body, whose scanned results are
joined. An `If` is decided by the optimiser (onnx_simplify) once its condition is constant.
"""

from collections.abc import Collection, Iterable, Iterator

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper

from nnaq.errors import FrontendError

LARGEST_UNROLLED = 20_000  # nodes


def inlined(model: onnx.ModelProto, known: Collection[str]) -> onnx.ModelProto:
    """The model without calls of its own functions, and of ONNX's that are not `known` operators."""
    try:
        if model.functions:
            model = inliner.inline_local_functions(model, convert_version=True)
        wanted = [("", op) for op in sorted(_functions(model) - set(known))]
        if wanted:
            _describe_constants(model)
            model = inliner.inline_selected_functions(model, wanted, inline_schema_functions=True)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FrontendError(
            f"the functions of ONNX model {model.graph.name!r} cannot be put in line: {reason}"
        ) from error
    return model


def _describe_constants(model: onnx.ModelProto) -> None:
    """Declare the types of the weights, which the inliner looks up like those of inputs."""
    known = {port.name for port in (*model.graph.input, *model.graph.value_info)}
    for held in model.graph.initializer:
        if held.name not in known:
            model.graph.value_info.append(
                helper.make_tensor_value_info(held.name, held.data_type, list(held.dims))
            )


def _functions(model: onnx.ModelProto) -> set[str]:
    """The operators of a model that ONNX defines by a function of others."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    version = versions.get("", versions.get("ai.onnx", 1))
    found = {node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx")}
    return {op for op in found if _has_body(op, version)}


def _has_body(op: str, version: int) -> bool:
    try:
        schema = onnx.defs.get_schema(op, version)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


# --- loops


def unrolled(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with every loop of known length unrolled; None where there is none."""
    graph = model.graph
    held = _constants(graph)
    shapes = {port.name: port for port in (*graph.input, *graph.value_info)}
    nodes: list[onnx.NodeProto] = []
    count = 0
    for node in graph.node:
        made = None
        if node.op_type == "Loop" and node.domain in ("", "ai.onnx"):
            made = _loop(node, held, f"{_stem(node)}.")
        if node.op_type == "Scan" and node.domain in ("", "ai.onnx"):
            made = _scan(node, shapes, f"{_stem(node)}.")
        count += made is not None
        nodes += [node] if made is None else made
    if not count:
        return None
    if len(nodes) > LARGEST_UNROLLED:
        raise FrontendError(
            f"the loops of ONNX model {graph.name!r} unroll to {len(nodes)} nodes, of {LARGEST_UNROLLED} "
            "at most; export the model without loops over time"
        )
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _stem(node: onnx.NodeProto) -> str:
    return str(node.name or next(filter(None, node.output)))


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Initialisers and Constant nodes of one graph by name."""
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name.startswith("value"):
            value = helper.get_attribute_value(node.attribute[0])
            is_tensor = isinstance(value, onnx.TensorProto)
            held[node.output[0]] = numpy_helper.to_array(value) if is_tensor else np.asarray(value)
    return held


def _attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    found = (helper.get_attribute_value(a) for a in node.attribute if a.name == name)
    return next(found, default)


def _body(node: onnx.NodeProto) -> onnx.GraphProto:
    body = _attribute(node, "body")
    assert isinstance(body, onnx.GraphProto)
    return body


def _loop(node: onnx.NodeProto, held: dict[str, np.ndarray], prefix: str) -> list[onnx.NodeProto] | None:
    """The copies of a Loop's body, or None where its length is not known."""
    body = _body(node)
    trips = held.get(node.input[0]) if node.input[0] else None
    start = node.input[1] if len(node.input) > 1 else ""
    goes = not start or (start in held and bool(held[start].reshape(-1)[0]))
    stays = _stays_true(body)
    if trips is None or (not goes and start not in held) or not stays:
        return None
    trip_count = int(trips.reshape(-1)[0]) if goes else 0
    if trip_count * len(body.node) > LARGEST_UNROLLED:
        return None
    states = list(node.input[2:])
    scanned: list[list[str]] = [[] for _ in body.output[1 + len(states) :]]
    nodes: list[onnx.NodeProto] = [_constant(f"{prefix}true", np.array(True))]
    for trip in range(trip_count):
        nodes.append(_constant(f"{prefix}{trip}.trip", np.array(trip, np.int64)))
        given = [f"{prefix}{trip}.trip", f"{prefix}true", *states]
        copies, results = _copy(body, f"{prefix}{trip}.", given)
        nodes += copies
        states = results[1 : 1 + len(states)]
        for pieces, result in zip(scanned, results[1 + len(states) :], strict=True):
            pieces.append(result)
    return nodes + _bound(node, states, scanned, [0] * len(scanned), [0] * len(scanned))


def _stays_true(body: onnx.GraphProto) -> bool:
    """Whether the condition that a body hands on is true whenever the one it got was."""
    name, held = body.output[0].name, _constants(body)
    makers = {value: node for node in body.node for value in node.output}
    while name in makers and makers[name].op_type in ("Identity", "Cast"):
        name = makers[name].input[0]
    return name == body.input[1].name or (name in held and bool(held[name].reshape(-1)[0]))


def _scan(
    node: onnx.NodeProto, ports: dict[str, onnx.ValueInfoProto], prefix: str
) -> list[onnx.NodeProto] | None:
    """The copies of a Scan's body, or None where the length of what it scans is not known."""
    body, count = _body(node), int(_attribute(node, "num_scan_inputs", 0))  # type: ignore[call-overload]
    states, sources = list(node.input[: len(node.input) - count]), node.input[len(node.input) - count :]
    axes, backward = (_numbers(node, f"scan_input_{key}", count) for key in ("axes", "directions"))
    lengths = {_length(ports.get(s), axis) for s, axis in zip(sources, axes, strict=True)}
    if len(lengths) != 1 or None in lengths or not all(node.input):
        return None
    (length,) = lengths
    assert length is not None
    if length * len(body.node) > LARGEST_UNROLLED:
        return None
    made = len(body.output) - len(states)
    out_axes, out_backward = (_numbers(node, f"scan_output_{key}", made) for key in ("axes", "directions"))
    scanned: list[list[str]] = [[] for _ in range(made)]
    nodes: list[onnx.NodeProto] = []
    for step in range(length):
        given = [*states]
        for place, (source, axis) in enumerate(zip(sources, axes, strict=True)):
            index, name = f"{prefix}{step}.index{place}", f"{prefix}{step}.part{place}"
            nodes.append(_constant(index, np.array(length - 1 - step if backward[place] else step, np.int64)))
            nodes.append(helper.make_node("Gather", [source, index], [name], axis=axis))
            given.append(name)
        copies, results = _copy(body, f"{prefix}{step}.", given)
        nodes += copies
        states = results[: len(states)]
        for pieces, result in zip(scanned, results[len(states) :], strict=True):
            pieces.append(result)
    return nodes + _bound(node, states, scanned, out_axes, out_backward)


def _numbers(node: onnx.NodeProto, key: str, count: int) -> list[int]:
    return list(_attribute(node, key, [0] * count))  # type: ignore[call-overload, no-any-return]


def _length(port: onnx.ValueInfoProto | None, axis: int) -> int | None:
    if port is None or not port.type.tensor_type.HasField("shape"):
        return None
    dim = port.type.tensor_type.shape.dim[axis]
    return int(dim.dim_value) if dim.HasField("dim_value") else None


def _constant(name: str, array: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name))


def _bound(
    node: onnx.NodeProto, states: list[str], scanned: list[list[str]], axes: list[int], backward: list[int]
) -> list[onnx.NodeProto]:
    """The results of a loop: its last states, and the joined pieces of what it scanned."""
    nodes = [
        helper.make_node("Identity", [state], [output])
        for state, output in zip(states, node.output, strict=False)
        if output
    ]
    for pieces, output, axis, turn in zip(scanned, node.output[len(states) :], axes, backward, strict=False):
        if not output:
            continue
        place = f"{output}.axis"
        nodes.append(_constant(place, np.array([axis], np.int64)))
        rows = [f"{piece}.row" for piece in pieces]
        for piece, name in zip(pieces, rows, strict=True):
            nodes.append(helper.make_node("Unsqueeze", [piece, place], [name]))
        nodes.append(helper.make_node("Concat", rows[::-1] if turn else rows, [output], axis=axis))
    return nodes


# --- copies of a body


def _copy(body: onnx.GraphProto, prefix: str, given: list[str]) -> tuple[list[onnx.NodeProto], list[str]]:
    """A body's nodes under names of their own, reading `given`, and the names of its results."""
    names = {port.name: value for port, value in zip(body.input, given, strict=False)}
    names |= {name: f"{prefix}{name}" for name in _made(body)}
    nodes = [_constant(names[held.name], numpy_helper.to_array(held)) for held in body.initializer]
    nodes += [_renamed(node, names, prefix) for node in body.node]
    results = []
    for place, port in enumerate(body.output):  # a result of its own, even where it is handed through
        name = f"{prefix}result{place}"
        nodes.append(helper.make_node("Identity", [names.get(port.name, port.name)], [name]))
        results.append(name)
    return nodes, results


def _made(graph: onnx.GraphProto) -> Iterator[str]:
    """The names that a graph gives itself."""
    yield from (held.name for held in graph.initializer)
    for node in graph.node:
        yield from filter(None, node.output)


def _renamed(node: onnx.NodeProto, names: dict[str, str], prefix: str) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = f"{prefix}{node.name}" if node.name else ""
    copy.input[:] = _mapped(node.input, names)
    copy.output[:] = _mapped(node.output, names)
    for attribute in copy.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            _rename_graph(attribute.g, names, prefix)
    return copy


def _rename_graph(graph: onnx.GraphProto, names: dict[str, str], prefix: str) -> None:
    """Rename, in place, what a body inside the body reads from outside and what it makes."""
    inner = {name: f"{prefix}{name}" for name in (*(port.name for port in graph.input), *_made(graph))}
    known = names | inner
    for held in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        held.name = known.get(held.name, held.name)
    nodes = [_renamed(node, known, prefix) for node in graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _mapped(values: Iterable[str], names: dict[str, str]) -> list[str]:
    return [names.get(value, value) if value else "" for value in values]
