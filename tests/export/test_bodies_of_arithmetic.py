"""Elementwise operators and roots: both runtimes give the interpreter's integers."""

import numpy as np
from export.integer_graphs import one_node, random_inputs
from export.runtimes import runtimes_agree

from nnaq.ir.numerics import ROUNDINGS


def agree(graphs, folder, time=7):
    runtimes_agree(
        [(graph, random_inputs(graph, seed, time), None) for seed, graph in enumerate(graphs)], folder
    )


def sums(op, rounding):
    yield one_node(op, ["i8[T,64]<0.1, 3>", "i8[64]<0.07, -20>"], ["i8[]<0.15, 9>"], rounding=rounding)
    yield one_node(op, ["i16[T,64]<0.1, 0>", "i16[1,64]<0.07, 0>"], ["i16[]<0.15, 0>"], rounding=rounding)
    yield one_node(op, ["i8[T,64]<0.1, 5>", "i16[T,64]<0.0007, 0>"], ["i16[]<0.0011, 0>"], rounding=rounding)
    yield one_node(op, ["i32[T,64]<0.001, 0>", "i8[T,64]<0.1, 5>"], ["i8[]<0.11, -4>"], rounding=rounding)
    # both operands leave 16 bits and are clamped before they meet
    yield one_node(op, ["i16[T,64]<0.3, 0>", "i16[T,64]<0.4, 0>"], ["i16[]<0.15, 0>"], rounding=rounding)


def test_add_and_sub(tmp_path):
    graphs = [
        g for op in ("add", "sub") for mode in ("single", "double", "half_even") for g in sums(op, mode)
    ]
    for op in ("add", "sub"):
        graphs.append(one_node(op, ["i32[T,64]<0.5, 0>", "i32[T,64]<0.5, 0>"], ["i32[]<0.5, 0>"]))
    agree(graphs, tmp_path)


def test_mul(tmp_path):
    graphs = []
    for rounding in ("single", "double", "half_up_shift", "floor", "truncate"):
        graphs.append(
            one_node("mul", ["i8[T,64]<0.1, 3>", "i8[64]<0.07, -20>"], ["i8[]<0.5, 9>"], rounding=rounding)
        )
        graphs.append(
            one_node("mul", ["i16[T,64]<0.1, 0>", "i16[T,1]<0.07, 0>"], ["i16[]<50.0, 0>"], rounding=rounding)
        )
    agree(graphs, tmp_path)


def test_square_and_relu(tmp_path):
    graphs = [one_node("square", ["i16[T,300]<0.5, 0>"], ["i32[]<0.25, 0>"])]
    graphs.append(one_node("square", ["i8[256]<0.5, -7>"], ["i32[]<0.25, 0>"]))
    for text in ("i8[T,256]<0.5, -7>", "i16[T,256]<0.5, 0>", "i32[T,256]<0.5, 0>"):
        graphs.append(one_node("relu", [text], [text.replace("T,256", "")]))
    agree(graphs, tmp_path)


def test_sqrt_in_every_rounding(tmp_path):
    graphs = []
    for rounding in ROUNDINGS:
        # pot_shift needs sqrt(s_x) / s_y to be a power of two
        scale = "0.00390625" if rounding == "pot_shift" else "0.0123"
        y = "4.0" if rounding == "pot_shift" else "0.173"
        graphs.append(one_node("sqrt", [f"i32[T,3000]<{scale}, 0>"], [f"i16[]<{y}, 0>"], rounding=rounding))
        graphs.append(one_node("sqrt", [f"i8[256]<{scale}, -9>"], [f"i8[]<{y}, -100>"], rounding=rounding))
        graphs.append(one_node("sqrt", [f"i32[3000]<{scale}, 0>"], ["i16[]<32768.0, 0>"], rounding=rounding))
    agree(graphs, tmp_path)


def test_sqrt_on_ties(tmp_path):
    """Odd squares halve to ties, where the last bit of the root decides."""
    odd = np.arange(1, 46341, 2, dtype=np.int64)
    graph = one_node("sqrt", [f"i32[{odd.size}]<1.0, 0>"], ["i16[]<2.0, 0>"])
    runtimes_agree([(graph, {"x0": (odd * odd).astype(np.int32)}, None)], tmp_path)
