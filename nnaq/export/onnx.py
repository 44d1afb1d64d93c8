"""A lowered graph as one ONNX file that any runtime can execute, bit for bit.

Every integer node is a node of domain `ai.nnaq` whose body is a function in standard operators;
nodes of one operator whose bodies differ (zero points, widths, shapes) call `NAME`, `NAME__2`, ….
A host island, a node left over reals, is such a node too, with a float32 body: after it the codes
may differ between runtimes by what float rounding moves, everything before it is bit for bit.
Ports keep their names; a state is an input and an output of the file, and its initial value an
initializer. An output that no node makes is copied to `NAME:out`. Metadata:

    nnaq.graph    the graph's text, exact
    nnaq.version  who wrote it
    nnaq.states   JSON: {state: {input, output, initial}}
"""

import json
from importlib.metadata import version
from pathlib import Path

import onnx
from onnx import helper, numpy_helper

from nnaq.errors import ArtifactError
from nnaq.export.body_builder import DOMAIN, ELEMENTS, OPSET
from nnaq.export.functions import Functions, body_of
from nnaq.export.palette import pack, unpack_functions, unpack_nodes
from nnaq.ir.dims import Dim
from nnaq.ir.graph import Graph
from nnaq.ir.text import print_graph
from nnaq.ir.types import TensorType
from nnaq.ir.verify import is_real

IR_VERSION = 10
SUFFIX = ":out"


def export_model(graph: Graph) -> onnx.ModelProto:
    """The lowered `graph` as an ONNX model. Raises ArtifactError that lists every node without a body."""
    _refuse_what_has_no_body(graph)
    functions = Functions(graph)
    nodes = unpack_nodes(graph) + [functions.call(node) for node in graph.nodes]
    outputs = {name: name if name in graph.producer else name + SUFFIX for name in _result_order(graph)}
    nodes += [helper.make_node("Identity", [v], [o], o) for v, o in outputs.items() if v != o]
    inner = [v for node in graph.nodes for v in node.outputs if v not in outputs]
    main = helper.make_graph(
        nodes,
        graph.name,
        [_value(v, graph.types[v]) for v in _source_order(graph)],
        [_value(outputs[v], graph.types[v]) for v in outputs],
        value_info=[_value(v, graph.types[v]) for v in inner],
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(
        main,
        functions=[*unpack_functions(graph), *functions.made],
        opset_imports=imports,
        ir_version=IR_VERSION,
        producer_name="nnaq",
    )
    helper.set_model_props(model, _metadata(graph, outputs))
    for name in sorted(graph.constants):  # last and one by one: the helpers above copy what they are given
        model.graph.initializer.extend(_initializers(graph, name))
    return model


def save(graph: Graph, path: Path) -> None:
    """Write the lowered `graph` to `path`."""
    path.write_bytes(export_model(graph).SerializeToString(deterministic=True))


def missing_bodies(graph: Graph) -> list[str]:
    """The nodes that cannot be exported: `op 'name'`, with what they are."""
    return [
        f"{node.op} {node.name!r} ({'real' if is_real(graph, node) else 'integer'})"
        for node in graph.nodes
        if body_of(graph, node) is None
    ]


def _refuse_what_has_no_body(graph: Graph) -> None:
    missing = missing_bodies(graph)
    if missing:
        raise ArtifactError(
            f"graph {graph.name!r} cannot be written as ONNX: no body for {', '.join(missing)}"
        )


def _source_order(graph: Graph) -> list[str]:
    return [port.name for port in graph.inputs] + [state.input for state in graph.states]


def _result_order(graph: Graph) -> list[str]:
    """Outputs, then next states; a value that is both stands once."""
    names = [port.name for port in graph.outputs] + [state.output for state in graph.states]
    return list(dict.fromkeys(names))


def _value(name: str, kind: TensorType) -> onnx.ValueInfoProto:
    shape = [_dimension(dim) for dim in kind.shape]
    return helper.make_tensor_value_info(name, ELEMENTS[kind.dtype], shape, doc_string=str(kind))


def value_infos(graph: Graph) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """What a file that keeps every name has for inputs (ports, then states) and outputs."""
    return tuple(  # type: ignore[return-value]
        [_value(name, graph.types[name]) for name in names]
        for names in (_source_order(graph), _result_order(graph))
    )


def _dimension(dim: Dim) -> Dim | None:
    """A number or a symbol; runtimes cannot read a formula, so that stays open."""
    return dim if isinstance(dim, int) or dim.isidentifier() else None


def _initializers(graph: Graph, name: str) -> list[onnx.TensorProto]:
    value, kind = graph.constants[name], graph.types[name]
    if kind.palette is not None:
        return pack(name, value, kind.palette)
    if kind.dtype == "i4":
        return [helper.make_tensor(name, ELEMENTS["i4"], value.shape, value.reshape(-1).tolist())]
    return [numpy_helper.from_array(value, name)]


def _metadata(graph: Graph, outputs: dict[str, str]) -> dict[str, str]:
    states = {
        s.name: {"input": s.input, "output": outputs[s.output], "initial": s.initial} for s in graph.states
    }
    return {
        "nnaq.graph": print_graph(graph),
        "nnaq.version": version("nnaq"),
        "nnaq.states": json.dumps(states),
    }
