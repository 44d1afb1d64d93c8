"""Narrow accumulators: fast equals reference, saturation in mid-sum, and wide where nothing overflows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from recurrent_nodes import GRU, LSTM, Choice, Sizes, assert_equal, choices, gru_node, in_frames, lstm_node
from strategies import assert_fast_is_reference, codes, integer_node, quantised, roundings, zero_points

from nnaq.ir.numerics import Numerics
from nnaq.ir.types import TensorType, bounds
from nnaq.kernels.narrow import ATTRIBUTES, Narrow, contract, sum_reference

LAYERS = ("fully_connected", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d")


@st.composite
def contracts(draw, most=31):
    return {
        "accumulator_bits": draw(st.integers(16, most)),
        "overflow": draw(st.sampled_from(("saturate", "wrap"))),
        "array_depth": draw(st.sampled_from((1, 2, 3, 5, 12, 1000))),
    }


def width_of(chosen, dtype):
    return chosen["accumulator_bits"] + (16 if dtype == "i16" else 0)


@st.composite
def geometries(draw, name):
    """Shapes of x and weight, attributes, and the number of outputs."""
    if name == "fully_connected":
        depth, outputs = draw(st.integers(1, 12)), draw(st.integers(1, 6))
        return (draw(st.integers(0, 3)), depth), (outputs, depth), {}, outputs
    rank, groups = int(name[-2]), draw(st.sampled_from((1, 1, 2)))
    inner, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    kernel = tuple(draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank)))
    spatial = tuple(draw(st.lists(st.integers(0, 4), min_size=rank, max_size=rank)))
    attrs = {
        "stride": tuple(draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))),
        "dilation": tuple(draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))),
        "padding": tuple(draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))),
        "groups": groups,
    }
    channels, outputs = inner * groups, per_group * groups
    weight = (channels, per_group) if "transpose" in name else (outputs, inner)
    return (draw(st.integers(1, 2)), channels, *spatial), (*weight, *kernel), attrs, outputs


@st.composite
def layers(draw):
    """The operands of a layer whose i16 results are the upper bits of its narrow accumulator."""
    name, dtype, chosen = (
        draw(st.sampled_from(LAYERS)),
        draw(st.sampled_from(("i8", "i16"))),
        draw(contracts()),
    )
    x_shape, w_shape, attrs, outputs = draw(geometries(name))
    x = quantised(dtype, x_shape, 1.0, draw(zero_points(dtype)))
    weight = quantised("i8", w_shape, 1.0, draw(st.sampled_from((0, 0, 5))))
    width = width_of(chosen, dtype)
    edge, low = 2 ** (width - 1) - 1, bounds("i48" if dtype == "i16" else "i32")[0]
    near = st.sampled_from((0, 1, -1, edge, -edge - 1, edge + 1, edge - 40000, 40000 - edge, 3 * edge))
    bias = np.array([draw(st.one_of(near, st.integers(low, -low - 1))) for _ in range(outputs)])
    bias = np.clip(bias, low, -low - 1).astype(np.float64)
    operands = [(x, draw(codes(x))), (weight, draw(codes(weight))), (TensorType("f32", (outputs,)), bias)]
    output = quantised("i16", (), 2.0 ** (width - 16), 0)
    return name, operands, output, attrs, draw(roundings), chosen


@given(layers())
def test_fast_is_reference(layer):
    name, operands, output, attrs, rounding, chosen = layer
    node = integer_node(name, operands, output, attrs, rounding, **chosen)
    assert {key: node[1].attrs[key] for key in ATTRIBUTES} == chosen
    assert_fast_is_reference(*node)


@given(layers())
def test_narrow_is_wide_where_nothing_can_overflow(layer):
    name, operands, output, attrs, rounding, chosen = layer
    (x, _), (weight, w), (_, bias) = operands
    reach = max(abs(bound - x.zero_point) for bound in bounds(x.dtype))
    bound = int(np.abs(w.astype(int) - weight.zero_point).sum()) * reach + int(np.abs(bias).max())
    assume(bound < 2 ** (width_of(chosen, x.dtype) - 1))
    narrow = integer_node(name, operands, output, attrs, rounding, **chosen)
    wide = integer_node(name, operands, output, attrs, rounding)
    np.testing.assert_array_equal(assert_fast_is_reference(*narrow), assert_fast_is_reference(*wide))
    for one, other in zip(narrow[2], wide[2], strict=True):
        np.testing.assert_array_equal(one, other)  # the contract is in the attributes alone


@st.composite
def products(draw):
    dtype, chosen = draw(st.sampled_from(("i8", "i16"))), draw(contracts(20))
    m, k, n = draw(st.integers(0, 3)), draw(st.integers(0, 40)), draw(st.integers(0, 5))
    a, b = (quantised(dtype, shape, 1.0, draw(zero_points(dtype))) for shape in ((2, m, k), (k, n)))
    output = quantised("i16", (), 2.0 ** (width_of(chosen, dtype) - 16))
    operands = [(a, draw(codes(a))), (b, draw(codes(b)))]
    return integer_node("matmul", operands, output, {}, draw(roundings), (0, 1), **chosen)


@given(products())
def test_matmul_fast_is_reference(product):
    assert_fast_is_reference(*product)


def sums(weights, x, **chosen):
    """The accumulators of one position with x codes less 0: an i32 result is the accumulator itself."""
    kinds = quantised("i8", (1, len(x))), quantised("i8", (1, len(x)))
    operands = [(kinds[0], np.array([x], np.int8)), (kinds[1], np.array([weights], np.int8)), None]
    contract = {"accumulator_bits": 16, "overflow": "saturate", **chosen}
    node = integer_node("fully_connected", operands, quantised("i32", ()), **contract)
    return int(assert_fast_is_reference(*node)[0, 0])


@pytest.mark.parametrize(
    ("depth", "total"),
    [
        (1, 32767 - 38100 + 5),  # 12700, 25400, 38100: too much
        (2, 5),  # 25400, no change, -25400, 5
        (3, 32767 - 38100 + 5),
        (4, 25400 - 25400 + 5),
        (6, 5),
        (7, 5),
        (1000, 5),
    ],
)
def test_a_sum_that_saturates_in_the_middle_comes_back_short(depth, total):
    x, weights = [127] * 6 + [5], [100, 100, 100, -100, -100, -100, 1]
    assert sums(weights, x, array_depth=depth) == total == Narrow(16, False, depth).limit(total)
    assert sum_reference(Narrow(16, False, depth), 0, weights, x) == total
    assert sums(weights, x, array_depth=depth, overflow="wrap") == 5
    assert sums([-w for w in weights], x, array_depth=depth) == (-total if total == 5 else 38100 - 32768 - 5)


def test_both_ends_hold_and_a_wrap_comes_round():
    assert sums([127] * 3, [127] * 3) == 32767
    assert sums([127] * 3, [-127] * 3) == -32768
    assert sums([127] * 3, [127] * 3, overflow="wrap") == 3 * 127**2 - 2**16
    assert sums([127] * 3, [-127] * 3, overflow="wrap") == 2**16 - 3 * 127**2
    assert sums([127] * 3, [127] * 3, accumulator_bits=17) == 3 * 127**2


@given(products(), st.integers(1, 60))
def test_a_wrap_does_not_ask_for_an_order(product, depth):
    op, signature, arrays = product
    assume(signature.attrs["overflow"] == "wrap")
    other = type(signature)(signature.inputs, signature.outputs, {**signature.attrs, "array_depth": depth})
    np.testing.assert_array_equal(op.fast(signature, *arrays)[0], op.fast(other, *arrays)[0])


def test_a_narrow_contract_needs_no_proof():
    x, weight = quantised("i8", (1, 66400), 1.0, -128), quantised("i8", (1, 66400))
    operands = [(x, np.full(x.shape, 127, np.int8)), (weight, np.full(weight.shape, 127, np.int8))]
    for overflow in ("saturate", "wrap"):
        node = integer_node(
            "fully_connected", operands, quantised("i32", ()), accumulator_bits=31, overflow=overflow
        )
        total = 66400 * 127 * 255
        expected = 2**30 - 1 if overflow == "saturate" else (total + 2**30) % 2**31 - 2**30
        assert assert_fast_is_reference(*node).tolist() == [[expected]]


@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
def test_a_narrow_sum_over_an_open_depth_has_no_longest(overflow):
    a, b = quantised("i8", (1, "T"), 1.0, -128), quantised("i8", ("T", 1), 1.0, -128)
    pairs = [(a, np.zeros(0)), (b, np.zeros(0))]
    op, signature, made = integer_node(
        "matmul", pairs, quantised("i16", (), 2.0**8), computed=(0, 1), accumulator_bits=24, overflow=overflow
    )
    arrays = [np.full((1, 33100), 127, np.int8), np.full((33100, 1), 127, np.int8), *made[2:]]
    found = assert_fast_is_reference(op, signature, arrays)
    total = 33100 * 255**2
    limit = 2**23 - 1 if overflow == "saturate" else (total + 2**23) % 2**24 - 2**23
    assert found.tolist() == [[min((limit + 2**7) >> 8, 32767)]]


def test_a_wide_contract_leaves_no_trace():
    assert contract(Numerics()) == {} == contract(Numerics(overflow="wrap", array_depth=3))
    x = quantised("i8", (1, 2))
    node = integer_node("fully_connected", [(x, np.ones((1, 2))), (x, np.ones((1, 2)))], x, array_depth=3)
    assert not set(ATTRIBUTES) & set(node[1].attrs)


# --- recurrent operators: an accumulator of its own for each of their products


@pytest.mark.parametrize("op", [LSTM, GRU], ids=["lstm", "gru"])
@settings(max_examples=60)
@given(st.data())
def test_recurrent_operators(op, data):
    choice = data.draw(choices())
    sizes = replace(choice.sizes, frames=3)
    choice = replace(choice, sizes=sizes, contract=tuple(data.draw(contracts(20)).items()))
    signature, arrays = (lstm_node if op is LSTM else gru_node)(choice)
    fast = op.fast(signature, *arrays)
    assert_equal(fast, op.reference(signature, *arrays))
    assert_equal(fast, in_frames(op, signature, arrays))


@pytest.mark.parametrize("make", [lstm_node, gru_node])
def test_a_recurrent_sum_that_overflows_is_heard(make):
    choice = Choice(Sizes(4, 2, 9, 5), gain=2.0, extreme=True)
    op = LSTM if make is lstm_node else GRU
    found = []
    for bits, overflow in ((32, "saturate"), (31, "saturate"), (16, "saturate"), (16, "wrap")):
        contract = (("accumulator_bits", bits), ("overflow", overflow), ("array_depth", 2))
        signature, arrays = make(replace(choice, contract=contract))
        found.append(op.fast(signature, *arrays)[0])
    np.testing.assert_array_equal(found[0], found[1])
    assert len({one.tobytes() for one in found}) == 3


@pytest.mark.parametrize("make", [lstm_node, gru_node])
def test_tables_of_65536_entries(make):
    choice = Choice(Sizes(4, 2, 9, 5), h="i16", gain=2.0)
    op = LSTM if make is lstm_node else GRU
    signature, arrays = make(replace(choice, contract=(("lut_entries", 65536),)))
    assert sum(array is not None and array.size == 65536 for array in arrays) == 2
    fast = op.fast(signature, *arrays)
    assert_equal(fast, op.reference(signature, *arrays))
    signature, arrays = make(choice)
    short = op.fast(signature, *arrays)
    assert 0 < np.abs(fast[0].astype(int) - short[0]).max() < 200
