"""Float bodies of host islands: both runtimes give the interpreter's reals up to float32 rounding.

An island whose results only the host reads hands them out as they are. Its sums are a runtime's own:
they differ from the interpreter's by the rounding of float32, relative to the largest result.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import pytest
from export.runtimes import RUNNER
from export.test_bodies_of_norm import ISLANDS as NORMALISATIONS
from frontends.onnx_models import normal
from onnx.reference import ReferenceEvaluator

from nnaq import pipeline
from nnaq.export import bodies_real_functions
from nnaq.export.bodies import BODIES
from nnaq.export.bodies_real import REAL_BODIES
from nnaq.export.onnx import export_model
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.op import Attr, lookup
from nnaq.ir.types import TensorType
from nnaq.ir.verify import is_real, verify
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import BOUNDARY, Target, load_target

CONV = {"stride": 1, "dilation": 1, "padding": (0, 0), "groups": 1, "activation": "none"}
CONV_2D = {
    "stride": (2, 1), "dilation": (1, 2), "padding": (1, 0, 0, 2), "groups": 2, "activation": "relu",
}  # fmt: skip
POOL = {"kernel": (2, 3), "stride": (1, 2), "padding": (0, 1, 1, 0)}
PAD = (0, 1, 2, 0)

# op, shapes of inputs, shapes of constants, attributes
CASES: list[tuple[str, list[tuple[int, ...]], list[tuple[int, ...]], Mapping[str, Attr]]] = [
    *((op, [(5, 4)], [], {}) for op in ("sigmoid", "tanh", "exp", "log", "square", "sqrt", "relu")),
    *((op, [(5, 4), (1, 4)], [], {}) for op in ("add", "sub", "mul")),
    ("fully_connected", [(5, 4)], [(3, 4)], {"activation": "none"}),
    ("fully_connected", [(2, 5, 4)], [(3, 4), (3,)], {"activation": "relu"}),
    ("matmul", [(2, 5, 4), (2, 4, 3)], [], {}),
    ("matmul", [(2, 5, 4), (2, 4, 3)], [], {"gain": 0.3}),
    ("softmax", [(5, 4)], [], {}),
    ("softmax", [(2, 5, 4), (5, 1)], [], {}),
    ("log_softmax", [(5, 4)], [], {"axis": 0}),
    ("conv1d", [(2, 4, 9)], [(3, 4, 3)], {**CONV, "stride": 2, "padding": (2, 1)}),
    ("conv1d", [(2, 4, 9)], [(6, 2, 3), (6,)], {**CONV, "groups": 2, "dilation": 2, "activation": "relu"}),
    ("conv2d", [(2, 4, 5, 6)], [(6, 2, 3, 2), (6,)], CONV_2D),
    ("max_pool", [(2, 3, 5, 6)], [], POOL),
    ("average_pool", [(2, 3, 5, 6)], [], POOL),
    ("average_pool", [(2, 3, 5, 6)], [], {**POOL, "count_include_pad": True}),
    ("lstm", [(6, 2, 3), (2, 4), (2, 4)], [(16, 3), (16, 4)], {}),
    ("lstm", [(6, 2, 3), (2, 4), (2, 4)], [(16, 3), (16, 4), (16,)], {}),
    ("lstm", [(6, 2, 3), (2, 2), (2, 4)], [(12, 3), (12, 2), (12,), (2, 4)], {"cifg": True}),
    ("lstm", [(6, 2, 3), (2, 2), (2, 4)], [(16, 3), (16, 2), (16,), (2, 4), (16,), (16,)], {"epsilon": 0.1}),
    ("gru", [(6, 2, 3), (2, 4)], [(12, 3), (12, 4)], {"linear_before_reset": False}),
    ("gru", [(6, 2, 3), (2, 4)], [(12, 3), (12, 4), (12,), (12,)], {"linear_before_reset": True}),
    ("conv_transpose1d", [(2, 4, 5)], [(4, 3, 4)], {**CONV, "stride": 2, "padding": (1, 2)}),
    ("conv_transpose2d", [(2, 4, 3, 4)], [(4, 2, 3, 2), (4,)], {**CONV_2D, "output_padding": (1, 0)}),
    *((f"reduce_{op}", [(5, 2, 4)], [], {"axes": (0, -1)}) for op in ("sum", "mean", "max", "min")),
    ("reduce_sum", [(5, 4)], [], {"axes": (1,), "keepdims": True}),
    ("cumulative_sum", [(5, 4)], [], {"axis": 1, "exclusive": True, "reverse": True}),
    ("running_mean", [(5, 2, 4), (2, 4), (2, 1)], [], {"limit": 3}),
    ("resize", [(2, 3, 5)], [], {"scales": (1.0, 1.5, 2.0), "mode": "linear"}),
    ("resize", [(2, 3, 5)], [], {"scales": (1.0, 1.5, 2.0), "mode": "nearest"}),
    ("reshape", [(5, 4)], [], {"shape": (2, -1)}),
    ("transpose", [(5, 4)], [], {"perm": (1, 0)}),
    ("slice", [(5, 4)], [], {"starts": (3, 0), "ends": (0, 3), "axes": (0, 1), "steps": (-1, 2)}),
    *(("pad", [(5, 4)], [], {"pads": PAD, "mode": mode}) for mode in ("constant", "reflect", "edge")),
    ("concat", [(5, 4), (5, 2), (5, 1)], [], {"axis": -1}),
    ("gather", [(5, 4), (3,)], [], {"axis": 0}),
    ("one_hot", [(5, 4)], [], {"depth": 6, "axis": 1}),
    ("arange", [(5, 4)], [], {"axis": 0, "start": -3, "step": 2}),
    ("relative_shift", [(2, 4, 7)], [], {}),
    ("expand", [(5, 1), (3, 4)], [], {"sizes": (2, -1, -1), "like_axes": (-1, -1, 1)}),
    ("tile", [(5, 4)], [], {"repeats": (2, 3)}),
    ("reverse", [(5, 4)], [], {"axes": (-1,)}),
    *((op, [shape], parameters, attrs) for op, shape, parameters, attrs in NORMALISATIONS),
]


def one(case) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph of a case with its operator as an island, and inputs."""
    op, inputs, constants, attrs = case
    b = Builder(op)
    names = [b.input(f"x{i}", TensorType("f32", shape)) for i, shape in enumerate(inputs)]
    names += [b.constant(f"w{i}", normal(*shape, seed=i + 7)) for i, shape in enumerate(constants)]
    count = {"lstm": 3, "gru": 2, "running_mean": 3}.get(op, 1)
    for name in b.node(op, names, attrs, [f"y{i}" for i in range(count)]):
        b.output(name)
    feeds = {f"x{i}": normal(*shape, seed=i) for i, shape in enumerate(inputs)}
    feeds = {name: np.abs(array) + 0.1 if op in ("log", "sqrt") else array for name, array in feeds.items()}
    wholes = [f"x{i}" for i, demand in lookup(op).demands.items() if demand == "whole" and i >= 0]
    feeds |= {name: np.rint(np.abs(feeds[name])) for name in wholes if name in feeds}
    real = pipeline.simplify(verify(b.build()))
    return crossed(real, feeds, excluding(op)), feeds


def excluding(op: str) -> Target:
    return replace(load_target("edge8"), exclude=(op,))


def crossed(real: Graph, feeds: Mapping[str, np.ndarray], target: Target) -> Graph:
    return pipeline.cross(real, calibrate(real, [feeds]), pipeline.Options(target)).integer


NEAR = 1e-5  # relative: runtimes add float32 numbers in another order


def apart(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> float:
    """How far the outputs are apart, relative to the largest of them."""
    assert found.keys() == expected.keys()
    most = 0.0
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        distance = float(np.abs(found[name].astype(np.float64) - array).max(initial=0))
        most = max(most, distance / max(float(np.abs(array).max(initial=0)), 1e-30))
    return most


def test_the_runtimes_are_a_rounding_of_float32_apart_at_most(tmp_path):
    graphs = [one(case) for case in CASES]
    for number, (graph, feeds) in enumerate(graphs):
        assert sum(is_real(graph, node) for node in graph.nodes) == 1
        model = export_model(graph)
        onnx.checker.check_model(model, full_check=True)
        names = [output.name for output in model.graph.output]
        made = dict(zip(names, ReferenceEvaluator(model).run(None, feeds), strict=True))
        assert apart(made, run(graph, feeds).outputs) <= NEAR, graph.name
        (tmp_path / f"{number:02d}.onnx").write_bytes(model.SerializeToString())
        np.savez(tmp_path / f"{number:02d}.in.npz", **feeds)
    subprocess.run([sys.executable, str(RUNNER), str(tmp_path)], check=True)
    for number, (graph, feeds) in enumerate(graphs):
        with np.load(tmp_path / f"{number:02d}.out.npz") as found:
            assert apart(dict(found), run(graph, feeds).outputs) <= NEAR, graph.name


@pytest.mark.parametrize("op", ["reshape", "transpose", "slice", "pad", "concat", "relu", "max_pool"])
def test_what_computes_nothing_is_exact(op):
    for case in (case for case in CASES if case[0] == op):
        graph, feeds = one(case)
        made = ReferenceEvaluator(export_model(graph)).run(None, feeds)
        assert np.array_equal(made[0], run(graph, feeds).outputs["y0"])


def test_every_operator_that_can_be_an_island_has_a_case():
    elsewhere = set(bodies_real_functions.BODIES)  # test_islands_of_functions.py
    assert {case[0] for case in CASES} | elsewhere == set(REAL_BODIES)
    assert set(BODIES) - BOUNDARY - {"rescale"} >= {op for op in REAL_BODIES if not lookup(op).is_host_only}
