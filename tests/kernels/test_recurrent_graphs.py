"""Every form of LSTM and GRU through the whole crossing: real graph, calibration, integers, ONNX."""

from collections.abc import Mapping

import numpy as np
import pytest

from nnaq import pipeline
from nnaq.export.onnx import export_model
from nnaq.findings import cell_saturations
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.op import Attr
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target

UNITS, WIDTH = 8, 6
Shapes = tuple[tuple[int, ...] | None, ...]

# op, shapes of the operands behind the states (None: absent), attributes
FORMS: list[tuple[str, Shapes, Mapping[str, Attr]]] = [
    ("lstm", ((32, WIDTH), (32, UNITS)), {}),
    ("lstm", ((24, WIDTH), (24, UNITS), (24,)), {"cifg": True}),
    ("lstm", ((32, WIDTH), (32, 5), (32,), (5, UNITS)), {}),
    ("lstm", ((32, WIDTH), (32, UNITS), None, None, (32,), (32,)), {"epsilon": 1e-3}),
    ("lstm", ((24, WIDTH), (24, 5), None, (5, UNITS), (24,), (24,)), {"cifg": True}),
    ("gru", ((24, WIDTH), (24, UNITS), (24,), (24,)), {"linear_before_reset": True}),
    ("gru", ((24, WIDTH), (24, UNITS), None, (24,)), {"linear_before_reset": False}),
    ("gru", ((24, WIDTH), (24, UNITS)), {"linear_before_reset": False}),
]


def stream(op: str, shapes: Shapes, attrs: Mapping[str, Attr]) -> Graph:
    """The operator with its states kept by the graph."""
    build, random = Builder(op), np.random.default_rng(1)
    build.input("x", TensorType("f32", ("T", 1, WIDTH)), time_axis=0)
    recurrent = shapes[1]
    assert recurrent is not None
    sizes = [recurrent[1], UNITS] if op == "lstm" else [UNITS]
    states = [build.value(f"s{i}", TensorType("f32", (1, size))) for i, size in enumerate(sizes)]
    weights = [
        "" if shape is None else build.constant(f"w{i}", random.normal(0, 0.4, shape).astype(np.float32))
        for i, shape in enumerate(shapes)
    ]
    y, *after = build.node(op, ["x", *states, *weights], attrs, name=op)
    build.output(y, time_axis=0)
    for i, (before, value, size) in enumerate(zip(states, after, sizes, strict=True)):
        build.state(f"state{i}", before, value, np.zeros((1, size), np.float32))
    return verify(build.build())


@pytest.mark.parametrize("activations", ["i8", "i16"])
@pytest.mark.parametrize(("op", "shapes", "attrs"), FORMS)
def test_a_recurrent_graph_crosses_and_stays_near_the_reals(
    op: str, shapes: Shapes, attrs: Mapping[str, Attr], activations: str
) -> None:
    real = pipeline.simplify(stream(op, shapes, attrs))
    recordings = [
        {"x": np.random.default_rng(seed).normal(0, 1, (60, 1, WIDTH)).astype(np.float32)} for seed in (2, 3)
    ]
    options = pipeline.Options(load_target("edge8"), activations)
    crossing = pipeline.cross(real, calibrate(real, recordings), options)
    node = next(n for n in crossing.integer.nodes if n.op == op)
    meant, found = (run(graph, recordings[0]).outputs for graph in (real, crossing.integer))
    (name,) = meant
    noise = np.square(found[name] - meant[name]).sum()
    sqnr_db = 10 * np.log10(np.square(meant[name]).sum() / noise)
    assert sqnr_db > (25 if activations == "i8" else 40)
    assert cell_saturations(crossing.integer, recordings) == ({node.name: 0} if op == "lstm" else {})
    (function,) = (f for f in export_model(crossing.integer).functions if f.name == op)
    assert list(function.input)[: 2 + (op == "lstm")] == ["x", "h0", "c0"][: 2 + (op == "lstm")]
    if op == "lstm":
        assert {"bias", "input_multiplier", "tanh_table"} <= set(function.input)
        assert ("w_projection" in function.input) == (len(shapes) > 3)
