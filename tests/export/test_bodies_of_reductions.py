"""Reductions, running sums and means: both runtimes give the interpreter's integers."""

import numpy as np
from export.integer_graphs import one_node, random_inputs
from export.runtimes import runtimes_agree

X8, X16, X32 = "i8[T,3,4]<0.5, -9>", "i16[T,3,4]<0.5, 0>", "i32[T,3,4]<0.5, 0>"


def agree(graphs, folder, time=7):
    runtimes_agree(
        [(graph, random_inputs(graph, seed, time), None) for seed, graph in enumerate(graphs)], folder
    )


def test_sums(tmp_path):
    graphs = []
    for axes in ((0,), (-1, 0), (1, 2), ()):
        for keep in (False, True):
            attrs = {"axes": axes, "keepdims": keep}
            for x in (X8, X16, X32):
                graphs.append(one_node("reduce_sum", [x], ["i32[]<0.5, 0>"], attrs))
            graphs.append(one_node("reduce_sum", [X8], ["i8[]<4.7, 5>"], attrs, "double"))
            graphs.append(one_node("reduce_sum", [X16], ["i16[]<1.3, 0>"], attrs, "half_up_shift"))
            graphs.append(one_node("reduce_sum", [X32], ["i16[]<200000.0, 0>"], attrs, "truncate"))
    agree(graphs, tmp_path)


def test_means(tmp_path):
    """Over 12 entries known when prepared, and over time, which is open."""
    graphs = []
    for rounding in ("single", "double", "half_even", "half_up_shift", "floor", "truncate"):
        for axes in ((1, 2), (0,), (0, 2)):
            attrs = {"axes": axes, "keepdims": False}
            graphs.append(one_node("reduce_mean", [X8], ["i8[]<0.23, 5>"], attrs, rounding))
            graphs.append(one_node("reduce_mean", [X16], ["i16[]<0.017, 0>"], attrs, rounding))
            graphs.append(one_node("reduce_mean", [X32], ["i16[]<20000.0, 0>"], attrs, rounding))
    for axes in ((0,), (2,)):
        attrs = {"axes": axes, "keepdims": True}
        graphs.append(one_node("reduce_mean", [X8], ["i16[]<0.5, 0>"], attrs, "pot_shift"))
    agree(graphs, tmp_path)


def test_extremes(tmp_path):
    graphs = []
    for op in ("reduce_max", "reduce_min"):
        for x in (X8, X16, X32):
            for axes in ((0,), (-1, 1), ()):
                attrs = {"axes": axes, "keepdims": axes == (0,)}
                graphs.append(one_node(op, [x], [x.replace("T,3,4", "")], attrs))
    agree(graphs, tmp_path)


def test_running_sums(tmp_path):
    graphs = []
    for exclusive in (False, True):
        for reverse in (False, True):
            attrs = {"axis": 0, "exclusive": exclusive, "reverse": reverse}
            graphs.append(one_node("cumulative_sum", [X8], ["i32[]<0.5, 0>"], attrs))
            graphs.append(one_node("cumulative_sum", [X16], ["i16[]<1.3, 0>"], attrs, "double"))
            graphs.append(one_node("cumulative_sum", [X32], ["i32[]<0.5, 0>"], attrs | {"axis": -1}))
    agree(graphs, tmp_path)


def test_running_means(tmp_path):
    cases = []
    for seed, (rounding, limit) in enumerate((("single", 4), ("double", 100), ("half_even", 2))):
        for x, y in (("i8[T,2,3]<0.5, -9>", "i8[]<0.23, 5>"), ("i16[T,2,3]<0.5, 0>", "i16[]<0.31, 0>")):
            graph = one_node(
                "running_mean",
                [x, "i32[2,3]<0.5, 0>", "i32[2,1]<1.0, 0>"],
                [y, "i32[]<0.5, 0>", "i32[]<1.0, 0>"],
                {"limit": limit},
                rounding,
            )
            # sums over the whole of 32 bits, counts around the limit and beyond
            feeds = random_inputs(graph, seed, 9) | {"x2": np.array([[limit - 2], [2**31 - 1]], np.int32)}
            cases.append((graph, feeds, None))
            cases.append((graph, feeds | {f"x{i}": feeds[f"x{i}"] * 0 for i in (1, 2)}, None))
    runtimes_agree(cases, tmp_path)
