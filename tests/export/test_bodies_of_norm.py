"""Normalisations: both runtimes give the interpreter's integers; float bodies agree to float rounding."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from export.integer_graphs import one_node, random_inputs
from export.runtimes import RUNNER, runtimes_agree
from onnx.reference import ReferenceEvaluator

from nnaq.export.onnx import export_model
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.numerics import ROUNDINGS
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify

POINTS = {"i8": "<0.03, -7>", "i16": "<0.00021, 0>"}
RESULTS = {"i8": "i8[]<0.05, 9>", "i16": "i16[]<0.00017, 0>"}
PAIRS = [(x, y) for x in POINTS for y in RESULTS]


def reals(*shape, seed=1):
    return np.random.default_rng(seed).normal(0.4, 1.0, shape)


def agree(graphs, folder, time=7):
    runtimes_agree(
        [(graph, random_inputs(graph, seed, time), None) for seed, graph in enumerate(graphs)], folder
    )


def normalisations(x, y, rounding="single"):
    """One graph per operator; time is open wherever the operator lets it be."""
    made = partial(one_node, outputs=[RESULTS[y]], rounding=rounding)
    rows, planes = [f"{x}[T,48]{POINTS[x]}"], [f"{x}[2,6,T]{POINTS[x]}"]
    last, groups = {"axis": -1, "epsilon": 1e-5}, {"groups": 3, "epsilon": 1e-5}
    long, short = {1: reals(48), 2: reals(48, seed=2)}, {1: reals(6), 2: reals(6, seed=3)}
    yield made("layer_norm", rows, attrs=last, reals=long)
    yield made("rms_norm", rows, attrs=last, reals={1: long[1]})
    yield made("l2_normalize", rows, attrs=last)
    yield made("group_norm", planes, attrs=groups, reals=short)
    yield made("batch_norm", planes, reals=short)


@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_every_form(tmp_path, x, y):
    agree(list(normalisations(x, y)), tmp_path)


@pytest.mark.parametrize("rounding", [r for r in ROUNDINGS if r != "single"])
def test_every_rounding(tmp_path, rounding):
    agree([*normalisations("i8", "i8", rounding), *normalisations("i16", "i16", rounding)], tmp_path)


@pytest.mark.parametrize("time", [1, 33])
def test_the_count_of_a_group_is_read_at_run_time(tmp_path, time):
    kinds = [f"{x}[1,6,T,3]{POINTS[x]}" for x in POINTS]
    agree(
        [
            one_node("group_norm", [kind], [RESULTS["i16"]], {"groups": groups, "epsilon": epsilon})
            for kind in kinds
            for groups in (1, 6)
            for epsilon in (0.0, 1e-5, 0.5)
        ],
        tmp_path,
        time,
    )


def test_several_axes_and_ranks(tmp_path):
    graphs = []
    for x, y in PAIRS:
        last = {"axis": -2, "epsilon": 1e-5}
        for op in ("layer_norm", "rms_norm"):
            graphs.append(one_node(op, [f"{x}[N,T,4,6]{POINTS[x]}"], [RESULTS[y]], last))
        channels = {1: -reals(4), 2: reals(4)}
        graphs.append(one_node("batch_norm", [f"{x}[T,4]{POINTS[x]}"], [RESULTS[y]], reals=channels))
    agree(graphs, tmp_path)


def corners(dtype):
    """Rows [9, 8]: equal entries, one that differs by one code, both ends, one end alone."""
    low, high = (-128, 127) if dtype == "i8" else (-(2**15), 2**15 - 1)
    rows = [[low] * 8, [high] * 8, [0] * 8, [-7] * 8, [5] * 7 + [6], [low, high] * 4]
    rows += [[low] * 7 + [high], [high] * 7 + [low], [-7] * 7 + [-6]]
    return np.array(rows, np.int8 if dtype == "i8" else np.int16)


@pytest.mark.parametrize("epsilon", [0.0, 1e-12, 1e-5, 10.0])
def test_corners(tmp_path, epsilon):
    cases = []
    for x, y in PAIRS:
        for op in ("layer_norm", "rms_norm", "l2_normalize"):
            attrs = {"axis": -1, "epsilon": epsilon}
            graph = one_node(op, [f"{x}[9,8]{POINTS[x]}"], [RESULTS[y]], attrs)
            cases.append((graph, {"x0": corners(x)}, None))
    runtimes_agree(cases, tmp_path)


def test_the_longest_row(tmp_path):
    """65,535 codes of 16 bits, the lowest and the highest: sums of 62 bits."""
    cases = []
    for x, size in (("i16", 2**16 - 1), ("i8", 2**18)):
        low, high = (-128, 127) if x == "i8" else (-(2**15), 2**15 - 1)
        codes = np.where(np.arange(size) % 2, low, high).astype(np.int8 if x == "i8" else np.int16)
        graph = one_node(
            "layer_norm", [f"{x}[1,{size}]{POINTS[x]}"], [RESULTS["i16"]], {"axis": -1, "epsilon": 1e-5}
        )
        cases.append((graph, {"x0": codes[None]}, None))
    runtimes_agree(cases, tmp_path)


# op, shape of x, shapes of the parameters, attributes
ISLANDS = [
    ("layer_norm", (5, 4), [], {"axis": -1, "epsilon": 1e-5}),
    ("layer_norm", (2, 5, 4), [(5, 4), (5, 4)], {"axis": -2, "epsilon": 1e-5}),
    ("rms_norm", (5, 4), [(4,)], {"axis": -1, "epsilon": 1e-5}),
    ("l2_normalize", (5, 4), [], {"axis": -1, "epsilon": 1e-12}),
    ("group_norm", (2, 4, 5), [], {"groups": 4, "epsilon": 1e-5}),
    ("group_norm", (2, 4, 5, 3), [(4,), (4,)], {"groups": 2, "epsilon": 1e-5}),
    ("batch_norm", (2, 4, 5), [(4,), (4,)], {}),
]


def island(op, shape, parameters, attrs) -> Graph:
    """A graph of one real node."""
    build = Builder(op)
    names = [build.input("x", TensorType("f32", shape))]
    names += [
        build.constant(f"p{i}", reals(*size, seed=i).astype(np.float32)) for i, size in enumerate(parameters)
    ]
    build.output(*build.node(op, names, attrs, ["y"]))
    return verify(build.build())


def test_float_bodies_agree_to_float_rounding(tmp_path):
    expected = {}
    for number, case in enumerate(ISLANDS):
        graph, label = island(*case), f"{number:02d}"
        x = reals(*case[1], seed=number).astype(np.float32)
        x[0, 0] = 0.0  # a row of zeros where rows are the last axis
        expected[label] = run(graph, {"x": x}).outputs["y"]
        model = export_model(graph)
        (found,) = ReferenceEvaluator(model).run(None, {"x": x})
        np.testing.assert_allclose(found, expected[label], rtol=1e-5, atol=1e-6)
        (tmp_path / f"{label}.onnx").write_bytes(model.SerializeToString())
        np.savez(tmp_path / f"{label}.in.npz", x=x)
    subprocess.run([sys.executable, str(RUNNER), str(tmp_path)], check=True)
    for label, y in expected.items():
        with np.load(tmp_path / f"{label}.out.npz") as found:
            np.testing.assert_allclose(found["y"], y, rtol=1e-5, atol=1e-6)
