"""ONNX files as graphs.

read -> normalise (float32, opset 13 or later) -> name and fix the shapes of inputs -> simplify ->
one handler per node -> states and time axes -> verify. Everything that cannot be imported is
listed at once.
"""

import math
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import onnx

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.errors import FrontendError
from nnaq.frontends import ports
from nnaq.frontends.onnx_bodies import inlined
from nnaq.frontends.onnx_codes import agreed, spelled_out
from nnaq.frontends.onnx_constants import kind_of_dtype
from nnaq.frontends.onnx_handlers import HANDLERS
from nnaq.frontends.onnx_importer import Walk, problem
from nnaq.frontends.onnx_model import graphs, must_be_numbers, normalise, opset_of, read
from nnaq.frontends.onnx_simplify import simplify
from nnaq.frontends.onnx_weights import Weights, put_aside
from nnaq.frontends.ports import Imported, ImportOptions, Names, Problem, Unsupported
from nnaq.ir.build import Builder
from nnaq.ir.dims import Dim, Shape
from nnaq.ir.graph import Graph
from nnaq.ir.order import without_dead_code
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify

_HINTS = {
    "If": "pin the input its condition depends on, or fix the shapes of the inputs",
    "Loop": "only loops of a constant length are read; fix shapes, or export without loops over time",
    "RNN": "a plain recurrence has no operator here; use an LSTM or a GRU",
    "Scan": "only scans of a known length are read; fix the shapes of the inputs",
}


MOST_ENTRIES = 2**31  # of one value of a step: 8 GB of float32


def load(path: Path, options: ImportOptions | None = None) -> Imported:
    """The graph in an ONNX file. Raises FrontendError that lists all operators it cannot read."""
    return _load(*put_aside(read(path)), path.stem, options)


def load_model(model: onnx.ModelProto, name: str, options: ImportOptions | None = None) -> Imported:
    """The graph of an ONNX model in memory."""
    return _load(*put_aside(model), name, options)


def _load(model: onnx.ModelProto, weights: Weights, name: str, options: ImportOptions | None) -> Imported:
    options = options or ImportOptions()
    walk, notes = _walk(model, weights, name, options)
    if walk.problems:
        raise ports.refusal(name, walk.problems)
    return _finish(walk, options, notes)


def check(path: Path, options: ImportOptions | None = None) -> tuple[Problem, ...]:
    """Every node of an ONNX file that cannot be imported; empty if all can."""
    return tuple(_walk(*put_aside(read(path)), path.stem, options or ImportOptions())[0].problems)


def _walk(
    model: onnx.ModelProto, weights: Weights, name: str, options: ImportOptions
) -> tuple[Walk, list[str]]:
    model, notes = normalise(model)
    for weight, array in weights.items():
        must_be_numbers(weight, array)
    model = inlined(spelled_out(model), HANDLERS)
    inputs = {port.name: port for port in model.graph.input if port.name not in weights}
    ports.must_know("input to pin", options.pins, inputs)
    ports.must_know("input to give a shape", options.shapes, inputs)
    outputs = {port.name for port in model.graph.output}
    ports.must_know("port with a time axis", options.time, {*inputs, *outputs})
    ports.must_know("port with a batch axis", options.batch, {*inputs, *outputs})
    raw = {name: _raw_shape(port) for name, port in inputs.items()}
    for axes in (options.time, options.batch):
        ports.must_have_axes(axes, raw)
    shapes, fate = ports.resolve_shapes(raw, options)
    _rename(model, fate)
    simple, arrays = simplify(model, options.pins, shapes, weights)
    names = Names()
    walk = Walk(Builder(ports.clean(name)), simple.graph, names, arrays=arrays, opset=opset_of(simple))
    for port in simple.graph.input:
        notes += _declare(walk, port, shapes[port.name])
    walk.run(HANDLERS, _unknown)
    return walk, notes


def _raw_shape(port: onnx.ValueInfoProto) -> Shape:
    tensor = port.type.tensor_type
    if not port.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise FrontendError(f"input {port.name!r} is not a tensor of known rank; export the model again")
    return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim)


def _rename(model: onnx.ModelProto, fate: Mapping[str, Dim]) -> None:
    """Give every symbol of the inputs its new name, or its size, throughout the model."""
    for graph in graphs(model):
        for port in (*graph.input, *graph.output, *graph.value_info):
            for dim in port.type.tensor_type.shape.dim:
                new = fate.get(dim.dim_param) if dim.dim_param else None
                if isinstance(new, int):
                    dim.dim_value = new
                elif new is not None:
                    dim.dim_param = new


def _declare(walk: Walk, port: onnx.ValueInfoProto, shape: Shape) -> list[str]:
    """Make an input a port; a note where it holds whole numbers or truth values."""
    dtype = port.type.tensor_type.elem_type
    word = onnx.TensorProto.DataType.Name(dtype).lower()
    name = walk.names.fresh(port.name)
    walk.values[port.name] = walk.builder.value(name, TensorType("f32", shape))
    readers = {node.op_type for node in walk.readers.get(port.name, ())}
    if readers == {"DequantizeLinear"}:
        return [f"input {port.name}: reals (the file says {word} codes)"]
    kind = kind_of_dtype(dtype)
    if kind == "other":
        walk.problems.append(Problem(port.name, "Input", f"it is {word}, not a number", "pin it to a value"))
    if kind in ("whole", "flag"):
        says = "whole numbers" if kind == "whole" else "truth values 0 and 1"
        return [f"input {port.name}: {says}, as float32 (the file says {word})"]
    return []


def _unknown(node: onnx.NodeProto) -> Problem:
    domain = f"of domain {node.domain!r} " if node.domain not in ("", "ai.onnx") else ""
    close = get_close_matches(node.op_type, HANDLERS, n=1, cutoff=0.75) if not domain else []
    hint = _HINTS.get(node.op_type, f"the nearest is {close[0]}" if close else "")
    return problem(node, f"this operator {domain}is not supported", hint)


def _finish(walk: Walk, options: ImportOptions, notes: list[str]) -> Imported:
    """States, ports and notes; then the verified graph."""
    builder, kinds = walk.builder, walk.builder.types
    inputs = {port.name: kinds[walk.values[port.name]] for port in walk.graph.input}
    outputs = {port.name: kinds[_output(walk, port.name)] for port in walk.graph.output}
    ports.must_have_axes(
        {**options.time, **options.batch}, {name: kind.shape for name, kind in outputs.items()}
    )
    states, paired = ports.pair_states(options, inputs, outputs)
    for name, after in states.items():
        _add_state(walk, name, after)
    for name, kind in inputs.items():
        if name not in states:
            builder.input(walk.values[name], kind, *_axes(name, kind, options, notes))
    for name, kind in outputs.items():
        if name not in states.values():
            builder.output(walk.values[name], *_axes(name, kind, options, notes))
    notes += paired + _specialised(walk, outputs) + walk.notes
    graph = verify(without_dead_code(builder.build()))
    _refuse_huge(graph)
    codes, told = agreed(graph, walk.codes)
    return Imported(graph, (*notes, *told), codes)


def _refuse_huge(graph: Graph) -> None:
    """Raise FrontendError for a value that no memory holds, an open axis counted as 1."""
    for name, kind in graph.types.items():
        count = math.prod(dim for dim in kind.shape if isinstance(dim, int))
        if count > MOST_ENTRIES:
            raise FrontendError(
                f"value {name!r} has the shape {list(kind.shape)}, {count} entries, nnaq takes up to "
                f"{MOST_ENTRIES}; fix the shapes of the inputs (--shape)"
            )


def _output(walk: Walk, name: str) -> str:
    """The value of an output under the output's own name; where they share one, a copy of it."""
    wanted = walk.name_of(name) if walk.values.get(name) is None else walk.name_if_reserved(name)
    if wanted:
        try:
            value = walk.operand(name)
        except Unsupported as error:
            raise FrontendError(f"output {name!r} is not a tensor of reals: {error}") from error
        attrs = {"shape": tuple(d if isinstance(d, int) else 0 for d in walk.shape_of(name))}
        walk.values[name] = walk.builder.node("reshape", [value], attrs, [wanted], source=name)[0]
    return walk.values[name]


def _add_state(walk: Walk, name: str, after: str) -> None:
    kind = walk.builder.types[walk.values[name]]
    sizes = [dim for dim in kind.shape if isinstance(dim, int)]
    if len(sizes) != kind.rank:
        raise FrontendError(
            f"state {name!r} has the open shape {list(kind.shape)}; give it whole sizes with the input shapes"
        )
    state = walk.values[name]
    walk.builder.state(state, state, walk.values[after], np.zeros(sizes))


def _axes(
    name: str, kind: TensorType, options: ImportOptions, notes: list[str]
) -> tuple[int | None, int | None]:
    time = ports.axis_of(name, kind.shape, options.time)
    if time is not None and name not in options.time:
        notes.append(f"port {name}: axis {time} is time (it depends on T)")
    return time, options.batch.get(name)


def _specialised(walk: Walk, outputs: Mapping[str, TensorType]) -> list[str]:
    """Outputs for which the file claims a whole size where the graph has an open axis."""
    notes = []
    for name, kind in outputs.items():
        declared = walk.declared_shape(name)
        if declared and any(
            isinstance(d, int) and not isinstance(s, int) for d, s in zip(declared, kind.shape, strict=True)
        ):
            notes.append(f"output {name}: the file says {list(declared)}, the graph makes {list(kind.shape)}")
    return notes
