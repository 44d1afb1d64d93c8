"""Narrow internals: fast equals reference equals the graph of primitives, and 16 bits leave no trace."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_nodes import (
    GRU,
    LSTM,
    Choice,
    Sizes,
    assert_equal,
    choices,
    gru_node,
    gru_types,
    in_chunks,
    in_frames,
    lstm_node,
    lstm_types,
    prepared,
)

from nnaq.ir.numerics import Numerics
from nnaq.ir.text import print_graph
from nnaq.kernels.internals import coarse_reference, fitted_16, grid_of, internals, passes_16, zero_bits
from nnaq.kernels.recurrent import count_cell_saturations

BITS = (6, 7, 8, 12)
NODES = {"lstm": lstm_node, "gru": gru_node}
OPS = {"lstm": LSTM, "gru": GRU}


def narrow(choice: Choice, bits: int, **more) -> Choice:
    """The same node under a contract that asks for internals of `bits`."""
    contract = (*choice.contract, ("internal_bits", bits))
    return replace(choice, contract=contract, **more)


# The rule


@pytest.mark.parametrize(
    ("bits", "value", "meant"),
    [
        (8, 0, 0),
        (8, 127, 0),
        (8, 128, 256),  # a tie goes up
        (8, 129, 256),
        (8, -127, 0),
        (8, -128, 0),  # of either sign
        (8, -129, -256),
        (8, 384, 512),
        (8, -384, -256),
        (8, 32512, 32512),
        (8, 32639, 32512),
        (8, 32640, 32512),  # what would round to 2^15
        (8, 32767, 32512),
        (8, -32768, -32768),
        (8, -32641, -32768),
        (8, -32640, -32512),
        (7, 32767, 32256),
        (7, 256, 512),
        (6, 32767, 31744),
        (6, -32768, -32768),
        (6, -512, 0),
        (12, 32767, 32752),
        (12, 8, 16),
        (12, 7, 0),
        (16, 32767, 32767),
        (16, -32768, -32768),
        (16, 5, 5),
    ],
)
def test_known_answers(bits, value, meant):
    attrs = internals(Numerics(internal_bits=bits))
    assert zero_bits(attrs) == 16 - bits
    assert coarse_reference(value, 16 - bits) == meant == fitted_16(np.int64(value), grid_of(attrs))


@pytest.mark.parametrize("bits", [*BITS, 16])
def test_every_code_and_what_lies_beyond(bits):
    """The nearest multiple within 16 bits; sat16 and coarse_k at once; saturated where the kernel says so."""
    k, grid = 16 - bits, grid_of(internals(Numerics(internal_bits=bits)))
    largest = 2**15 - 2**k
    beyond = range(2**15, 2**15 + 600)
    for value in (*range(-(2**15), 2**15), *beyond, *(~v for v in beyond), 2**40, -(2**40)):
        limited = min(max(value, -(2**15)), 2**15 - 1)
        coarse = coarse_reference(limited, k)
        assert coarse == fitted_16(np.int64(value), grid)
        assert coarse % 2**k == 0
        assert -(2**15) <= coarse <= largest
        assert abs(coarse - limited) <= (2 ** (k - 1) if limited < largest else 2**k - 1)
        assert passes_16(np.int64(value), grid) == (value < -(2**15) or value >= largest + max(2**k // 2, 1))


# The operators


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=60)
@given(choices(), st.sampled_from(BITS))
def test_fast_equals_reference_equals_primitives(op, choice, bits):
    choice = narrow(choice, bits, sizes=replace(choice.sizes, frames=3))
    signature, arrays = NODES[op](choice)
    assert signature.attrs["internal_bits"] == bits
    fast = OPS[op].fast(signature, *arrays)
    assert_equal(fast, OPS[op].reference(signature, *arrays))
    assert_equal(fast, in_frames(OPS[op], signature, arrays))
    if op == "lstm":
        assert not (fast[2] & (2 ** (16 - bits) - 1)).any()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("extreme", [False, True])
def test_at_the_ends_of_ranges(bits, extreme):
    """Pre-activations that saturate, levels that round to 1, cells of every format."""
    for fraction, cifg, first in ((9, False, False), (12, True, True), (15, False, True)):
        choice = Choice(Sizes(6, 2, 5, 5), fraction=fraction, gain=12.0, extreme=extreme, cifg=cifg)
        choice = narrow(choice, bits, linear_before_reset=not first)
        for op, node in NODES.items():
            signature, arrays = node(choice)
            fast = OPS[op].fast(signature, *arrays)
            assert_equal(fast, OPS[op].reference(signature, *arrays))
            assert_equal(fast, in_frames(OPS[op], signature, arrays))


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=30)
@given(choices(), st.sampled_from(BITS), st.sampled_from([1, 3]))
def test_chunks_equal_the_whole(op, choice, bits, size):
    choice = narrow(choice, bits, sizes=replace(choice.sizes, frames=7))
    signature, arrays = NODES[op](choice)
    assert_equal(in_chunks(OPS[op], signature, arrays, size), OPS[op].fast(signature, *arrays))


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=30)
@given(choices())
def test_16_bits_leave_no_trace(op, choice):
    (plain, arrays), (asked, others) = NODES[op](choice), NODES[op](narrow(choice, 16))
    assert plain == asked
    assert "internal_bits" not in plain.attrs
    for one, other in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(one, other)
    text = print_graph(OPS[op].primitives(plain))
    assert "clip" not in text
    assert print_graph(OPS[op].primitives(asked)) == text


@pytest.mark.parametrize("op", OPS)
def test_the_attribute_is_all_that_narrow_internals_change(op):
    """Operands and types are those of 16 bits; fewer bits are heard."""
    choice = Choice(Sizes(40, 2, 9, 5), h="i16", gain=2.0)
    plain, arrays = NODES[op](choice)
    errors = []
    exact = OPS[op].fast(plain, *arrays)[0].astype(int)
    for bits in (12, 8, 7, 6):
        signature, others = NODES[op](narrow(choice, bits))
        assert signature == replace(plain, attrs={**plain.attrs, "internal_bits": bits})
        for one, other in zip(arrays, others, strict=True):
            np.testing.assert_array_equal(one, other)
        errors.append(np.square(OPS[op].fast(signature, *arrays)[0] - exact).sum())
    assert errors == sorted(errors)
    assert 0 < errors[0] < errors[-1] / 100


def still(op, types, bits, biases, fraction=12):
    """One unit with all weights 0 and its states at 0, 20 frames: only the bias of its gates speaks."""
    choice = narrow(Choice(Sizes(20, 1, 1, 1), h="i16", fraction=fraction, cifg=len(biases) == 3), bits)
    signature = types(choice)
    rows = len(biases)
    weights = {k: np.zeros((rows, 1), np.int8) for k in ((3, 4) if op is LSTM else (2, 3))}
    reals = {5: np.array(biases)} if op is LSTM else {4: np.array(biases), 5: np.zeros(rows)}
    made = prepared(op, signature, {**weights, **reals}, "single", **dict(choice.contract))
    states = [np.zeros((1, 1), np.int16)] * (2 if op is LSTM else 1)
    arrays = [np.zeros((20, 1, 1), np.int8), *states]
    arrays += [weights[p] if isinstance(p, int) else p.value for p in made.operands[len(arrays) :]]
    kinds = tuple(signature.inputs[p] if isinstance(p, int) else p.type for p in made.operands)
    return replace(signature, inputs=kinds, attrs=made.attrs), arrays


def test_a_cell_of_six_bits_stops_short():
    """f = 1/2, i = g = 31/32: c = c/2 + 0.9385 in steps of 1/4 goes 1, 1.5, 1.75 and stays below 1.877."""
    signature, arrays = still(LSTM, lstm_types, 6, (7.9, 0.0, 7.9, 7.9))
    for call in (LSTM.fast, LSTM.reference):
        _, h, c = call(signature, *arrays)
        assert c.item() * 2.0**-12 == 1.75
        assert h.item() == 30 * 31 * 2**5  # tanh(1.75) and o, in steps of 2^-5


def test_a_coupled_gate_of_eight_bits_lets_in_the_rest_to_one():
    """f rounds to 0, so i is 127/128; f rounds to 1/2, so i is 1/2."""
    for bias, level in ((-7.9, 127), (0.0, 64)):
        signature, arrays = still(LSTM, lstm_types, 8, (bias, 7.9, 7.9))
        for call in (LSTM.fast, LSTM.reference):
            _, _, c = call(signature, arrays[0][:1], *arrays[1:])
            # c = i*g with g = 127/128, in steps of 1/16
            assert c.item() * 2.0**-12 == np.floor(level * 127 / 1024 + 0.5) / 16


def test_a_gru_whose_update_gate_rounds_to_0_takes_127_parts_of_128():
    signature, arrays = still(GRU, gru_types, 8, (0.0, -7.9, 7.9))
    for call in (GRU.fast, GRU.reference):
        assert call(signature, *arrays)[1].item() == 127 * 127 * 2


@pytest.mark.parametrize(("c0", "count"), [(24000, 0), (28000, 1)])
def test_a_cell_that_rounds_beyond_its_highest_code_is_counted(c0, count):
    """i*g + f*c with i and g 127/128 and f 2/128 is 32,633 or 32,696: to the nearest 127 or 128 of 256."""
    signature, arrays = still(LSTM, lstm_types, 8, (7.9, -4.0, 7.9, 7.9), fraction=15)
    given = [arrays[0][:1], arrays[1], np.full((1, 1), c0, np.int16), *arrays[3:]]
    assert LSTM.fast(signature, *given)[2].item() == 32512
    assert count_cell_saturations(signature, *given) == count
