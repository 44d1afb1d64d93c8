"""Bodies of softmax and of products before their last requantisation: the interpreter's integers."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from export.integer_graphs import one_node, random_inputs
from export.runtimes import RUNNER, runtimes_agree
from onnx import helper
from onnx.reference import ReferenceEvaluator

from nnaq.export.bodies_real import REAL_BODIES
from nnaq.export.body_builder import DOMAIN, ELEMENTS, OPSET, Body
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import TensorType

X = {"i8": "i8[{}]<{}, -9>", "i16": "i16[{}]<{}, 0>"}
Y = {"i8": "i8[]<0.00390625, -128>", "i16": "i16[]<3.0517578125e-05, 0>"}
PAIRS = [(x, y) for x in X for y in Y]


def softmax(x, y, shape, scale, mask=None):
    operands = [X[x].format(shape, scale)] + ([] if mask is None else [f"i8[{mask}]<1.0, 0>"])
    return one_node("softmax", operands, [Y[y]])


def feeds(graph, seed, time=7, spread=None):
    """Random codes, half of them close together; half of all flags are 0."""
    found, random = random_inputs(graph, seed, time), np.random.default_rng(seed)
    if "x1" in found:
        found["x1"] *= random.random(found["x1"].shape) < 0.5
        found["x1"][:1] = 0  # rows that keep nothing
    found["x0"] = np.where(random.random(found["x0"].shape) < 0.5, found["x0"], found["x0"] >> 4)
    return found


def agree(graphs, folder, time=7):
    runtimes_agree([(graph, feeds(graph, seed, time), None) for seed, graph in enumerate(graphs)], folder)


@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_softmax(x, y, tmp_path):
    scales = (0.004, 0.0317, 0.3, 40.0, 1e9, 1e-12) if x == "i8" else (3e-5, 4e-4, 0.11, 40.0, 1e9, 1e-12)
    agree([softmax(x, y, "T,50", scale) for scale in scales], tmp_path)


@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_masks(x, y, tmp_path):
    scale = 0.05 if x == "i8" else 0.0004
    shapes = [
        ("T,3,20", "T,3,20"),
        ("2,T,20", "T,1"),
        ("3,20", "20"),
        ("T,4", "1"),
        ("3,T", "3,T"),
        ("20", "20"),
    ]
    agree([softmax(x, y, shape, scale, mask) for shape, mask in shapes], tmp_path)


@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_short_and_long_rows(x, y, tmp_path):
    scale = 0.05 if x == "i8" else 0.0004
    shapes = ["5,1", "1", "2,5000", "3,0", "0,3", "2,T"]
    agree([softmax(x, y, shape, scale) for shape in shapes], tmp_path)
    agree([softmax(x, y, "2,T", scale, "2,T")], tmp_path, time=1)


def test_fully_connected_before_its_requantisation(tmp_path):
    graphs, random = [], np.random.default_rng(3)
    for dtype, limit in (("i8", 127), ("i4", 7)):
        weight = random.integers(-limit, limit + 1, (6, 10)).astype(np.int8)
        scales = [0.01 / (i + 1) for i in range(6)]
        sums = ", ".join(repr(0.1 * scale) for scale in scales)
        kinds = ["i8[T,3,10]<0.1, -4>", f"{dtype}[6,10]<[{', '.join(map(repr, scales))}]@0, 0>"]
        for reals in ({2: random.normal(0, 2, 6)}, {}):
            graphs.append(
                one_node(
                    "fully_connected", kinds, [f"i32[]<[{sums}]@2, 0>"], {}, "single", {1: weight}, reals
                )
            )
    kinds = ["i8[T,10]<0.1, -4>", "i8[6,10]<0.03, 2>"]
    whole = repr(0.1 * 0.03)
    graphs.append(one_node("fully_connected", kinds, [f"i32[]<{whole}, 0>"], {}, "single", {1: weight}))
    runtimes_agree([(graph, random_inputs(graph, seed), None) for seed, graph in enumerate(graphs)], tmp_path)


def test_matmul_with_a_gain(tmp_path):
    kinds = ["i8[T,3,8]<0.1, -4>", "i8[8,5]<0.07, 9>"]
    graphs = [
        one_node("matmul", kinds, ["i8[]<0.2, 3>"], {"gain": gain}, rounding)
        for gain in (0.125, 0.3, 2.5)
        for rounding in ("single", "double", "half_even")
    ]
    runtimes_agree([(graph, random_inputs(graph, seed), None) for seed, graph in enumerate(graphs)], tmp_path)


# --- on the host

REALS = [
    ("softmax", {}, [(3, 4, 6)]),
    ("softmax", {}, [(3, 4, 6), (4, 6)]),
    ("softmax", {}, [(3, 4, 6), (3, 1, 1)]),
    ("log_softmax", {"axis": -1}, [(3, 4, 6)]),
    ("log_softmax", {"axis": 1}, [(3, 4, 6)]),
    ("matmul", {"gain": 0.3}, [(3, 4), (4, 5)]),
]


def real_model(op, attrs, shapes):
    """A file of one function: the body of an operator that stays on the host."""
    names = [f"x{i}" for i in range(len(shapes))]
    kinds = tuple(TensorType("f32", shape) for shape in shapes)
    (shape,) = lookup(op).infer(kinds, attrs)
    body = Body()
    results = REAL_BODIES[op](body, Signature(kinds, (TensorType("f32", shape),), attrs), *names)
    function = body.function(op, names, results, [], op)
    ports = [helper.make_tensor_value_info(n, ELEMENTS["f32"], s) for n, s in zip(names, shapes, strict=True)]
    output = helper.make_tensor_value_info("y", ELEMENTS["f32"], shape)
    graph = helper.make_graph([helper.make_node(op, names, ["y"], domain=DOMAIN)], op, ports, [output])
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def test_bodies_over_reals_mean_what_the_operators_mean(tmp_path):
    random, expected = np.random.default_rng(5), {}
    for number, (op, attrs, shapes) in enumerate(REALS):
        arrays = [random.normal(0, 3, shape).astype(np.float32) for shape in shapes]
        if op == "softmax" and len(arrays) == 2:
            arrays[1] = (arrays[1] > 0).astype(np.float32)
            arrays[1][0] = 0
        model, fed = real_model(op, attrs, shapes), {f"x{i}": array for i, array in enumerate(arrays)}
        (tmp_path / f"{number}.onnx").write_bytes(model.SerializeToString())
        np.savez(tmp_path / f"{number}.in.npz", **fed)
        expected[number] = lookup(op).real(np, attrs, *arrays)[0]
        (made,) = ReferenceEvaluator(model).run(None, fed)
        np.testing.assert_allclose(made, expected[number], rtol=1e-5, atol=1e-6)
    subprocess.run([sys.executable, str(RUNNER), str(tmp_path)], check=True)
    for number, array in expected.items():
        with np.load(tmp_path / f"{number}.out.npz") as found:
            np.testing.assert_allclose(found["y"], array, rtol=1e-5, atol=1e-6)
            assert ((found["y"] == 0) == (array == 0)).all()
