"""Layers whose products the tier in use makes, against plain integers; ends with an error where one differs.

A program, for processes with NNAQ_TIER: each compiles anew, and these layers share what they are compiled to.
"""

import sys
from itertools import product

import numpy as np
from recurrent_nodes import LSTM, Choice, Sizes, assert_equal, lstm_node
from strategies import assert_fast_is_reference, integer_node, quantised

from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import Quant, TensorType, bounds
from nnaq.kernels.machine.products import PANEL

ENDS = -128, 127, 127, -128, 0, 1


def check_sums():
    """Rows of every tile, every remainder of K, outputs that fill panels and begin one; codes at the ends."""
    random = np.random.default_rng(0)
    depths = [(k, PANEL + 1, (-128, 0, 127)[k % 3]) for k in range(1, 10)] + [(77, 3, -7)]
    for rows, (depth, width, zero) in product(range(1, 16), depths):
        check_layer(
            *(random.choice(ENDS, shape).astype(np.int8) for shape in ((rows, depth), (width, depth))), zero
        )
    for end in (-128, 127):  # as large as sums in 32 bits may be: on their way to them they wrap
        check_layer(np.full((2, 131000), end, np.int8), np.full((1, 131000), -128, np.int8), 0)


def check_layer(x, weight, zero):
    """The sums of a fully connected layer, exact in int64."""
    bias = np.arange(len(weight), dtype=np.int32) * 1001
    kinds = quantised("i8", x.shape, 1.0, zero), quantised("i8", weight.shape), TensorType("i32", bias.shape)
    y = TensorType("i32", (len(x), len(weight)), Quant((1.0,)))
    (found,) = lookup("fully_connected").fast(Signature(kinds, (y,), {}), x, weight, bias)
    exact = (x.astype(np.int64) - zero) @ weight.T.astype(np.int64) + bias
    np.testing.assert_array_equal(found, exact)


def check_products():
    """Matrices that are packed at every run: broadcast, panels begun, remainders of K; codes at the ends."""
    random = np.random.default_rng(2)
    for (depth, width), zero in product([(1, 1), (6, PANEL + 3), (11, 2)], (-128, 127)):
        shapes = (2, 3, depth), (depth, width)
        kinds = quantised("i8", shapes[0], 0.5, zero), quantised("i8", shapes[1], 0.5)
        operands = [(k, random.choice(ENDS, s).astype(np.int8)) for k, s in zip(kinds, shapes, strict=True)]
        output = quantised("i16", (), 2.0**4)
        assert_fast_is_reference(*integer_node("matmul", operands, output, computed=(0, 1)))


def check_convolutions():
    """Few positions and many, more of K than a block, padding, groups, depthwise; i8 and i16 activations."""
    random = np.random.default_rng(1)
    for (x_shape, weight_shape, groups), dtype in product(
        [((3, 12, 9), (40, 6, 3), 2), ((1, 210, 45), (9, 210, 5), 1), ((1, 3, 150), (3, 1, 7), 3)],
        ("i8", "i16"),
    ):
        x = quantised(dtype, x_shape, 0.5, -128 if dtype == "i8" else 0)
        weight = quantised("i8", weight_shape, 0.5)
        low, high = bounds(dtype)
        codes_x = random.choice([low, high, 7, -1], x_shape).astype(dtype.replace("i", "int"))
        codes_w = random.choice(ENDS, weight_shape).astype(np.int8)
        attrs = {"stride": 1, "dilation": 1, "padding": (1, 2), "groups": groups, "activation": "none"}
        node = integer_node("conv1d", [(x, codes_x), (weight, codes_w)], quantised("i16", (), 2.0**8), attrs)
        assert_fast_is_reference(*node)


def check_lstm():
    """States of bytes with a zero_point, rows of a batch, a projection; codes at their ends, too."""
    choice = Choice(Sizes(2, 2, 5, 9), zero_points=(-128, 127), gain=4.0, extreme=True, projection=3)
    signature, arrays = lstm_node(choice)
    assert_equal(LSTM.fast(signature, *arrays), LSTM.reference(signature, *arrays))


if __name__ == "__main__":
    for word in sys.argv[1:]:
        {
            "sums": check_sums,
            "products": check_products,
            "convolutions": check_convolutions,
            "lstm": check_lstm,
        }[word]()
