"""The GRU stays one node, and its Scan gives the interpreter's integers in both runtimes."""

import numpy as np
import pytest
from export.integer_graphs import integer_node, random_inputs
from export.runtimes import runtimes_agree

from nnaq.export.onnx import export_model
from nnaq.ir.build import Builder
from nnaq.ir.types import parse_type, storage


def stream(
    x="i8[T,1,10]<0.05, -6>",
    h="i8<0.0078125, 4>",
    rounding="single",
    units=8,
    batch=1,
    linear_before_reset=True,
    **contract,
):
    """A GRU whose h is a state of the graph."""
    build, random = Builder("stream"), np.random.default_rng(3)
    build.input("x", parse_type(x), time_axis=0)
    hidden, quant = h.split("<")
    kind = parse_type(f"{hidden}[{batch},{units}]<{quant}")
    build.value("h_in", kind)
    names = []
    for name, columns in (("w_input", int(parse_type(x).shape[2])), ("w_recurrent", units)):
        weight = parse_type(f"i8[{3 * units},{columns}]<0.01, 0>")
        names.append(build.constant(name, random.integers(-127, 128, weight.shape).astype(np.int8), weight))
    y, last = integer_node(
        build,
        "gru",
        ["x", "h_in", *names],
        [str(kind.with_shape(()))] * 2,
        {"linear_before_reset": linear_before_reset},
        rounding,
        reals={4: random.normal(0, 1, 3 * units), 5: random.normal(0, 1, 3 * units)},
        **contract,
    )
    build.output(y, time_axis=0)
    build.state("h", "h_in", last, np.full(kind.shape, kind.zero_point, storage(kind.dtype)))
    return build.build()


@pytest.mark.parametrize("linear_before_reset", [True, False])
def test_gru_in_chunks(tmp_path, linear_before_reset):
    roundings = ("single", "double", "half_even", "double_m16", "truncate")
    form = {"linear_before_reset": linear_before_reset}
    graphs = [stream(rounding=rounding, **form) for rounding in roundings]
    graphs += [stream(h="i8<0.0091, -128>", **form), stream(h="i8<0.0009, 3>", **form)]
    graphs += [stream(rounding="half_up_shift", h="i16<0.00002, 0>", **form)]
    graphs += [stream(x="i16[T,3,10]<0.0004, 0>", h="i16<3.0517578125e-05, 0>", batch=3, **form)]
    cases = [(graph, random_inputs(graph, seed, 9), 5) for seed, graph in enumerate(graphs)]
    runtimes_agree(cases, tmp_path)


def test_gru_is_one_node():
    model = export_model(stream())
    assert [node.op_type for node in model.graph.node] == ["gru"]
    assert [value.name for value in model.graph.input] == ["x", "h_in"]
    assert [value.name for value in model.graph.output] == ["gru_0", "gru_0.1"]
