"""Activations, signs, division, comparisons and choices: both runtimes give the interpreter's integers."""

import numpy as np
from export.integer_graphs import one_node, random_inputs
from export.runtimes import runtimes_agree

from nnaq.export.bodies_functions import BODIES, TABLES
from nnaq.ir.numerics import ROUNDINGS

ATTRS = {
    "gelu": {"approximate": "tanh"},
    "power": {"exponent": 3.0},
    "elu": {"alpha": 0.7},
    "leaky_relu": {"alpha": -0.3},
    "hard_sigmoid": {"alpha": 0.3, "beta": 0.4},
    "clip": {"low": -1.0, "high": 2.0},
}
PIECES = ("leaky_relu", "thresholded_relu", "hard_sigmoid", "hard_swish")
COMPARISONS = ("equal", "less", "less_or_equal", "greater", "greater_or_equal")
LOGIC = ("logical_and", "logical_or", "logical_xor")


def node(op, inputs, outputs, attrs=None, rounding="single"):
    return one_node(op, inputs, outputs, ATTRS.get(op, {}) if attrs is None else attrs, rounding)


def agree(graphs, folder, time=7):
    runtimes_agree(
        [(graph, random_inputs(graph, seed, time), None) for seed, graph in enumerate(graphs)], folder
    )


def tables():
    graphs = []
    for op in TABLES:
        graphs.append(node(op, ["i8[256]<0.03, 4>"], ["i8[]<0.03, 1>"]))
        graphs.append(node(op, ["i16[T,99]<0.000244140625, 0>"], ["i16[]<0.00031, 0>"]))
    return graphs


def test_tables(tmp_path):
    agree(tables(), tmp_path)


def straight_pieces():
    graphs = []
    for op in PIECES:
        graphs.append(node(op, ["i8[256]<0.03, 4>"], ["i16[]<0.00031, 0>"]))
        for rounding in ("single", "double", "half_even", "truncate"):
            graphs.append(node(op, ["i16[T,400]<0.00024, 0>"], ["i8[]<0.03, -7>"], rounding=rounding))
            graphs.append(node(op, ["i16[T,400]<0.00024, 0>"], ["i16[]<0.00021, 0>"], rounding=rounding))
    for rounding in ("single", "half_even"):
        graphs.append(
            node("prelu", ["i8[T,64]<0.1, 3>", "i8[64]<0.01, -2>"], ["i8[]<0.11, 9>"], rounding=rounding)
        )
        graphs.append(
            node("prelu", ["i16[T,64]<0.1, 0>", "i8[1]<0.01, 0>"], ["i16[]<0.13, 0>"], rounding=rounding)
        )
    return graphs


def test_straight_pieces(tmp_path):
    agree(straight_pieces(), tmp_path)


def inverses():
    graphs = []
    for op in ("reciprocal", "rsqrt"):
        graphs.append(node(op, ["i8[256]<0.03, 4>"], ["i8[]<0.11, 1>"]))
        for rounding in (r for r in ROUNDINGS if r != "pot_shift"):
            graphs.append(node(op, ["i16[T,900]<0.0003, 0>"], ["i16[]<0.0013, 0>"], rounding=rounding))
            graphs.append(node(op, ["i32[T,300]<0.0000001, 0>"], ["i8[]<0.013, 5>"], rounding=rounding))
        graphs.append(node(op, ["i16[900]<0.25, 0>"], ["i16[]<0.5, 0>"], rounding="pot_shift"))
    return graphs


def test_inverses(tmp_path):
    agree(inverses(), tmp_path)


def quotients():
    return [
        node("div", ["i8[T,64]<0.1, 3>", "i8[64]<0.07, -20>"], ["i8[]<0.05, 9>"]),
        node("div", ["i8[T,64]<0.1, 3>", "i16[T,1]<0.0007, 0>"], ["i16[]<0.005, 0>"]),
        node("div", ["i16[T,64]<0.001, 0>", "i8[64]<0.07, -20>"], ["i16[]<0.0005, 0>"]),
        node("div", ["i32[T,64]<0.000001, 0>", "i16[64]<0.01, 0>"], ["i16[]<0.05, 0>"]),
        node("div", ["i16[T,64]<0.001, 0>", "i32[64]<0.00000001, 0>"], ["i16[]<0.005, 0>"]),
        node("div", ["i16[T,64]<1.0, 0>", "i32[64]<0.000000001, 0>"], ["i16[]<0.5, 0>"]),
        node("div", ["i32[T,64]<1.0, 0>", "i32[64]<1.0, 0>"], ["i8[]<0.1, -3>"]),
        node("floor_divide", ["i32[T,64]<1.0, 0>", "i32[64]<1.0, 0>"], ["i32[]<1.0, 0>"]),
    ]


def test_div(tmp_path):
    agree(quotients(), tmp_path)
    zeros = node("div", ["i8[3]<0.1, 5>", "i8[3]<0.1, -9>"], ["i8[]<0.1, 4>"])
    feeds = {"x0": np.array([4, 5, 6], np.int8), "x1": np.full(3, -9, np.int8)}
    runtimes_agree([(zeros, feeds, None)], tmp_path)


def signs_and_whole_parts():
    graphs = []
    for op in ("abs", "neg"):
        graphs.append(node(op, ["i32[T,64]<0.5, 0>"], ["i32[]<0.5, 0>"]))
        for rounding in ("single", "double", "half_even", "floor"):
            graphs.append(node(op, ["i8[256]<0.03, -4>"], ["i8[]<0.04, 3>"], rounding=rounding))
            graphs.append(node(op, ["i16[T,99]<0.0003, 0>"], ["i8[]<0.05, -100>"], rounding=rounding))
    for op in ("sign", "floor", "ceil", "round"):
        graphs.append(node(op, ["i8[256]<0.25, -4>"], ["i32[]<1.0, 0>"]))
        graphs.append(node(op, ["i16[T,999]<0.0123, 0>"], ["i32[]<1.0, 0>"], rounding="half_even"))
        graphs.append(node(op, ["i32[T,64]<0.5, 0>"], ["i32[]<1.0, 0>"]))
        graphs.append(node(op, ["i32[T,64]<1.0, 0>"], ["i32[]<1.0, 0>"]))
    return graphs


def test_signs_and_whole_parts(tmp_path):
    agree(signs_and_whole_parts(), tmp_path)


def flags():
    graphs = []
    for op in COMPARISONS:
        for text in ("i8[{}]<0.5, -7>", "i16[{}]<0.5, 0>", "i32[{}]<0.5, 0>"):
            graphs.append(node(op, [text.format("T,64"), text.format("64")], ["i8[]<1.0, 0>"]))
    for op in LOGIC:
        graphs.append(node(op, ["i8[T,4]<1.0, 0>", "i8[4]<1.0, -3>"], ["i8[]<1.0, 0>"]))
    graphs.append(node("logical_not", ["i8[256]<1.0, -3>"], ["i8[]<1.0, 0>"]))
    return graphs


def test_comparisons_and_logic(tmp_path):
    graphs = flags()
    feeds = [random_inputs(graph, seed, 7) for seed, graph in enumerate(graphs)]
    for feed in feeds:
        for name, array in feed.items():
            feed[name] = (array >> 8 * array.itemsize - 3).astype(
                array.dtype
            )  # few values, so that some meet
    runtimes_agree([(g, f, None) for g, f in zip(graphs, feeds, strict=True)], tmp_path)


def choices():
    graphs = []
    for text in ("i8[{}]<0.1, -7>", "i16[{}]<0.1, 0>", "i32[{}]<0.1, 0>"):
        result = [text.format("")]
        for op in ("minimum", "maximum"):
            graphs.append(node(op, [text.format("T,64"), text.format("64")], result))
        graphs.append(node("clip", [text.format("T,64")], result))
        graphs.append(node("clip", [text.format("T,64")], result, {"low": 2.0, "high": -1.0}))
        operands = ["i8[T,1]<1.0, 0>", text.format("T,64"), text.format("1,64")]
        graphs.append(node("where", operands, result))
    return graphs


def test_choices(tmp_path):
    agree(choices(), tmp_path)


def test_products_of_whole_numbers(tmp_path):
    graph = one_node("mul", ["i32[T,64]<1.0, 0>", "i32[64]<1.0, 0>"], ["i32[]<1.0, 0>"])
    agree([graph], tmp_path)


def test_every_body_is_among_them():
    made = [tables, straight_pieces, inverses, quotients, signs_and_whole_parts, flags, choices]
    assert {node.op for graphs in made for graph in graphs() for node in graph.nodes} == set(BODIES)
