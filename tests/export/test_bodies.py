"""Every operator's ONNX body gives the interpreter's integers in onnx.reference and ONNX Runtime."""

from pathlib import Path

import numpy as np
from export.integer_graphs import one_node, random_inputs
from export.runtimes import runtimes_agree

from nnaq.ir.graph import Graph
from nnaq.ir.numerics import ROUNDINGS


def agree(graphs: list[Graph], folder: Path, time: int = 5) -> None:
    runtimes_agree(
        [(graph, random_inputs(graph, seed, time), None) for seed, graph in enumerate(graphs)], folder
    )


def test_edges(tmp_path):
    agree(
        [
            one_node("quantize", ["f32[T,64]"], ["i8[]<0.05, -7>"]),
            one_node("quantize", ["f32[T,64]"], ["i16[]<0.0003, 0>"], {"rounding": "half_away"}),
            one_node("quantize", ["f32[3,8]"], [f"i8[]<[{', '.join(['0.05', '0.07'] * 4)}]@1, 0>"]),
            one_node("dequantize", ["i8[T,64]<0.05, -7>"], ["f32[]"]),
            one_node("dequantize", ["i32[T,64]<0.0001, 0>"], ["f32[]"]),
        ],
        tmp_path,
    )


def rescales(rounding):
    """Shifts of every kind: left, none, few bits, many bits; sources of 8, 16 and 32 bits."""
    if rounding == "pot_shift":
        ratios = [1.0, 0.5, 2.0**-8]
    else:
        ratios = [1.3, 0.9, 0.5, 0.03, 2.0**-16, 1.1e-9]
    for ratio in ratios:
        yield one_node("rescale", [f"i8[256]<{ratio!r}, 5>"], ["i16[]<1.0, 0>"], rounding=rounding)
        yield one_node("rescale", [f"i16[2000]<{ratio!r}, 0>"], ["i8[]<1.0, -3>"], rounding=rounding)
        yield one_node("rescale", [f"i32[T,400]<{ratio!r}, 0>"], ["i32[]<1.0, 0>"], rounding=rounding)


def test_rescale_in_every_rounding(tmp_path):
    agree([graph for rounding in ROUNDINGS for graph in rescales(rounding)], tmp_path)


def test_tables(tmp_path):
    graphs = []
    for op in ("sigmoid", "tanh", "exp", "log"):
        graphs.append(one_node(op, ["i8[256]<0.03, 4>"], ["i8[]<0.0078125, 1>"]))
        graphs.append(one_node(op, ["i8[T,64]<0.03, 4>"], ["i16[]<3.0517578125e-05, 0>"]))
        graphs.append(
            one_node(op, ["i16[T,999]<0.000244140625, 0>"], ["i8[]<0.0078125, 1>"], rounding="double")
        )
        graphs.append(one_node(op, ["i16[T,999]<0.000244140625, 0>"], ["i16[]<3.0517578125e-05, 0>"]))
    agree(graphs, tmp_path)


def codes(shape, limit=127):
    return np.random.default_rng(7).integers(-limit, limit + 1, shape).astype(np.int8)


def layers():
    """Layers of both widths: roundings, relu, scales per channel, i4 weights, weights off zero."""
    scales = ", ".join(repr(0.01 / (i + 1)) for i in range(6))
    bias = np.random.default_rng(8).normal(0, 2, 6)
    for rounding in ("single", "double", "half_even"):
        for x, y in (("i8[T,3,10]<0.1, -4>", "i8[]<0.3, 9>"), ("i16[T,10]<0.001, 0>", "i16[]<0.002, 0>")):
            for activation in ("none", "relu"):
                weights = {1: codes((6, 10))}
                yield one_node(
                    "fully_connected",
                    [x, f"i8[6,10]<[{scales}]@0, 0>"],
                    [y],
                    {"activation": activation},
                    rounding,
                    weights,
                    {2: bias},
                )
    yield one_node(
        "fully_connected",
        ["i8[T,10]<0.1, -4>", "i4[6,10]<0.01, 0>"],
        ["i16[]<0.001, 0>"],
        {"activation": "none"},
        "single",
        {1: codes((6, 10), 7)},
    )
    yield one_node(
        "fully_connected",
        ["i8[T,10]<0.1, -4>", "i8[6,10]<0.01, 3>"],
        ["i8[]<0.1, 0>"],
        {"activation": "none"},
        "single",
        {1: codes((6, 10))},
    )


def test_fully_connected(tmp_path):
    agree(list(layers()), tmp_path)


def test_matmul(tmp_path):
    agree(
        [
            one_node("matmul", ["i8[N,T,6]<0.1, 3>", "i8[N,6,5]<0.2, -1>"], ["i8[]<0.5, 2>"]),
            one_node("matmul", ["i8[2,3,T,6]<0.1, 3>", "i8[6,5]<0.2, -1>"], ["i16[]<0.1, 0>"]),
            one_node(
                "matmul", ["i16[T,6]<0.001, 0>", "i16[6,5]<0.002, 0>"], ["i16[]<0.004, 0>"], rounding="double"
            ),
        ],
        tmp_path,
    )


def test_movement(tmp_path):
    q = "<0.5, -3>"
    graphs = [
        one_node("reshape", [f"i8[T,4,6]{q}"], [f"i8[]{q}"], {"shape": (0, -1)}),
        one_node("reshape", ["i16[T,4,6]<0.5, 0>"], ["i16[]<0.5, 0>"], {"shape": (-1, 3, 8)}),
        one_node("transpose", [f"i8[T,4,6]{q}"], [f"i8[]{q}"], {"perm": (2, 0, 1)}),
        one_node("concat", [f"i8[T,4]{q}", f"i8[T,3]{q}"], [f"i8[]{q}"], {"axis": -1}),
        one_node("concat", ["i32[T,4]<0.5, 0>", "i32[2,4]<0.5, 0>"], ["i32[]<0.5, 0>"], {"axis": 0}),
    ]
    for start, end, step in (
        (1, -1, 1),
        (0, 2**31 - 1, 2),
        (-1, -100, -1),
        (-100, 3, 1),
        (4, 1, -2),
        (-9, -100, -1),
    ):
        attrs = {"starts": (start, 0), "ends": (end, 2**31 - 1), "axes": (1, 0), "steps": (step, 1)}
        graphs.append(one_node("slice", [f"i8[T,6]{q}"], [f"i8[]{q}"], attrs))
    for mode in ("constant", "reflect", "edge"):
        for dtype, quant in (("i8", q), ("i16", "<0.5, 0>"), ("i32", "<0.5, 0>")):
            attrs = {"pads": (2, 1, 0, 4), "mode": mode}
            graphs.append(one_node("pad", [f"{dtype}[T,3]{quant}"], [f"{dtype}[]{quant}"], attrs))
    agree(graphs, tmp_path)
    agree(graphs[-6:-3], tmp_path, time=1)
