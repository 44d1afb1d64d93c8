"""Float bodies of activations, signs, division, comparisons and choices, against the interpreter."""

import subprocess
import sys

import numpy as np
import onnx
from export.runtimes import RUNNER
from onnx.reference import ReferenceEvaluator

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.export.bodies_real_functions import BODIES
from nnaq.export.onnx import export_model
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify

SHAPE = (5, 4)
TWO = ("prelu", "div", "minimum", "maximum", "equal", "less", "less_or_equal", "greater", "greater_or_equal")
FLAGS = ("logical_and", "logical_or", "logical_xor")
ATTRS = {
    "power": [{"exponent": exponent} for exponent in (2.5, 0.5, 3.0, -1.0, 0.0)],
    "gelu": [{}, {"approximate": "tanh"}],
    "clip": [{"low": -0.5, "high": np.inf}, {"low": 0.5, "high": -0.5}],
    "elu": [{}, {"alpha": 0.7}],
    "celu": [{}, {"alpha": 0.7}],
    "selu": [{}, {"alpha": 1.5, "gamma": 1.1}],
    "leaky_relu": [{}, {"alpha": -0.2}],
    "thresholded_relu": [{}, {"alpha": 0.2}],
    "hard_sigmoid": [{}, {"alpha": 0.3, "beta": 0.1}],
}


def feeds_of(op):
    random = np.random.default_rng(3)
    x = np.round(random.normal(0, 2, SHAPE) * 4).astype(np.float32) / 4  # halves, whole numbers, zeros
    if op in ("power", "rsqrt"):
        return [np.abs(x) + 0.25]
    if op == "floor_divide":
        return [np.round(4 * x), np.round(2 * x[:1])]
    if op in ("reciprocal", "div"):
        return [x + 0.125] if op == "reciprocal" else [x, np.abs(x[:1]) + 0.5]
    if op in FLAGS or op == "logical_not":
        flags = [(x > 0).astype(np.float32), (x[::-1] > 1).astype(np.float32)]
        return flags[:1] if op == "logical_not" else flags
    if op == "where":
        return [(x > 0).astype(np.float32), x, -x[:1]]
    return [x, x[:1]] if op in TWO else [x]


def real_graph(op, attrs, feeds):
    build = Builder(op)
    names = [build.input(f"x{i}", TensorType("f32", array.shape)) for i, array in enumerate(feeds)]
    for name in build.node(op, names, attrs, ["y"]):
        build.output(name)
    return verify(build.build())


def test_both_runtimes_mean_the_same(tmp_path):
    expected = {}
    for op in BODIES:
        for number, attrs in enumerate(ATTRS.get(op, [{}])):
            arrays = feeds_of(op)
            graph = real_graph(op, attrs, arrays)
            feeds = {f"x{i}": array for i, array in enumerate(arrays)}
            model = export_model(graph)
            onnx.checker.check_model(model, full_check=True)
            expected[f"{op}_{number}"] = run(graph, feeds).outputs["y"]
            (found,) = ReferenceEvaluator(model).run(None, feeds)
            np.testing.assert_allclose(found, expected[f"{op}_{number}"], rtol=1e-5, atol=1e-6, err_msg=op)
            (tmp_path / f"{op}_{number}.onnx").write_bytes(model.SerializeToString())
            np.savez(tmp_path / f"{op}_{number}.in.npz", **feeds)
    subprocess.run([sys.executable, str(RUNNER), str(tmp_path)], check=True)
    for label, result in expected.items():
        with np.load(tmp_path / f"{label}.out.npz") as found:
            assert found["y"].dtype == np.float32
            np.testing.assert_allclose(found["y"], result, rtol=1e-5, atol=1e-6, err_msg=label)
