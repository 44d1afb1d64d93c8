"""Float bodies of host islands: both runtimes give the codes of the interpreter, or a neighbour of them.

Float rounding is a runtime's own; it may move a value across the middle between two codes, so that
the code after an island differs by one, never by more.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import pytest
from export.runtimes import RUNNER
from frontends.onnx_models import normal
from onnx.reference import ReferenceEvaluator

from nnaq import pipeline
from nnaq.export.bodies import BODIES
from nnaq.export.bodies_real import REAL_BODIES
from nnaq.export.onnx import export_model
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.op import Attr
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
    ("conv1d", [(2, 4, 9)], [(3, 4, 3)], {**CONV, "stride": 2, "padding": (2, 1)}),
    ("conv1d", [(2, 4, 9)], [(6, 2, 3), (6,)], {**CONV, "groups": 2, "dilation": 2, "activation": "relu"}),
    ("conv2d", [(2, 4, 5, 6)], [(6, 2, 3, 2), (6,)], CONV_2D),
    ("max_pool", [(2, 3, 5, 6)], [], POOL),
    ("average_pool", [(2, 3, 5, 6)], [], POOL),
    ("average_pool", [(2, 3, 5, 6)], [], {**POOL, "count_include_pad": True}),
    ("lstm", [(6, 2, 3), (2, 4), (2, 4)], [(16, 3), (16, 4)], {}),
    ("lstm", [(6, 2, 3), (2, 4), (2, 4)], [(16, 3), (16, 4), (16,)], {}),
    ("reshape", [(5, 4)], [], {"shape": (2, -1)}),
    ("transpose", [(5, 4)], [], {"perm": (1, 0)}),
    ("slice", [(5, 4)], [], {"starts": (3, 0), "ends": (0, 3), "axes": (0, 1), "steps": (-1, 2)}),
    *(("pad", [(5, 4)], [], {"pads": PAD, "mode": mode}) for mode in ("constant", "reflect", "edge")),
    ("concat", [(5, 4), (5, 2), (5, 1)], [], {"axis": -1}),
]


def one(case) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph of a case with its operator as an island, and inputs."""
    op, inputs, constants, attrs = case
    b = Builder(op)
    names = [b.input(f"x{i}", TensorType("f32", shape)) for i, shape in enumerate(inputs)]
    names += [b.constant(f"w{i}", normal(*shape, seed=i + 7)) for i, shape in enumerate(constants)]
    count = 3 if op == "lstm" else 1
    for name in b.node(op, names, attrs, [f"y{i}" for i in range(count)]):
        b.output(name)
    feeds = {f"x{i}": normal(*shape, seed=i) for i, shape in enumerate(inputs)}
    feeds = {name: np.abs(array) + 0.1 if op in ("log", "sqrt") else array for name, array in feeds.items()}
    real = pipeline.simplify(verify(b.build()))
    return crossed(real, feeds, excluding(op)), feeds


def excluding(op: str) -> Target:
    return replace(load_target("edge8"), exclude=(op,))


def crossed(real: Graph, feeds: Mapping[str, np.ndarray], target: Target) -> Graph:
    return pipeline.cross(real, calibrate(real, [feeds]), pipeline.Options(target)).integer


def apart(graph: Graph, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> int:
    """How many codes the outputs are apart at most."""
    assert found.keys() == expected.keys()
    most = 0
    for name, array in expected.items():
        scale = np.float32(graph.types[graph.producer[name].inputs[0]].scale)
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        codes = [np.rint(side / scale).astype(int) for side in (found[name], array)]
        most = max(most, int(np.abs(codes[0] - codes[1]).max()))
    return most


def test_the_runtimes_are_a_code_apart_at_most(tmp_path):
    graphs = [one(case) for case in CASES]
    for number, (graph, feeds) in enumerate(graphs):
        assert sum(is_real(graph, node) for node in graph.nodes) == 1
        model = export_model(graph)
        onnx.checker.check_model(model, full_check=True)
        names = [output.name for output in model.graph.output]
        made = dict(zip(names, ReferenceEvaluator(model).run(None, feeds), strict=True))
        assert apart(graph, made, run(graph, feeds).outputs) <= 1, graph.name
        (tmp_path / f"{number:02d}.onnx").write_bytes(model.SerializeToString())
        np.savez(tmp_path / f"{number:02d}.in.npz", **feeds)
    subprocess.run([sys.executable, str(RUNNER), str(tmp_path)], check=True)
    for number, (graph, feeds) in enumerate(graphs):
        with np.load(tmp_path / f"{number:02d}.out.npz") as found:
            assert apart(graph, dict(found), run(graph, feeds).outputs) <= 1, graph.name


@pytest.mark.parametrize("op", ["reshape", "transpose", "slice", "pad", "concat", "relu", "max_pool"])
def test_what_computes_nothing_is_exact(op):
    for case in (case for case in CASES if case[0] == op):
        graph, feeds = one(case)
        made = ReferenceEvaluator(export_model(graph)).run(None, feeds)
        assert np.array_equal(made[0], run(graph, feeds).outputs["y0"])


def test_every_operator_that_can_be_an_island_has_a_case():
    assert {case[0] for case in CASES} == set(REAL_BODIES)
    assert set(BODIES) - BOUNDARY - {"rescale"} >= set(REAL_BODIES)
