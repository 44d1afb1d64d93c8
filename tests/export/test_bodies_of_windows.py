"""Convolutions and pools: both runtimes give the interpreter's integers."""

import numpy as np
from export.integer_graphs import one_node, random_inputs
from export.runtimes import runtimes_agree

Q = "<0.5, -3>"


def agree(graphs, folder, time=7):
    runtimes_agree(
        [(graph, random_inputs(graph, seed, time), None) for seed, graph in enumerate(graphs)], folder
    )


def layer(op, x, kernel, attrs, y="i8[]<0.4, 5>", rounding="single"):
    """A convolution with random weights, per-channel scales and a bias."""
    shape = ",".join(map(str, kernel))
    scales = ", ".join(repr(0.02 / (i + 1)) for i in range(kernel[0]))
    random = np.random.default_rng(sum(kernel))
    weights = random.integers(-127, 128, kernel).astype(np.int8)
    bias = random.normal(0, 1, kernel[0])
    inputs = [x, f"i8[{shape}]<[{scales}]@0, 0>"]
    return one_node(op, inputs, [y], attrs, rounding, {1: weights}, {2: bias})


def conv1d(x, kernel, stride=1, dilation=1, padding=(0, 0), groups=1, activation="none", **rest):
    attrs = {
        "stride": stride,
        "dilation": dilation,
        "padding": padding,
        "groups": groups,
        "activation": activation,
    }
    return layer("conv1d", x, kernel, attrs, **rest)


def conv2d(x, kernel, stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), groups=1, **rest):
    attrs = {
        "stride": stride,
        "dilation": dilation,
        "padding": padding,
        "groups": groups,
        "activation": "none",
    }
    return layer("conv2d", x, kernel, attrs, **rest)


def test_conv1d(tmp_path):
    x = "i8[N,6,12]<0.1, -9>"
    agree(
        [
            conv1d(x, (4, 6, 3)),
            conv1d(x, (4, 6, 3), stride=2, padding=(1, 2), activation="relu"),
            conv1d(x, (6, 1, 5), dilation=2, padding=(4, 4), groups=6),
            conv1d(x, (4, 3, 3), padding=(2, 0), groups=2, rounding="double"),
            conv1d(x, (4, 6, 1)),
            conv1d("i8[1,6,T]<0.1, -9>", (4, 6, 3), stride=2, padding=(1, 1)),
            conv1d("i8[1,6,T]<0.1, -9>", (6, 2, 3), padding=(2, 0), groups=3),
            conv1d("i16[T,6,12]<0.001, 0>", (4, 6, 3), y="i16[]<0.002, 0>"),
        ],
        tmp_path,
    )


def test_conv2d(tmp_path):
    x = "i8[N,4,6,8]<0.1, -9>"
    agree(
        [
            conv2d(x, (4, 4, 3, 2)),
            conv2d(x, (6, 2, 3, 3), stride=(2, 1), dilation=(1, 2), padding=(1, 2, 0, 3), groups=2),
            conv2d(x, (4, 1, 3, 3), padding=(1, 1, 1, 1), groups=4),
            conv2d("i8[1,4,T,8]<0.1, -9>", (4, 4, 3, 3), stride=(2, 2), padding=(1, 1, 1, 1)),
            conv2d("i8[N,4,8,T]<0.1, -9>", (4, 2, 3, 3), padding=(0, 2, 0, 0), groups=2),
            conv2d("i16[1,4,6,8]<0.001, 0>", (4, 4, 3, 3), y="i16[]<0.002, 0>", rounding="double"),
        ],
        tmp_path,
    )


def test_pools(tmp_path):
    graphs = []
    for dtype, q in (("i8", Q), ("i16", "<0.5, 0>")):
        for op in ("max_pool", "average_pool"):
            one = {"kernel": (3,), "stride": (2,), "padding": (2, 1)}
            two = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0, 2, 1)}
            graphs.append(one_node(op, [f"{dtype}[N,3,11]{q}"], [f"{dtype}[]{q}"], one))
            graphs.append(one_node(op, [f"{dtype}[1,3,T]{q}"], [f"{dtype}[]{q}"], one))
            graphs.append(one_node(op, [f"{dtype}[N,3,T,6]{q}"], [f"{dtype}[]{q}"], two))
    two |= {"count_include_pad": True}
    graphs.append(one_node("average_pool", [f"i8[N,3,9,6]{Q}"], [f"i8[]{Q}"], two))
    agree(graphs, tmp_path)
