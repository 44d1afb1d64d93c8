"""Accumulators at their bound: one step more is refused, and the worst input reaches it without a wrap."""

import numpy as np
import pytest
from recurrent_nodes import LSTM, complete
from strategies import assert_fast_is_reference, integer_node, quantised

from nnaq.errors import LoweringError
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Signature
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels.fixedpoint import requantize_reference

DEPTH = 2**31 // (127 * 255) - 2  # products of the largest codes that 32 bits still hold
MOST = 2**31 - 1
ROOM = MOST - DEPTH * 127 * 255  # what they leave to a bias


def layer(name, shape_x, shape_w, sign, bias, attrs=None, scale=2.0**-15):
    """A layer whose every product is 127 * 255 or its negative, and its bias in steps."""
    x, weight = quantised("i8", shape_x, scale, -128), quantised("i8", shape_w, scale)
    operands = [
        (x, np.full(shape_x, 127, np.int8)),
        (weight, np.full(shape_w, 127 * sign, np.int8)),
        (TensorType("f32", (shape_w[0],)), np.full(shape_w[0], sign * bias * scale**2)),
    ]
    return integer_node(name, operands, quantised("i16", (), scale**2 * 2.0**16), attrs)


LAYERS = {
    "fully_connected": ((1, DEPTH), (2, DEPTH)),
    "conv1d": ((1, 1, DEPTH), (2, 1, DEPTH)),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_reaches_its_bound_and_no_further(name, sign):
    node = layer(name, *LAYERS[name], sign, ROOM)
    x, weight, bias, multiplier, shift = node[2]
    columns = [int(q) + 128 for q in x.ravel()]
    for row, start, q, s in zip(weight, bias, multiplier, shift, strict=True):
        total = int(start) + sum(int(w) * v for w, v in zip(row.ravel(), columns, strict=True))
        assert total == sign * MOST
        expected = min(requantize_reference(total, int(q), int(s), "single"), 2**15 - 1)
        assert expected == sign * 2**15 - (sign > 0)
    found = assert_fast_is_reference(*node)
    np.testing.assert_array_equal(found, np.full(found.shape, expected))
    with pytest.raises(
        LoweringError, match=rf"{name}: the accumulator can reach {2**31}, i32 holds less than"
    ):
        layer(name, *LAYERS[name], sign, ROOM + 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_of_fully_connected_is_the_bound_itself(sign):
    x, weight = quantised("i8", (1, DEPTH), 1.0, -128), quantised("i8", (1, DEPTH))
    operands = [
        (x, np.full(x.shape, 127, np.int8)),
        (weight, np.full(weight.shape, 127 * sign, np.int8)),
        (TensorType("f32", (1,)), np.array([sign * float(ROOM)])),
    ]
    node = integer_node("fully_connected", operands, quantised("i32", ()))
    assert assert_fast_is_reference(*node).tolist() == [[sign * MOST]]


@pytest.mark.parametrize("zero_b", [-128, 127])
def test_a_product_of_activations_reaches_its_bound_and_no_further(zero_b):
    # Distances of 255 from both zero_points: 33025 products are one too few to fill 31 bits.
    most = MOST // 255**2
    a, b = quantised("i8", (1, most), 1.0, -128), quantised("i8", (most, 1), 1.0, zero_b)
    far = 127 if zero_b == -128 else -128
    operands = [(a, np.full(a.shape, 127, np.int8)), (b, np.full(b.shape, far, np.int8))]
    node = integer_node("matmul", operands, quantised("i16", (), 2.0**16), computed=(0, 1))
    total = most * 255 * (far - zero_b)
    assert abs(total) == most * 255**2 > 2**31 - 255**2
    assert assert_fast_is_reference(*node).tolist() == [[(total + 2**15) >> 16]]
    longer = [(a.with_shape((1, most + 1)), operands[0][1]), (b.with_shape((most + 1, 1)), operands[1][1])]
    with pytest.raises(LoweringError, match=f"matmul: the accumulator can reach {(most + 1) * 255**2}, i32"):
        integer_node("matmul", longer, quantised("i16", (), 2.0**16), computed=(0, 1))


def lstm(sign, bias):
    """An LSTM of one unit whose product with x has DEPTH entries; its sums are 2^-18 of Q3.12."""
    scale, gates = 2.0**-15, 4
    kinds = (
        quantised("i8", (1, 1, DEPTH), scale, -128),
        quantised("i8", (1, 1), 2.0**-7),
        quantised("i16", (1, 1), 2.0**-11),
        TensorType("i8", (gates, DEPTH), Quant((scale,) * gates, 0, 0)),
        TensorType("i8", (gates, 1), Quant((2.0**-7,) * gates, 0, 0)),
        TensorType("f32", (gates,)),
    )
    arrays = {
        0: np.full(kinds[0].shape, 127, np.int8),
        1: np.zeros((1, 1), np.int8),
        2: np.zeros((1, 1), np.int16),
        3: np.full(kinds[3].shape, 127 * sign, np.int8),
        4: np.zeros((gates, 1), np.int8),
        5: np.full(gates, sign * bias * scale**2),
    }
    types = Signature(kinds, (kinds[1].with_shape((1, 1, 1)), kinds[1], kinds[2]))
    constants = (None, None, None, *(arrays[i] for i in (3, 4, 5)))
    return complete(types, LSTM.prepare(types, constants, Numerics()), arrays)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_gate_reaches_its_bound_and_no_further(sign):
    signature, arrays = lstm(sign, ROOM)
    total = int(arrays[5][0]) + sum(int(w) * 255 for w in arrays[3][0])
    assert total == sign * MOST
    for fast, slow in zip(LSTM.fast(signature, *arrays), LSTM.reference(signature, *arrays), strict=True):
        np.testing.assert_array_equal(fast, slow)
    # 2^31 * 2^-18 is 2.0 in Q3.12: i = sigmoid(2), g = tanh(2), c = i * g; a wrap would turn its sign.
    gate = sign * 2.0
    exact = np.tanh(gate) / (1 + np.exp(-gate))
    assert abs(int(slow[0, 0]) * 2.0**-11 - exact) < 2.0**-11
    with pytest.raises(
        LoweringError, match=f"lstm w_input: the accumulator can reach {2**31}, i32 holds less"
    ):
        lstm(sign, ROOM + 1)
