"""The LSTM stays one node, and its Scan gives the interpreter's integers in both runtimes."""

import numpy as np
from export.integer_graphs import integer_node, random_inputs
from export.runtimes import runtimes_agree

from nnaq.export.onnx import export_model
from nnaq.ir.build import Builder
from nnaq.ir.graph import Node
from nnaq.ir.types import TensorType, parse_type, storage


def stream(
    x="i8[T,1,10]<0.05, -6>",
    h="i8<0.0078125, 4>",
    fraction=11,
    rounding="single",
    units=8,
    batch=1,
    projection=0,
    cifg=False,
    normed=False,
    **contract,
):
    """An LSTM whose h and c are states of the graph."""
    build, random = Builder("stream"), np.random.default_rng(3)
    build.input("x", parse_type(x), time_axis=0)
    hidden, quant = h.split("<")
    state, rows = projection or units, (3 if cifg else 4) * units
    kinds = {
        "h": parse_type(f"{hidden}[{batch},{state}]<{quant}"),
        "c": parse_type(f"i16[{batch},{units}]<{2.0**-fraction!r}, 0>"),
    }
    for name, kind in kinds.items():
        build.value(f"{name}_in", kind)
    width = int(parse_type(x).shape[2])
    names = []
    shapes = {"w_input": (rows, width), "w_recurrent": (rows, state), "w_projection": (projection, units)}
    for name, shape in shapes.items():
        if shape[0]:
            kind = parse_type(f"i8[{shape[0]},{shape[1]}]<0.01, 0>")
            names.append(build.constant(name, random.integers(-127, 128, shape).astype(np.int8), kind))
    names[2:] = ["", *(names[2:] or [""] * normed)]  # the bias, then the projection
    made = integer_node(
        build,
        "lstm",
        ["x", "h_in", "c_in", *names],
        [str(kinds[k].with_shape(())) for k in "hhc"],
        {"cifg": True} if cifg else {},
        rounding,
        reals={i: random.normal(0, 1, rows) for i in ((5, 7, 8) if normed else (5,))},
        **contract,
    )
    build.output(made[0], time_axis=0)
    for name, value in zip("hc", made[1:], strict=True):
        kind = kinds[name]
        build.state(name, f"{name}_in", value, np.full(kind.shape, kind.zero_point, storage(kind.dtype)))
    return build.build()


def test_lstm_in_chunks(tmp_path):
    graphs = [stream(rounding=rounding) for rounding in ("single", "double", "half_even", "double_m16")]
    graphs += [stream(fraction=fraction) for fraction in (9, 12, 15)]
    graphs.append(stream(x="i16[T,1,10]<0.0004, 0>", h="i16<3.0517578125e-05, 0>", rounding="double"))
    graphs.append(stream(x="i16[T,3,10]<0.0004, 0>", batch=3))
    cases = [(graph, random_inputs(graph, seed, 9), 5) for seed, graph in enumerate(graphs)]
    runtimes_agree(cases, tmp_path)


def test_lstm_with_projection_and_coupled_gates(tmp_path):
    graphs = [stream(projection=5), stream(cifg=True, rounding="double"), stream(projection=3, cifg=True)]
    graphs.append(stream(x="i16[T,2,10]<0.0004, 0>", h="i16<0.0001, 0>", batch=2, projection=11, cifg=True))
    graphs.append(stream(projection=5, rounding="double_m16", h="i16<3.0517578125e-05, 0>"))
    graphs.append(stream(projection=5, rounding="half_even"))
    cases = [(graph, random_inputs(graph, seed, 9), 5) for seed, graph in enumerate(graphs)]
    runtimes_agree(cases, tmp_path)


def test_lstm_with_normalised_gates(tmp_path):
    graphs = [stream(normed=True, rounding=rounding) for rounding in ("single", "double_m16", "half_even")]
    graphs += [
        stream(normed=True, cifg=True, projection=5, units=11),
        stream(normed=True, h="i16<0.0001, 0>"),
    ]
    cases = [(graph, random_inputs(graph, seed, 9), 5) for seed, graph in enumerate(graphs)]
    runtimes_agree(cases, tmp_path)


def with_full_tables(graph):
    """The same node with 65,536 entries per curve and a table of its own for the cell."""
    (node,) = graph.nodes
    full, random = TensorType("i16", (65536,)), np.random.default_rng(4)
    tables = {name: random.integers(-(2**15), 2**15, 65536).astype(np.int16) for name in ("s", "t", "cell")}
    inputs = (*node.inputs[:10], "s", "t", *node.inputs[12:14], "cell")
    types = {**graph.types, **dict.fromkeys(tables, full)}
    node = Node(node.op, inputs, node.outputs, node.attrs, node.name)
    return graph.rebuilt((node,), types=types, constants={**graph.constants, **tables})


def test_lstm_with_tables_of_every_code(tmp_path):
    graph = with_full_tables(stream(rounding="double_m16"))
    runtimes_agree([(graph, random_inputs(graph, 2, 9), 4)], tmp_path)


def test_lstm_is_one_node():
    model = export_model(stream())
    assert [node.op_type for node in model.graph.node] == ["lstm"]
    assert [value.name for value in model.graph.input] == ["x", "h_in", "c_in"]
    assert [value.name for value in model.graph.output] == ["lstm_0", "lstm_0.1", "lstm_0.2"]
