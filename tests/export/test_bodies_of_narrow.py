"""Narrow accumulators: both runtimes overflow as the interpreter does, block by block."""

from itertools import product

import numpy as np
import pytest
from export.integer_graphs import one_node, random_inputs
from export.runtimes import runtimes_agree
from export.test_bodies_of_gru import stream as gru_stream
from export.test_bodies_of_lstm import stream as lstm_stream

WEIGHTS = np.random.default_rng(7)
CONTRACTS = [
    {"accumulator_bits": bits, "overflow": overflow, "array_depth": depth}
    for bits, (overflow, depth) in product(
        (16, 17), (("saturate", 1), ("saturate", 4), ("saturate", 100), ("wrap", 4))
    )
]


def agree(graphs, folder, time=7, size=None):
    runtimes_agree(
        [(graph, random_inputs(graph, seed, time), size) for seed, graph in enumerate(graphs)], folder
    )


def layer(op, x, shape, channels, contract, attrs=None, y="i16[]<2.0, 0>"):
    """A layer whose sums often pass 16 bits, and sometimes 17."""
    weights = WEIGHTS.integers(-127, 128, shape).astype(np.int8)
    bias = WEIGHTS.choice([-40000.0, 0.0, 3.0, 32767.0, 40000.0], channels)
    kind = f"i8[{','.join(map(str, shape))}]<1.0, 0>"
    return one_node(op, [x, kind], [y], attrs, "single", {1: weights}, {2: bias}, **contract)


def test_fully_connected(tmp_path):
    graphs = [layer("fully_connected", "i8[T,11]<1.0, -9>", (6, 11), 6, c) for c in CONTRACTS]
    graphs += [
        layer("fully_connected", "i8[T,11]<1.0, -9>", (6, 11), 6, c, y="i32[]<1.0, 0>") for c in CONTRACTS[:2]
    ]
    graphs += [
        layer("fully_connected", "i16[T,11]<1.0, 0>", (6, 11), 6, c, y="i16[]<65536.0, 0>")
        for c in CONTRACTS[:4]
    ]
    agree(graphs, tmp_path)


@pytest.mark.parametrize("depth", ["9", "T"])
def test_matmul(tmp_path, depth):
    a, b = (f"i8[2,5,{depth}]<1.0, 7>", f"i8[{depth},4]<1.0, -100>")
    graphs = [one_node("matmul", [a, b], ["i16[]<1.0, 0>"], **c) for c in CONTRACTS]
    agree(graphs, tmp_path, time=13)


def test_convolutions(tmp_path):
    one, two = {"padding": (2, 1), "stride": 2}, {"padding": (1, 0, 1, 2), "dilation": (1, 2)}
    graphs = []
    for c in CONTRACTS[1:4]:
        graphs += [
            layer("conv1d", "i8[1,4,T]<1.0, -9>", (6, 4, 3), 6, c, one),
            layer("conv1d", "i8[2,4,9]<1.0, -9>", (4, 1, 3), 4, c, {**one, "groups": 4}),
            layer("conv2d", "i8[1,4,5,6]<1.0, 100>", (4, 2, 2, 3), 4, c, {**two, "groups": 2}),
            layer("conv_transpose1d", "i8[1,4,T]<1.0, -9>", (4, 3, 3), 3, c, one),
            layer("conv_transpose2d", "i8[1,4,3,4]<1.0, 100>", (4, 2, 2, 3), 4, c, {**two, "groups": 2}),
        ]
    agree(graphs, tmp_path)


def test_recurrent_operators(tmp_path):
    graphs = []
    for c in CONTRACTS[:4]:
        graphs += [lstm_stream(**c), gru_stream(**c)]
    graphs += [lstm_stream(projection=3, cifg=True, **CONTRACTS[1])]
    graphs += [gru_stream(linear_before_reset=False, **CONTRACTS[1])]
    graphs += [lstm_stream(lut_entries=65536), gru_stream(lut_entries=65536)]
    agree(graphs, tmp_path, time=9, size=5)


def test_tables_of_65536_entries(tmp_path):
    graphs = [
        one_node(op, ["i16[T,300]<0.0003, 0>"], [y], lut_entries=65536)
        for op, y in product(("sigmoid", "tanh"), ("i16[]<0.0005, 0>", "i8[]<0.1, 7>"))
    ]
    agree(graphs, tmp_path)
