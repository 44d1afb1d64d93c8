"""Transposed convolutions: both runtimes give the interpreter's integers."""

import numpy as np
from export.integer_graphs import one_node, random_inputs
from export.runtimes import runtimes_agree


def layer(x, kernel, y="i8[]<0.4, 5>", rounding="single", **attrs):
    """A node with random weights, per-channel scales and a bias."""
    shape, rank = ",".join(map(str, kernel)), len(kernel) - 2
    scales = ", ".join(repr(0.02 / (i + 1)) for i in range(kernel[1]))
    random = np.random.default_rng(sum(kernel))
    weights = random.integers(-127, 128, kernel).astype(np.int8)
    bias = random.normal(0, 1, kernel[1] * attrs.get("groups", 1))
    inputs = [x, f"i8[{shape}]<[{scales}]@1, 0>"]
    return one_node(f"conv_transpose{rank}d", inputs, [y], attrs, rounding, {1: weights}, {2: bias})


def agree(graphs, folder, time=7):
    runtimes_agree(
        [(graph, random_inputs(graph, seed, time), None) for seed, graph in enumerate(graphs)], folder
    )


def test_one_dimension(tmp_path):
    x, time = "i8[N,6,5]<0.1, -9>", "i8[1,6,T]<0.1, -9>"
    agree(
        [
            layer(x, (6, 4, 3)),
            layer(x, (6, 4, 4), stride=2, padding=(1, 1), activation="relu"),
            layer(x, (6, 1, 5), dilation=2, padding=(4, 0), groups=6),
            layer(x, (6, 2, 3), stride=3, padding=(0, 2), groups=2, rounding="double"),
            layer(x, (6, 2, 2), stride=4, output_padding=3),
            layer(time, (6, 4, 4), stride=2, padding=(1, 1)),
            layer(time, (6, 2, 3), stride=2, dilation=3, padding=(2, 0), groups=3, output_padding=1),
            layer("i16[T,6,5]<0.001, 0>", (6, 4, 3), y="i16[]<0.002, 0>", stride=2),
        ],
        tmp_path,
    )


def test_two_dimensions(tmp_path):
    x = "i8[N,4,3,5]<0.1, -9>"
    agree(
        [
            layer(x, (4, 3, 3, 2)),
            layer(x, (4, 2, 3, 3), stride=(2, 1), dilation=(1, 2), padding=(1, 2, 0, 3), groups=2),
            layer(x, (4, 1, 3, 3), stride=(2, 2), padding=(1, 1, 1, 1), output_padding=(1, 1), groups=4),
            layer("i8[1,4,T,5]<0.1, -9>", (4, 3, 4, 3), stride=(2, 3), padding=(1, 0, 1, 0)),
            layer("i8[N,4,3,T]<0.1, -9>", (4, 2, 1, 3), padding=(0, 0, 0, 2), groups=2),
            layer(
                "i16[1,4,3,5]<0.001, 0>", (4, 2, 2, 2), y="i16[]<0.002, 0>", stride=(2, 2), rounding="double"
            ),
        ],
        tmp_path,
    )
